/**
 * The dividing side of a rate limit that several replicas share: who gets which part of it. Parts add up to 1, so nothing
 * here knows the rates themselves. Shares shrink before others grow: a replica is given no more than is provably free,
 * that is 1 without what every other one may still have in force, which is what it said last and what it was sent since.
 */
import type { RateAccountDemand, RateDemandOf, RateSharesOf } from './rate-demand.ts';

/** The part of an even share that a replica has even if it wants nothing, to start with. */
export const SHARE_FLOOR = 0.1;
/** So long nobody's share grows while there are replicas not heard of: what they hold is not known after a restart. */
export const UNHEARD_MS = 5000;
/** Callers of one limit that have a division of their own; of others every replica has 1/replicas. */
export const MAX_SHARED_CALLERS = 100;
/** A caller's rate is divided once some replica is asked for that part of an even share. */
const DIVIDED_FROM = 0.5;
/** What all want is looked at again after so long for each replica: its cost stays in bounds with many. */
const DIVIDE_AGAIN_MS = 0.5;
const EXACT = 1e-9;

/**
 * 1 divided by what each wants (parts of 1): max-min fair. Everybody has the floor; above it who wants little gets that,
 * and who wants more the same as all who do; what nobody wants is spread evenly, as room for what comes next.
 */
export function divideRate(wanted: readonly number[]): number[] {
  const n = wanted.length;
  const floor = SHARE_FLOOR / n;
  const shares = new Array<number>(n).fill(floor);
  let left = 1 - SHARE_FLOOR;
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a]! - wanted[b]!);
  for (const [done, i] of order.entries()) {
    const part = Math.min(Math.max(0, wanted[i]! - floor), left / (n - done));
    shares[i]! += part;
    left -= part;
  }
  return shares.map((share) => share + Math.max(0, left) / n);
}

interface Holding {
  /** Falls to a quarter with a report at the most: a pause of a moment does not cost all of a share. */
  wanted: number;
  /** The most that may be in force there. */
  held: number;
  heard: boolean;
}

/** One account of a limit: the total, or one caller's. */
class Account {
  readonly #replicas = new Map<string, Holding>();
  readonly #sinceMs: number;
  #targets: ReadonlyMap<string, number> = new Map();
  #dividedMs = Number.NEGATIVE_INFINITY;

  constructor(names: readonly string[], nowMs: number, heard: boolean) {
    this.#sinceMs = nowMs;
    this.members(names, heard);
  }

  /** New ones have 1/replicas by themselves; what those held that are gone is free. */
  members(names: readonly string[], heard: boolean): void {
    this.#dividedMs = Number.NEGATIVE_INFINITY;
    const now = new Set(names);
    for (const name of this.#replicas.keys()) if (!now.has(name)) this.#replicas.delete(name);
    for (const name of names)
      if (!this.#replicas.has(name)) this.#replicas.set(name, { wanted: 0, held: 1 / names.length, heard });
  }

  /** The share that the answer gives. `divideAlways`: also where nobody wants much. */
  report(
    name: string,
    demand: RateAccountDemand | undefined,
    again: boolean,
    divideAlways: boolean,
    nowMs: number,
  ): number {
    const own = this.#replicas.get(name) as Holding;
    const equal = 1 / this.#replicas.size;
    // Who wants more than all there is wants all of it, and is as soon taken for one who does not.
    const wanted = bounded(demand?.wanted ?? 0);
    const inForce = demand?.share === undefined ? equal : bounded(demand.share);
    own.wanted = Math.max(wanted, own.wanted / 4);
    own.held = again ? Math.max(own.held, inForce) : inForce;
    own.heard = true;
    let free = 1;
    let unheard = false;
    for (const [other, holding] of this.#replicas) {
      if (other === name) continue;
      free -= holding.held;
      unheard ||= !holding.heard;
    }
    if (unheard && nowMs - this.#sinceMs < UNHEARD_MS) free = 0;
    if (nowMs - this.#dividedMs >= DIVIDE_AGAIN_MS * this.#replicas.size) this.#divide(equal, divideAlways, nowMs);
    const share = Math.min(this.#targets.get(name) as number, Math.max(inForce, free));
    own.held = Math.max(own.held, share);
    return share;
  }

  #divide(equal: number, always: boolean, nowMs: number): void {
    const wanted = [...this.#replicas.values()].map((r) => r.wanted);
    const divided = always || wanted.some((w) => w >= DIVIDED_FROM * equal);
    const shares = divided ? divideRate(wanted) : wanted.map(() => equal);
    this.#targets = new Map([...this.#replicas.keys()].map((name, i) => [name, shares[i] as number]));
    this.#dividedMs = nowMs;
  }

  /** Nobody wants much of it and everybody has the same: nobody needs to be told any more. */
  get even(): boolean {
    const equal = 1 / this.#replicas.size;
    for (const { wanted, held } of this.#replicas.values())
      if (wanted >= DIVIDED_FROM * equal || Math.abs(held - equal) > EXACT) return false;
    return true;
  }

  /** Undefined: it is not known what that one has. */
  of(name: string): { share: number; wanted: number } | undefined {
    const holding = this.#replicas.get(name);
    return holding?.heard ? { share: holding.held, wanted: holding.wanted } : undefined;
  }
}

/** One shared limit. What it knows it learns from reports, so one that begins anew is right after each replica's first. */
export class RateDivision {
  #names: readonly string[] = [];
  #sinceMs: number | undefined;
  #total: Account | undefined;
  readonly #callers = new Map<string, Account>();
  /** Callers that found no room among MAX_SHARED_CALLERS. */
  refused = 0;

  /** Who shares the limit now, by name. */
  members(names: readonly string[]): void {
    this.#names = names;
    this.#total?.members(names, false);
    for (const account of this.#callers.values()) account.members(names, true);
  }

  /** What a member may have from now on. `again`: this report was answered before, and the answer perhaps lost. */
  answer(name: string, demand: RateDemandOf, again: boolean, nowMs: number): RateSharesOf {
    const shares: { caller?: string; share: number }[] = [];
    this.#sinceMs ??= nowMs;
    const byCaller = new Map<string, RateAccountDemand>();
    for (const account of demand.accounts) {
      if (account.caller !== undefined) byCaller.set(account.caller, account);
      else {
        this.#total ??= new Account(this.#names, nowMs, false);
        shares.push({ share: this.#total.report(name, account, again, true, nowMs) });
      }
    }
    for (const [caller, { share }] of byCaller) {
      if (this.#callers.has(caller)) continue;
      // Who was given a share is told of it until it is even again.
      if (this.#callers.size >= MAX_SHARED_CALLERS && share === undefined) this.refused++;
      else {
        // Without a share here it has none elsewhere, unless this division began a moment ago.
        const heard = share === undefined && nowMs - this.#sinceMs >= UNHEARD_MS;
        this.#callers.set(caller, new Account(this.#names, nowMs, heard));
      }
    }
    for (const [caller, account] of this.#callers) {
      const share = account.report(name, byCaller.get(caller), again, false, nowMs);
      if (account.even) this.#callers.delete(caller);
      else shares.push({ caller, share });
    }
    return { limit: demand.limit, accounts: shares };
  }

  /** The most of the total that may be in force at each member that was heard of, and what it wants. */
  totals(): { name: string; share: number; wanted: number }[] {
    return this.#names.flatMap((name) => {
      const of = this.#total?.of(name);
      return of ? [{ name, ...of }] : [];
    });
  }

  get callers(): number {
    return this.#callers.size;
  }
}

function bounded(value: number): number {
  return value > 0 ? Math.min(value, 1) : 0;
}
