/**
 * Outlier detection as Envoy does it with Istio's settings: an endpoint that fails several times in a row leaves the
 * cluster for base time x its ejections, and comes back at the first sweep after that. It acts per client proxy.
 */
import type { Random } from '@weft/base';
import { LbPolicy, type OutlierDetection } from '@weft/plan';
import { accrue } from './accrual.ts';
import { observeLatency } from './ewma.ts';
import { grpcToHttpStatus } from './grpc.ts';
import type { ClusterView, EndpointState, EndpointView, Snapshot } from './views.ts';

export const DEFAULT_INTERVAL_MS = 10_000;
export const DEFAULT_BASE_EJECTION_MS = 30_000;
export const DEFAULT_MAX_EJECTION_MS = 300_000;
export const DEFAULT_MAX_EJECTION_PERCENT = 10;
const DEFAULT_CONSECUTIVE_LOCAL = 5;

/** How one try at an endpoint ended. */
export interface EndpointOutcome {
  /** HTTP status of the response head; 200 for a TCP connection that came to be; 0: there was no response. */
  readonly status: number;
  /** Of head or trailers; counts as the HTTP status it corresponds to. */
  readonly grpcStatus?: number;
  /**
   * What failed on this side of the response: `connect` (refused, timed out, TLS), `reset` (broke before the response),
   * `timeout` (per try, or the route's). Without split they count as 503, 503 and 504. A response clears it.
   */
  readonly local?: 'connect' | 'reset' | 'timeout';
  /** From the request to the response's head; undefined: not measured. */
  readonly latencyMs?: number;
}

/** Whether outcomes say anything about the cluster's endpoints: else there is no need to tell them to onResult. */
export function learns({ cluster }: ClusterView): boolean {
  return cluster.outlier !== undefined || cluster.failureAccrual !== undefined || cluster.lb === LbPolicy.PEAK_EWMA;
}

/**
 * Takes note of an outcome; true if it ejected the endpoint. `endpoint` is what pickEndpoint gave for `cluster`;
 * `random` is for the penalties of a failure accrual, which clients are not to end at one moment.
 */
export function onResult(
  endpoint: EndpointView,
  cluster: ClusterView,
  outcome: EndpointOutcome,
  nowMs: number,
  random: Random,
): boolean {
  if (cluster.cluster.lb === LbPolicy.PEAK_EWMA && outcome.latencyMs !== undefined && outcome.status > 0)
    observeLatency(endpoint.state, outcome.latencyMs, nowMs);
  if (cluster.cluster.failureAccrual) return accrue(endpoint, cluster, statusOf(outcome), nowMs, random);
  const policy = cluster.cluster.outlier;
  if (!policy) return false;
  const state = endpoint.state;
  if (outcome.local !== undefined) {
    if (policy.splitLocalOrigin) {
      state.consecutiveLocal++;
      const limit = policy.consecutiveLocalOrigin || DEFAULT_CONSECUTIVE_LOCAL;
      if (state.ejected || state.consecutiveLocal < limit) return false;
      state.consecutiveLocal = 0;
      return eject(state, cluster, policy, nowMs);
    }
  } else state.consecutiveLocal = 0;
  const status = statusOf(outcome);
  const failed = isError(policy, status);
  if (status > 0) {
    state.windowTotal++;
    if (failed) state.windowFailed++;
  }
  if (!failed) {
    if (status > 0) {
      state.consecutive5xx = 0;
      state.consecutiveGateway = 0;
    }
    return false;
  }
  state.consecutive5xx++;
  if (status >= 502 && status <= 504) state.consecutiveGateway++;
  else state.consecutiveGateway = 0;
  if (state.ejected) return false;
  // A counter that reached its limit starts anew also where the percentage forbids the ejection.
  let ejected = false;
  if (policy.consecutiveGatewayErrors > 0 && state.consecutiveGateway >= policy.consecutiveGatewayErrors) {
    state.consecutiveGateway = 0;
    ejected = eject(state, cluster, policy, nowMs);
  }
  if (policy.consecutive5xx > 0 && state.consecutive5xx >= policy.consecutive5xx) {
    if (!ejected) {
      state.consecutive5xx = 0;
      ejected = eject(state, cluster, policy, nowMs);
    }
  }
  return ejected;
}

/** What the outcome counts as: a gRPC status as its HTTP status, and what failed on this side as 503 or 504. */
function statusOf({ status, grpcStatus, local }: EndpointOutcome): number {
  if (local !== undefined) return local === 'timeout' ? 504 : 503;
  return grpcStatus !== undefined && status < 500 ? grpcToHttpStatus(grpcStatus) : status;
}

/** A list of codes takes the place of "500 to 599" (Istio: outlierDetectionHttpErrorCodes). */
function isError(policy: OutlierDetection, status: number): boolean {
  return policy.errorCodes.length > 0 ? policy.errorCodes.includes(status) : status >= 500 && status <= 599;
}

