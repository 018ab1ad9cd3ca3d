/** What every part of the data path shares: the plan in force, clocks, pools, and who observes. */
import type { Socket } from 'node:net';
import type { Logger, Random } from '@weft/base';
import type { ServicePortView, Snapshot } from '@weft/engine';
import type { Cluster, Endpoint, Self } from '@weft/plan';
import type { IdSource } from '@weft/telemetry';
import type { WireCounters, WireLimits } from '@weft/wire';
import type { Bind } from './bootstrap.ts';
import { Tokens } from './http/tokens.ts';
import { InboundPorts } from './inbound/port.ts';
import { PortUse } from './inbound/port-use.ts';
import { type ProxyLimits, wireLimits } from './limits.ts';
import type { Links } from './link/links.ts';
import { encodeSource, selfPeer } from './link/source.ts';
import type { Connector } from './net/dial.ts';
import { InFlightList, type Placed } from './net/in-flight.ts';
import { Originators } from './net/originate.ts';
import { Outcomes } from './net/outcomes.ts';
import type { Ticker, Ticking, TimerWheel } from './net/timers.ts';
import { timePassed } from './net/turn.ts';
import { Disclosure } from './observe/disclosure.ts';
import type { ReferenceIndex } from './observe/references.ts';
import { SecondBudget } from './observe/second-budget.ts';
import { Tracer } from './observe/tracer.ts';
import { type Observer, type PeerInfo, type ServiceInfo, unknownPeer } from './observe/types.ts';
import type { Holder, Overload } from './overload/overload.ts';
import type { Upstreams } from './upstream/upstreams.ts';

export interface CoreOptions {
  address: string;
  /** The workload's IPv6 address, where it has one beside `address`. */
  address6: string | undefined;
  explicit: boolean;
  gateway: boolean;
  logger: Logger;
  observer: Observer;
  references: ReferenceIndex;
  random: Random;
  ids: IdSource;
  timers: TimerWheel;
  ticker: Ticker;
  connector: Connector;
  /** Of this machine, to workloads of the mesh on others. */
  entrance: Bind | undefined;
  nowMs: () => number;
  wallMs: () => number;
  limits: ProxyLimits;
}

/** A request that runs. */
export interface InFlight extends Ticking, Holder, Placed {}

export class Core {
  readonly options: CoreOptions;
  readonly observer: Observer;
  readonly logger: Logger;
  readonly random: Random;
  readonly timers: TimerWheel;
  readonly ticker: Ticker;
  readonly ids: IdSource;
  readonly nowMs: () => number;
  readonly wallMs: () => number;
  readonly counters: WireCounters;
  readonly limits: ProxyLimits;
  readonly wireLimits: WireLimits;
  /** Requests in flight; each gets the tick by which it sees that nothing moves any more. */
  readonly exchanges = new InFlightList<InFlight>();
  /** Downstream connections open now. */
  connections = 0;
  links!: Links;
  upstreams!: Upstreams;
  readonly originators: Originators;
  readonly portUse = new PortUse();
  readonly inboundPorts: InboundPorts;
  readonly tokens: Tokens;
  overload!: Overload;
  snapshot: Snapshot | undefined;
  epoch = 0n;
  self: PeerInfo = unknownPeer();
  sourceHeader = '';
  spiffeId = '';
  /** Who is told of decisions; undefined: nobody. */
  disclosure: Disclosure | undefined;
  /** SPIFFE ids of gateways whose x-forwarded-client-cert is passed on; undefined: of none. */
  certificateTellers: ReadonlySet<string> | undefined;
  readonly tracer: Tracer;
  draining = false;
  readonly outcomes: Outcomes;
  /** Of decisions of policies. */
  readonly decisionLines: SecondBudget;
  #betweenClocksMs = Number.NEGATIVE_INFINITY;
  #peers = new WeakMap<Endpoint, PeerInfo>();
  #callers = new WeakMap<Endpoint, PeerInfo>();
  #services = new WeakMap<ServicePortView | Cluster, ServiceInfo>();

