import type { Random } from '@weft/base';
import { LbPolicy } from '@weft/plan';
import type { ClusterView, EndpointView, Snapshot } from './views.ts';

// Picking is synchronous, so one list serves all picks that need a filtered one.
const scratch: EndpointView[] = [];

/**
 * The endpoint for one request. Draining and ejected endpoints are passed over; where `minHealthPercent` is set and fewer
 * are well, ejection is disregarded (Istio's panic rule; off by default). Endpoints in `exclude` (earlier attempts) are
 * avoided while there are others. `none`: no healthy upstream (503, flag UH). The state is not changed, except for the
 * round robin's own: call onStart with what came back.
 */
export function pickEndpoint(
  _snapshot: Snapshot,
  cluster: ClusterView,
  random: Random,
  _nowMs: number,
  exclude?: readonly EndpointView[],
): EndpointView | 'none' {
  if (cluster.pinned) return cluster.pinned;
  const all = cluster.candidates;
  if (all.length === 0) return 'none';
  const avoid = exclude !== undefined && exclude.length > 0 ? exclude : undefined;
  const roundRobin = cluster.cluster.lb === LbPolicy.ROUND_ROBIN;
  // Draw from all; only a draw that meets an unfit endpoint pays for the filter. The fit ones stay equally likely.
  if (!avoid && !roundRobin && (cluster.cluster.outlier?.minHealthPercent ?? 0) === 0) {
    const picked = choose(cluster, all, random);
    if (picked !== undefined) return picked;
  }
  const list = fit(cluster, all);
  if (list.length === 0) return 'none';
  if (avoid) {
    let kept = 0;
    for (const e of list) if (!excluded(avoid, e)) list[kept++] = e;
    if (kept > 0) list.length = kept;
  }
  const picked = roundRobin ? nextInTurn(cluster, list) : choose(cluster, list, random, true);
  scratch.length = 0;
  return picked ?? 'none';
}

/** Whether any endpoint could be picked now. */
export function hasHealthy(cluster: ClusterView): boolean {
  if (cluster.pinned) return true;
  const healthy = fit(cluster, cluster.candidates).length > 0;
  scratch.length = 0;
  return healthy;
}

function excluded(list: readonly EndpointView[], endpoint: EndpointView): boolean {
  for (const e of list) if (e.state === endpoint.state) return true;
  return false;
}

function fit(cluster: ClusterView, all: readonly EndpointView[]): EndpointView[] {
  scratch.length = 0;
  for (const e of all) if (!e.state.ejected) scratch.push(e);
  const minimum = cluster.cluster.outlier?.minHealthPercent ?? 0;
  if (minimum > 0 && scratch.length * 100 < minimum * all.length) {
    scratch.length = 0;
    for (const e of all) scratch.push(e);
  }
  return scratch;
}

/** Undefined: met an ejected endpoint. `fitted`: the list holds none, or they are wanted. */
function choose(
  cluster: ClusterView,
  list: readonly EndpointView[],
  random: Random,
  fitted = false,
): EndpointView | undefined {
  const a = drawOne(cluster, list, random, -1);
  const first = list[a];
  if (!fitted && first.state.ejected) return undefined;
  if (cluster.cluster.lb === LbPolicy.RANDOM || list.length === 1) return first;
  const second = list[drawOne(cluster, list, random, a)];
  if (!fitted && second.state.ejected) return undefined;
  // Weights already say how often an endpoint is drawn; load is compared per unit of weight.
  return second.state.active * first.weight < first.state.active * second.weight ? second : first;
}

/** Index of an endpoint, drawn by weight among all but `not`. */
function drawOne(cluster: ClusterView, list: readonly EndpointView[], random: Random, not: number): number {
  if (cluster.evenWeights) {
    if (not < 0) return Math.floor(random.next() * list.length);
    const i = Math.floor(random.next() * (list.length - 1));
    return i >= not ? i + 1 : i;
  }
  let total = 0;
  for (let i = 0; i < list.length; i++) if (i !== not) total += list[i].weight;
  let x = random.next() * total;
  let last = 0;
  for (let i = 0; i < list.length; i++) {
    if (i === not) continue;
    last = i;
    x -= list[i].weight;
    if (x < 0) return i;
  }
  return last;
}

/** Round robin; with uneven weights the smooth kind, which spreads an endpoint's turns over the round. */
function nextInTurn(cluster: ClusterView, list: readonly EndpointView[]): EndpointView {
  if (cluster.evenWeights) {
    const i = cluster.state.roundRobin++ % list.length;
    if (cluster.state.roundRobin >= 0x3fffffff) cluster.state.roundRobin = 0;
    return list[i];
  }
  let total = 0;
  let best = list[0];
  for (const e of list) {
    total += e.weight;
    e.state.credit += e.weight;
    if (e.state.credit > best.state.credit) best = e;
  }
  best.state.credit -= total;
  return best;
}
