/**
 * Failure accrual, the breaker with a half-open state (Linkerd: balancer.linkerd.io/failure-accrual). An endpoint that
 * fails so many times in a row takes nothing for a penalty; then one request goes there as a probe. Its success closes
 * the breaker, its failure doubles the penalty. No share of endpoints is spared: where all are out, requests fail at once.
 */
import type { Random } from '@weft/base';
import type { FailureAccrual } from '@weft/plan';
import type { ClusterView, EndpointState, EndpointView } from './views.ts';

/** Takes note of a status (0: nothing was learned); true if the breaker opened or stays open. */
export function accrue(
  endpoint: EndpointView,
  cluster: ClusterView,
  status: number,
  nowMs: number,
  random: Random,
): boolean {
  const policy = cluster.cluster.failureAccrual as FailureAccrual;
  const { state } = endpoint;
  if (status === 0) return false;
  const failed = (status >= 500 && status <= 599) || (policy.rateLimits && status === 429);
  if (state.ejected) {
    // Requests that began before it opened say nothing new; once it may be probed, what ends is the probe.
    if (nowMs < state.ejectedUntilMs) return false;
    if (!failed) {
      close(state);
      return false;
    }
    open(state, cluster, policy, Math.min(state.penaltyMs * 2, policy.maxPenaltyMs), nowMs, random);
    return true;
  }
  if (!failed) {
    state.failures = 0;
    return false;
  }
  if (++state.failures < policy.maxFailures) return false;
  open(state, cluster, policy, policy.minPenaltyMs, nowMs, random);
  return true;
}

/** An endpoint whose penalty is over and that no probe is on its way to. */
export function probeDue(cluster: ClusterView, nowMs: number): EndpointView | undefined {
  const { state } = cluster;
  if (nowMs < state.probeAtMs) return undefined;
  let next = Number.POSITIVE_INFINITY;
  for (const e of cluster.candidates) {
    // Who fails its health checks is no probe's goal.
    if (!e.state.ejected || e.state.unhealthy) continue;
    if (e.state.ejectedUntilMs <= nowMs && !e.state.probing) return e;
    next = Math.min(next, e.state.ejectedUntilMs);
  }
  state.probeAtMs = next;
  return undefined;
}

function open(
  state: EndpointState,
  cluster: ClusterView,
  policy: FailureAccrual,
  penaltyMs: number,
  nowMs: number,
  random: Random,
): void {
  state.ejected = true;
  state.ejectedAtMs = nowMs;
  state.ejections++;
  state.failures = 0;
  state.penaltyMs = Math.max(penaltyMs, policy.minPenaltyMs, 1);
  state.ejectedUntilMs = nowMs + state.penaltyMs * (1 + policy.jitter * random.next());
  cluster.state.probeAtMs = Math.min(cluster.state.probeAtMs, state.ejectedUntilMs);
}

function close(state: EndpointState): void {
  state.ejected = false;
  state.ejectedUntilMs = 0;
  state.penaltyMs = 0;
  state.failures = 0;
}
