import { istioBuckets } from './histogram.ts';
import { type Family, type Registry, renderLabels } from './registry.ts';

/**
 * Istio's standard metrics with their exact names and labels, so that existing dashboards work
 * (https://istio.io/latest/docs/reference/config/metrics/).
 *
 * The label sets are found in two steps. A `PeerSeries` stands for everything that is the same for all requests between
 * two workloads to one service; the caller keeps it. What changes per request (protocol, code, gRPC status, flags)
 * is looked up in it by one number and one string, and mostly is the one that was used last.
 */

export interface WorkloadLabels {
  workload: string;
  namespace: string;
  /** SPIFFE id, with the scheme. */
  principal: string;
  app: string;
  version: string;
  cluster: string;
  canonicalService: string;
  canonicalRevision: string;
}

export const unknownWorkload: Readonly<WorkloadLabels> = Object.freeze({
  workload: '',
  namespace: '',
  principal: '',
  app: '',
  version: '',
  cluster: '',
  canonicalService: '',
  canonicalRevision: '',
});

export interface PeerLabels {
  reporter: 'source' | 'destination' | 'waypoint';
  source: WorkloadLabels;
  destination: WorkloadLabels;
  /** Host of the service, e.g. payment.shop.svc.cluster.local. */
  service: string;
  serviceName: string;
  serviceNamespace: string;
  /** `mutual_tls`, `none`; `unknown` where the source reports, as Istio does. */
  security: 'mutual_tls' | 'none' | 'unknown';
}

export type RequestProtocol = 'http' | 'grpc';

const workloadNames = (side: string): string[] => [
  `${side}_workload`,
  `${side}_workload_namespace`,
  `${side}_principal`,
  `${side}_app`,
  `${side}_version`,
  `${side}_cluster`,
  `${side}_canonical_service`,
  `${side}_canonical_revision`,
];

const peerNames = [
  'reporter',
  ...workloadNames('source'),
  ...workloadNames('destination'),
  'destination_service',
  'destination_service_name',
  'destination_service_namespace',
  'connection_security_policy',
];
const requestNames = [...peerNames, 'request_protocol', 'response_code', 'grpc_response_status', 'response_flags'];
const tcpNames = [...peerNames, 'request_protocol', 'response_flags'];

const histogramSlots = istioBuckets.length + 2;

type Trie = Map<string, Trie | PeerSeries>;

export class IstioMetrics {
  readonly registry: Registry;
  readonly families: {
    requests: Family;
    duration: Family;
    requestBytes: Family;
    responseBytes: Family;
    opened: Family;
    closed: Family;
    sent: Family;
    received: Family;
  };
  #peers: Trie = new Map();
  #peerCount = 0;
  #others = new Map<string, PeerSeries>();

  constructor(registry: Registry) {
    this.registry = registry;
    const histogram = (name: string, help: string) => registry.family(name, 'histogram', help, istioBuckets);
    const counter = (name: string, help: string) => registry.family(name, 'counter', help);
    this.families = {
      requests: counter('istio_requests_total', 'Requests handled.'),
      duration: histogram('istio_request_duration_milliseconds', 'Duration of requests in milliseconds.'),
      requestBytes: histogram('istio_request_bytes', 'Size of HTTP request bodies in bytes.'),
      responseBytes: histogram('istio_response_bytes', 'Size of HTTP response bodies in bytes.'),
      opened: counter('istio_tcp_connections_opened_total', 'TCP connections opened.'),
      closed: counter('istio_tcp_connections_closed_total', 'TCP connections closed.'),
      sent: counter('istio_tcp_sent_bytes_total', 'Bytes sent to the client on TCP connections.'),
      received: counter('istio_tcp_received_bytes_total', 'Bytes received from the client on TCP connections.'),
    };
  }

  /** Finds or makes the series of a pair; call it once per peer and keep the answer. Empty values become "unknown". */
  peer(labels: PeerLabels): PeerSeries {
    const values = peerValues(labels);
    let level = this.#peers;
    for (let i = 0; i < values.length - 1; i++) {
      let next = level.get(values[i]) as Trie | undefined;
      if (!next) {
        // Refused before it grows: names from the network (a host that nobody knows) must not fill the memory.
        if (this.#peerCount >= this.registry.maxLabelSets) return this.#other(labels.reporter);
        next = new Map();
        level.set(values[i], next);
      }
      level = next;
    }
    const last = values[values.length - 1];
    let found = level.get(last) as PeerSeries | undefined;
    if (!found) {
      if (this.#peerCount >= this.registry.maxLabelSets) return this.#other(labels.reporter);
      this.#peerCount++;
      found = new PeerSeries(this, values);
      level.set(last, found);
    }
    return found;
  }

  #other(reporter: string): PeerSeries {
    this.registry.admitLabelSet();
    return this.otherPeer(reporter);
  }

  /** Where label sets go once the registry is full: every label but the reporter says "other". */
  otherPeer(reporter: string): PeerSeries {
    let other = this.#others.get(reporter);
    if (!other) {
      other = new PeerSeries(this, [reporter, ...peerNames.slice(1).map(() => 'other')], true);
      this.#others.set(reporter, other);
    }
    return other;
  }
}

function peerValues(labels: PeerLabels): string[] {
  const s = labels.source;
  const d = labels.destination;
  const values = [
    labels.reporter,
    ...[s.workload, s.namespace, s.principal, s.app, s.version, s.cluster, s.canonicalService, s.canonicalRevision],
    ...[d.workload, d.namespace, d.principal, d.app, d.version, d.cluster, d.canonicalService, d.canonicalRevision],
    ...[labels.service, labels.serviceName, labels.serviceNamespace, labels.security],
  ];
  for (let i = 0; i < values.length; i++) if (!values[i]) values[i] = 'unknown';
  return values;
}

/** gRPC statuses are 0 to 16 (grpc/grpc, doc/statuscodes.md); anything else a server says is counted as 2, UNKNOWN. */
function grpcLabel(status: number): number {
  return status >= 0 && status <= 16 ? status | 0 : 2;
}

/** All series between two workloads for one service. Made by `IstioMetrics.peer`. */
export class PeerSeries {
  readonly #owner: IstioMetrics;
  readonly #values: string[];
  readonly #overflow: boolean;
  #requests = new Map<string, Map<number, number>>();
  #tcp = new Map<string, TcpSeries>();
  #lastKey = -1;
  #lastFlags = '';
  #lastSlot = -1;

