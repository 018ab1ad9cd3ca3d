import { create } from '@bufbuild/protobuf';
import { canonicalIp, formatIp, parseIp } from '@weft/base';
import {
  type Authorization,
  type Cluster,
  type Endpoint,
  EndpointSchema,
  type Endpoints,
  type GatewayListener,
  type Inbound,
  outboundClusterName,
  type Part,
  type Secret,
  type Self,
  type Service,
  ServicePortSchema,
  WORKLOADS_HOST,
} from '@weft/plan';
import { type CompiledAuthorization, compileAuthorization } from './authorize.ts';
import { canonicalAuthority } from './canonical.ts';
import { type CompiledPort, compilePort } from './compile.ts';
import { type CompiledGateway, compileGatewayListener, type GatewayPortView, gatewayPortView } from './gateway.ts';
import { groupEndpoints } from './locality.ts';
import { uneject } from './outlier.ts';
import { type RateLimitView, rateLimitView } from './rate-limit.ts';
import { defaultRetry } from './retry.ts';
import type {
  ClusterState,
  ClusterView,
  EndpointState,
  EndpointView,
  ServicePortView,
  ServiceView,
  Snapshot,
} from './views.ts';

/** Compiled form of a service part: its ports in order. */
type CompiledService = readonly CompiledPort[];

interface ClusterMemo {
  readonly view: ClusterView;
  /** Groups depend on where the client is. */
  readonly self: Self | undefined;
  readonly endpoints: Endpoints | undefined;
  /** And, where they are zone-aware, on where its like are. */
  readonly peers: Endpoints | undefined;
}

interface Draft {
  readonly previous: Snapshot | undefined;
  readonly reuse: Map<object, unknown>;
  readonly clusters: Map<string, ClusterView>;
  readonly self: Self | undefined;
  /** Endpoints of the client's own service. */
  readonly peers: Endpoints | undefined;
}

/**
 * Compiles a plan. Part and Endpoints objects that `previous` was built from (the same references) keep their compiled
 * form; states of clusters go on by name, those of endpoints by cluster, instance and address, so that ejections and
 * counts survive. Where two parts claim one name, the later wins. Throws WeftError (`engine.regex`): keep the old one.
 */
export function buildSnapshot(parts: Iterable<Part>, endpoints: Iterable<Endpoints>, previous?: Snapshot): Snapshot {
  let self: Self | undefined;
  const inbound = new Map<number, Inbound>();
  const authorizations: Authorization[] = [];
  const services = new Map<string, Service>();
  const clusters = new Map<string, Cluster>();
  const listeners: GatewayListener[] = [];
  const secrets = new Map<string, Secret>();
  for (const { kind } of parts) {
    switch (kind.case) {
      case 'self':
        self = kind.value;
        break;
      case 'inbound':
        inbound.set(kind.value.port, kind.value);
        break;
      case 'authorization':
        authorizations.push(kind.value);
        break;
      case 'service':
        services.set(kind.value.host.toLowerCase(), kind.value);
        break;
      case 'cluster':
        clusters.set(kind.value.name, kind.value);
        break;
      case 'gateway':
        listeners.push(kind.value);
        break;
      case 'secret':
        secrets.set(kind.value.name, kind.value);
    }
  }
  const endpointSets = new Map<string, Map<number, Endpoints>>();
  const workloads = new Map<string, Endpoint>();
  for (const set of endpoints) {
    if (set.host === WORKLOADS_HOST) {
      for (const e of set.endpoints) for (const address of addressesOf(e)) workloads.set(address, e);
    } else child(endpointSets, set.host).set(set.port, set);
  }

  const peers = ownEndpoints(self, endpointSets);
  const draft: Draft = { previous, reuse: new Map(), clusters: new Map(), self, peers };
  for (const cluster of clusters.values()) {
    const set = endpointSets.get(cluster.host)?.get(cluster.port);
    draft.clusters.set(cluster.name, clusterView(draft, cluster, set));
  }
  const views = new Map<string, ServiceView>();
  for (const [host, service] of services) views.set(host, serviceView(draft, service));
  const authorization = compiledAuthorization(draft, authorizations);
  return {
    self,
    inbound,
    authorization,
    rateLimits: rateViews(inbound, 'rateLimit', self, previous?.rateLimits),
    connectionLimits: rateViews(inbound, 'connectionLimit', self, previous?.connectionLimits),
    pathPolicies: authorization.usesPaths,
    gateways: new Map(listeners.map((l) => [l.port, gatewayView(draft, l)])),
    secrets,
    services: views,
    names: nameIndex(views),
    clusters: draft.clusters,
    virtual: virtualIndex(views),
    direct: directIndex(draft, views, endpointSets),
    workloads,
    reuse: draft.reuse,
  };
}

