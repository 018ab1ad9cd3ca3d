/**
 * What passed between whom, day by day: a file for each day in the folder `audit` of the state, written each minute, so
 * that a restart loses little. Policies are suggested from it, and the audit's report is made of it.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock, Logger, Timer } from '@weft/base';
import { writeFileAtomic } from '@weft/identity';
import { type CallDelta, PathBudget, type PlaintextDelta } from '@weft/telemetry';

export interface EdgeSum {
  /** Which end told of it: what both told of counts by its source's word. */
  reporter: 'source' | 'destination';
  source: string;
  sourceNamespace: string;
  /** Host of the service. */
  destination: string;
  mtls: boolean;
  requests: number;
  bytes: number;
  firstMs: number;
  lastMs: number;
}

export interface CallSum extends CallDelta {
  /** The workload that was called. */
  workload: string;
  namespace: string;
  firstMs: number;
  lastMs: number;
}

/** A caller without mTLS. */
export interface PlaintextSum extends PlaintextDelta {
  /** The workload that was called. */
  workload: string;
  namespace: string;
  firstMs: number;
  lastMs: number;
}

interface Day {
  edges: Map<string, EdgeSum>;
  calls: Map<string, CallSum>;
  plaintext: Map<string, PlaintextSum>;
  /** Requests of edges and calls past the limits. */
  dropped: number;
}

interface Stored {
  edges: EdgeSum[];
  calls: CallSum[];
  /** Absent in files of before it was kept. */
  plaintext?: PlaintextSum[];
  dropped: number;
}

export interface TrafficLimits {
  edges: number;
  calls: number;
  plaintext: number;
  /** Path templates of one caller on one port of a workload. */
  paths: number;
  days: number;
}

export const defaultTrafficLimits: TrafficLimits = {
  edges: 10_000,
  calls: 20_000,
  plaintext: 10_000,
  paths: 200,
  days: 35,
};
const SAVE_MS = 60_000;
const FILE = /^traffic-(\d{4}-\d{2}-\d{2})\.json$/;

const dateOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

const emptyDay = (): Day => ({ edges: new Map(), calls: new Map(), plaintext: new Map(), dropped: 0 });

export class Traffic {
  readonly #dir: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #limits: TrafficLimits;
  #date = '';
  #today: Day = emptyDay();
  #budgets = new Map<string, PathBudget>();
  #dirty = false;
  #timer: Timer | undefined;

  constructor(dir: string, clock: Clock, logger: Logger, limits: Partial<TrafficLimits> = {}) {
    this.#dir = dir;
    this.#clock = clock;
    this.#logger = logger;
    this.#limits = { ...defaultTrafficLimits, ...limits };
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    this.#turn();
    this.#tick();
  }

  stop(): void {
    this.#timer?.cancel();
    this.save();
  }

