/**
 * Active health checks: which endpoints are to be asked now, and what their answers make of them. An endpoint is out after
 * so many failures in a row, and in again after so many successes; until the first failures it is in, since the control
 * plane tells of ready endpoints alone. Who asks, and how, is the proxy's.
 */
import type { Random } from '@weft/base';
import { type HealthCheck, outboundClusterName } from '@weft/plan';
import type { ClusterView, EndpointState, EndpointView, Snapshot } from './views.ts';

/** The first check of an endpoint comes within this time, or within the interval where that is shorter. */
export const FIRST_CHECK_MS = 10_000;

/** Takes no new requests: ejected for what its requests did, or failing its checks. */
export function isOut(state: EndpointState): boolean {
  return state.ejected || state.unhealthy;
}

/** Nothing is asked of it any more, and nothing held against it. */
export function forgetHealth(state: EndpointState): void {
  state.unhealthy = false;
  state.checksFailed = 0;
  state.checksPassed = 0;
  state.checkAtMs = -1;
}

/**
 * Calls `ask` for each endpoint that is due; it must tell of the result by onHealthCheck, or by putOff. Call it about once
 * a second. A cluster without a subset holds all endpoints of its port, so that the subsets' need no checks of their own.
 */
export function dueChecks(
  snapshot: Snapshot,
  nowMs: number,
  random: Random,
  ask: (cluster: ClusterView, endpoint: EndpointView, check: HealthCheck) => void,
): void {
  for (const cluster of snapshot.clusters.values()) {
    const check = cluster.cluster.healthCheck;
    if (!check || cluster.cluster.subset !== '') continue;
    for (const endpoint of cluster.candidates) {
      const { state } = endpoint;
      if (state.checkAtMs < 0) state.checkAtMs = nowMs + Math.min(check.intervalMs, FIRST_CHECK_MS) * random.next();
      if (nowMs < state.checkAtMs) continue;
      state.checkAtMs = Number.POSITIVE_INFINITY;
      ask(cluster, endpoint, check);
    }
  }
}

/** It could not be asked just now, for a reason of the asker's own; it is due again at once. */
export function putOff(endpoint: EndpointView, nowMs: number): void {
  endpoint.state.checkAtMs = nowMs;
}

/**
 * Takes note of a result. `snapshot` is the one in force, `cluster` and `endpoint` are what dueChecks gave, perhaps of an
 * earlier one. What changed by it: the endpoint is `out` or `in` now.
 */
export function onHealthCheck(
  snapshot: Snapshot,
  cluster: ClusterView,
  endpoint: EndpointView,
  passed: boolean,
  nowMs: number,
  random: Random,
): 'out' | 'in' | undefined {
  const check = snapshot.clusters.get(cluster.name)?.cluster.healthCheck;
  const { state } = endpoint;
  if (!check) return undefined;
  const jitter = (check.jitterPercent / 100) * (2 * random.next() - 1);
  state.checkAtMs = nowMs + check.intervalMs * (1 + jitter);
  state.checksFailed = passed ? 0 : state.checksFailed + 1;
  state.checksPassed = passed ? state.checksPassed + 1 : 0;
  const limit = state.unhealthy ? Math.max(check.healthyThreshold, 1) : Math.max(check.unhealthyThreshold, 1);
  if (passed !== state.unhealthy || (passed ? state.checksPassed : state.checksFailed) < limit) return undefined;
  state.unhealthy = !passed;
  shareHealth(snapshot.clusters, cluster);
  return passed ? 'in' : 'out';
}

/** Subsets learn of their endpoints from the cluster of the whole port; `of`: from this one alone. */
export function shareHealth(clusters: ReadonlyMap<string, ClusterView>, of?: ClusterView): void {
  for (const { cluster, endpoints } of clusters.values()) {
    if (!cluster.healthCheck || cluster.subset === '') continue;
    if (of && (of.cluster.host !== cluster.host || of.cluster.port !== cluster.port)) continue;
    const whole = clusters.get(outboundClusterName(cluster.port, '', cluster.host));
    for (const { endpoint, state } of endpoints)
      state.unhealthy = whole?.endpoints.find((e) => e.endpoint === endpoint)?.state.unhealthy ?? false;
  }
}
