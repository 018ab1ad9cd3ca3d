/**
 * What the data path tells those who observe it (metrics, access log, live edges). The data path calls these
 * synchronously at the end of an exchange; an observer must copy what it keeps (copyOf): a record is the exchange itself.
 */
import type { AuthorizationResult } from '@weft/engine';

/** One side of an edge. Strings are '' where unknown; a peer of which nothing is known is `undefined` in the record. */
export interface PeerInfo {
  workload: string;
  namespace: string;
  /** `spiffe://...` as the certificate says, '' without mTLS. */
  principal: string;
  version: string;
  app: string;
  canonicalService: string;
  canonicalRevision: string;
  cluster: string;
  instance: string;
}

/** The destination's service, as the client asked for it. */
export interface ServiceInfo {
  host: string;
  name: string;
  namespace: string;
  port: number;
}

export type Reporter = 'source' | 'destination';

/** Reference ids of the rules that decided, by what they decide; '' where nobody wrote a rule: the default holds. */
export interface Decisions {
  route: string;
  match: string;
  destination: string;
  /** Of a fault that was drawn. */
  fault: string;
  timeout: string;
  retry: string;
  /** The subset, or the service. */
  cluster: string;
  balancer: string;
  outlier: string;
  /** Whether the way to the destination is mTLS. */
  transport: string;
  /** Whether it had to come by mTLS. */
  authentication: string;
  authorization: string;
  limit: string;
}

export function noDecisions(): Decisions {
  return {
    route: '',
    match: '',
    destination: '',
    fault: '',
    timeout: '',
    retry: '',
    cluster: '',
    balancer: '',
    outlier: '',
    transport: '',
    authentication: '',
    authorization: '',
    limit: '',
  };
}

/** Names one edge for gauges: who asks, which service, which cluster (subset). */
export interface EdgeKey {
  reporter: Reporter;
  source: PeerInfo | undefined;
  destination: PeerInfo | undefined;
  service: ServiceInfo | undefined;
}

/** What is told of an exchange and of a connection alike: who, by which rules, where to, and its end. */
interface Passage extends EdgeKey {
  /** Reference id of the route (or redirect, fault) that decided; '' for none. */
  routeRef: string;
  /** Reference id of the authorization rule that decided at the destination; '' for none. */
  authzRef: string;
  /** Policy `ns/name` that decided, or 'none', at the destination; '' at the source. */
  authzPolicy: string;
  /** What policies said at the destination; undefined where they were not asked. */
  verdict: AuthorizationResult | undefined;
  /** The workload's own port at the destination; else 0. */
  port: number;
  /** `outbound|...`, `inbound|<port>||`, PassthroughCluster, ... */
  cluster: string;
  /** `ip:port` that the request was sent to, '' for none. */
  upstreamHost: string;
  /** `ip:port` of the downstream peer. */
  downstreamRemote: string;
  /** Envoy's response flags joined by ','; '' for none. */
  flags: string;
  /** Envoy's response code details, e.g. `via_upstream`. */
  details: string;
  durationMs: number;
  startWallMs: number;
  mtls: boolean;
  /** Of the plan that decided. */
  epoch: bigint;
  /** Valid until somebody's are asked for again. */
  readonly decisions: Decisions;
}

/** One HTTP exchange that is over. */
export interface RequestRecord extends Readonly<Passage> {
  readonly method: string;
  readonly path: string;
  readonly authority: string;
  /** 'grpc' where the request's content-type is application/grpc. */
  readonly protocol: 'http' | 'grpc';
  /** The protocol on the downstream side, for the access log: 'HTTP/1.1' or 'HTTP/2'. */
  readonly httpVersion: string;
  /** Status sent downstream; 0 where the client went away before one. */
  readonly status: number;
  /** From trailers or a trailers-only head; -1: none. */
  readonly grpcStatus: number;
  /** Milliseconds from the request's start to the upstream's response head; -1 without one. */
  readonly upstreamMs: number;
  /** Request body bytes. */
  readonly bytesIn: number;
  /** Response body bytes. */
  readonly bytesOut: number;
  readonly requestId: string;
  /** The traceparent of this hop's span ('' if tracing is off). */
  readonly traceparent: string;
  /** Span id of the caller from the incoming traceparent, '' if this span starts the trace. */
  readonly parentSpanId: string;
  readonly userAgent: string;
  readonly forwardedFor: string;
  /** Server name of the TLS connection that the request came by, '' where there was none. */
  readonly sni: string;
  /** Times that the request was sent upstream; 0: never. */
  readonly attempts: number;
}

/** A record for who keeps it. */
export function copyOf(r: RequestRecord): RequestRecord {
  const { reporter, method, path, authority, protocol, httpVersion, requestId, userAgent, forwardedFor } = r;
  const { status, grpcStatus, flags, details, durationMs, upstreamMs, startWallMs, bytesIn, bytesOut } = r;
  const { source, destination, service, cluster, upstreamHost, downstreamRemote, sni, mtls, attempts, port } = r;
  const { routeRef, authzRef, authzPolicy, verdict, epoch, traceparent, parentSpanId } = r;
  return {
    ...{ reporter, method, path, authority, protocol, httpVersion, requestId, userAgent, forwardedFor },
    ...{ status, grpcStatus, flags, details, durationMs, upstreamMs, startWallMs, bytesIn, bytesOut },
    ...{ source, destination, service, cluster, upstreamHost, downstreamRemote, sni, mtls, attempts, port },
    ...{ routeRef, authzRef, authzPolicy, verdict, epoch, traceparent, parentSpanId },
    decisions: { ...r.decisions },
  };
}

/** One opaque connection. The same object is passed to open and close, so an observer may key by its identity. */
export interface TcpRecord extends Passage {
  /** SNI where the first bytes were a ClientHello. */
  sni: string;
  /** Bytes from the client, and to it. */
  bytesIn: number;
  bytesOut: number;
}

/** Raised by one where a request begins, lowered where it ends. */
export interface Running {
  inFlight: number;
}

export interface Observer {
  request(record: RequestRecord): void;
  tcpOpen(record: TcpRecord): void;
  tcpClose(record: TcpRecord): void;
  /** Where a request of this edge is to be counted while it runs; undefined: nowhere. */
  running(edge: Readonly<EdgeKey>): Running | undefined;
  /** A request without mTLS, or such a connection that was refused. `ref`: the rule that refused it. */
  plaintext(source: PeerInfo | undefined, remoteAddress: string, port: number, refused: boolean, ref: string): void;
  /** A counter named in LIMITS.md or by a refusal, e.g. `inbound_plaintext_refused`. */
  count(name: string): void;
}

/** Observes nothing. */
export const silentObserver: Observer = {
  request() {},
  tcpOpen() {},
  tcpClose() {},
  running() {
    return undefined;
  },
  plaintext() {},
  count() {},
};

export function unknownPeer(): PeerInfo {
  return {
    workload: '',
    namespace: '',
    principal: '',
    version: '',
    app: '',
    canonicalService: '',
    canonicalRevision: '',
    cluster: '',
    instance: '',
  };
}
