/** One span from the record of a request, with the attributes that Istio's users know, and which rules decided. */
import type { Span } from '@weft/telemetry';
import type { ReferenceIndex } from './references.ts';
import type { PeerInfo, RequestRecord, ServiceInfo } from './types.ts';

/** Of a value that a stranger writes, in UTF-16 units. */
const MAX_TAG_LENGTH = 256;

/** gRPC's statuses that are an error of the called one, or of the way to it. */
const GRPC_ERRORS = new Set([2, 4, 12, 13, 14, 15]);

/** `pathLength`: of the path in `http.url`. The record is not kept. */
export function spanOf(r: RequestRecord, pathLength: number, references: ReferenceIndex): Span {
  const server = r.reporter === 'destination';
  const peer = server ? r.source : r.destination;
  const peerAddress = server ? r.downstreamRemote : r.upstreamHost;
  const downstream = r.downstreamRemote;
  const authority = cut(r.authority, MAX_TAG_LENGTH);
  // A visitor of a gateway who came by TLS.
  const scheme = !server && r.sni !== '' ? 'https' : 'http';
  const tags = [
    ...['guid:x-request-id', cut(r.requestId, MAX_TAG_LENGTH), 'http.method', cut(r.method, MAX_TAG_LENGTH)],
    ...['http.url', `${scheme}://${authority}${cut(r.path, pathLength)}`, 'http.protocol', r.httpVersion],
    ...['http.status_code', String(r.status), 'request_size', String(r.bytesIn), 'response_size', String(r.bytesOut)],
    ...['response_flags', r.flags || '-', 'user_agent', cut(r.userAgent, MAX_TAG_LENGTH) || '-'],
    ...['peer.address', downstream.slice(0, Math.max(0, downstream.lastIndexOf(':')))],
    ...['upstream_cluster', r.cluster, 'upstream_cluster.name', r.cluster],
  ];
  if (r.grpcStatus >= 0) tags.push('grpc.status_code', String(r.grpcStatus));
  if (r.attempts > 1) tags.push('retries', String(r.attempts - 1));
  tags.push('weft.decision.epoch', String(r.epoch));
  references.addTags(r.decisions, tags);
  return {
    ...{ traceparent: r.traceparent, parentSpanId: r.parentSpanId, server, tags, peerAddress },
    name: `${r.service ? `${r.service.host}:${r.service.port}` : authority}/*`,
    ...{ startWallMs: r.startWallMs, durationMs: r.durationMs },
    // A client that went away before an answer has none.
    error: r.status === 0 || r.status >= 500 || GRPC_ERRORS.has(r.grpcStatus),
    peerName: peerNameOf(peer, server ? undefined : r.service),
  };
}

/** `payment.shop`, as the other's own spans say it. */
export function serviceNameOf(w: Pick<PeerInfo, 'app' | 'canonicalService' | 'workload' | 'namespace'>): string {
  const name = w.app || w.canonicalService || w.workload;
  return name === '' ? '' : `${name}.${w.namespace}`;
}

function peerNameOf(peer: PeerInfo | undefined, service: ServiceInfo | undefined): string {
  const name = peer ? serviceNameOf(peer) : '';
  if (name !== '' || !service) return name;
  return service.namespace === '' ? service.name : `${service.name}.${service.namespace}`;
}

/** A copy, where it is cut: a part would hold the whole in memory. */
function cut(value: string, length: number): string {
  return value.length <= length ? value : Buffer.from(value.slice(0, length), 'utf8').toString('utf8');
}
