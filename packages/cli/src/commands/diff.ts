import { existsSync, readdirSync } from 'node:fs';
import { WeftError } from '@weft/base';
import { meshPaths } from '@weft/host';
import { type Asked, diffJson, diffMeshes, type LabMesh, meshFromModel, readMeshTests, renderDiff } from '@weft/lab';
import type { Command } from 'commander';
import {
  chooseMesh,
  type MeshOption,
  meshOption,
  type NamespaceOption,
  namespaceOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
} from '../common.ts';
import { example } from '../example.ts';
import { findFiles, findTests, formatProblem, loadModel, readSources } from '../mesh.ts';
import { shorter } from '../paths.ts';
import { runningMeshOf } from '../running-mesh.ts';
import { troubled } from '../trouble.ts';

interface DiffCommandOptions extends MeshOption, NamespaceOption, OutputOption {
  files: string[];
  base?: string[];
  live?: boolean;
  requests?: string[] | true;
}

/** `weft diff`: what a change of the configuration would change, before it is made. */
export function addDiff(program: Command): void {
  example(
    program
      .command('diff')
      .description('what would be decided otherwise with other files; exit code 0: nothing, 1: something, 2: trouble')
      .requiredOption('-f, --files <path...>', 'folders or files: the new configuration')
      .option('--base <path...>', 'folders or files: the configuration as it is')
      .option('--live', 'compare with the running mesh (the default without --base)')
      .option('--requests [test...]', 'compare requests too: those of mesh tests, else those that the rules suggest')
      .addOption(namespaceOption())
      .addOption(meshOption())
      .addOption(outputOption())
      .action(troubled(diff)),
    'weft diff -f mesh-new/ --base mesh/ --requests',
    'weft diff -f mesh/ --live -n shop',
  );
}

async function diff(options: DiffCommandOptions): Promise<void> {
  if (options.base && options.live) throw new WeftError('usage', 'say --base or --live, not both');
  const warn = (line: string): boolean => process.stderr.write(`${line}\n`);
  const running = options.base ? undefined : chooseMesh(options.mesh);
  // What "weft run" joined goes on, whatever the files say.
  const joined = running === undefined ? '' : meshPaths(running).joined;
  const others = joined !== '' && existsSync(joined) && readdirSync(joined).length > 0 ? [joined] : [];
  const model = loadModel(findFiles([...options.files, ...others]), warn);
  const { requests, namespace } = options;
  const asked = requests === undefined ? undefined : requests === true ? [] : questionsIn(requests);
  let before: LabMesh;
  let after: LabMesh;
  const unknown = new Set<string>();
  if (running === undefined) {
    before = meshFromModel(loadModel(findFiles(options.base!), () => {}));
    after = meshFromModel(model);
  } else {
    const { live, over } = await runningMeshOf(running);
    before = live;
    after = over(model);
    // Names are looked up by the running mesh alone.
    for (const s of model.services) if (s.external?.resolution === 'DNS') unknown.add(s.external.host);
  }
  const found = diffMeshes(before, after, { namespace, unknown, requests: asked });
  if (options.output === 'json') printJson(diffJson(found));
  else print(renderDiff(found, shorter));
  if (!found.same) process.exitCode = 1;
}

function questionsIn(paths: readonly string[]): Asked[] {
  const files = findTests(paths);
  if (files.length === 0) throw new WeftError('no-test', `no file named *.mesh-test.yaml is in ${paths.join(', ')}`);
  const { tests, problems } = readMeshTests(readSources(files));
  if (problems.length > 0)
    throw new WeftError(
      'test-file',
      `the tests are refused:\n${problems.map((p) => `  ${formatProblem(p)}`).join('\n')}`,
    );
  return tests.map(({ name, question }) => ({ name, question }));
}
