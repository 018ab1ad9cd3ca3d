/** Which traffic of a workload its proxy takes. What it does not take is plain: no policy, no metrics. */
import { inBlock, parseIp, parseIpBlock } from '@weft/base';

/** Both ends belong to it. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** `undefined` in an `include` list: everything. Ranges are addresses or CIDR blocks. */
export interface CaptureScope {
  readonly includeOutboundRanges: readonly string[] | undefined;
  readonly excludeOutboundRanges: readonly string[];
  /** Taken whatever the ranges say. */
  readonly includeOutboundPorts: readonly PortRange[];
  readonly excludeOutboundPorts: readonly PortRange[];
  readonly includeInboundPorts: readonly PortRange[] | undefined;
  readonly excludeInboundPorts: readonly PortRange[];
  readonly excludeInterfaces: readonly string[];
}

export const captureAll: CaptureScope = Object.freeze({
  includeOutboundRanges: undefined,
  excludeOutboundRanges: [],
  includeOutboundPorts: [],
  excludeOutboundPorts: [],
  includeInboundPorts: undefined,
  excludeInboundPorts: [],
  excludeInterfaces: [],
});

export function hasPort(ranges: readonly PortRange[], port: number): boolean {
  return ranges.some((r) => port >= r.first && port <= r.last);
}

function hasAddress(blocks: readonly string[], address: string): boolean {
  const ip = parseIp(address);
  return (
    ip !== undefined &&
    blocks.some((text) => {
      const block = parseIpBlock(text);
      return block !== undefined && inBlock(ip, block);
    })
  );
}

/** Whether a connection to an address and port is taken; the order is that of the rules that the kernel gets. */
export function capturesOutbound(scope: CaptureScope, address: string, port: number): boolean {
  if (hasPort(scope.excludeOutboundPorts, port)) return false;
  if (hasAddress(scope.excludeOutboundRanges, address)) return false;
  if (hasPort(scope.includeOutboundPorts, port)) return true;
  return scope.includeOutboundRanges === undefined || hasAddress(scope.includeOutboundRanges, address);
}
