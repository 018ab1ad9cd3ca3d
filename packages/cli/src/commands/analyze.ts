import { analyzeFiles, type Finding, parseSuppression, type Suppression, suppressed } from '@weft/config';
import { judgeKeyPair } from '@weft/identity';
import { type Command, InvalidArgumentError } from 'commander';
import {
  askControl,
  chooseMesh,
  type MeshOption,
  meshOption,
  type OutputOption,
  outputOption,
  print,
} from '../common.ts';
import { example } from '../example.ts';
import { printFindings } from '../findings.ts';
import { findFiles, readSources } from '../mesh.ts';

interface Options extends MeshOption, OutputOption {
  namespace?: string;
  suppress: Suppression[];
}

/** `weft analyze`: everything that is wrong, or probably not meant, in files or in a running mesh. */
export function addAnalyze(program: Command): void {
  example(
    program
      .command('analyze')
      .description('find mistakes in files, or in what a running mesh has; exit code 1 where one is an error')
      .argument('[file...]', 'folders or files; none: a running mesh')
      .option('-n, --namespace <namespace>', 'only what is in this namespace')
      .option(
        '-S, --suppress <code=resource>',
        'leave out a code for a resource, e.g. "IST0103=Process payment.shop"; * stands for any characters',
        suppression,
        [],
      )
      .addOption(meshOption())
      .addOption(outputOption())
      .action(analyze),
    'weft analyze examples/shop/mesh',
    'weft analyze -n shop -S "IST0118=Service *.shop"',
  );
}

function suppression(text: string, before: Suppression[]): Suppression[] {
  const parsed = parseSuppression(text);
  if (!parsed) throw new InvalidArgumentError('write CODE=Kind name.namespace, e.g. "IST0103=Process payment.shop".');
  return [...before, parsed];
}

async function analyze(given: string[], options: Options): Promise<void> {
  const all =
    given.length > 0
      ? analyzeFiles(readSources(findFiles(given)), { judgeKeyPair })
      : (await askControl<{ findings: Finding[] }>(chooseMesh(options.mesh), 'GET', '/v1/analysis')).findings;
  const { namespace } = options;
  // What could not be read as a resource may belong to any namespace.
  const here = (f: Finding) =>
    namespace === undefined ||
    f.namespace === namespace ||
    f.resource === '' ||
    f.resource === `Namespace/${namespace}`;
  const findings = all.filter((f) => here(f) && !suppressed(f, options.suppress));
  printFindings(findings, options.output);
  if (options.output !== 'json' && findings.length === 0) {
    print(`no problem found${namespace === undefined ? '' : ` in namespace ${namespace}`}`);
  }
}
