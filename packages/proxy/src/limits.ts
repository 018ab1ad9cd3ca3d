/** The bounds of the data path that an operator may change, from `limits` of the bootstrap. All are in LIMITS.md. */
import { WeftError } from '@weft/base';
import { defaultWireLimits, type WireLimits } from '@weft/wire';
import { defaultTokenLimits, type TokenLimits } from './http/tokens.ts';

/** All names of the codecs' limits (`WireLimits`) are names here too. */
export interface ProxyLimits extends WireLimits, TokenLimits {
  /** Downstream connections of all listeners together, mesh links included. */
  maxConnections: number;
  /** Of one port of a gateway. */
  maxConnectionsPerListener: number;
  /** Requests in flight, both directions together. */
  maxRequests: number;
  /** A request or response of which nothing passes, either way. */
  streamIdleTimeoutMs: number;
  /** From a request's head to its last byte; 0: no bound (an edge sets one). */
  requestTimeoutMs: number;
  /** An opaque connection on which nothing passes. */
  tcpIdleTimeoutMs: number;
  tlsHandshakeTimeoutMs: number;
  /** How long a connection's first bytes are waited for before it is opaque TCP. */
  detectTimeoutMs: number;
  /** Ports of which is remembered what was found on them. */
  detectOutcomes: number;
  /** Services whose endpoints are asked for by name since they are used, and how long after their last use. */
  namedServices: number;
  namedServiceIdleMs: number;
  /** What one mirrored request may be behind the original before it is dropped. */
  mirrorBufferBytes: number;
  /** Health checks that run at once. */
  maxHealthChecks: number;
  /** Body of an external authorizer's answer. */
  authorizerAnswerBytes: number;
  /** Spans that wait for their collector. */
  queuedSpans: number;
  /** Body of a collector's answer. */
  collectorAnswerBytes: number;
  /** RST_STREAM frames of one mesh link, at once and then per second. */
  linkResetBurst: number;
  linkResetPerSecond: number;
  /** A link with streams is asked whether it lives this often, and is given up without an answer after that long. */
  linkPingEveryMs: number;
  linkPingTimeoutMs: number;
  /** How often a client's HTTP/2 connection is asked whether it is still there; 0: never. */
  clientPingEveryMs: number;
  clientPingTimeoutMs: number;
  /** Of silence, before the control plane is asked whether it is there, and given up without an answer after that long. */
  controlPingEveryMs: number;
  controlPingTimeoutMs: number;
  /** Traces of a second that are recorded because a visitor of a gateway says so; past it the gateway's own sampling decides. */
  visitorTracesPerSecond: number;
  /** JSON lines of decisions (denials, AUDIT, dry run) in a second; what is past it is only counted. */
  decisionLinesPerSecond: number;
  /** Connections of the application to the SPIFFE Workload API. */
  workloadApiConnections: number;
  /** What this process may use; 0: what its cgroups allow. */
  memoryBytes: number;
  /** Of the memory or of V8's heap: new requests are refused; connections too, and what holds most is reset. */
  overloadPercent: number;
  overloadCriticalPercent: number;
}

export const defaultProxyLimits: Readonly<ProxyLimits> = Object.freeze({
  ...defaultWireLimits,
  ...defaultTokenLimits,
  maxConnections: 10_000,
  maxConnectionsPerListener: 10_000,
  maxRequests: 10_000,
  streamIdleTimeoutMs: 300_000,
  requestTimeoutMs: 0,
  tcpIdleTimeoutMs: 3_600_000,
  tlsHandshakeTimeoutMs: 10_000,
  detectTimeoutMs: 10_000,
  detectOutcomes: 1000,
  namedServices: 256,
  namedServiceIdleMs: 300_000,
  mirrorBufferBytes: 1024 * 1024,
  maxHealthChecks: 256,
  authorizerAnswerBytes: 256 * 1024,
  queuedSpans: 4096,
  collectorAnswerBytes: 64 * 1024,
  // A client proxy cancels a stream for every timeout and every caller that went away, so that the rate for strangers
  // would cost it the link. It has proved who it is, and each reset is of a request it was allowed to make.
  linkResetBurst: 20_000,
  linkResetPerSecond: 5000,
  linkPingEveryMs: 10_000,
  linkPingTimeoutMs: 20_000,
  clientPingEveryMs: 0,
  clientPingTimeoutMs: 10_000,
  controlPingEveryMs: 5000,
  controlPingTimeoutMs: 10_000,
  visitorTracesPerSecond: 100,
  decisionLinesPerSecond: 100,
  workloadApiConnections: 100,
  memoryBytes: 0,
  overloadPercent: 90,
  overloadCriticalPercent: 95,
});

/** What a gateway takes from strangers. */
export const edgeProxyLimits: Readonly<ProxyLimits> = Object.freeze({
  ...defaultProxyLimits,
  maxConnections: 50_000,
  requestTimeoutMs: 300_000,
  clientPingEveryMs: 30_000,
  flushTimeoutMs: 30_000,
  headerFieldBytes: 8 * 1024,
  maxConcurrentStreams: 100,
  connectionWindowBytes: 1024 * 1024,
  // One stream alone leaves room for others in the connection's window.
  maxWindowBytes: 512 * 1024,
  bufferBytes: 32 * 1024,
  namedServices: 1024,
});

/** What the proxy is for: a workload's sidecar, or a gateway between the mesh and strangers. */
export type ProxyMode = 'sidecar' | 'gateway';

export function defaultLimitsOf(mode: ProxyMode): Readonly<ProxyLimits> {
  return mode === 'gateway' ? edgeProxyLimits : defaultProxyLimits;
}

const LARGEST = 2_147_483_647;

/** Defaults of the mode with what `given` changes. Throws WeftError `bootstrap.invalid` that names the field; `where` is the file. */
export function readLimits(given: unknown, where: string, mode: ProxyMode = 'sidecar'): ProxyLimits {
  const limits = { ...defaultLimitsOf(mode) };
  if (given === undefined || given === null) return limits;
  const invalid = (field: string, what: string): WeftError =>
    new WeftError('bootstrap.invalid', `${where}: ${field} ${what}`);
  if (typeof given !== 'object' || Array.isArray(given)) throw invalid('limits', 'must be an object');
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(defaultProxyLimits, name))
      throw invalid(`limits.${name}`, `is not known; known are ${Object.keys(defaultProxyLimits).join(', ')}`);
    const key = name as keyof ProxyLimits;
    const least = defaultProxyLimits[key] === 0 ? 0 : 1;
    const most = name.endsWith('Percent') ? 100 : name.endsWith('Bytes') ? Number.MAX_SAFE_INTEGER : LARGEST;
    if (!Number.isSafeInteger(value) || value < least || value > most)
      throw invalid(`limits.${name}`, `must be a whole number from ${least} to ${most}`);
    limits[key] = value;
  }
  if (limits.overloadCriticalPercent < limits.overloadPercent)
    throw invalid('limits.overloadCriticalPercent', `must not be below limits.overloadPercent`);
  return limits;
}

/** What of them the codecs keep. */
export function wireLimits(limits: ProxyLimits): WireLimits {
  const wire = { ...defaultWireLimits };
  for (const name of Object.keys(wire) as (keyof WireLimits)[]) wire[name] = limits[name];
  return wire;
}
