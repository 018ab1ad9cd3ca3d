import path from 'node:path';
import { WeftError } from '@weft/base';
import type { CanaryStatus, InstanceStatus } from '@weft/host';
import { type Command, InvalidArgumentError } from 'commander';
import { adminGet } from '../admin.ts';
import {
  ask,
  chooseMesh,
  type MeshOption,
  meshOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
  wholeNumber,
} from '../common.ts';
import { example } from '../example.ts';
import { type Cell, table } from '../table.ts';

const DEADLINE_MS = 600_000;

interface CanaryOptions extends MeshOption, OutputOption {
  program?: string;
  weight?: number;
  maxEnds?: number;
  promote?: boolean;
  revert?: boolean;
}

/** `weft proxy-canary`: another version of the proxy for a share of a workload. */
export function addProxyCanary(program: Command): void {
  example(
    program
      .command('proxy-canary')
      .description(
        'try another version of the proxy for a share of a workload, watch it, then promote or revert it; no request fails by it',
      )
      .argument('[name]', 'a process; without one: all that is tried')
      .option('--program <dir>', 'the folder of another Weft installation, or its proxy-main.mjs')
      .option('--weight <percent>', 'what of the workload’s requests it gets, 1 to 100 (default: 10)', percent)
      .option('--max-ends <n>', 'revert it when its proxies end so often within a minute (default: 3)', wholeNumber)
      .option('--promote', 'all instances run it from now on, until the mesh ends')
      .option('--revert', 'all instances run the mesh’s own again')
      .addOption(meshOption())
      .addOption(outputOption())
      .action(canary),
    'weft proxy-canary payment --program /opt/weft-next --weight 10',
    'weft proxy-canary payment',
    'weft proxy-canary payment --promote',
  );
}

function percent(text: string): number {
  const n = wholeNumber(text);
  if (n < 1 || n > 100) throw new InvalidArgumentError('it is 1 to 100.');
  return n;
}

async function canary(name: string | undefined, o: CanaryOptions): Promise<void> {
  const { promote, revert, program, weight } = o;
  const begins = program !== undefined || weight !== undefined;
  if ([begins, promote, revert].filter(Boolean).length > 1)
    throw new WeftError('usage', 'say one of --program (and --weight), --promote and --revert');
  if (name === undefined && (begins || promote || revert)) throw new WeftError('usage', 'say of which process');
  const mesh = chooseMesh(o.mesh);
  const tell = (path: string, body: object): Promise<CanaryStatus> =>
    ask<CanaryStatus>(mesh, 'POST', path, { name, ...body }, DEADLINE_MS);
  let found: CanaryStatus[];
  if (promote) found = [await tell('/proxy-promote', {})];
  else if (revert) found = [await tell('/proxy-revert', {})];
  else if (begins)
    found = [
      await tell('/proxy-canary', {
        program: program && path.resolve(program),
        percent: weight ?? 10,
        maxEnds: o.maxEnds,
      }),
    ];
  else {
    const all = await ask<CanaryStatus[]>(mesh, 'GET', '/proxy-canaries');
    found = all.filter((c) => name === undefined || c.workload === name || c.workload.endsWith(`/${name}`));
  }
  const { instances } = await ask<{ instances: InstanceStatus[] }>(mesh, 'GET', '/ps');
  const seen: (CanaryStatus & { versions: VersionSeen[] })[] = [];
  for (const c of found) seen.push({ ...c, versions: await seenOf(c, instances) });
  if (o.output === 'json') printJson(seen);
  else if (seen.length === 0) print('no other proxy is tried: all run the mesh’s own');
  else print(seen.map(render).join('\n\n'));
}

/** What the instances of one version answered, since each of them began. */
interface VersionSeen {
  readonly version: string;
  readonly instances: number;
  readonly proxyRestarts: number;
  readonly requests: number;
  readonly failed: number;
}

async function seenOf(c: CanaryStatus, all: readonly InstanceStatus[]): Promise<VersionSeen[]> {
  const own = all.filter((i) => `${i.namespace}/${i.workload}` === c.workload && i.proxyVersion !== undefined);
  const tried = new Set(c.instances);
  const groups = [own.filter((i) => tried.has(i.name)), own.filter((i) => !tried.has(i.name))];
  const out: VersionSeen[] = [];
  for (const group of groups) {
    if (group.length === 0) continue;
    let requests = 0;
    let failed = 0;
    for (const i of group) {
      // A proxy that is away has counted nothing that could be asked for.
      const counted = answered(await adminGet(i, '/stats/prometheus').catch(() => ''));
      requests += counted.requests;
      failed += counted.failed;
    }
    const proxyRestarts = group.reduce((sum, i) => sum + i.proxyRestarts, 0);
    out.push({ version: group[0]!.proxyVersion!, instances: group.length, proxyRestarts, requests, failed });
  }
  return out;
}

/** Requests that came in by these metrics, and those of them that were answered 5xx or not at all. */
export function answered(metrics: string): { requests: number; failed: number } {
  let requests = 0;
  let failed = 0;
  for (const line of metrics.split('\n')) {
    if (!line.startsWith('istio_requests_total{') || !line.includes('reporter="destination"')) continue;
    const count = Number(
      line
        .slice(line.lastIndexOf('}') + 1)
        .trim()
        .split(' ')[0],
    );
    requests += count;
    if (/response_code="(5\d\d|0)"/.test(line)) failed += count;
  }
  return { requests, failed };
}

export function render(c: CanaryStatus & { versions: readonly VersionSeen[] }): string {
  const share = `${c.percent} % of what it gets`;
  const instances = `${c.instances.length} ${c.instances.length === 1 ? 'instance' : 'instances'}, ${Math.round(c.instancesPercent)} % of them`;
  const said = {
    canary: `${c.workload}: ${c.version} is tried for ${share} (${instances}); the others run ${c.ownVersion}`,
    promoted: `${c.workload}: ${c.version} was promoted, all run it`,
    reverted: `${c.workload}: ${c.version} was reverted (${c.because}), all run ${c.ownVersion}`,
  };
  const rows = c.versions.map((v): Cell[] => [v.version, v.instances, v.proxyRestarts, v.requests, v.failed]);
  return `${said[c.state]}\n${table(['VERSION', 'INSTANCES', 'RESTARTS', 'REQUESTS', '5XX'], rows)}`;
}
