import type { IpBlock } from '@weft/base';
import type {
  Cluster,
  ConnectionPool,
  Endpoint,
  HttpRoute,
  Inbound,
  Protocol,
  Secret,
  Self,
  Service,
  ServicePort,
  TlsSettings,
} from '@weft/plan';
import type { CompiledAuthorization } from './authorize.ts';
import type { CompiledHttpRoute, CompiledTcpRoute, CompiledTlsRoute } from './compile.ts';
import type { GatewayPortView } from './gateway.ts';
import type { HashTable } from './hash.ts';
import type { RateLimitView } from './rate-limit.ts';
import type { RouteIndex } from './route-index.ts';

/** What happened to one endpoint as a member of one cluster. Engine changes it; it outlives snapshots. */
export interface EndpointState {
  /** Requests (or TCP connections) running now. */
  active: number;
  consecutive5xx: number;
  consecutiveGateway: number;
  consecutiveLocal: number;
  ejected: boolean;
  ejectedAtMs: number;
  /** Earliest moment of return; the return itself happens at the first sweep after it. */
  ejectedUntilMs: number;
  /** Multiplier of the base ejection time: grows with each ejection, shrinks with each sweep that finds the host well. */
  timesEjected: number;
  /** Ejections since the endpoint is known, for metrics. */
  ejections: number;
  /** Requests of this outlier interval, and how many of them failed. */
  windowTotal: number;
  windowFailed: number;
  /** Of a failure accrual: failures in a row, the penalty in force (0: none yet), and whether a probe is under way. */
  failures: number;
  penaltyMs: number;
  probing: boolean;
  /** Of health checks: it is out, and how many in a row failed or passed. */
  unhealthy: boolean;
  checksFailed: number;
  checksPassed: number;
  /** When it is asked next; -1: nothing is settled yet; Infinity: it is being asked. */
  checkAtMs: number;
  /** Where the cluster balances by it: peak EWMA of the latency, and when it was true; -1: nothing was seen yet. */
  ewmaMs: number;
  ewmaAtMs: number;
  /** Smooth weighted round robin's account. */
  credit: number;
  /** When a pick could first have chosen it; kept for clusters with a warm-up only. */
  sinceMs: number | undefined;
}

/** An endpoint inside one cluster. Compare endpoints by `state`: it is the same object in every snapshot. */
export interface EndpointView {
  readonly endpoint: Endpoint;
  readonly state: EndpointState;
  /** At least 1. */
  readonly weight: number;
  /** Where it runs on another machine: the server name by which the entrance of this one leads there; else empty. */
  readonly way: string;
  /** What the one who connects to it keeps with it, as long as this view lives; nothing to the engine. */
  reach?: unknown;
}

/** Counters of one cluster; they outlive snapshots. Changed by the acquire/release functions of pool.ts. */
export interface ClusterState {
  /** A request or connection asked for it; whoever looks for that takes it back. */
  used: boolean;
  requests: number;
  pending: number;
  retries: number;
  connections: number;
  roundRobin: number;
  /** When requests last waited in vain, or a trial began; -1: the destination does not fail fast. */
  failFastAtMs: number;
  /** When the next outlier sweep is due; -1 before the first. */
  nextSweepMs: number;
  /** No endpoint is due for a probe before this (failure accrual). */
  probeAtMs: number;
  /** The candidates that the warm-up has seen; undefined before the first pick. */
  warmView: readonly EndpointView[] | undefined;
  /** Until when some endpoint warms up. */
  warmUntilMs: number;
}

/** Endpoints of a cluster that are equally near, or that get a share together (locality.ts). */
export interface EndpointGroup {
  /** 0 is nearest; others serve as far as nearer ones are not well. */
  readonly priority: number;
  /** Share among the groups of a priority; 0: the only one of it. */
  readonly weight: number;
  /** Never empty. */
  readonly endpoints: readonly EndpointView[];
  readonly evenWeights: boolean;
  /** For consistent hashing, made when first needed. */
  table: HashTable | undefined;
}

