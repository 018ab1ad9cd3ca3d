/** `weft mtls`: from plaintext to STRICT without an outage. */
import { WeftError } from '@weft/base';
import type { MtlsState, MtlsWorkload } from '@weft/control';
import type { InstanceStatus } from '@weft/host';
import { type Command, Option } from 'commander';
import { adminGet } from '../admin.ts';
import { applied } from '../applied.ts';
import {
  ask,
  askControl,
  chooseMesh,
  instancesNamed,
  type MeshOption,
  meshOption,
  type NamespaceOption,
  namespaceOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
  wholeNumber,
} from '../common.ts';
import { duration } from '../duration.ts';
import { example } from '../example.ts';
import { onSignals } from '../mesh.ts';
import { type CheckedSide, check } from '../mtls/check.ts';
import { policyFiles } from '../mtls/policies.ts';
import { allReady, callerName, findings, modesOf, readinessOf } from '../mtls/readiness.ts';
import { makeStrict } from '../mtls/strict.ts';
import { watchedFile } from '../paths.ts';
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
  example(
    mtls
      .command('check')
      .description(
        "whether two workloads can speak mTLS now: both proxies are asked, and the caller's does the handshake; ends with 1 where they cannot",
      )
      .requiredOption('--from <workload>', 'who calls: an instance or a process, also as NAMESPACE/NAME')
      .requiredOption('--to <workload>', 'who is called')
      .option('--port <port>', "the service's port (default: its first)", wholeNumber)
      .addOption(namespaceOption())
      .addOption(meshOption())
      .addOption(outputOption())
      .action(checkPair),
    'weft mtls check --from shop/cart --to shop/payment',
  );
  example(
    mtls
      .command('strict')
      .description(
        'bring a namespace to STRICT in five steps, each watched; the first caller that would break is named, and all is as before',
      )
      .argument('<namespace>')
      .requiredOption('--guard', 'watch each step, and take all back where somebody would break')
      .addOption(
        new Option('--watch <time>', 'how long each step is watched').argParser(duration).default(30_000, '30s'),
      )
      .addOption(
        new Option('--since <time>', 'how far back callers without mTLS count')
          .argParser(duration)
          .default(DAY_MS, '24h'),
      )
      .option('--allow-no-proxy', 'go on although workloads have no proxy: no policy holds for them')
      .option(
        '--file <file>',
        'where the policies are written (default: strict-NAMESPACE.yaml in the folder of weft up -f)',
      )
      .addOption(meshOption())
      .action(strict),
    'weft mtls strict shop --guard',
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

interface Registered {
  name: string;
  injected: boolean;
  services: string[];
}

type CheckArguments = MeshOption & NamespaceOption & OutputOption & { from: string; to: string; port?: number };

async function checkPair(o: CheckArguments): Promise<void> {
  const mesh = chooseMesh(o.mesh);
  const { instances } = await ask<{ instances: InstanceStatus[] }>(mesh, 'GET', '/ps');
  const from = instancesNamed(mesh, instances, o.from, o.namespace)[0]!;
  const to = instancesNamed(mesh, instances, o.to, o.namespace);
  const registered = (await askControl<{ instances: Registered[] }>(mesh, 'GET', '/v1/instances')).instances;
  const { workloads } = await askState(mesh, Date.now(), to[0]!.namespace);
  const called = workloads.find((w) => w.workload === to[0]!.workload);
  const side = (i: InstanceStatus): CheckedSide => ({
    name: i.name,
    injected: registered.find((r) => r.name === i.name)?.injected ?? i.injected,
    reason: i.injectedReason,
  });
  const host = registered.find((r) => r.name === to[0]!.name)?.services[0];
  if (host === undefined) throw new WeftError('no-service', `no service selects ${to[0]!.name}: nobody can call it`);
  const plan = await askControl<Plan>(mesh, 'GET', `/v1/plan/${encodeURIComponent(from.name)}`);
  const ports = plan.parts[`service/${host}`]?.service?.ports?.map((p) => p.port) ?? [];
  const port = o.port ?? ports[0];
  if (port === undefined || (ports.length > 0 && !ports.includes(port)))
    throw new WeftError('no-port', `${from.name} may not call ${host}, or it has no such port: ${ports.join(', ')}`);
  const result = await check({
    from: side(from),
    to: to.map(side),
    service: { host, port },
    mode: called?.ports[0]?.mode ?? 'PERMISSIVE',
    ask: (name, path) => askProxy(instances.find((i) => i.name === name)!, path),
    nowMs: () => Date.now(),
  });
  const references = plan.references.entries ?? [];
  const findings = result.findings.map((f) => {
    const at = f.ref === '' ? undefined : references.find((r) => r.ref === f.ref);
    return { ...f, where: at?.file ? `${at.file}:${at.line ?? 1}` : '' };
  });
  if (o.output === 'json') printJson({ ...result, findings });
  else if (findings.length === 0) {
    const who = result.endpoints.map((e) => `${e.instance} (${e.identity})`).join(', ');
    print(`${from.name} → ${host}:${port}: mTLS works with ${who}`);
  } else {
    print(`${from.name} → ${host}:${port}: no mTLS`);
    for (const f of findings) print(`  ${f.code}: ${f.message}${f.where ? ` (${f.where})` : ''}`);
  }
  if (findings.length > 0) process.exitCode = 1;
}

const BUSY_MS = 15_000;

/** A proxy does one probe at a time: who comes second waits. */
async function askProxy(instance: InstanceStatus, path: string): Promise<unknown> {
  const end = performance.now() + BUSY_MS;
  for (;;) {
    try {
      return JSON.parse(await adminGet(instance, path));
    } catch (error) {
      if (!String(error).includes('another probe runs') || performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** Of the control plane's `/v1/plan/NAME`. */
interface Plan {
  parts: Record<string, { service?: { ports?: { port: number }[] } } | undefined>;
  references: { entries?: { ref: string; file?: string; line?: number }[] };
}

interface StrictArguments extends MeshOption {
  watch: number;
  since: number;
  allowNoProxy?: boolean;
  file?: string;
}

async function strict(namespace: string, o: StrictArguments): Promise<void> {
  const mesh = chooseMesh(o.mesh);
  const { files } = await ask<{ files: string[] }>(mesh, 'GET', '/ps');
  let stopped = false;
  const off = onSignals(() => {
    stopped = true;
  });
  try {
    const done = await makeStrict(
      { namespace, watchMs: o.watch, historyMs: o.since, allowNoProxy: o.allowNoProxy ?? false },
      {
        policies: policyFiles(namespace, watchedFile(files, `strict-${namespace}.yaml`, o.file)),
        state: (sinceMs) => askState(mesh, sinceMs, namespace),
        callers: (w, sinceMs) => directCallers(mesh, w, sinceMs),
        applied: () => applied(mesh),
        now: () => Date.now(),
        wait: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
        say: print,
        stopped: () => stopped,
      },
    );
    if (!done) process.exitCode = 1;
  } finally {
    off();
  }
}

/** Of what STRICT would refuse; a proxy that does not answer is no reason to go on. */
async function directCallers(mesh: string, w: MtlsWorkload, sinceMs: number) {
  const { instances } = await ask<{ instances: InstanceStatus[] }>(mesh, 'GET', '/ps');
  const own = instances.filter((i) => i.workload === w.workload && i.namespace === w.namespace && i.injected);
  const found: { caller: string; port: number; requests: number }[] = [];
  for (const instance of own) {
    const { callers } = JSON.parse(await adminGet(instance, '/plaintext')) as {
      callers: { address: string; port: number; refused: boolean; total: number; lastMs: number }[];
    };
    for (const c of callers) {
      if (c.refused || c.lastMs < sinceMs) continue;
      const known = instances.find((i) => i.address === c.address);
      const caller = known ? `${known.namespace}/${known.workload}` : `${c.address} (not of the mesh)`;
      found.push({ caller, port: c.port, requests: c.total });
    }
  }
  return found;
}
