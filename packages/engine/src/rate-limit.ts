/**
 * Local rate limits of a workload's port (Linkerd: HTTPLocalRateLimitPolicy), by GCRA: a limit of N a second lets N
 * through at once and one more each 1/N s. All that is kept of a caller is one moment, which stays true when rates change.
 */
import type { RateLimit, RateLimitOverride } from '@weft/plan';

/** Callers that are told apart; those beyond share one account. */
export const MAX_RATE_CALLERS = 10_000;

/** What a limit knows of its callers; outlives snapshots. Moments in ms: when an account is even again. */
export interface RateState {
  total: number;
  readonly callers: Map<string, number>;
  /** Of callers beyond MAX_RATE_CALLERS. */
  others: number;
}

export interface RateLimitView {
  readonly limit: RateLimit;
  /** By principal (`trust domain/ns/…/sa/…`). */
  readonly overrides: ReadonlyMap<string, RateLimitOverride>;
  readonly state: RateState;
}

/** `total`: the port's; `identity`: the caller's own, or the override for it. */
export type RateVerdict = 'allow' | 'total' | 'identity';

/** `trustDomain` is the workload's own: overrides name service accounts of it. */
export function rateLimitView(limit: RateLimit, trustDomain: string, state?: RateState): RateLimitView {
  const overrides = new Map<string, RateLimitOverride>();
  for (const o of limit.overrides) {
    for (const { namespace, name } of o.accounts) overrides.set(`${trustDomain}/ns/${namespace}/sa/${name}`, o);
  }
  return { limit, overrides, state: state ?? { total: 0, callers: new Map(), others: 0 } };
}

/**
 * Whether one more request (or connection) may pass, and takes its share if so. What the caller's limit refuses takes
 * nothing of the total: one caller that asks too much leaves the others theirs. Who proves no identity shares one account.
 */
export function takeRate(view: RateLimitView, principal: string | undefined, nowMs: number): RateVerdict {
  const { limit, state } = view;
  const caller = principal ?? '';
  const override = principal === undefined ? undefined : view.overrides.get(principal);
  const rate = override ? override.requestsPerSecond : limit.identity;
  if (limit.total > 0 && !fits(state.total, limit.total, nowMs)) return 'total';
  if (rate > 0) {
    let at = state.callers.get(caller);
    const known = at !== undefined || state.callers.size < MAX_RATE_CALLERS || forgetIdle(state, nowMs);
    at ??= known ? 0 : state.others;
    if (!fits(at, rate, nowMs)) return 'identity';
    const next = Math.max(at, nowMs) + 1000 / rate;
    if (known) state.callers.set(caller, next);
    else state.others = next;
  }
  if (limit.total > 0) state.total = Math.max(state.total, nowMs) + 1000 / limit.total;
  return 'allow';
}

/** A second's worth may be ahead; a little more, as sums of fractions are not exact. */
function fits(at: number, rate: number, nowMs: number): boolean {
  return Math.max(at, nowMs) + 1000 / rate - nowMs <= 1000 + 1e-6;
}

/** Accounts that are even say nothing. True if there is room now. */
function forgetIdle(state: RateState, nowMs: number): boolean {
  for (const [caller, at] of state.callers) if (at <= nowMs) state.callers.delete(caller);
  return state.callers.size < MAX_RATE_CALLERS;
}