  constructor(options: CoreOptions) {
    this.options = options;
    this.observer = options.observer;
    this.logger = options.logger;
    this.random = options.random;
    this.timers = options.timers;
    this.ticker = options.ticker;
    this.ids = options.ids;
    this.nowMs = options.nowMs;
    this.wallMs = options.wallMs;
    this.originators = new Originators(options.nowMs, () => this.snapshot);
    const failed = (error: unknown): void => {
      options.observer.count('internal_error');
      options.logger.error({ error: String(error) }, 'a verified request failed');
    };
    this.tokens = new Tokens(options.wallMs, failed, options.limits);
    this.limits = options.limits;
    this.inboundPorts = new InboundPorts(options.address);
    this.decisionLines = new SecondBudget(options.nowMs, () => this.limits.decisionLinesPerSecond);
    this.wireLimits = wireLimits(options.limits);
    this.ticker.add({ tick: (now) => this.#tickExchanges(now) });
    this.counters = { count: (name) => options.observer.count(name) };
    this.tracer = new Tracer(this);
    this.outcomes = new Outcomes(this.counters, options.limits);
  }

  /** Counts an accepted connection; false where there are too many, and then it is closed already. */
  admit(socket: Socket): boolean {
    if (this.connections >= this.limits.maxConnections) {
      this.observer.count('downstream_connections_overflow');
      socket.on('error', () => {});
      socket.destroy();
      return false;
    }
    if (this.overload.level === 2) {
      this.observer.count('overload_connections_refused');
      socket.on('error', () => {});
      socket.destroy();
      return false;
    }
    this.connections++;
    this.overload.admitted();
    socket.once('close', this.#disconnected);
    return true;
  }

  #disconnected = (): void => {
    this.connections--;
  };

  #tickExchanges(nowMs: number): void {
    for (const exchange of this.exchanges) exchange.tick(nowMs);
  }

  /**
   * The time of day at a moment of nowMs. The clock of the day tells whole milliseconds: of what lies between the two
   * clocks, the most that was seen is the nearest to the truth, until one of them is set.
   */
  wallAt(atMs: number): number {
    const between = this.wallMs() - this.nowMs();
    if (between > this.#betweenClocksMs || between < this.#betweenClocksMs - 1) this.#betweenClocksMs = between;
    return atMs + this.#betweenClocksMs;
  }

  /** Puts a plan in force. Exchanges that run keep the decisions they made. */
  apply(snapshot: Snapshot, epoch: bigint): void {
    this.snapshot = snapshot;
    this.epoch = epoch;
    // A large plan is some time in the making.
    timePassed(this.nowMs());
    if (snapshot.self) this.setSelf(snapshot.self);
  }

  setSelf(self: Self): void {
    this.self = selfPeer(self);
    this.spiffeId = this.self.principal;
    this.sourceHeader = encodeSource(self);
    this.disclosure = Disclosure.of(self);
    this.certificateTellers = self.certificateTellers.length > 0 ? new Set(self.certificateTellers) : undefined;
    this.tracer.configure(self);
  }

  /** The destination of an exchange, as the plan describes it. One object per endpoint. */
  peerOf(endpoint: Endpoint): PeerInfo {
    let peer = this.#peers.get(endpoint);
    if (!peer) {
      peer = {
        workload: endpoint.workload,
        namespace: endpoint.namespace,
        principal: endpoint.identity,
        version: endpoint.version,
        app: endpoint.app,
        canonicalService: endpoint.canonicalService,
        canonicalRevision: endpoint.canonicalRevision,
        cluster: '',
        instance: endpoint.instance,
      };
      this.#peers.set(endpoint, peer);
    }
    return peer;
  }

  /** Who calls from an address without showing a certificate: for records only, an address proves nothing. */
  callerAt(address: string): PeerInfo | undefined {
    const endpoint = this.snapshot?.workloads.get(address);
    if (!endpoint) return undefined;
    let caller = this.#callers.get(endpoint);
    if (!caller) this.#callers.set(endpoint, (caller = { ...this.peerOf(endpoint), principal: '' }));
    return caller;
  }

  serviceOf(view: ServicePortView): ServiceInfo {
    let info = this.#services.get(view);
    if (!info) {
      const { host, name, namespace } = view.service;
      info = { host, name, namespace, port: view.port.port };
      this.#services.set(view, info);
    }
    return info;
  }

  /** The service behind a cluster, for who did not ask for a service by its name. */
  serviceOfCluster(cluster: Cluster): ServiceInfo {
    let info = this.#services.get(cluster);
    if (!info) {
      const { host, serviceName, serviceNamespace, port } = cluster;
      info = { host, name: serviceName, namespace: serviceNamespace, port };
      this.#services.set(cluster, info);
    }
    return info;
  }
}
