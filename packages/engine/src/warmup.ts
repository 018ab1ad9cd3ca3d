/** New endpoints get a growing share (Istio: warmup; Envoy: slow start). */
import type { ClusterView, EndpointView } from './views.ts';

/**
 * Whether some endpoint of the cluster is warming up now. Endpoints are new from the first pick that could have chosen
 * them. At a cluster's very first pick all are, and alike: nothing is to be compared then.
 */
export function warming(cluster: ClusterView, nowMs: number): boolean {
  const rule = cluster.cluster.warmup;
  if (!rule) return false;
  const { state } = cluster;
  if (state.warmView !== cluster.candidates) {
    const first = state.warmView === undefined;
    state.warmView = cluster.candidates;
    for (const e of cluster.candidates) {
      if (e.state.sinceMs !== undefined) continue;
      e.state.sinceMs = first ? nowMs - rule.durationMs : nowMs;
      if (!first) state.warmUntilMs = nowMs + rule.durationMs;
    }
  }
  return nowMs < state.warmUntilMs;
}

/** The endpoint's weight at this moment: its own × max(minimum, (age / duration) ^ (1 / aggression)). */
export function warmWeight(cluster: ClusterView, endpoint: EndpointView, nowMs: number): number {
  const rule = cluster.cluster.warmup;
  const { sinceMs } = endpoint.state;
  if (!rule || sinceMs === undefined || nowMs - sinceMs >= rule.durationMs) return endpoint.weight;
  const grown = (Math.max(nowMs - sinceMs, 1) / rule.durationMs) ** (1 / (rule.aggression || 1));
  return endpoint.weight * Math.max(rule.minimumPercent / 100, grown);
}
