/**
 * The way of a namespace to STRICT in five steps: PERMISSIVE, a proxy for everybody, STRICT workload by workload (those
 * that are called least first), each watched, and then the namespace. Whoever would break ends it, is named, and all is
 * as before.
 */
import type { MtlsState, MtlsWorkload } from '@weft/control';
import type { StrictPolicies } from './policies.ts';
import { callerName, type Finding, findings, isExempt } from './readiness.ts';

export interface StrictOptions {
  readonly namespace: string;
  /** How long each step is watched. */
  readonly watchMs: number;
  /** How far back callers without mTLS count. */
  readonly historyMs: number;
  /** Go on where workloads have no proxy: no policy holds for them. */
  readonly allowNoProxy: boolean;
}

export interface StrictDeps {
  readonly policies: StrictPolicies;
  /** Modes and callers of the namespace since then. */
  state(sinceMs: number): Promise<MtlsState>;
  /** Callers without mTLS since then, as the workload's proxies know them now: the state may be a second late. */
  callers(workload: MtlsWorkload, sinceMs: number): Promise<{ caller: string; port: number; requests: number }[]>;
  /** How far the files' last state has come: `refused` says why the files are not taken. */
  applied(): Promise<{ readonly epoch: number; readonly synced: boolean; readonly refused: string }>;
  /** Wall time. */
  now(): number;
  wait(ms: number): Promise<void>;
  say(line: string): void;
  /** Somebody wants it to end. */
  stopped(): boolean;
}

/** What ended it before its end. */
class Stop extends Error {}

const LOOK_MS = 500;
/** Proxies tell each second what they saw. */
const TELLING_MS = 1500;
const APPLY_MS = 30_000;

/** True: the namespace is STRICT. False: it was stopped, said why, and everything is as before. */
export async function makeStrict(o: StrictOptions, deps: StrictDeps): Promise<boolean> {
  try {
    await steps(o, deps);
    return true;
  } catch (error) {
    deps.say(error instanceof Stop ? `stopped: ${error.message}` : `failed: ${(error as Error).message}`);
    if (deps.policies.changed.length === 0) deps.say('nothing was changed');
    else await revert(deps);
    if (!(error instanceof Stop)) throw error;
    return false;
  }
}

async function revert(deps: StrictDeps): Promise<void> {
  const before = await deps.applied().catch(() => undefined);
  const files = deps.policies.changed.join(', ');
  deps.policies.revert();
  const end = deps.now() + APPLY_MS;
  for (;;) {
    const now = await deps.applied().catch(() => undefined);
    // Files that were refused made no epoch: to take them back makes none.
    const newer = before === undefined || before.refused !== '' || (now?.epoch ?? 0) > before.epoch;
    if (now?.synced && now.refused === '' && newer) break;
    if (deps.now() >= end) {
      deps.say(`reverted ${files}, but not every proxy has heard of it: see "weft proxy-status"`);
      return;
    }
    await deps.wait(LOOK_MS / 5);
  }
  deps.say(`reverted ${files}: every mode is as it was`);
}

