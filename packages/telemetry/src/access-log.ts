/**
 * The access log: one JSON object a line, with the field names of Istio's default JSON format and ours after them.
 * Written by hand: JSON.stringify of an object takes several times as long, and every request pays for it.
 */

export interface AccessLogEntry {
  /** Milliseconds since 1970. */
  startMs: number;
  method?: string;
  path?: string;
  /** `HTTP/1.1`, `HTTP/2`; absent for TCP. */
  protocol?: string;
  /** 0 where no status was sent, or for TCP. */
  responseCode: number;
  /** Comma-separated, '' for none. */
  responseFlags: string;
  responseCodeDetails?: string;
  connectionTerminationDetails?: string;
  upstreamTransportFailureReason?: string;
  bytesReceived: number;
  bytesSent: number;
  durationMs: number;
  /** Until the upstream's response head, less what the proxy itself took; -1: none came. */
  upstreamServiceTimeMs?: number;
  upstreamHost?: string;
  upstreamCluster?: string;
  upstreamLocalAddress?: string;
  downstreamLocalAddress?: string;
  downstreamRemoteAddress?: string;
  authority?: string;
  userAgent?: string;
  requestId?: string;
  forwardedFor?: string;
  requestedServerName?: string;
  routeName?: string;
  grpcStatus?: number;
  /** SPIFFE id of the caller, proven by its certificate. */
  sourcePrincipal?: string;
  traceparent?: string;
  /** Span id of the caller; this hop's own is in `traceparent`. */
  parentSpan?: string;
  /** `namespace/name` of the authorization policy that decided. */
  policy?: string;
  /** `file:line` of that policy. */
  policySource?: string;
  /** `file:line` of the route. */
  routeSource?: string;
  /** The plan by which it was decided. */
  epoch?: number;
  /** Every rule that decided, as JSON: an object of `[rule, file:line]` by kind. Written as it is. */
  decisions?: string;
  reporter: 'source' | 'destination';
  /** How many times it was tried beyond the first. */
  retries?: number;
}

/** A value of an attacker's is cut here; the head's own limits are far wider. In UTF-16 units. */
export const accessLogFieldChars = 4096;

/** One line, with its line feed. Any string is safe in it: nothing can end the line or the value, or move a terminal. */
export function formatAccessLog(e: AccessLogEntry): string {
  let out = '{"start_time":"' + isoTime(e.startMs) + '"';
  out += ',"method":' + text(e.method) + ',"path":' + text(e.path) + ',"protocol":' + text(e.protocol);
  out += ',"response_code":' + integer(e.responseCode);
  out += ',"response_flags":' + (e.responseFlags === '' ? '"-"' : text(e.responseFlags));
  out += ',"response_code_details":' + text(e.responseCodeDetails);
  out += ',"connection_termination_details":' + text(e.connectionTerminationDetails);
  out += ',"upstream_transport_failure_reason":' + text(e.upstreamTransportFailureReason);
  out += ',"bytes_received":' + integer(e.bytesReceived) + ',"bytes_sent":' + integer(e.bytesSent);
  out += ',"duration":' + integer(e.durationMs);
  const serviceTime = e.upstreamServiceTimeMs;
  out += ',"upstream_service_time":' + (serviceTime === undefined || serviceTime < 0 ? 'null' : integer(serviceTime));
  out += ',"upstream_host":' + text(e.upstreamHost) + ',"upstream_cluster":' + text(e.upstreamCluster);
  out += ',"upstream_local_address":' + text(e.upstreamLocalAddress);
  out += ',"downstream_local_address":' + text(e.downstreamLocalAddress);
  out += ',"downstream_remote_address":' + text(e.downstreamRemoteAddress);
  out += ',"authority":' + text(e.authority) + ',"user_agent":' + text(e.userAgent);
  out += ',"request_id":' + text(e.requestId) + ',"x_forwarded_for":' + text(e.forwardedFor);
  out += ',"requested_server_name":' + text(e.requestedServerName) + ',"route_name":' + text(e.routeName);
  if (e.grpcStatus !== undefined && e.grpcStatus >= 0) out += ',"grpc_status":' + integer(e.grpcStatus);
  out += ',"source_principal":' + text(e.sourcePrincipal) + ',"traceparent":' + text(e.traceparent);
  out += ',"parent_span":' + text(e.parentSpan);
  out += ',"policy":' + text(e.policy) + ',"policy_source":' + text(e.policySource);
  out += ',"route_source":' + text(e.routeSource);
  out += ',"epoch":' + (e.epoch === undefined ? 'null' : integer(e.epoch));
  if (e.decisions) out += ',"decisions":' + e.decisions;
  if (e.retries) out += ',"retries":' + integer(e.retries);
  return out + ',"reporter":"' + (e.reporter === 'source' ? 'source' : 'destination') + '"}\n';
}

function integer(value: number): string {
  return Number.isFinite(value) ? String(Math.round(value)) : '0';
}

function text(value: string | undefined): string {
  if (value === undefined || value === '') return 'null';
  if (value.length > accessLogFieldChars) value = value.slice(0, accessLogFieldChars);
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i);
    // Quote, backslash, controls; from DEL on also the C1 controls that terminals obey, and lone surrogates.
    if (c < 32 || c === 34 || c === 92 || c >= 127) return escaped(value);
  }
  return '"' + value + '"';
}

function escaped(value: string): string {
  return JSON.stringify(value).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'),
  );
}

let cachedSecond = Number.NaN;
let cachedPrefix = '';

/** ISO 8601 in UTC with milliseconds. The part up to the second is kept from the line before. */
function isoTime(ms: number): string {
  const whole = Number.isFinite(ms) ? Math.floor(ms) : 0;
  const second = Math.floor(whole / 1000);
  if (second !== cachedSecond) {
    const date = new Date(second * 1000);
    cachedPrefix = Number.isNaN(date.getTime()) ? '1970-01-01T00:00:00.' : date.toISOString().slice(0, 20);
    cachedSecond = second;
  }
  const rest = whole - second * 1000;
  return cachedPrefix + (rest < 10 ? '00' : rest < 100 ? '0' : '') + rest + 'Z';
}