export interface ClusterView {
  readonly name: string;
  readonly cluster: Cluster;
  /** All members, draining ones included (what maxEjectionPercent counts). */
  readonly endpoints: readonly EndpointView[];
  /** Members that take new requests: not draining. Ejection is in their state. */
  readonly candidates: readonly EndpointView[];
  /** `candidates` by locality, nearest first; one group where locality plays no part. */
  readonly groups: readonly EndpointGroup[];
  readonly state: ClusterState;
  readonly pool: ConnectionPool | undefined;
  /** Set on the view of an original destination: pick gives this endpoint whatever its health. */
  readonly pinned: EndpointView | undefined;
}

/** Routes of HTTP requests to one host, as a service's clients or a gateway's visitors see it. */
export interface RouteView {
  /** A service's FQDN, or a virtual host of a gateway. */
  readonly host: string;
  readonly http: readonly CompiledHttpRoute[];
  /** Of `http`, where there are many. */
  readonly index: RouteIndex | undefined;
  /** Clusters of the snapshot that this view belongs to. */
  readonly clusters: ReadonlyMap<string, ClusterView>;
  /** Original destination: clusters of this service's host are replaced by this one. */
  readonly pinned: ClusterView | undefined;
}

/** Routes of connections to one service port, or to one server of a gateway. */
export interface TcpRouteView {
  readonly host: string;
  /** Absent at a gateway. */
  readonly service?: Service;
  readonly tcp: readonly CompiledTcpRoute[];
  /** Not empty: TLS goes by these alone. */
  readonly tls: readonly CompiledTlsRoute[];
  readonly clusters: ReadonlyMap<string, ClusterView>;
  readonly pinned: ClusterView | undefined;
}

/** One port of one service as a client sees it. */
export interface ServicePortView extends RouteView, TcpRouteView {
  readonly service: Service;
  readonly port: ServicePort;
  readonly protocol: Protocol;
}

export interface ServiceView {
  readonly service: Service;
  readonly ports: ReadonlyMap<number, ServicePortView>;
}

/** A plan, compiled. Never changes, except for the states of endpoints and clusters. */
export interface Snapshot {
  readonly self: Self | undefined;
  /** By workload port. Port 0, where present, is for ports that are not declared. */
  readonly inbound: ReadonlyMap<number, Inbound>;
  readonly authorization: CompiledAuthorization;
  /** Of HTTP requests, and of opaque connections, by workload port. */
  readonly rateLimits: ReadonlyMap<number, RateLimitView>;
  readonly connectionLimits: ReadonlyMap<number, RateLimitView>;
  /** Some policy of this workload looks at paths: `%2F` and `%5C` are to be rejected then (canonical.ts). */
  readonly pathPolicies: boolean;
  /** A gateway's ports, by the port it listens on. */
  readonly gateways: ReadonlyMap<number, GatewayPortView>;
  /** A gateway's certificates by resource name. */
  readonly secrets: ReadonlyMap<string, Secret>;
  /** What the mesh's settings ask of TLS; undefined: nothing beyond the defaults. */
  readonly tls: TlsSettings | undefined;
  /** By FQDN, lower case. */
  readonly services: ReadonlyMap<string, ServiceView>;
  /** By FQDN and alias, lower case. `*.suffix` hosts stand here too. */
  readonly names: ReadonlyMap<string, ServiceView>;
  readonly clusters: ReadonlyMap<string, ClusterView>;
  /** Virtual address, then port. */
  readonly virtual: ReadonlyMap<string, ReadonlyMap<number, ServicePortView>>;
  /** Services by blocks of addresses, the narrowest first: where neither of the two has an address. */
  readonly blocks: readonly BlockView[];
  /** Endpoint address, then port. */
  readonly direct: ReadonlyMap<string, ReadonlyMap<number, ServicePortView>>;
  /** Workloads with a proxy by address: says who called where no certificate does, for records alone. */
  readonly workloads: ReadonlyMap<string, Endpoint>;
  /** Compiled forms by the part that made them, for the next snapshot. */
  readonly reuse: ReadonlyMap<object, unknown>;
}

/** A block of addresses by which a service is dialled. */
export interface BlockView {
  readonly block: IpBlock;
  /** The address that was dialled is the destination. */
  readonly dialled: boolean;
  readonly ports: ReadonlyMap<number, ServicePortView>;
}

export type { HttpRoute };
