/** A plan as decisions read it. */
import {
  type Authorization,
  type Cluster,
  type Endpoint,
  type Endpoints,
  entranceName,
  type GatewayListener,
  type Inbound,
  type Part,
  type Secret,
  type Self,
  type Service,
  type TlsSettings,
  WORKLOADS_HOST,
} from '@weft/plan';
import { type CompiledAuthorization, compileAuthorization } from './authorize.ts';
import { type CompiledPort, compilePort } from './compile.ts';
import { type CompiledGateway, compileGatewayListener, type GatewayPortView, gatewayPortView } from './gateway.ts';
import { forgetHealth, shareHealth } from './health.ts';
import { groupEndpoints } from './locality.ts';
import { uneject } from './outlier.ts';
import { type RateLimitView, rateLimitView } from './rate-limit.ts';
import { addressesOf, blockIndex, child, directIndex, nameIndex, virtualIndex } from './service-index.ts';
import { newClusterState, newEndpointState } from './states.ts';
import type { ClusterView, EndpointView, ServicePortView, ServiceView, Snapshot } from './views.ts';

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

export interface Draft {
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
  let tls: TlsSettings | undefined;
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
        break;
      case 'tls':
        tls = kind.value;
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
  shareHealth(draft.clusters);
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
    tls,
    services: views,
    names: nameIndex(views),
    clusters: draft.clusters,
    virtual: virtualIndex(views),
    blocks: blockIndex(views),
    direct: directIndex(draft, views, endpointSets),
    workloads,
    reuse: draft.reuse,
  };
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
    if (known && !cluster.healthCheck) forgetHealth(known.state);
    members.push(
      known?.endpoint === endpoint
        ? known
        : {
            endpoint,
            state: known?.state ?? newEndpointState(),
            weight: endpoint.weight || 1,
            way: wayTo(draft.self, endpoint),
            reach: undefined,
          },
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

/** Its own machine's, and who stands outside of the mesh, are dialled as they are. */
function wayTo(self: Self | undefined, { instance, network }: Endpoint): string {
  return network === '' || network === self?.network ? '' : entranceName(instance, network);
}

function endpointKey(e: Endpoint): string {
  return `${e.instance}|${e.address}|${e.port}`;
}