  addEdge(e: Omit<EdgeSum, 'firstMs' | 'lastMs'>): void {
    this.#turn();
    const { reporter, source, sourceNamespace, destination, mtls, requests, bytes } = e;
    const key = JSON.stringify([reporter, source, sourceNamespace, destination, mtls]);
    const now = this.#clock.wall();
    const sum = this.#today.edges.get(key);
    this.#dirty = true;
    if (sum) {
      sum.requests += requests;
      sum.bytes += bytes;
      sum.lastMs = now;
    } else if (this.#today.edges.size >= this.#limits.edges) this.#today.dropped += requests;
    else this.#today.edges.set(key, { ...e, firstMs: now, lastMs: now });
  }

  addCall(to: { workload: string; namespace: string }, call: CallDelta): void {
    this.#turn();
    const { workload, namespace } = to;
    const path = this.#budget([namespace, workload, call.principal, call.port]).admit(call.path);
    const key = keyOf({ ...call, path, workload, namespace });
    const now = this.#clock.wall();
    const sum = this.#today.calls.get(key);
    this.#dirty = true;
    if (sum) {
      sum.requests += call.requests;
      sum.lastMs = now;
    } else if (this.#today.calls.size >= this.#limits.calls) this.#today.dropped += call.requests;
    else this.#today.calls.set(key, { ...call, path, workload, namespace, firstMs: now, lastMs: now });
  }

  addPlaintext(to: { workload: string; namespace: string }, caller: PlaintextDelta): void {
    this.#turn();
    const { workload, namespace } = to;
    const key = plaintextKey({ ...caller, workload, namespace });
    const now = this.#clock.wall();
    const sum = this.#today.plaintext.get(key);
    this.#dirty = true;
    if (sum) {
      sum.requests += caller.requests;
      sum.lastMs = now;
    } else if (this.#today.plaintext.size >= this.#limits.plaintext) this.#today.dropped += caller.requests;
    else this.#today.plaintext.set(key, { ...caller, workload, namespace, firstMs: now, lastMs: now });
  }

  /** Sums over the days since then (wall time); what was last seen before it is left out. */
  since(sinceMs: number): { edges: EdgeSum[]; calls: CallSum[]; plaintext: PlaintextSum[]; dropped: number } {
    this.#turn();
    const edges = new Map<string, EdgeSum>();
    const calls = new Map<string, CallSum>();
    const plaintext = new Map<string, PlaintextSum>();
    let dropped = 0;
    for (const date of [...this.#dates(), this.#date]) {
      if (date < dateOf(sinceMs)) continue;
      const day = date === this.#date ? this.#today : this.#read(date);
      dropped += day.dropped;
      merge(edges, day.edges, sinceMs, (sum, e) => {
        sum.bytes += e.bytes;
      });
      merge(calls, day.calls, sinceMs, () => {});
      merge(plaintext, day.plaintext, sinceMs, () => {});
    }
    return {
      edges: [...edges.values()],
      calls: [...calls.values()],
      plaintext: [...plaintext.values()],
      dropped,
    };
  }

  save(): void {
    if (!this.#dirty) return;
    const { edges, calls, plaintext, dropped } = this.#today;
    const stored: Stored = {
      edges: [...edges.values()],
      calls: [...calls.values()],
      plaintext: [...plaintext.values()],
      dropped,
    };
    try {
      writeFileAtomic(join(this.#dir, `traffic-${this.#date}.json`), JSON.stringify(stored), 0o600);
      this.#dirty = false;
    } catch (error) {
      this.#logger.error({ error: String(error) }, 'the sums of the traffic could not be written; they are kept');
    }
  }

  #tick(): void {
    this.#timer = this.#clock.after(SAVE_MS, () => {
      this.save();
      this.#tick();
    });
  }

  /** A new day begins a new file; old ones go. */
  #turn(): void {
    const date = dateOf(this.#clock.wall());
    if (date === this.#date) return;
    if (this.#date !== '') this.save();
    this.#date = date;
    this.#today = this.#read(date);
    this.#budgets = new Map();
    this.#dirty = false;
    const oldest = dateOf(this.#clock.wall() - this.#limits.days * 86_400_000);
    for (const old of this.#dates()) {
      if (old < oldest) rmSync(join(this.#dir, `traffic-${old}.json`), { force: true });
    }
  }

  /** Days on disk before this one, the oldest first. */
  #dates(): string[] {
    const found = readdirSync(this.#dir).flatMap((name) => FILE.exec(name)?.[1] ?? []);
    return found.filter((d) => d !== this.#date).sort();
  }

  #read(date: string): Day {
    const day = emptyDay();
    let stored: Stored;
    try {
      stored = JSON.parse(readFileSync(join(this.#dir, `traffic-${date}.json`), 'utf8')) as Stored;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        this.#logger.error({ error: String(error), date }, 'the sums of a day cannot be read and are left out');
      return day;
    }
    for (const e of stored.edges)
      day.edges.set(JSON.stringify([e.reporter, e.source, e.sourceNamespace, e.destination, e.mtls]), e);
    for (const c of stored.calls) day.calls.set(keyOf(c), c);
    for (const p of stored.plaintext ?? []) day.plaintext.set(plaintextKey(p), p);
    day.dropped = stored.dropped;
    return day;
  }

  #budget(of: readonly unknown[]): PathBudget {
    const key = JSON.stringify(of);
    let budget = this.#budgets.get(key);
    if (!budget) this.#budgets.set(key, (budget = new PathBudget(this.#limits.paths, () => {})));
    return budget;
  }
}

function plaintextKey(p: Omit<PlaintextSum, 'requests' | 'firstMs' | 'lastMs'>): string {
  const { namespace, workload, source, sourceNamespace, address, port, refused, ref } = p;
  return JSON.stringify([namespace, workload, source, sourceNamespace, address, port, refused, ref]);
}

function keyOf(c: Omit<CallSum, 'firstMs' | 'lastMs'>): string {
  const caller = [c.namespace, c.workload, c.principal, c.source, c.sourceNamespace, c.port, c.method, c.path];
  return JSON.stringify([...caller, c.denied, c.policy, c.ref, c.shadowPolicy, c.shadowRef, c.audit]);
}

function merge<T extends { requests: number; firstMs: number; lastMs: number }>(
  into: Map<string, T>,
  day: Map<string, T>,
  sinceMs: number,
  more: (sum: T, one: T) => void,
): void {
  for (const [key, one] of day) {
    if (one.lastMs < sinceMs) continue;
    const sum = into.get(key);
    if (!sum) {
      into.set(key, { ...one });
      continue;
    }
    sum.requests += one.requests;
    sum.lastMs = Math.max(sum.lastMs, one.lastMs);
    more(sum, one);
  }
}