  constructor(owner: IstioMetrics, values: string[], overflow = false) {
    this.#owner = owner;
    this.#values = values;
    this.#overflow = overflow;
  }

  /**
   * Counts one finished request. `grpcStatus` -1: not gRPC, or none came. `code` 0: the client went away before a
   * status. `flags` as on the access log ('' for none); sizes are of bodies.
   */
  request(
    protocol: RequestProtocol,
    code: number,
    grpcStatus: number,
    flags: string,
    durationMs: number,
    requestBytes: number,
    responseBytes: number,
  ): void {
    const status = grpcStatus < 0 ? 31 : grpcLabel(grpcStatus);
    const key = (code * 32 + status) * 2 + (protocol === 'grpc' ? 1 : 0);
    let slot = this.#lastSlot;
    if (key !== this.#lastKey || flags !== this.#lastFlags || slot < 0) {
      slot = this.#find(key, protocol, code, status, flags);
      this.#lastKey = key;
      this.#lastFlags = flags;
      this.#lastSlot = slot;
    }
    const registry = this.#owner.registry;
    registry.values[slot] += 1;
    registry.observe(slot + 1, istioBuckets, durationMs);
    registry.observe(slot + 1 + histogramSlots, istioBuckets, requestBytes);
    registry.observe(slot + 1 + 2 * histogramSlots, istioBuckets, responseBytes);
  }

  #find(key: number, protocol: RequestProtocol, code: number, status: number, flags: string): number {
    let byKey = this.#requests.get(flags);
    const known = byKey?.get(key);
    if (known !== undefined) return known;
    const { registry, families } = this.#owner;
    // The overflow peer keeps its protocols apart and nothing else, so that it is bounded by construction.
    if (this.#overflow) {
      if (code !== 0 || status !== 31 || flags !== 'other') {
        return this.#find(protocol === 'grpc' ? 63 : 62, protocol, 0, 31, 'other');
      }
    } else if (!registry.admitLabelSet()) {
      return this.#owner.otherPeer(this.#values[0]).#find(key, protocol, code, status, flags);
    }
    const labels = renderLabels(requestNames, [
      ...this.#values,
      protocol,
      this.#overflow ? 'other' : String(code),
      status === 31 ? undefined : String(status),
      flags === '' ? '-' : flags,
    ]);
    const slot = registry.allocate(1 + 3 * histogramSlots);
    registry.addSeries(families.requests, labels, slot);
    registry.addSeries(families.duration, labels, slot + 1);
    registry.addSeries(families.requestBytes, labels, slot + 1 + histogramSlots);
    registry.addSeries(families.responseBytes, labels, slot + 1 + 2 * histogramSlots);
    if (!byKey) this.#requests.set(flags, (byKey = new Map()));
    byKey.set(key, slot);
    return slot;
  }

  /** Finds the TCP series for response flags ('' for none). */
  tcp(flags = ''): TcpSeries {
    if (this.#overflow) flags = 'other';
    const known = this.#tcp.get(flags);
    if (known) return known;
    const { registry, families } = this.#owner;
    if (!this.#overflow && !registry.admitLabelSet()) return this.#owner.otherPeer(this.#values[0]).tcp();
    const labels = renderLabels(tcpNames, [...this.#values, 'tcp', flags === '' ? '-' : flags]);
    const slot = registry.allocate(4);
    registry.addSeries(families.opened, labels, slot);
    registry.addSeries(families.closed, labels, slot + 1);
    registry.addSeries(families.sent, labels, slot + 2);
    registry.addSeries(families.received, labels, slot + 3);
    const series = new TcpSeries(registry, slot);
    this.#tcp.set(flags, series);
    return series;
  }
}

/** The four TCP counters of a pair. Bytes may be added while the connection is open. */
export class TcpSeries {
  readonly #registry: Registry;
  readonly #slot: number;

  constructor(registry: Registry, slot: number) {
    this.#registry = registry;
    this.#slot = slot;
  }

  opened(): void {
    this.#registry.values[this.#slot] += 1;
  }

  closed(): void {
    this.#registry.values[this.#slot + 1] += 1;
  }

  /** `sent`: bytes to the client; `received`: bytes from it. */
  bytes(sent: number, received: number): void {
    this.#registry.values[this.#slot + 2] += sent;
    this.#registry.values[this.#slot + 3] += received;
  }
}
