/** `weft mtls`: from plaintext to STRICT without an outage. */
import type { MtlsState } from '@weft/control';
import { type Command, Option } from 'commander';
import {
  askControl,
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
import { duration } from '../duration.ts';
import { example } from '../example.ts';
import { allReady, callerName, findings, modesOf, readinessOf } from '../mtls/readiness.ts';
import { age, type Cell, table } from '../table.ts';

const DAY_MS = 86_400_000;

export function addMtls(program: Command): void {
  const mtls = program
    .command('mtls')
    .description('who calls whom without mTLS, whether two workloads can, and the way to STRICT');
  example(
    mtls
      .command('readiness')
      .description(
        'which callers of which workload STRICT would break, from what was seen, and which workloads have no proxy; ends with 1 where there are any',
      )
      .addOption(namespaceOption())
      .addOption(
        new Option('--since <time>', 'what was seen in the last 30m, 24h, 7d …')
          .argParser(duration)
          .default(DAY_MS, '24h'),
      )
      .addOption(meshOption())
      .addOption(outputOption())
      .action(readiness),
    'weft mtls readiness -n shop',
  );
}

export function askState(mesh: string, sinceMs: number, namespace?: string): Promise<MtlsState> {
  const of = namespace === undefined ? '' : `&namespace=${encodeURIComponent(namespace)}`;
  return askControl<MtlsState>(mesh, 'GET', `/v1/mtls?since=${Math.max(0, Math.floor(sinceMs))}${of}`);
}

async function readiness(o: MeshOption & NamespaceOption & OutputOption & { since: number }): Promise<void> {
  const mesh = chooseMesh(o.mesh);
  const state = await askState(mesh, Date.now() - o.since, o.namespace);
  if (o.output === 'json') {
    printJson({
      ...state,
      workloads: state.workloads.map((w) => ({ ...w, readiness: readinessOf(w), findings: findings(w) })),
    });
  } else print(render(state, Date.now()));
  if (!allReady(state)) process.exitCode = 1;
}

const WORDS = {
  strict: 'STRICT already',
  ready: 'ready',
  breaks: 'would break callers',
  refuses: 'refuses callers now',
  'no proxy': 'no proxy',
};

export function render(state: MtlsState, nowMs: number): string {
  const rows: Cell[][] = state.workloads.map((w) => [
    `${w.namespace}/${w.workload}`,
    w.injected ? modesOf(w) : '-',
    WORDS[readinessOf(w)],
    w.verified.reduce((sum, v) => sum + v.requests, 0),
    w.plaintext.reduce((sum, c) => sum + c.requests, 0),
    w.plaintext.reduce((sum, c) => sum + c.refused, 0),
  ]);
  const lines = [table(['WORKLOAD', 'MODE', 'STRICT', 'MTLS', 'PLAINTEXT', 'REFUSED'], rows)];
  const callers: Cell[][] = state.workloads.flatMap((w) =>
    findings(w).map((f): Cell[] => [
      callerName(f.caller),
      `${w.namespace}/${w.workload}:${f.caller.port}`,
      f.refused ? 'is refused' : 'would break',
      f.requests,
      `${age(Math.max(0, nowMs - f.lastMs))} ago`,
    ]),
  );
  if (callers.length > 0) lines.push('', table(['CALLER', 'CALLS', 'STRICT', 'REQUESTS', 'LAST SEEN'], callers, 140));
  const without = state.workloads.filter((w) => !w.injected);
  if (without.length > 0)
    lines.push(
      '',
      'without a proxy (no policy holds for what they receive, and STRICT refuses what they send):',
      ...without.map((w) => `  ${w.namespace}/${w.workload}: ${w.reason}`),
    );
  const exempt = state.workloads.flatMap((w) =>
    w.ports
      .filter((p) => p.mode !== 'STRICT' && (p.level === 'workload' || p.level === 'port'))
      .map((p) => `  ${w.namespace}/${w.workload}:${p.port} is ${p.mode} by ${p.policy} (${p.where})`),
  );
  if (exempt.length > 0)
    lines.push('', 'policies of their own, which STRICT for the namespace does not change:', ...exempt);
  if (state.dropped > 0) lines.push('', `${state.dropped} calls are not in it: past the limits (see LIMITS.md)`);
  return lines.join('\n');
}
