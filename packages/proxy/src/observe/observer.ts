import {
  type AccessLogEntry,
  CallAggregator,
  type CallOutcome,
  type CallSite,
  type Edge,
  EdgeAggregator,
  formatAccessLog,
  IstioMetrics,
  type PeerSeries,
  PlaintextCallers,
  type Registry,
  type TcpSeries,
  unknownWorkload,
} from '@weft/telemetry';
import { ReferenceIndex } from './references.ts';
import {
  type EdgeKey,
  type Observer,
  type PeerInfo,
  type Reporter,
  type RequestRecord,
  type ServiceInfo,
  type TcpRecord,
  unknownPeer,
} from './types.ts';

export interface ObserverOptions {
  registry: Registry;
  edges?: EdgeAggregator;
  calls?: CallAggregator;
  plaintext?: PlaintextCallers;
  /** Takes one line of the access log with its line feed; absent: no access log. */
  log?: (line: string) => void;
  /** Where rules stand; absent: nothing is known of that. */
  references?: ReferenceIndex;
}

/** All that is counted for one pair, service, reporter and kind of transport. */
interface Entry {
  series: PeerSeries;
  /** Absent where the other end's proxy tells the control plane about this edge already. */
  edge: Edge | undefined;
  /** By the workload's port, of those that policies were asked about. */
  sites: CallSite[];
}

interface OpenConnection {
  entry: Entry;
  tcp: TcpSeries;
  /** Bytes that are in the counters already. */
  bytesIn: number;
  bytesOut: number;
  /** Of a caller without mTLS. */
  plaintextOver: (() => void) | undefined;
}

const nobody: PeerInfo = Object.freeze(unknownPeer());
const noService: ServiceInfo = Object.freeze({ host: '', name: '', namespace: '', port: 0 });

/**
 * Turns what the data path reports into metrics, access log and live edges.
 *
 * Series are found by the identity of the PeerInfo and ServiceInfo objects first, so these must not change once they
 * were passed; equal content in another object finds the same series, only slower.
 */
