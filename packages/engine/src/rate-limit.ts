/**
 * Rate limits of a workload's port (Linkerd: HTTPLocalRateLimitPolicy), by GCRA: a limit of N a second lets N through at
 * once and one more each 1/N s. All that is kept of a caller is one moment, which stays true when rates change. Where a
 * limit is that of several replicas, this one has a share of each rate: see rate-demand.ts for where it comes from.
 */
import type { RateLimit, RateLimitOverride } from '@weft/plan';
import { noteWanted, type SharedRates, sharedRates } from './rate-demand.ts';

/** Callers that are told apart; those beyond share one account. */
export const MAX_RATE_CALLERS = 10_000;

/** What a limit knows of its callers; outlives snapshots. Moments in ms: when an account is even again. */
export interface RateState {
  total: number;
  readonly callers: Map<string, number>;
  /** Of callers beyond MAX_RATE_CALLERS. */
  others: number;
  /** Of a limit of several replicas. */
  shared: SharedRates | undefined;
}

export interface RateLimitView {
  readonly limit: RateLimit;
  /** By principal (`trust domain/ns/…/sa/…`). */
  readonly overrides: ReadonlyMap<string, RateLimitOverride>;
  readonly state: RateState;
  /** The part of every rate that is this replica's where it was told of none: 1/replicas; 1 of a limit of its own. */
  readonly equalShare: number;
}

/** `total`: the port's; `identity`: the caller's own, or the override for it. */
export type RateVerdict = 'allow' | 'total' | 'identity';

/** `trustDomain` is the workload's own: overrides name service accounts of it. */
export function rateLimitView(limit: RateLimit, trustDomain: string, known?: RateState): RateLimitView {
  const overrides = new Map<string, RateLimitOverride>();
  for (const o of limit.overrides) {
    for (const { namespace, name } of o.accounts) overrides.set(`${trustDomain}/ns/${namespace}/sa/${name}`, o);
  }
  const state = known ?? { total: 0, callers: new Map(), others: 0, shared: undefined };
  if (limit.replicas === 0) state.shared = undefined;
  else if (state.shared?.ref !== limit.ref) state.shared = sharedRates(limit.ref);
  return { limit, overrides, state, equalShare: 1 / Math.max(1, limit.replicas) };
}

/** Of each caller, before it is divided; 0: none. */
export function callerRate(view: RateLimitView, principal: string | undefined): number {
  const override = principal === undefined ? undefined : view.overrides.get(principal);
  return override ? override.requestsPerSecond : view.limit.identity;
}

/**
 * Whether one more request (or connection) may pass, and takes its share if so. What the caller's limit refuses takes
 * nothing of the total: one caller that asks too much leaves the others theirs. Who proves no identity shares one account.
 */
export function takeRate(view: RateLimitView, principal: string | undefined, nowMs: number): RateVerdict {
  const { limit, state } = view;
  const { shared } = state;
  const caller = principal ?? '';
  const total = shared ? limit.total * (shared.total ?? view.equalShare) : limit.total;
  const totalFits = limit.total === 0 || fits(state.total, total, nowMs);
  if (!totalFits && !shared) return 'total';
  let rate = callerRate(view, principal);
  let at = 0;
  let known = false;
  if (rate > 0) {
    if (shared) rate *= shared.callers.get(caller) ?? view.equalShare;
    const own = state.callers.get(caller);
    known = own !== undefined || state.callers.size < MAX_RATE_CALLERS || (totalFits && forgetIdle(state, nowMs));
    at = own ?? (known ? 0 : state.others);
  }
  const callerFits = rate === 0 || fits(at, rate, nowMs);
  // Wanted of the total is what the callers' own rates would let through.
  if (shared) noteWanted(shared, rate > 0 ? caller : undefined, limit.total > 0 && callerFits);
  if (!totalFits) return 'total';
  if (!callerFits) return 'identity';
  if (rate > 0) {
    const next = Math.max(at, nowMs) + 1000 / rate;
    if (known) state.callers.set(caller, next);
    else state.others = next;
  }
  if (limit.total > 0) state.total = Math.max(state.total, nowMs) + 1000 / total;
  return 'allow';
}

/**
 * An account's moment when its rate becomes another one: what it could let through at once it still can, as far as the
 * new rate saves so much. So rates that move between replicas make nothing of their own. Rates are a second's, above 0.
 */
export function changedRate(at: number, from: number, to: number, nowMs: number): number {
  const saved = (depthMs(from) - Math.max(0, at - nowMs)) * (from / 1000);
  return nowMs + depthMs(to) - Math.min(saved, Math.max(1, to)) * (1000 / to);
}

/** How far ahead an account may be: a second's worth, or one where the rate is less than one a second. */
function depthMs(rate: number): number {
  return Math.max(1000, 1000 / rate);
}

/** A little more may be ahead, as sums of fractions are not exact. */
function fits(at: number, rate: number, nowMs: number): boolean {
  return Math.max(at, nowMs) + 1000 / rate - nowMs <= depthMs(rate) + 1e-6;
}

/** Accounts that are even say nothing. True if there is room now. */
function forgetIdle(state: RateState, nowMs: number): boolean {
  for (const [caller, at] of state.callers) if (at <= nowMs) state.callers.delete(caller);
  return state.callers.size < MAX_RATE_CALLERS;
}
