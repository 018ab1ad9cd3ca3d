/** The service that an address, an authority or a name means, and the addresses of a name. */
import { create } from '@bufbuild/protobuf';
import { formatIp, inBlock, parseIp } from '@weft/base';
import { EndpointSchema, outboundClusterName, type Service } from '@weft/plan';
import { canonicalAuthority } from './canonical.ts';
import { addressesOf } from './service-index.ts';
import { newEndpointState } from './states.ts';
import type { ClusterView, ServicePortView, ServiceView, Snapshot } from './views.ts';

/**
 * The service behind a destination address: by virtual address, else by an endpoint's own (the view's pick is that
 * endpoint then), else by a block of addresses. Undefined: not a service of the mesh, or not one of its ports.
 */
export function findService(snapshot: Snapshot, address: string, port: number): ServicePortView | undefined {
  const known = snapshot.virtual.get(address)?.get(port) ?? snapshot.direct.get(address)?.get(port);
  return known || snapshot.blocks.length === 0 ? known : findInBlocks(snapshot, address, port);
}

function findInBlocks({ blocks }: Snapshot, address: string, port: number): ServicePortView | undefined {
  const ip = parseIp(address);
  if (!ip) return undefined;
  for (const { block, dialled, ports } of blocks) {
    if (!inBlock(ip, block)) continue;
    const view = ports.get(port);
    const main = view && mainCluster(view);
    if (main) return dialled ? ledTo(view, main, address) : view;
  }
  return undefined;
}

function mainCluster(view: ServicePortView): ClusterView | undefined {
  return view.clusters.get(outboundClusterName(view.port.port, '', view.service.host));
}

/**
 * The service that an authority names (a name, an alias, a wildcard's match, or an address). `port` serves where the
 * authority has none.
 */
export function findServiceByAuthority(
  snapshot: Snapshot,
  authority: string,
  port: number,
): ServicePortView | undefined {
  const parsed = canonicalAuthority(authority);
  if (!parsed) return undefined;
  const wanted = parsed.port || port;
  const view = findByName(snapshot, parsed.host);
  if (view) return chosenByClient(view.ports.get(wanted), parsed.host);
  const host = parsed.host.startsWith('[') ? parsed.host.slice(1, -1) : parsed.host;
  const ip = parseIp(host);
  return ip ? findService(snapshot, formatIp(ip), wanted) : undefined;
}

/** Views of single hosts that a wildcard covers, and of single addresses of a block, as long as the service's own lives. */
const chosen = new WeakMap<ServicePortView, Map<string, ServicePortView>>();
const MAX_CHOSEN = 1000;

/** What a wildcard covers has no endpoints that anyone could know: the host that the client names is the one. */
function chosenByClient(view: ServicePortView | undefined, host: string): ServicePortView | undefined {
  if (!view?.service.external || !view.service.host.startsWith('*')) return view;
  const main = mainCluster(view);
  return !main || main.endpoints.length > 0 ? view : ledTo(view, main, host);
}

/** The same view with one host or address as the only destination. */
function ledTo(view: ServicePortView, main: ClusterView, host: string): ServicePortView {
  let known = chosen.get(view);
  if (!known) chosen.set(view, (known = new Map()));
  let own = known.get(host);
  if (!own) {
    if (known.size >= MAX_CHOSEN) known.clear();
    const endpoint = create(EndpointSchema, { instance: host, address: host, port: view.port.port, weight: 1 });
    const only = { endpoint, state: newEndpointState(), weight: 1, way: '', reach: undefined };
    own = { ...view, pinned: { ...main, pinned: only } };
    known.set(host, own);
  }
  return own;
}

function findByName(snapshot: Snapshot, host: string): ServiceView | undefined {
  const view = snapshot.names.get(host);
  if (view) return view;
  for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) {
    const wildcard = snapshot.names.get(`*${host.slice(dot)}`);
    if (wildcard) return wildcard;
  }
  return undefined;
}

/**
 * The addresses of a name: virtual ones, or those of a headless service's endpoints, draining ones left out. Also
 * `<instance>.<headless service>`. Undefined: no service; no addresses: a service whose name is to be asked elsewhere
 * (external), or that has no endpoints.
 */
export function resolveName(
  snapshot: Snapshot,
  name: string,
): { readonly addresses: readonly string[]; readonly service: Service } | undefined {
  const host = (name.endsWith('.') ? name.slice(0, -1) : name).toLowerCase();
  const view = findByName(snapshot, host);
  if (view) {
    const { service } = view;
    return { service, addresses: service.headless ? headlessAddresses(snapshot, view) : service.addresses };
  }
  const dot = host.indexOf('.');
  const parent = dot > 0 ? snapshot.names.get(host.slice(dot + 1)) : undefined;
  if (!parent?.service.headless) return undefined;
  const addresses = headlessAddresses(snapshot, parent, host.slice(0, dot));
  return addresses.length > 0 ? { service: parent.service, addresses } : undefined;
}

function headlessAddresses(snapshot: Snapshot, view: ServiceView, instance?: string): string[] {
  const found = new Set<string>();
  const { families } = view.service;
  const wants = (address: string): boolean => {
    const family = address.includes(':') ? 6 : 4;
    return families.length === 0 ? family === 4 : families.includes(family);
  };
  for (const port of view.ports.keys()) {
    const cluster = snapshot.clusters.get(outboundClusterName(port, '', view.service.host));
    for (const { endpoint } of cluster?.candidates ?? []) {
      if (instance !== undefined && endpoint.instance.toLowerCase() !== instance) continue;
      // What is not of the mesh has one address, and that is it.
      if (endpoint.secondAddress === '') found.add(endpoint.address);
      else for (const address of addressesOf(endpoint)) if (wants(address)) found.add(address);
    }
  }
  return [...found];
}
