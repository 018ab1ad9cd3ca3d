import type { ClusterView, EndpointView } from './views.ts';

/**
 * Circuit breakers: limits of one client proxy towards one cluster. Each acquire that returned true needs its release;
 * false means overflow (503, flag UO, `x-envoy-overloaded`). A limit of 0 is no limit.
 */
export function acquireRequest(cluster: ClusterView): boolean {
  cluster.state.used = true;
  const limit = cluster.pool?.maxRequests ?? 0;
  if (limit > 0 && cluster.state.requests >= limit) return false;
  cluster.state.requests++;
  return true;
}

export function releaseRequest(cluster: ClusterView): void {
  if (cluster.state.requests > 0) cluster.state.requests--;
}

/** Requests that wait for a connection. */
export function acquirePending(cluster: ClusterView): boolean {
  const limit = cluster.pool?.maxPending ?? 0;
  if (limit > 0 && cluster.state.pending >= limit) return false;
  cluster.state.pending++;
  return true;
}

export function releasePending(cluster: ClusterView): void {
  if (cluster.state.pending > 0) cluster.state.pending--;
}

/** Retries running at the same time: at most the pool's limit and the budget's part of what runs. */
export function acquireRetry(cluster: ClusterView): boolean {
  const limit = cluster.pool?.maxRetries ?? 0;
  if (limit > 0 && cluster.state.retries >= limit) return false;
  const budget = cluster.cluster.retryBudget;
  if (budget) {
    const running = cluster.state.requests + cluster.state.pending;
    const allowed = Math.max(Math.floor((running * budget.percent) / 100), budget.minRetryConcurrency);
    if (cluster.state.retries >= allowed) return false;
  }
  cluster.state.retries++;
  return true;
}

export function releaseRetry(cluster: ClusterView): void {
  if (cluster.state.retries > 0) cluster.state.retries--;
}

export function acquireConnection(cluster: ClusterView): boolean {
  cluster.state.used = true;
  const limit = cluster.pool?.maxConnections ?? 0;
  if (limit > 0 && cluster.state.connections >= limit) return false;
  cluster.state.connections++;
  return true;
}

export function releaseConnection(cluster: ClusterView): void {
  if (cluster.state.connections > 0) cluster.state.connections--;
}

/** Whether requests or connections asked for it since the last call, or are under way. */
export function takeUse({ state }: ClusterView): boolean {
  const used = state.used || state.requests > 0 || state.connections > 0;
  state.used = false;
  return used;
}

/** A request (or a TCP connection) goes to this endpoint. */
export function onStart(endpoint: EndpointView): void {
  endpoint.state.active++;
  // Only a probe leads to an endpoint that is out.
  if (endpoint.state.ejected) endpoint.state.probing = true;
}

/** It is over, however it ended. Once per onStart. */
export function onEnd(endpoint: EndpointView): void {
  const { state } = endpoint;
  if (state.active > 0) state.active--;
  state.probing = false;
}
