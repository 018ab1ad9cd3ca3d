/** What is counted of an endpoint and of a cluster, at its beginning. */
import type { ClusterState, EndpointState } from './views.ts';

export function newEndpointState(): EndpointState {
  return {
    active: 0,
    consecutive5xx: 0,
    consecutiveGateway: 0,
    consecutiveLocal: 0,
    ejected: false,
    ejectedAtMs: 0,
    ejectedUntilMs: 0,
    timesEjected: 0,
    ejections: 0,
    windowTotal: 0,
    windowFailed: 0,
    failures: 0,
    penaltyMs: 0,
    probing: false,
    unhealthy: false,
    checksFailed: 0,
    checksPassed: 0,
    checkAtMs: -1,
    ewmaMs: -1,
    ewmaAtMs: 0,
    credit: 0,
    sinceMs: undefined,
  };
}

export function newClusterState(): ClusterState {
  return {
    used: false,
    requests: 0,
    pending: 0,
    retries: 0,
    connections: 0,
    roundRobin: 0,
    failFastAtMs: -1,
    nextSweepMs: -1,
    probeAtMs: 0,
    warmView: undefined,
    warmUntilMs: 0,
  };
}
