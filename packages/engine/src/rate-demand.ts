/**
 * The replica's side of a rate limit that several replicas share: what its callers want of it, told once a second, and the
 * share that it is given in answer. A share stays in force until another comes. What was never given one is 1/replicas.
 */
import { callerRate, changedRate, MAX_RATE_CALLERS, type RateLimitView } from './rate-limit.ts';
import type { Snapshot } from './views.ts';

/** Callers without a share that one report names: those that want the most. */
export const MAX_REPORTED_CALLERS = 100;
/** A caller is named once it wants that part of what it may have here. */
const NAMED_FROM = 0.5;
/** Counts of a shorter time say little of a rate. */
const MIN_INTERVAL_MS = 500;
/** No share is less: an account of no rate would never be even again. */
const MIN_SHARE = 1e-6;

/** Of one limit with a `ref` of its own; outlives snapshots. Shares are parts of a rate, above 0 and up to 1. */
export interface SharedRates {
  readonly ref: string;
  total: number | undefined;
  readonly callers: Map<string, number>;
  /** Asked for since `sinceMs`, refused or not. */
  wantedTotal: number;
  readonly wanted: Map<string, number>;
  sinceMs: number | undefined;
}

/** Of one account: the total (`caller` is undefined), or that of one caller (empty: of those who prove no identity). */
export interface RateAccountDemand {
  readonly caller?: string;
  /** A second's worth, as a part of the limit's rate; may be more than 1. */
  readonly wanted: number;
  /** In force; undefined: 1/replicas. */
  readonly share?: number;
}

export interface RateDemandOf {
  /** The limit's ref. */
  readonly limit: string;
  readonly accounts: RateAccountDemand[];
}

export interface RateSharesOf {
  readonly limit: string;
  readonly accounts: { readonly caller?: string; readonly share?: number }[];
}

export function sharedRates(ref: string): SharedRates {
  return { ref, total: undefined, callers: new Map(), wantedTotal: 0, wanted: new Map(), sinceMs: undefined };
}

/** One more was asked for. `caller`: undefined where callers have no rate of their own. */
export function noteWanted(shared: SharedRates, caller: string | undefined, ofTotal: boolean): void {
  if (ofTotal) shared.wantedTotal++;
  if (caller === undefined) return;
  const before = shared.wanted.get(caller);
  if (before !== undefined || shared.wanted.size < MAX_RATE_CALLERS) shared.wanted.set(caller, (before ?? 0) + 1);
}

/** What every shared limit of a plan is asked for, since this was called last. */
export function takeRateDemands(snapshot: Snapshot, nowMs: number): RateDemandOf[] {
  const demands: RateDemandOf[] = [];
  for (const views of [snapshot.rateLimits, snapshot.connectionLimits])
    for (const view of views.values()) if (view.state.shared) demands.push(takeDemand(view, view.state.shared, nowMs));
  return demands;
}

function takeDemand(view: RateLimitView, shared: SharedRates, nowMs: number): RateDemandOf {
  const seconds = Math.max(MIN_INTERVAL_MS, nowMs - (shared.sinceMs ?? nowMs)) / 1000;
  const { limit } = view;
  const accounts: RateAccountDemand[] = [];
  if (limit.total > 0) accounts.push(demandOf(shared.wantedTotal / seconds / limit.total, shared.total));
  const named: { caller: string; wanted: number }[] = [];
  for (const [caller, count] of shared.wanted) {
    if (shared.callers.has(caller)) continue;
    const wanted = count / seconds / callerRate(view, caller);
    if (wanted >= NAMED_FROM * view.equalShare) named.push({ caller, wanted });
  }
  named.sort((a, b) => b.wanted - a.wanted);
  accounts.push(...named.slice(0, MAX_REPORTED_CALLERS));
  for (const [caller, share] of shared.callers) {
    const rate = callerRate(view, caller);
    const wanted = rate > 0 ? (shared.wanted.get(caller) ?? 0) / seconds / rate : 0;
    accounts.push({ caller, ...demandOf(wanted, share) });
  }
  shared.wantedTotal = 0;
  shared.wanted.clear();
  shared.sinceMs = nowMs;
  return { limit: limit.ref, accounts };
}

function demandOf(wanted: number, share: number | undefined): RateAccountDemand {
  return share === undefined ? { wanted } : { wanted, share };
}

/** The answer to a report: all shares of the limits that it names, in the place of those before. */
export function applyRateShares(snapshot: Snapshot, answer: readonly RateSharesOf[], nowMs: number): void {
  for (const views of [snapshot.rateLimits, snapshot.connectionLimits]) {
    for (const view of views.values()) {
      const { shared } = view.state;
      const given = shared && answer.find((a) => a.limit === shared.ref);
      if (given) applyShares(view, shared, given, nowMs);
    }
  }
}

function applyShares(view: RateLimitView, shared: SharedRates, given: RateSharesOf, nowMs: number): void {
  const { limit, state, equalShare } = view;
  let total: number | undefined;
  const callers = new Map<string, number>();
  for (const { caller, share } of given.accounts) {
    if (share === undefined || Number.isNaN(share)) continue;
    const usable = Math.min(1, Math.max(MIN_SHARE, share));
    if (caller === undefined) total = usable;
    else callers.set(caller, usable);
  }
  if (limit.total > 0) {
    const [from, to] = [shared.total ?? equalShare, total ?? equalShare];
    if (from !== to) state.total = changedRate(state.total, from * limit.total, to * limit.total, nowMs);
  }
  for (const caller of new Set([...shared.callers.keys(), ...callers.keys()])) {
    const [from, to] = [shared.callers.get(caller) ?? equalShare, callers.get(caller) ?? equalShare];
    const rate = callerRate(view, caller);
    const at = state.callers.get(caller);
    if (from !== to && rate > 0) {
      // One without an account has a new one, which may be ahead by less than the new rate saves.
      const next = changedRate(at ?? 0, from * rate, to * rate, nowMs);
      if (at !== undefined || (next > nowMs && state.callers.size < MAX_RATE_CALLERS)) state.callers.set(caller, next);
    }
  }
  shared.total = total;
  shared.callers.clear();
  for (const [caller, share] of callers) shared.callers.set(caller, share);
}