function child<K, L, V>(map: Map<K, Map<L, V>>, key: K): Map<L, V> {
  let inner = map.get(key);
  if (!inner) map.set(key, (inner = new Map()));
  return inner;
}

function rateViews(
  inbound: ReadonlyMap<number, Inbound>,
  which: 'rateLimit' | 'connectionLimit',
  self: Self | undefined,
  old: ReadonlyMap<number, RateLimitView> | undefined,
): Map<number, RateLimitView> {
  const views = new Map<number, RateLimitView>();
  for (const [port, part] of inbound) {
    const limit = part[which];
    if (!limit) continue;
    const known = old?.get(port);
    const domain = self?.trustDomain || 'cluster.local';
    views.set(port, rateLimitView(limit, domain, known?.state));
  }
  return views;
}

function compiledAuthorization(draft: Draft, parts: readonly Authorization[]): CompiledAuthorization {
  const old =
    parts.length === 1 ? (draft.previous?.reuse.get(parts[0]) as CompiledAuthorization | undefined) : undefined;
  const compiled = old ?? compileAuthorization(parts);
  if (parts.length === 1) draft.reuse.set(parts[0], compiled);
  return compiled;
}

function gatewayView(draft: Draft, listener: GatewayListener): GatewayPortView {
  const old = draft.previous?.reuse.get(listener) as CompiledGateway | undefined;
  const compiled = old ?? compileGatewayListener(listener);
  draft.reuse.set(listener, compiled);
  return gatewayPortView(listener, compiled, draft.clusters);
}

function serviceView(draft: Draft, service: Service): ServiceView {
  const old = draft.previous?.reuse.get(service) as CompiledService | undefined;
  const compiled = old ?? service.ports.map(compilePort);
  draft.reuse.set(service, compiled);
  const ports = new Map<number, ServicePortView>();
  service.ports.forEach((port, i) => {
    const { http, index, tcp, tls } = compiled[i];
    ports.set(port.port, {
      host: service.host,
      service,
      port,
      protocol: port.protocol,
      http,
      index,
      tcp,
      tls,
      clusters: draft.clusters,
      pinned: undefined,
    });
  });
  return { service, ports };
}

function clusterView(draft: Draft, cluster: Cluster, set: Endpoints | undefined): ClusterView {
  const memo = draft.previous?.reuse.get(cluster) as ClusterMemo | undefined;
  const zoneAware = (cluster.locality?.zoneAwareMin ?? 0) > 0;
  const sameClient = memo?.self === draft.self && (!zoneAware || memo?.peers === draft.peers);
  if (memo && memo.endpoints === set && (sameClient || !cluster.locality)) {
    draft.reuse.set(cluster, memo);
    return memo.view;
  }
  const old = draft.previous?.clusters.get(cluster.name);
  const states = new Map<string, EndpointView>();
  for (const e of old?.endpoints ?? []) states.set(endpointKey(e.endpoint), e);
  const wanted = Object.entries(cluster.subsetLabels);
  const members: EndpointView[] = [];
  const seen = new Set<string>();
  for (const endpoint of set?.endpoints ?? []) {
    if (!wanted.every(([name, value]) => Object.hasOwn(endpoint.labels, name) && endpoint.labels[name] === value))
      continue;
    const key = endpointKey(endpoint);
    if (seen.has(key)) continue;
    seen.add(key);
    const known = states.get(key);
    // Nothing would bring it back.
    if (known?.state.ejected && !cluster.outlier && !cluster.failureAccrual) uneject(known.state);
    members.push(
      known?.endpoint === endpoint
        ? known
        : { endpoint, state: known?.state ?? newEndpointState(), weight: endpoint.weight || 1 },
    );
  }
  const candidates = members.filter((e) => !e.endpoint.draining);
  const view: ClusterView = {
    name: cluster.name,
    cluster,
    endpoints: members,
    candidates,
    groups: groupEndpoints(cluster, candidates, draft.self, zoneAware ? draft.peers?.endpoints : undefined),
    state: old?.state ?? newClusterState(),
    pool: cluster.pool,
    pinned: undefined,
  };
  draft.reuse.set(cluster, { view, endpoints: set, self: draft.self, peers: draft.peers } satisfies ClusterMemo);
  return view;
}