function eject(state: EndpointState, cluster: ClusterView, policy: OutlierDetection, nowMs: number): boolean {
  let ejected = 0;
  for (const e of cluster.endpoints) if (e.state.ejected) ejected++;
  const limit = Math.min(policy.maxEjectionPercent || DEFAULT_MAX_EJECTION_PERCENT, 100);
  // No exception for the first host: 10 % of nine endpoints is none.
  if ((ejected + 1) * 100 > limit * cluster.endpoints.length) return false;
  const base = policy.baseEjectionMs || DEFAULT_BASE_EJECTION_MS;
  state.ejected = true;
  state.ejectedAtMs = nowMs;
  state.ejections++;
  if (state.timesEjected * base < maxEjectionMs(policy) + base) state.timesEjected++;
  state.ejectedUntilMs = nowMs + ejectionMs(state, policy);
  return true;
}

function maxEjectionMs(policy: OutlierDetection): number {
  const base = policy.baseEjectionMs || DEFAULT_BASE_EJECTION_MS;
  return Math.max(policy.maxEjectionMs || DEFAULT_MAX_EJECTION_MS, base);
}

function ejectionMs(state: EndpointState, policy: OutlierDetection): number {
  const base = policy.baseEjectionMs || DEFAULT_BASE_EJECTION_MS;
  return Math.min(base * state.timesEjected, maxEjectionMs(policy));
}

/** Clears an ejection and the counters, so that one new error does not eject again. */
export function uneject(state: EndpointState): void {
  state.ejected = false;
  state.ejectedUntilMs = 0;
  state.consecutive5xx = 0;
  state.consecutiveGateway = 0;
  state.consecutiveLocal = 0;
  state.failures = 0;
  state.penaltyMs = 0;
  state.probing = false;
}

/**
 * Runs the sweeps that are due: ejected endpoints whose time is over come back, the others' multiplier shrinks by one;
 * then the rates of the interval are judged.
 * Call it about once a second; each cluster has its own interval, which starts at the first call that sees it.
 */
export function sweep(
  snapshot: Snapshot,
  nowMs: number,
  onReturn?: (endpoint: EndpointView, cluster: ClusterView) => void,
): void {
  for (const cluster of snapshot.clusters.values()) {
    const policy = cluster.cluster.outlier;
    if (!policy) continue;
    const interval = policy.intervalMs || DEFAULT_INTERVAL_MS;
    const timer = cluster.state;
    if (timer.nextSweepMs < 0 || timer.nextSweepMs > nowMs + interval) {
      timer.nextSweepMs = nowMs + interval;
      continue;
    }
    if (nowMs < timer.nextSweepMs) continue;
    // Keeps the beat under late calls, without catching up after a pause.
    timer.nextSweepMs = Math.max(timer.nextSweepMs + interval, nowMs + 1);
    for (const endpoint of cluster.endpoints) {
      const state = endpoint.state;
      if (!state.ejected) {
        if (state.timesEjected > 0) state.timesEjected--;
      } else if (nowMs - state.ejectedAtMs >= ejectionMs(state, policy)) {
        uneject(state);
        onReturn?.(endpoint, cluster);
      }
    }
    judgeRates(cluster, policy, nowMs);
  }
}

/**
 * Ejects by the success rates of the interval that is over: those below mean - factor x standard deviation, and those
 * with at least the given percentage of failures. Endpoints with few requests do not count, few endpoints are not judged.
 */
function judgeRates(cluster: ClusterView, policy: OutlierDetection, nowMs: number): void {
  const { successRateStdevFactor: factor, failurePercentage } = policy;
  if (factor > 0 || failurePercentage > 0) {
    const volume = Math.max(policy.requestVolume, 1);
    const judged = cluster.endpoints.filter((e) => !e.state.ejected && e.state.windowTotal >= volume);
    if (judged.length >= Math.max(policy.minimumHosts, 1)) {
      const rates = judged.map((e) => 1 - e.state.windowFailed / e.state.windowTotal);
      const mean = rates.reduce((a, b) => a + b, 0) / rates.length;
      const stdev = Math.sqrt(rates.reduce((a, r) => a + (r - mean) ** 2, 0) / rates.length);
      for (const [i, e] of judged.entries()) {
        const outlying = factor > 0 && rates[i] < mean - factor * stdev;
        const failing = failurePercentage > 0 && e.state.windowFailed * 100 >= failurePercentage * e.state.windowTotal;
        if (outlying || failing) eject(e.state, cluster, policy, nowMs);
      }
    }
  }
  for (const { state } of cluster.endpoints) {
    state.windowTotal = 0;
    state.windowFailed = 0;
  }
}
