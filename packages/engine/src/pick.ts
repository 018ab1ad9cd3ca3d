import type { Random } from '@weft/base';
import { LbPolicy } from '@weft/plan';
import { probeDue } from './accrual.ts';
import { NO_HASH } from './affinity.ts';
import { drawEven } from './draw.ts';
import { peakEwmaLoad } from './ewma.ts';
import { maglevTable, ringTable } from './hash.ts';
import { isOut } from './health.ts';
import { chooseGroup } from './locality.ts';
import type { ClusterView, EndpointGroup, EndpointView, Snapshot } from './views.ts';
import { warming, warmWeight } from './warmup.ts';

// Picking is synchronous, so one list serves all picks that need a filtered one.
const scratch: EndpointView[] = [];

/**
 * The endpoint for one request. Draining and ejected endpoints, and those that fail their health checks, are passed over; where
 * `minHealthPercent` (or a health check's panic threshold) is set and fewer are well, that is disregarded (Istio's panic rule; off by default). Endpoints in `exclude` (earlier attempts) are
 * avoided while there are others. `hash` (see affinityHash) decides for clusters with consistent hashing; retries do not
 * avoid the previous host there, as in Istio. `none`: no healthy upstream (503, flag UH). The state is not changed, except
 * for the round robin's own, the warm-up's and the probes': call onStart with what came back. `tried`: earlier attempts, whose
 * localities a retry is to leave (retryRemoteLocalities) as long as there is a well endpoint elsewhere.
 */
export function pickEndpoint(
  _snapshot: Snapshot,
  cluster: ClusterView,
  random: Random,
  nowMs: number,
  exclude?: readonly EndpointView[],
  hash: number = NO_HASH,
  tried?: readonly EndpointView[],
): EndpointView | 'none' {
  if (cluster.pinned) return cluster.pinned;
  const { groups } = cluster;
  if (groups.length === 0) return 'none';
  if (tried !== undefined && tried.length > 0) {
    const elsewhere = inOtherLocality(cluster, random, nowMs, tried);
    if (elsewhere) return elsewhere;
  }
  // A retry is no probe: it is to succeed.
  if (cluster.cluster.failureAccrual && !exclude?.length) {
    const probe = probeDue(cluster, nowMs);
    if (probe) return probe;
  }
  const group = groups.length === 1 ? groups[0] : chooseGroup(groups, random);
  if (group === undefined) return 'none';
  if (hash !== NO_HASH) {
    const picked = byHash(cluster, group, hash);
    if (picked !== undefined) return picked;
  }
  const avoid = exclude !== undefined && exclude.length > 0 ? exclude : undefined;
  const roundRobin = cluster.cluster.lb === LbPolicy.ROUND_ROBIN;
  const even = group.evenWeights && !warming(cluster, nowMs);
  // Draw from all; only a draw that meets an unfit endpoint pays for the filter. The fit ones stay equally likely.
  if (!avoid && !roundRobin && panicPercent(cluster) === 0) {
    const picked = choose(cluster, group.endpoints, random, nowMs, even, false);
    if (picked !== undefined) return picked;
  }
  const list = fit(cluster, group.endpoints);
  if (list.length === 0) return 'none';
  if (avoid) {
    let kept = 0;
    for (const e of list) if (!excluded(avoid, e)) list[kept++] = e;
    if (kept > 0) list.length = kept;
  }
  return among(cluster, list, random, nowMs, even) ?? 'none';
}

/** One of a list of fit endpoints, as the cluster's policy says. */
function among(
  cluster: ClusterView,
  list: readonly EndpointView[],
  random: Random,
  nowMs: number,
  even: boolean,
): EndpointView | undefined {
  const picked =
    cluster.cluster.lb === LbPolicy.ROUND_ROBIN
      ? nextInTurn(cluster, list, random, nowMs, even)
      : choose(cluster, list, random, nowMs, even, true);
  scratch.length = 0;
  return picked;
}

/** Of the nearest group that has a fit endpoint in a locality of none of those tried; undefined: no group has. */
function inOtherLocality(
  cluster: ClusterView,
  random: Random,
  nowMs: number,
  tried: readonly EndpointView[],
): EndpointView | undefined {
  for (const group of cluster.groups) {
    const list = fit(cluster, group.endpoints);
    let kept = 0;
    for (const e of list) if (!tried.some((t) => t.endpoint.locality === e.endpoint.locality)) list[kept++] = e;
    list.length = kept;
    if (kept > 0) return among(cluster, list, random, nowMs, group.evenWeights && !warming(cluster, nowMs));
  }
  return undefined;
}

/** Whether any endpoint could be picked now. */
export function hasHealthy(cluster: ClusterView): boolean {
  if (cluster.pinned) return true;
  const healthy = fit(cluster, cluster.candidates).length > 0;
  scratch.length = 0;
  return healthy;
}

function isFit(endpoint: EndpointView): boolean {
  return !isOut(endpoint.state);
}

