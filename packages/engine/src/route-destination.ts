/** One of a route's destinations, drawn by weight, and its cluster. */
import type { Random } from '@weft/base';
import type { CompiledDestination, CompiledSplit } from './compile.ts';
import { drawCumulative } from './draw.ts';
import type { ClusterView, RouteView } from './views.ts';

export function clusterOf(
  view: Pick<RouteView, 'clusters' | 'pinned' | 'host'>,
  name: string,
): ClusterView | undefined {
  const cluster = view.clusters.get(name);
  // An address that the client chose itself stays chosen, unless the route sends the request to another service.
  return view.pinned && (!cluster || cluster.cluster.host === view.host) ? view.pinned : cluster;
}

export function draw(split: CompiledSplit, random: Random): CompiledDestination | undefined {
  const { destinations, cumulative } = split;
  if (destinations.length < 2) return destinations[0];
  return destinations[drawCumulative(random, cumulative, split.total)];
}
