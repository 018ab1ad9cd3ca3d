import { existsSync, readdirSync } from 'node:fs';
import { WeftError } from '@weft/base';
import { loadFiles, type Problem } from '@weft/config';
import { type FaultEntry, type FaultRequest, meshPaths, textHash } from '@weft/host';
import { judgeKeyPair } from '@weft/identity';
import { diffMeshes, type LabMesh, type MeshDiff, meshFromModel, renderDiff } from '@weft/lab';
import type { Model } from '@weft/model';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { applied } from '../applied.ts';
import {
  ask,
  chooseMesh,
  type MeshOption,
  meshOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
} from '../common.ts';
import { duration } from '../duration.ts';
import { example } from '../example.ts';
import { type FaultPlan, planFault } from '../fault-plan.ts';
import { findFiles, formatProblem, loadModel, readSources } from '../mesh.ts';
import { shorter, watchedFile } from '../paths.ts';
import { runningMeshOf } from '../running-mesh.ts';
import { age, table } from '../table.ts';
import { collectHeader } from './explain.ts';

const APPLY_MS = 30_000;
const LOOK_MS = 100;
/** Requests whose answers are compared: a fault is for one service. */
const MAX_REQUESTS = 2000;

interface AddOptions extends MeshOption, OutputOption {
  delay?: string;
  abort?: string;
  percent: number;
  from?: string;
  header: [string, string][];
  path?: string;
  for: number;
  dryRun?: boolean;
  file?: string;
  files?: string[];
}

/** `weft fault`: faults that end by themselves. */
export function addFaultCommands(program: Command): void {
  const fault = program.command('fault').description('faults for a while: delays and aborts that end by themselves');
  example(
    fault
      .command('add')
      .description("put a fault before a service's routes, in the mesh's files, until its time is over")
      .argument('<service>', 'a service: NAME, NAMESPACE/NAME or a host')
      .option('--delay <time>', 'wait so long before it is sent: 2s, 500ms')
      .option('--abort <status>', 'answer it so: 503, or the name of a gRPC status')
      .addOption(new Option('--percent <n>', 'of the requests').argParser(percent).default(100))
      .option('--from <workload>', 'of this caller alone: NAMESPACE/NAME of a process')
      .option('-H, --header <header>', "with this header alone, 'name: value'; may be repeated", collectHeader, [])
      .option('--path <prefix>', 'to paths that begin so alone')
      .addOption(
        new Option('--for <time>', 'when it is taken back: 30s, 5m, 1h').argParser(duration).default(300_000, '5m'),
      )
      .option('--dry-run', 'print what would be written and what it would do')
      .option('--file <file>', 'where a VirtualService is written for a service that has none')
      .option('-f, --files <path...>', 'with --dry-run: of these files, where no mesh runs')
      .addOption(meshOption())
      .addOption(outputOption())
      .action(add),
    'weft fault add payment --delay 2s --percent 10 --from shop/cart --for 5m',
    "weft fault add payment --abort 503 -H 'x-test: 1' --path /charge --dry-run",
  );
  example(
    fault
      .command('list')
      .description('faults that are there now')
      .addOption(meshOption())
      .addOption(outputOption())
      .action(list),
    'weft fault list',
  );
  example(
    fault
      .command('remove')
      .description('take a fault back now')
      .argument('[id...]')
      .option('--all', 'all of them')
      .addOption(meshOption())
      .action(remove),
    'weft fault remove f1',
  );
}

function percent(text: string): number {
  const n = Number(text);
  if (text.trim() === '' || !(n > 0 && n <= 100)) throw new InvalidArgumentError('it is above 0 and at most 100.');
  return n;
}

async function add(service: string, o: AddOptions): Promise<void> {
  if (o.files && !o.dryRun) throw new WeftError('usage', '-f is for --dry-run: a fault is added to a running mesh');
  const mesh = o.files ? undefined : chooseMesh(o.mesh);
  const files = o.files ?? (await ask<{ files: string[] }>(mesh!, 'GET', '/ps')).files;
  // What "weft run" joined may call it too.
  const joined = mesh === undefined ? '' : meshPaths(mesh).joined;
  const others = joined !== '' && existsSync(joined) && readdirSync(joined).length > 0 ? [joined] : [];
  const found = findFiles([...files, ...others]);
  const model = loadModel(found, () => {}, true);
  const sources = readSources(found);
  const id = freeId(mesh === undefined ? [] : await faultsOf(mesh));
  const until = new Date(Date.now() + o.for).toISOString().replace(/\.\d+Z$/, 'Z');
  const { delay, abort, percent, from, header: headers, path } = o;
  const wish = { id, service, delay, abort, percent, from, headers, path, until };
  const plan = planFault(sources, model, wish, (name) => watchedFile(files, name, o.file));
  const after = checked(plan);
  let over: (model: Model) => LabMesh = meshFromModel;
  if (mesh !== undefined) over = (await runningMeshOf(mesh)).over;
  const effect = effectOf(over(model), over(after), plan);
  if (o.output === 'table') {
    for (const note of plan.notes) print(`note: ${note}`);
    print(`${plan.service}: ${plan.what}\n${effectText(effect)}`);
  }
  const { file } = plan;
  const { requests } = effect;
  if (o.dryRun || mesh === undefined) {
    if (o.output === 'json')
      printJson({ id, service: plan.service, what: plan.what, file, yaml: plan.after, requests });
    else print(`\n${shorter(file)}:\n${addedLines(plan.before ?? '', plan.after)}`);
    return;
  }
  const { epoch } = await applied(mesh);
  const entry = await ask<FaultEntry>(mesh, 'POST', '/fault', {
    ...{ id, service: plan.service, what: plan.what, file, forMs: o.for },
    before: plan.before === undefined ? '' : textHash(plan.before),
    edit: plan.write,
  } satisfies FaultRequest);
  const why = await settled(mesh, epoch);
  if (why !== '') {
    await ask(mesh, 'POST', '/fault-remove', { id });
    throw new WeftError('fault', `taken back: ${why}`);
  }
  if (o.output === 'json') printJson({ ...entry, requests });
  else print(`\n${id} holds until ${until}, in ${shorter(file)}; "weft fault remove ${id}" ends it now`);
}