function byHash(cluster: ClusterView, group: EndpointGroup, hash: number): EndpointView | undefined {
  const { lb } = cluster.cluster;
  if (lb !== LbPolicy.RING_HASH && lb !== LbPolicy.MAGLEV) return undefined;
  const size = cluster.cluster.hash?.tableSize ?? 0;
  // Made at the first request that needs it: most clusters of a plan are never called by a given workload.
  group.table ??= lb === LbPolicy.MAGLEV ? maglevTable(group.endpoints, size) : ringTable(group.endpoints, size);
  return group.table.find(hash, panics(cluster, group.endpoints) ? isAny : isFit);
}

function isAny(): boolean {
  return true;
}

/** Where a smaller part of the endpoints is well, it is disregarded who is not; 0: never. */
export function panicPercent({ cluster }: ClusterView): number {
  return Math.max(cluster.outlier?.minHealthPercent ?? 0, cluster.healthCheck?.panicPercent ?? 0);
}

function panics(cluster: ClusterView, all: readonly EndpointView[]): boolean {
  const minimum = panicPercent(cluster);
  if (minimum === 0) return false;
  let well = 0;
  for (const e of all) if (!isOut(e.state)) well++;
  return well * 100 < minimum * all.length;
}

function excluded(list: readonly EndpointView[], endpoint: EndpointView): boolean {
  for (const e of list) if (e.state === endpoint.state) return true;
  return false;
}

function fit(cluster: ClusterView, all: readonly EndpointView[]): EndpointView[] {
  scratch.length = 0;
  const panic = panics(cluster, all);
  for (const e of all) if (panic || !isOut(e.state)) scratch.push(e);
  return scratch;
}

/** Undefined: met an endpoint that is out. `fitted`: the list holds none, or they are wanted. `even`: all weights are equal. */
function choose(
  cluster: ClusterView,
  list: readonly EndpointView[],
  random: Random,
  nowMs: number,
  even: boolean,
  fitted: boolean,
): EndpointView | undefined {
  const a = drawOne(cluster, list, random, nowMs, even, -1);
  const first = list[a];
  if (!fitted && isOut(first.state)) return undefined;
  const { lb } = cluster.cluster;
  const leastRequest = lb === LbPolicy.LEAST_REQUEST || lb === LbPolicy.UNSPECIFIED;
  // A request without the key of a consistent hash is placed at random.
  const ewma = lb === LbPolicy.PEAK_EWMA;
  if (!(leastRequest || ewma) || list.length === 1) return first;
  const second = list[drawOne(cluster, list, random, nowMs, even, a)];
  if (!fitted && isOut(second.state)) return undefined;
  const w1 = even ? 1 : warmWeight(cluster, first, nowMs);
  const w2 = even ? 1 : warmWeight(cluster, second, nowMs);
  if (ewma) return peakEwmaLoad(second.state, nowMs) * w1 < peakEwmaLoad(first.state, nowMs) * w2 ? second : first;
  // Weights say how often an endpoint is drawn, also with little to do: another one is better where it has less to do per
  // unit of weight with this request than the first one has without it.
  const more = even ? 0 : 1;
  return (second.state.active + more) * w1 < first.state.active * w2 ? second : first;
}

/** Index of an endpoint, drawn by weight among all but `not`. */
function drawOne(
  cluster: ClusterView,
  list: readonly EndpointView[],
  random: Random,
  nowMs: number,
  even: boolean,
  not: number,
): number {
  if (even) {
    if (not < 0) return drawEven(random, list.length);
    const i = drawEven(random, list.length - 1);
    return i >= not ? i + 1 : i;
  }
  if (random.choose) return random.choose(list.map((e, i) => (i === not ? 0 : warmWeight(cluster, e, nowMs))));
  let total = 0;
  for (let i = 0; i < list.length; i++) if (i !== not) total += warmWeight(cluster, list[i], nowMs);
  let x = random.next() * total;
  let last = 0;
  for (let i = 0; i < list.length; i++) {
    if (i === not) continue;
    last = i;
    x -= warmWeight(cluster, list[i], nowMs);
    if (x < 0) return i;
  }
  return last;
}

/** Round robin; with uneven weights the smooth kind, which spreads an endpoint's turns over the round. */
function nextInTurn(
  cluster: ClusterView,
  list: readonly EndpointView[],
  random: Random,
  nowMs: number,
  even: boolean,
): EndpointView {
  // Who explores asks for the shares of a round, not for whose turn it is.
  if (random.choose) return list[random.choose(list.map((e) => (even ? 1 : warmWeight(cluster, e, nowMs))))];
  if (even) {
    const i = cluster.state.roundRobin++ % list.length;
    if (cluster.state.roundRobin >= 0x3fffffff) cluster.state.roundRobin = 0;
    return list[i];
  }
  let total = 0;
  let best = list[0];
  for (const e of list) {
    const weight = warmWeight(cluster, e, nowMs);
    total += weight;
    e.state.credit += weight;
    if (e.state.credit > best.state.credit) best = e;
  }
  best.state.credit -= total;
  return best;
}