async function steps(o: StrictOptions, deps: StrictDeps): Promise<void> {
  const begun = deps.now();
  const start = await deps.state(begun - o.historyMs);
  const all = start.workloads.filter((w) => w.ports.length > 0);
  if (start.workloads.length === 0) throw new Stop(`nothing runs in namespace ${o.namespace}`);

  for (const w of all)
    for (const p of w.ports)
      if (p.mode === 'DISABLE' && !isExempt(p))
        throw new Stop(
          `step 1 is not done: ${name(w)}:${p.port} is DISABLE by ${p.policy} (${p.where}): make it PERMISSIVE`,
        );
  deps.say(`1/5 PERMISSIVE: plaintext and mTLS are taken by all of ${o.namespace} that is not STRICT yet`);

  const without = start.workloads.filter((w) => !w.injected);
  if (without.length > 0 && !o.allowNoProxy) {
    const who = without.map((w) => `${name(w)} (${w.reason})`).join(', ');
    throw new Stop(`step 2 is not done: no proxy has ${who}; --allow-no-proxy goes on without them`);
  }
  deps.say(`2/5 proxies: ${start.workloads.length - without.length} of ${start.workloads.length} workloads have one`);

  const exempt = all.filter((w) => w.ports.some(isExempt));
  for (const w of exempt) {
    const own = w.ports.find(isExempt)!;
    deps.say(`    ${name(w)} keeps its own policy: ${own.mode} by ${own.policy} (${own.where})`);
  }
  const todo = all
    .filter((w) => w.injected && w.ports.some((p) => p.mode !== 'STRICT' && !isExempt(p)) && !w.ports.some(isExempt))
    .sort((a, b) => calls(a) - calls(b) || (name(a) < name(b) ? -1 : 1));
  if (todo.length === 0) {
    deps.say(`5/5 ${o.namespace} is STRICT already`);
    return;
  }
  refuse(todo, start, begun);
  deps.say(`3/5 watching ${todo.length} workloads for ${seconds(o.watchMs)} before the first is STRICT`);
  await watch(o, deps, todo, begun);

  const done: MtlsWorkload[] = [];
  for (const w of todo) {
    done.push(w);
    const seen = `${calls(w)} calls seen, nobody without mTLS`;
    deps.say(`3/5 STRICT for ${name(w)} (${done.length} of ${todo.length}; ${seen})`);
    const { epoch } = await deps.applied();
    await ask(deps, [w], begun);
    deps.policies.workloads(done.map((d) => ({ name: d.workload, labels: d.labels })));
    await settle(deps, epoch);
    deps.say(`4/5 watching for ${seconds(o.watchMs)}: who is refused, and who is next`);
    await watch(o, deps, todo, begun);
  }

  const own = all.flatMap((w) => w.ports).find((p) => p.level === 'namespace');
  const { epoch } = await deps.applied();
  deps.policies.namespace(own && { name: own.policy.slice(own.policy.indexOf('/') + 1), where: own.where });
  await settle(deps, epoch);
  // The namespace's holds before those of the workloads go.
  const next = await deps.applied();
  deps.policies.workloads([]);
  await settle(deps, next.epoch);
  await watch(o, deps, todo, begun);
  deps.say(`5/5 STRICT for ${o.namespace}: ${deps.policies.changed.join(', ')}`);
}

const name = (w: MtlsWorkload): string => `${w.namespace}/${w.workload}`;
const seconds = (ms: number): string => `${Math.round(ms / 100) / 10} s`;

function calls(w: MtlsWorkload): number {
  return w.verified.reduce((sum, v) => sum + v.requests, 0) + w.plaintext.reduce((sum, c) => sum + c.requests, 0);
}

/** Ends it at the first caller that would break, or that was refused since it began. */
function refuse(todo: readonly MtlsWorkload[], state: MtlsState, begun: number): void {
  for (const w of todo) {
    const now = state.workloads.find((x) => name(x) === name(w));
    const found = now && findings(now).find((f) => !f.refused || f.lastMs >= begun);
    if (found) throw new Stop(broken(now, found));
  }
}

/** The last look before STRICT, at the proxies themselves. */
async function ask(deps: StrictDeps, workloads: readonly MtlsWorkload[], begun: number): Promise<void> {
  for (const w of workloads) {
    const [first] = await deps.callers(w, begun);
    if (!first) continue;
    const times = `${first.requests} ${first.requests === 1 ? 'call' : 'calls'} without mTLS`;
    throw new Stop(`${first.caller} would break at ${name(w)}:${first.port}: ${times}`);
  }
}

function broken(w: MtlsWorkload, f: Finding): string {
  const what = f.refused ? 'was refused' : 'would break';
  const times = `${f.requests} ${f.requests === 1 ? 'call' : 'calls'} without mTLS`;
  return `${callerName(f.caller)} ${what} at ${name(w)}:${f.caller.port}: ${times}, the last at ${new Date(f.lastMs).toISOString()}`;
}

async function watch(o: StrictOptions, deps: StrictDeps, todo: readonly MtlsWorkload[], begun: number): Promise<void> {
  const end = deps.now() + o.watchMs + TELLING_MS;
  for (;;) {
    if (deps.stopped()) throw new Stop('asked to');
    refuse(todo, await deps.state(begun - o.historyMs), begun);
    if (deps.now() >= end) return;
    await deps.wait(LOOK_MS);
  }
}

/** Until every proxy has a later epoch than that one. */
async function settle(deps: StrictDeps, epoch: number): Promise<void> {
  const end = deps.now() + APPLY_MS;
  for (;;) {
    const now = await deps.applied();
    if (now.refused !== '') throw new Stop(`the files are refused: ${now.refused}`);
    if (now.synced && now.epoch > epoch) return;
    if (deps.now() >= end) throw new Stop(`not every proxy had the new policy within ${seconds(APPLY_MS)}`);
    await deps.wait(LOOK_MS / 5);
  }
}