/** The model with the fault; throws with all that is wrong with it. */
function checked(plan: FaultPlan): Model {
  const { model, problems } = loadFiles(plan.sources, { judgeKeyPair, allowPending: true });
  const errors = problems.filter((p: Problem) => p.severity === 'error');
  if (errors.length > 0 || !model)
    throw new WeftError('fault', `the fault is refused:\n${errors.map((p) => `  ${formatProblem(p)}`).join('\n')}`);
  return model;
}

/** What it does to requests. Throws where that is nothing. */
function effectOf(before: LabMesh, after: LabMesh, plan: FaultPlan): MeshDiff {
  const found = diffMeshes(before, after, { requests: [], maxRequests: MAX_REQUESTS });
  if (found.requests!.changes.length === 0)
    throw new WeftError(
      'fault',
      `it would change nothing: no request of a workload of this mesh to ${plan.service} comes to those routes (routes of the Gateway API go before a VirtualService; "weft explain" tells more)`,
    );
  return found;
}

function effectText(effect: MeshDiff): string {
  const { asked, changes } = effect.requests!;
  const text = renderDiff({ ...effect, changes: [], added: [], removed: [] }, shorter);
  return text.replace(/^.*\n/, `${changes.length} of ${asked} kinds of requests go otherwise, for example:\n`);
}

/** The lines of a text that are not in the one it was made of by putting lines in. */
export function addedLines(before: string, after: string): string {
  const old = before.split('\n');
  let i = 0;
  const out: string[] = [];
  for (const [n, line] of after.split('\n').entries()) {
    if (i < old.length && line === old[i]) i++;
    else out.push(`${String(n + 1).padStart(5)} + ${line}`);
  }
  return out.join('\n');
}

function faultsOf(mesh: string): Promise<FaultEntry[]> {
  return ask<FaultEntry[]>(mesh, 'GET', '/faults');
}

function freeId(taken: readonly FaultEntry[]): string {
  for (let n = 1; ; n++) if (!taken.some((f) => f.id === `f${n}`)) return `f${n}`;
}

/** Until every proxy has what the files say since that epoch; else why not. */
async function settled(mesh: string, epoch: number): Promise<string> {
  const end = performance.now() + APPLY_MS;
  for (;;) {
    const now = await applied(mesh);
    if (now.refused !== '') return `the files are refused: ${now.refused}`;
    if (now.synced && now.epoch > epoch) return '';
    if (performance.now() > end) return `not every proxy had it within ${APPLY_MS / 1000} s: see "weft proxy-status"`;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

async function list(o: MeshOption & OutputOption): Promise<void> {
  const faults = await faultsOf(chooseMesh(o.mesh));
  if (o.output === 'json') printJson(faults);
  else if (faults.length === 0) print('no fault is there');
  else
    print(
      table(
        ['ID', 'SERVICE', 'FAULT', 'ENDS IN', 'FILE'],
        faults.map((f) => [f.id, f.service, f.what, age(Math.max(0, f.untilMs - Date.now())), shorter(f.file)]),
        140,
      ),
    );
}

async function remove(ids: string[], o: MeshOption & { all?: boolean }): Promise<void> {
  if ((ids.length === 0) === !o.all) throw new WeftError('usage', 'say which faults ("weft fault list"), or --all');
  const mesh = chooseMesh(o.mesh);
  const { epoch } = await applied(mesh);
  const wanted = o.all ? (await faultsOf(mesh)).map((f) => f.id) : ids;
  for (const id of wanted) {
    const f = await ask<FaultEntry>(mesh, 'POST', '/fault-remove', { id });
    print(`${id} is taken back: ${f.service}: ${f.what}`);
  }
  if (wanted.length === 0) print('no fault is there');
  else {
    const why = await settled(mesh, epoch);
    if (why !== '') throw new WeftError('fault', why);
  }
}
