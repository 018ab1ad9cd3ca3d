/** What two Weft proxies agree on beside RFC 9113. */

/** SETTINGS id by which a Weft proxy announces itself; value 1. In the range that RFC 9113 leaves to experiments. */
export const WEFT_SETTING = 0xf0f0;
export const WEFT_SETTINGS: ReadonlyMap<number, number> = new Map([[WEFT_SETTING, 1]]);

/** The destination workload's port of a request stream. */
export const PORT_HEADER = 'x-weft-port';
/** Who the caller is beyond its identity: see `encodeSource`. */
export const SOURCE_HEADER = 'x-weft-source';

/** Ports of the proxy itself, which no peer may name. */
export function isProxyPort(port: number): boolean {
  return port >= 15_000 && port <= 15_099;
}
