/** Which part of a cluster's endpoints a request goes to: by locality and by how well the nearer ones are. */
import type { Random } from '@weft/base';
import { type Cluster, type Endpoint, localityCovers, type Self } from '@weft/plan';
import { isOut } from './health.ts';
import type { EndpointGroup, EndpointView } from './views.ts';

/** A group counts as whole while at least 1/1.4 of it is well: Envoy's overprovisioning factor. */
const OVERPROVISIONING = 1.4;

/**
 * Endpoints in groups, nearest first: one group where locality plays no part. `peers` are the client's own kind, itself
 * among them: they too stay in their zones.
 */
export function groupEndpoints(
  cluster: Cluster,
  candidates: readonly EndpointView[],
  self: Self | undefined,
  peers: readonly Endpoint[] = [],
): readonly EndpointGroup[] {
  const rule = cluster.locality;
  if (candidates.length === 0) return [];
  if (rule && rule.zoneAwareMin > 0) return byZone(rule.zoneAwareMin, candidates, self?.locality ?? '', peers);
  if (rule && rule.distribute.length > 0) return byShare(rule.distribute, candidates);
  // Without outlier detection nobody would know that the nearer ones are not well (Istio).
  if (!rule?.failover || !cluster.outlier) return [group(0, 0, candidates)];
  const ranks = new Map<number, EndpointView[]>();
  for (const e of candidates) {
    const rank =
      rule.failoverPriority.length > 0
        ? labelRank(rule.failoverPriority, self, e)
        : nearness(self?.locality ?? '', e.endpoint.locality, rule.failoverRegion);
    const members = ranks.get(rank);
    if (members) members.push(e);
    else ranks.set(rank, [e]);
  }
  return [...ranks.keys()].sort((a, b) => a - b).map((rank, i) => group(i, 0, ranks.get(rank)!));
}

function group(priority: number, weight: number, endpoints: readonly EndpointView[]): EndpointGroup {
  return {
    priority,
    weight,
    endpoints,
    evenWeights: endpoints.every((e) => e.weight === endpoints[0].weight),
    table: undefined,
  };
}

/** Shares by locality; a pattern that covers several parts its share among them by their endpoints' weights. */
function byShare(
  shares: readonly { readonly locality: string; readonly weight: number }[],
  candidates: readonly EndpointView[],
): readonly EndpointGroup[] {
  const localities = new Map<string, EndpointView[]>();
  for (const e of candidates) {
    const members = localities.get(e.endpoint.locality);
    if (members) members.push(e);
    else localities.set(e.endpoint.locality, [e]);
  }
  const groups: EndpointGroup[] = [];
  for (const { locality, weight } of shares) {
    const covered = [...localities].filter(([name]) => localityCovers(locality, name));
    const total = covered.reduce((sum, [, members]) => sum + weightOf(members), 0);
    for (const [name, members] of covered) {
      // A locality belongs to the first share that covers it.
      localities.delete(name);
      if (weight > 0) groups.push(group(0, (weight * weightOf(members)) / total, members));
    }
  }
  return groups;
}

/**
 * Zone-aware routing as Envoy defines it: where the client's zone has at least as large a part of the endpoints as of the
 * clients, its requests stay there; else as many as the zone can carry, and the rest goes to zones with room to spare.
 */
function byZone(
  minimum: number,
  candidates: readonly EndpointView[],
  own: string,
  peers: readonly Endpoint[],
): readonly EndpointGroup[] {
  const zones = Map.groupBy(candidates, (e) => zoneOf(e.endpoint.locality));
  const zone = zoneOf(own);
  const local = zones.get(zone);
  if (zone === '' || !local || zones.size < 2 || candidates.length < minimum || peers.length === 0) {
    return [group(0, 0, candidates)];
  }
  const callers = (name: string): number => peers.filter((p) => zoneOf(p.locality) === name).length / peers.length;
  const capacity = (name: string): number => (zones.get(name)?.length ?? 0) / candidates.length;
  const others = candidates.filter((e) => zoneOf(e.endpoint.locality) !== zone);
  if (capacity(zone) >= callers(zone)) return [group(0, 0, local), group(1, 0, others)];
  const stays = capacity(zone) / callers(zone);
  const spare = new Map([...zones.keys()].map((name) => [name, Math.max(0, capacity(name) - callers(name))]));
  const all = [...spare.values()].reduce((a, b) => a + b, 0);
  const groups = [group(0, stays, local)];
  const full: EndpointView[] = [];
  for (const [name, members] of zones) {
    if (name === zone) continue;
    const room = spare.get(name) as number;
    if (room > 0) groups.push(group(0, ((1 - stays) * room) / all, members));
    else full.push(...members);
  }
  if (full.length > 0) groups.push(group(1, 0, full));
  return groups;
}

