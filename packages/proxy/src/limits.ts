/** The bounds of the data path that an operator may change, from `limits` of the bootstrap. All are in LIMITS.md. */
import { WeftError } from '@weft/base';
import { defaultWireLimits, type WireLimits } from '@weft/wire';

export interface ProxyLimits {
  /** Downstream connections of all listeners together, mesh links included. */
  maxConnections: number;
  /** Requests in flight, both directions together. */
  maxRequests: number;
  headersTimeoutMs: number;
  /** An HTTP connection without a request. */
  idleTimeoutMs: number;
  /** A request or response of which nothing passes, either way. */
  streamIdleTimeoutMs: number;
  /** A finished message whose last bytes are not read. */
  flushTimeoutMs: number;
  tlsHandshakeTimeoutMs: number;
  /** How long a connection's first bytes are waited for before it is opaque TCP. */
  detectTimeoutMs: number;
  /** What one mirrored request may be behind the original before it is dropped. */
  mirrorBufferBytes: number;
  /** RST_STREAM frames of one mesh link, at once and then per second. */
  linkResetBurst: number;
  linkResetPerSecond: number;
}

export const defaultProxyLimits: Readonly<ProxyLimits> = Object.freeze({
  maxConnections: 10_000,
  maxRequests: 10_000,
  headersTimeoutMs: defaultWireLimits.headersTimeoutMs,
  idleTimeoutMs: defaultWireLimits.idleTimeoutMs,
  streamIdleTimeoutMs: 300_000,
  flushTimeoutMs: defaultWireLimits.flushTimeoutMs,
  tlsHandshakeTimeoutMs: 10_000,
  detectTimeoutMs: 10_000,
  mirrorBufferBytes: 1024 * 1024,
  // A client proxy cancels a stream for every timeout and every caller that went away, so that the rate for strangers
  // would cost it the link. It has proved who it is, and each reset is of a request it was allowed to make.
  linkResetBurst: 20_000,
  linkResetPerSecond: 5000,
});

const LARGEST = 2_147_483_647;

/** Defaults with what `given` changes. Throws WeftError `bootstrap.invalid` that names the field; `where` is the file. */
export function readLimits(given: unknown, where: string): ProxyLimits {
  const limits = { ...defaultProxyLimits };
  if (given === undefined || given === null) return limits;
  const invalid = (field: string, what: string): WeftError =>
    new WeftError('bootstrap.invalid', `${where}: ${field} ${what}`);
  if (typeof given !== 'object' || Array.isArray(given)) throw invalid('limits', 'must be an object');
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(defaultProxyLimits, name))
      throw invalid(`limits.${name}`, `is not known; known are ${Object.keys(defaultProxyLimits).join(', ')}`);
    if (!Number.isInteger(value) || value < 1 || value > LARGEST)
      throw invalid(`limits.${name}`, `must be a whole number from 1 to ${LARGEST}`);
    limits[name as keyof ProxyLimits] = value;
  }
  return limits;
}

/** What of them the codecs keep. */
export function wireLimits(limits: ProxyLimits): Partial<WireLimits> {
  const { headersTimeoutMs, idleTimeoutMs, flushTimeoutMs } = limits;
  return { headersTimeoutMs, idleTimeoutMs, flushTimeoutMs };
}