/** Those of the first service that the workload is behind: itself and its like. */
function ownEndpoints(
  self: Self | undefined,
  sets: ReadonlyMap<string, Map<number, Endpoints>>,
): Endpoints | undefined {
  for (const host of self?.services ?? []) {
    for (const set of sets.get(host)?.values() ?? []) if (set.endpoints.length > 0) return set;
  }
  return undefined;
}

/** Both of a workload that has two. */
function addressesOf(e: Endpoint): string[] {
  const address = canonicalIp(e.address);
  return e.secondAddress === '' ? [address] : [address, canonicalIp(e.secondAddress)];
}

function endpointKey(e: Endpoint): string {
  return `${e.instance}|${e.address}|${e.port}`;
}

function newEndpointState(): EndpointState {
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
    ewmaMs: -1,
    ewmaAtMs: 0,
    credit: 0,
    sinceMs: undefined,
  };
}

function newClusterState(): ClusterState {
  return {
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

/** A full name beats an alias; among aliases the first service has it. */
function nameIndex(views: ReadonlyMap<string, ServiceView>): Map<string, ServiceView> {
  const names = new Map<string, ServiceView>(views);
  for (const view of views.values()) {
    for (const alias of view.service.aliases) {
      const name = alias.toLowerCase();
      if (!names.has(name)) names.set(name, view);
    }
  }
  return names;
}

function virtualIndex(views: ReadonlyMap<string, ServiceView>): Map<string, Map<number, ServicePortView>> {
  const index = new Map<string, Map<number, ServicePortView>>();
  for (const { service, ports } of views.values()) {
    for (const address of service.addresses) {
      const byPort = child(index, canonicalIp(address));
      for (const [port, view] of ports) if (!byPort.has(port)) byPort.set(port, view);
    }
  }
  return index;
}

/**
 * Addresses of endpoints. A headless service's routes apply to them, with the endpoint that the client chose; those of
 * others do not (who dials an instance wants that instance), only their protocol and cluster settings. A headless
 * service is also found at its own port, where its endpoints listen at another.
 */
function directIndex(
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
    destinations: [{ ref, clusterName: main.name, request: undefined, response: undefined }],
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
              request: undefined,
              response: undefined,
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

/**
 * The service behind a destination address: by virtual address, else by an endpoint's own (the view's pick is that
 * endpoint then). Undefined: not a service of the mesh, or not one of its ports.
 */
export function findService(snapshot: Snapshot, address: string, port: number): ServicePortView | undefined {
  return snapshot.virtual.get(address)?.get(port) ?? snapshot.direct.get(address)?.get(port);
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

/** Views of single hosts that a wildcard covers, as long as the wildcard's own lives. */
const chosen = new WeakMap<ServicePortView, Map<string, ServicePortView>>();
const MAX_CHOSEN = 1000;

/** What a wildcard covers has no endpoints that anyone could know: the host that the client names is the one. */
function chosenByClient(view: ServicePortView | undefined, host: string): ServicePortView | undefined {
  if (!view?.service.external || !view.service.host.startsWith('*')) return view;
  const main = view.clusters.get(outboundClusterName(view.port.port, '', view.service.host));
  if (!main || main.endpoints.length > 0) return view;
  let known = chosen.get(view);
  if (!known) chosen.set(view, (known = new Map()));
  let own = known.get(host);
  if (!own) {
    if (known.size >= MAX_CHOSEN) known.clear();
    const endpoint = create(EndpointSchema, { instance: host, address: host, port: view.port.port, weight: 1 });
    own = { ...view, pinned: { ...main, pinned: { endpoint, state: newEndpointState(), weight: 1 } } };
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