/** `region/zone` of a locality; '' where it has no zone. */
function zoneOf(locality: string): string {
  const [region = '', zone = ''] = locality.split('/');
  return zone === '' ? '' : `${region}/${zone}`;
}

function weightOf(endpoints: readonly EndpointView[]): number {
  return endpoints.reduce((sum, e) => sum + e.weight, 0);
}

/** 0: the same subzone; 1: the zone; 2: the region; 3: the region that comes next (or any); 4: others. */
function nearness(own: string, other: string, failoverRegion: string): number {
  const [region = '', zone = '', subzone = ''] = own.split('/');
  const [r = '', z = '', s = ''] = other.split('/');
  if (r !== region) return failoverRegion === '' || r === failoverRegion ? 3 : 4;
  if (z !== zone) return 2;
  return s === subzone ? 0 : 1;
}

/** How many labels, in order, do not match: 0 is nearest. "key" asks for the client's own value. */
function labelRank(keys: readonly string[], self: Self | undefined, { endpoint }: EndpointView): number {
  for (const [i, entry] of keys.entries()) {
    const eq = entry.indexOf('=');
    const key = eq < 0 ? entry : entry.slice(0, eq);
    const own = self && Object.hasOwn(self.labels, key) ? self.labels[key] : undefined;
    const wanted = eq < 0 ? own : entry.slice(eq + 1);
    const have = Object.hasOwn(endpoint.labels, key) ? endpoint.labels[key] : undefined;
    if (wanted !== have) return keys.length - i;
  }
  return 0;
}

/** Draws the group of one request. Undefined: nothing is well anywhere. Draws nothing where one group takes all. */
export function chooseGroup(groups: readonly EndpointGroup[], random: Random): EndpointGroup | undefined {
  if (groups.length === 1) return groups[0];
  const last = groups[groups.length - 1].priority;
  let sum = 0;
  for (let p = 0; p <= last; p++) sum += priorityHealth(groups, p);
  if (sum === 0) return undefined;
  // What the nearer ones cannot carry goes on to the next; where all together are short, each takes its part.
  const whole = Math.min(sum, 1);
  if (random.choose && priorityHealth(groups, 0) < whole) {
    let rest = whole;
    const loads: number[] = [];
    for (let p = 0; p <= last; p++) {
      loads.push(p < last ? Math.min(priorityHealth(groups, p), rest) : rest);
      rest -= loads[p];
    }
    return withinPriority(groups, random.choose(loads), random);
  }
  let x = -1;
  let priority = 0;
  let left = whole;
  for (; priority < last; priority++) {
    const load = Math.min(priorityHealth(groups, priority), left);
    if (load >= left) break;
    if (x < 0) x = random.next() * whole;
    if (load > 0 && x < load) break;
    x -= load;
    left -= load;
  }
  return withinPriority(groups, priority, random);
}

function withinPriority(groups: readonly EndpointGroup[], priority: number, random: Random): EndpointGroup | undefined {
  let total = 0;
  let only: EndpointGroup | undefined;
  for (const g of groups) {
    if (g.priority !== priority) continue;
    if (g.weight === 0) return g;
    const share = g.weight * groupHealth(g);
    if (share === 0) continue;
    only = only === undefined && total === 0 ? g : undefined;
    total += share;
  }
  if (only || total === 0) return only;
  if (random.choose)
    return groups[random.choose(groups.map((g) => (g.priority === priority ? g.weight * groupHealth(g) : 0)))];
  let x = random.next() * total;
  let chosen: EndpointGroup | undefined;
  for (const g of groups) {
    if (g.priority !== priority) continue;
    const share = g.weight * groupHealth(g);
    if (share === 0) continue;
    chosen = g;
    x -= share;
    if (x < 0) break;
  }
  return chosen;
}

/** 0 to 1: how much of its traffic a priority can carry. */
function priorityHealth(groups: readonly EndpointGroup[], priority: number): number {
  let all = 0;
  let well = 0;
  for (const g of groups) {
    if (g.priority !== priority) continue;
    all += g.endpoints.length;
    well += countWell(g);
  }
  return all === 0 ? 0 : Math.min(1, (OVERPROVISIONING * well) / all);
}

function groupHealth(g: EndpointGroup): number {
  return Math.min(1, (OVERPROVISIONING * countWell(g)) / g.endpoints.length);
}

function countWell(g: EndpointGroup): number {
  let well = 0;
  for (const e of g.endpoints) if (!isOut(e.state)) well++;
  return well;
}
