/** Services of a snapshot by name, by virtual address, and by the addresses of their endpoints. */
import { create } from '@bufbuild/protobuf';
import { canonicalIp, parseIpBlock } from '@weft/base';
import { type Endpoint, type Endpoints, outboundClusterName, ServicePortSchema } from '@weft/plan';
import { NO_OPS } from './header-ops.ts';
import { defaultRetry } from './retry.ts';
import type { Draft } from './snapshot.ts';
import type { BlockView, ClusterView, EndpointView, ServicePortView, ServiceView } from './views.ts';

export function child<K, L, V>(map: Map<K, Map<L, V>>, key: K): Map<L, V> {
  let inner = map.get(key);
  if (!inner) map.set(key, (inner = new Map()));
  return inner;
}

/** Both of a workload that has two. */
export function addressesOf(e: Endpoint): string[] {
  const address = canonicalIp(e.address);
  return e.secondAddress === '' ? [address] : [address, canonicalIp(e.secondAddress)];
}

/** A full name beats an alias; among aliases the first service has it. */
export function nameIndex(views: ReadonlyMap<string, ServiceView>): Map<string, ServiceView> {
  const names = new Map<string, ServiceView>(views);
  for (const view of views.values()) {
    for (const alias of view.service.aliases) {
      const name = alias.toLowerCase();
      if (!names.has(name)) names.set(name, view);
    }
  }
  return names;
}

export function virtualIndex(views: ReadonlyMap<string, ServiceView>): Map<string, Map<number, ServicePortView>> {
  const index = new Map<string, Map<number, ServicePortView>>();
  for (const { service, ports } of views.values()) {
    for (const address of service.addresses) {
      // Found as a block of one address, since it is the destination too.
      if (service.dialled && service.blocks.includes(address)) continue;
      const byPort = child(index, canonicalIp(address));
      for (const [port, view] of ports) if (!byPort.has(port)) byPort.set(port, view);
    }
  }
  return index;
}

/** Blocks of addresses, the narrowest first; what is none is left out. */
export function blockIndex(views: ReadonlyMap<string, ServiceView>): BlockView[] {
  const blocks: BlockView[] = [];
  for (const { service, ports } of views.values()) {
    for (const text of service.blocks) {
      const block = parseIpBlock(text);
      if (block) blocks.push({ block, dialled: service.dialled, ports });
    }
  }
  return blocks.sort((a, b) => b.block.bits - a.block.bits);
}

/**
 * Addresses of endpoints. A headless service's routes apply to them, with the endpoint that the client chose; those of
 * others do not (who dials an instance wants that instance), only their protocol and cluster settings. A headless
 * service is also found at its own port, where its endpoints listen at another.
 */
export function directIndex(
  draft: Draft,
  views: ReadonlyMap<string, ServiceView>,
  sets: ReadonlyMap<string, ReadonlyMap<number, Endpoints>>,
): Map<string, Map<number, ServicePortView>> {
  const index = new Map<string, Map<number, ServicePortView>>();
  const ordered = [...views.values()].sort((a, b) => Number(b.service.headless) - Number(a.service.headless));
  for (const { service, ports } of ordered) {
    for (const [port, view] of ports) {
      if (!sets.get(service.host)?.get(port)) continue;
      const main = mainCluster(draft, service.host, port);
      for (const endpoint of main?.endpoints ?? []) {
        const wanted = service.headless ? [endpoint.endpoint.port, port] : [endpoint.endpoint.port];
        let pinned: ServicePortView | undefined;
        for (const address of addressesOf(endpoint.endpoint)) {
          const byPort = child(index, address);
          if (wanted.every((p) => byPort.has(p))) continue;
          pinned ??= pinnedView(view, main!, endpoint);
          for (const p of wanted) if (!byPort.has(p)) byPort.set(p, pinned);
        }
      }
    }
  }
  return index;
}

/** The cluster of a port without subset. */
function mainCluster(draft: Draft, host: string, port: number): ClusterView | undefined {
  return draft.clusters.get(outboundClusterName(port, '', host));
}

function pinnedView(view: ServicePortView, main: ClusterView, endpoint: EndpointView): ServicePortView {
  const pinned: ClusterView = { ...main, pinned: endpoint };
  if (view.service.headless) return { ...view, pinned };
  const ref = main.cluster.ref;
  const split = {
    destinations: [{ ref, clusterName: main.name, requestOps: NO_OPS, responseOps: NO_OPS }],
    cumulative: [1],
    total: 1,
  };
  const route = plainRoute;
  return {
    ...view,
    pinned,
    index: undefined,
    http:
      view.http.length === 0
        ? []
        : [
            {
              ref,
              route,
              match: [],
              split,
              retry: defaultRetry,
              fault: undefined,
              responseOps: NO_OPS,
              mirrors: [],
              session: undefined,
              cors: undefined,
              pathRegex: undefined,
            },
          ],
    tcp: [{ ref, subnets: [], split }],
    tls: [],
  };
}

const plainRoute = create(ServicePortSchema, { http: [{}] }).http[0];
