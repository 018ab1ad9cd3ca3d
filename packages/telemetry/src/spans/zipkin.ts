import type { Span, SpanSource } from './span.ts';

interface Endpoint {
  serviceName?: string;
  ipv4?: string;
  ipv6?: string;
  port?: number;
}

/** The body of a POST to `/api/v2/spans` (https://zipkin.io/zipkin-api/), `application/json`. Times in microseconds. */
export function encodeZipkin(spans: readonly Span[], source: SpanSource): Uint8Array {
  const localEndpoint = endpoint(source.serviceName, source.address, undefined);
  return new TextEncoder().encode(JSON.stringify(spans.map((s) => zipkinSpan(s, source, localEndpoint))));
}

function zipkinSpan(s: Span, source: SpanSource, localEndpoint: Endpoint) {
  const tags: [string, string][] = [];
  for (let i = 0; i < source.tags.length; i += 2) tags.push([source.tags[i], source.tags[i + 1]]);
  for (let i = 0; i < s.tags.length; i += 2) tags.push([s.tags[i], s.tags[i + 1]]);
  if (s.error) tags.push(['error', 'true']);
  const colon = s.peerAddress.lastIndexOf(':');
  const port = Number(s.peerAddress.slice(colon + 1));
  return {
    traceId: s.traceparent.slice(3, 35),
    id: s.traceparent.slice(36, 52),
    parentId: s.parentSpanId || undefined,
    kind: s.server ? 'SERVER' : 'CLIENT',
    name: s.name,
    timestamp: Math.round(s.startWallMs * 1000),
    // Less than one is one (Zipkin: 0 stands for unknown).
    duration: Math.max(1, Math.round(s.durationMs * 1000)),
    localEndpoint,
    remoteEndpoint:
      s.peerName === '' && colon < 0
        ? undefined
        : endpoint(s.peerName, s.peerAddress.slice(0, Math.max(0, colon)), port),
    tags: Object.fromEntries(tags),
  };
}

function endpoint(serviceName: string, address: string, port: number | undefined): Endpoint {
  const e: Endpoint = {};
  if (serviceName !== '') e.serviceName = serviceName;
  const ip = address.startsWith('[') ? address.slice(1, -1) : address;
  if (ip.includes(':')) e.ipv6 = ip;
  else if (/^\d+\.\d+\.\d+\.\d+$/.test(ip)) e.ipv4 = ip;
  if (port) e.port = port;
  return e;
}