export class MeshObserver implements Observer {
  readonly registry: Registry;
  readonly edges: EdgeAggregator;
  readonly calls: CallAggregator;
  readonly plaintextCallers: PlaintextCallers;
  readonly #metrics: IstioMetrics;
  readonly #log: ((line: string) => void) | undefined;
  readonly #references: ReferenceIndex;
  /** Four slots per triple: reporter × mTLS. */
  #entries = new WeakMap<PeerInfo, WeakMap<PeerInfo, WeakMap<ServiceInfo, (Entry | undefined)[]>>>();
  /** Reused for each call. */
  #outcome: CallOutcome = { denied: false, policy: '', ref: '', shadowPolicy: '', shadowRef: '', audit: '' };
  #open = new Map<TcpRecord, OpenConnection>();
  #line: AccessLogEntry = {
    startMs: 0,
    responseCode: 0,
    responseFlags: '',
    bytesReceived: 0,
    bytesSent: 0,
    durationMs: 0,
    reporter: 'source',
  };

  constructor(options: ObserverOptions) {
    this.registry = options.registry;
    this.edges = options.edges ?? new EdgeAggregator({ count: (name) => options.registry.count(name) });
    this.calls = options.calls ?? new CallAggregator({ count: (name) => options.registry.count(name) });
    this.plaintextCallers =
      options.plaintext ?? new PlaintextCallers({ count: (name) => options.registry.count(name) });
    this.#metrics = new IstioMetrics(options.registry);
    this.#log = options.log;
    this.#references = options.references ?? new ReferenceIndex();
  }

  /** The entry used last, which mostly is the one that is wanted. */
  #last: Entry | undefined;
  #lastReporter: Reporter = 'source';
  #lastSource: PeerInfo | undefined;
  #lastDestination: PeerInfo | undefined;
  #lastService: ServiceInfo | undefined;
  #lastMtls = false;

  #entry(
    reporter: Reporter,
    source: PeerInfo | undefined,
    destination: PeerInfo | undefined,
    service: ServiceInfo | undefined,
    mtls: boolean,
  ): Entry {
    if (
      this.#last !== undefined &&
      this.#lastSource === source &&
      this.#lastDestination === destination &&
      this.#lastService === service &&
      this.#lastMtls === mtls &&
      this.#lastReporter === reporter
    ) {
      return this.#last;
    }
    const entry = this.#find(reporter, source, destination, service, mtls);
    this.#last = entry;
    this.#lastReporter = reporter;
    this.#lastSource = source;
    this.#lastDestination = destination;
    this.#lastService = service;
    this.#lastMtls = mtls;
    return entry;
  }

  #find(
    reporter: Reporter,
    source: PeerInfo = nobody,
    destination: PeerInfo = nobody,
    service: ServiceInfo = noService,
    mtls = false,
  ): Entry {
    let bySource = this.#entries.get(source);
    if (!bySource) this.#entries.set(source, (bySource = new WeakMap()));
    let byDestination = bySource.get(destination);
    if (!byDestination) bySource.set(destination, (byDestination = new WeakMap()));
    let slots = byDestination.get(service);
    if (!slots) byDestination.set(service, (slots = [undefined, undefined, undefined, undefined]));
    const slot = (reporter === 'source' ? 0 : 2) + (mtls ? 1 : 0);
    let entry = slots[slot];
    if (entry) return entry;
    entry = {
      series: this.#metrics.peer({
        reporter,
        source: source === nobody ? unknownWorkload : source,
        destination: destination === nobody ? unknownWorkload : destination,
        service: service.host,
        serviceName: service.name,
        serviceNamespace: service.namespace,
        security: reporter === 'source' ? 'unknown' : mtls ? 'mutual_tls' : 'none',
      }),
      // An mTLS caller has a proxy, and that one reports the edge: the destination's view would count it twice.
      edge:
        reporter === 'destination' && mtls
          ? undefined
          : this.edges.edge({
              reporter,
              source: source.workload || 'unknown',
              sourceNamespace: source.namespace || 'unknown',
              destination: service.host || destination.workload || 'unknown',
              version: destination.version,
              mtls,
            }),
      sites: [],
    };
    slots[slot] = entry;
    return entry;
  }

  request(r: RequestRecord): void {
    const entry = this.#entry(r.reporter, r.source, r.destination, r.service, r.mtls);
    entry.series.request(r.protocol, r.status, r.grpcStatus, r.flags, r.durationMs, r.bytesIn, r.bytesOut);
    entry.edge?.record(r.status, r.grpcStatus, r.flags, r.durationMs, r.bytesIn + r.bytesOut);
    if (r.verdict) this.#call(entry, r, r.method, r.path);
    if (!this.#log) return;
    const e = this.#common(r);
    e.method = r.method;
    e.path = r.path;
    e.protocol = r.httpVersion;
    e.responseCode = r.status;
    e.upstreamServiceTimeMs = r.upstreamMs;
    e.authority = r.authority;
    e.userAgent = r.userAgent;
    e.forwardedFor = r.forwardedFor || undefined;
    e.requestId = r.requestId;
    e.grpcStatus = r.grpcStatus;
    e.traceparent = r.traceparent;
    e.parentSpan = r.parentSpanId;
    e.retries = Math.max(0, r.attempts - 1);
    e.requestedServerName = r.sni || undefined;
    this.#log(formatAccessLog(e));
  }

  tcpOpen(r: TcpRecord): void {
    const entry = this.#entry(r.reporter, r.source, r.destination, r.service, r.mtls);
    const tcp = entry.series.tcp();
    tcp.opened();
    if (entry.edge) entry.edge.inFlight += 1;
    const plain = r.reporter === 'destination' && !r.mtls && r.port > 0;
    const address = plain ? r.downstreamRemote.slice(0, r.downstreamRemote.lastIndexOf(':')) : '';
    const plaintextOver = plain ? this.plaintextCallers.open(keyOf(r.source, address, r.port, false, '')) : undefined;
    this.#open.set(r, { entry, tcp, bytesIn: 0, bytesOut: 0, plaintextOver });
  }

  tcpClose(r: TcpRecord): void {
    const open = this.#open.get(r);
    if (open) {
      this.#open.delete(r);
      open.plaintextOver?.();
      if (open.entry.edge) open.entry.edge.inFlight -= 1;
      addBytes(open, r);
    }
    const entry = this.#entry(r.reporter, r.source, r.destination, r.service, r.mtls);
    entry.series.tcp(r.flags).closed();
    entry.edge?.record(-1, -1, r.flags, r.durationMs, r.bytesIn + r.bytesOut);
    if (r.verdict) this.#call(entry, r, '', '');
    if (!this.#log) return;
    const e = this.#common(r);
    e.method = undefined;
    e.path = undefined;
    e.protocol = undefined;
    e.responseCode = 0;
    e.upstreamServiceTimeMs = -1;
    e.authority = undefined;
    e.userAgent = undefined;
    e.forwardedFor = undefined;
    e.requestId = undefined;
    e.grpcStatus = -1;
    e.traceparent = undefined;
    e.parentSpan = undefined;
    e.retries = 0;
    e.requestedServerName = r.sni;
    this.#log(formatAccessLog(e));
  }

  /** Adds a call to those of its caller on that port. */
  #call(entry: Entry, r: RequestRecord | TcpRecord, method: string, path: string): void {
    const verdict = r.verdict!;
    let site: CallSite | undefined;
    for (const s of entry.sites) if (s.key.port === r.port) site = s;
    if (!site) {
      const { principal = '', workload = '', namespace = '' } = r.source ?? {};
      site = this.calls.site({
        principal: principal.startsWith('spiffe://') ? principal.slice(9) : principal,
        source: workload || 'unknown',
        sourceNamespace: namespace || 'unknown',
        port: r.port,
      });
      entry.sites.push(site);
    }
    const o = this.#outcome;
    o.denied = !verdict.allow;
    o.policy = verdict.policy;
    o.ref = verdict.ref;
    o.shadowPolicy = verdict.shadow && !verdict.shadow.allow ? verdict.shadow.policy : '';
    o.shadowRef = verdict.shadow && !verdict.shadow.allow ? verdict.shadow.ref : '';
    o.audit = verdict.audit ? verdict.audit.join(',') : '';
    site.record(method, path, o);
  }

  /** The fields that both kinds have, in the one entry that is reused: every field is set again each time. */
  #common(r: RequestRecord | TcpRecord): AccessLogEntry {
    const e = this.#line;
    e.startMs = r.startWallMs;
    e.responseFlags = r.flags;
    e.responseCodeDetails = r.details;
    e.bytesReceived = r.bytesIn;
    e.bytesSent = r.bytesOut;
    e.durationMs = r.durationMs;
    e.upstreamHost = r.upstreamHost;
    e.upstreamCluster = r.cluster;
    e.downstreamRemoteAddress = r.downstreamRemote;
    e.routeName = r.routeRef;
    e.sourcePrincipal = r.source?.principal;
    e.policy = r.authzPolicy;
    e.policySource = this.#references.where(r.authzRef);
    e.routeSource = this.#references.where(r.routeRef);
    e.epoch = Number(r.epoch);
    e.decisions = this.#references.decisions(r.decisions);
    e.reporter = r.reporter;
    return e;
  }

  running(key: Readonly<EdgeKey>): Edge | undefined {
    // Whether the link has mTLS is not known before it is dialled; the identity that the peer has to prove says it.
    const peer = key.reporter === 'source' ? key.destination : key.source;
    const mtls = peer !== undefined && peer.principal !== '';
    return this.#entry(key.reporter, key.source, key.destination, key.service, mtls).edge;
  }

  plaintext(source: PeerInfo | undefined, remoteAddress: string, port: number, refused: boolean, ref: string): void {
    this.plaintextCallers.add(keyOf(source, remoteAddress, port, refused, ref));
  }

  count(name: string): void {
    this.registry.count(name);
  }

  /** Adds what open connections carried since the last time; the owner calls it every few seconds. */
  flush(): void {
    for (const [record, open] of this.#open) addBytes(open, record);
  }

  /** Opaque connections open now. */
  get openConnections(): number {
    return this.#open.size;
  }
}

function keyOf(source: PeerInfo | undefined, address: string, port: number, refused: boolean, ref: string) {
  return {
    source: source?.workload ?? '',
    sourceNamespace: source?.namespace ?? '',
    address: address.startsWith('[') ? address.slice(1, -1) : address,
    port,
    refused,
    ref,
  };
}

function addBytes(open: OpenConnection, r: TcpRecord): void {
  open.tcp.bytes(r.bytesOut - open.bytesOut, r.bytesIn - open.bytesIn);
  open.bytesIn = r.bytesIn;
  open.bytesOut = r.bytesOut;
}
