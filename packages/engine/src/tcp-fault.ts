/** Faults of opaque connections (weft.dev TCPFault): drawn once a connection, each independently, in the client's proxy. */
import type { Random } from '@weft/base';
import { drawPercent } from './draw.ts';
import type { ClusterView } from './views.ts';

export interface TcpFaultDecision {
  readonly ref: string;
  /** Wait before the destination is dialled. */
  readonly delayMs: number;
  /** `reset` breaks the connection; `blackhole` keeps it open and answers nothing. A reset goes before. */
  readonly end: 'reset' | 'blackhole' | undefined;
  /** At most so many bytes a second, each way; 0: as many as there are. */
  readonly bytesPerSecond: number;
}

/** What happens to one connection; undefined: nothing. */
export function drawTcpFault(cluster: ClusterView, random: Random): TcpFaultDecision | undefined {
  const fault = cluster.cluster.tcpFault;
  if (!fault) return undefined;
  const delayed = fault.delayPercent > 0 && drawPercent(random, fault.delayPercent);
  const reset = fault.resetPercent > 0 && drawPercent(random, fault.resetPercent);
  const blackhole = fault.blackholePercent > 0 && drawPercent(random, fault.blackholePercent);
  const slow = fault.bandwidthPercent > 0 && drawPercent(random, fault.bandwidthPercent);
  if (!delayed && !reset && !blackhole && !slow) return undefined;
  return {
    ref: fault.ref,
    delayMs: delayed ? fault.delayMs : 0,
    end: reset ? 'reset' : blackhole ? 'blackhole' : undefined,
    bytesPerSecond: slow ? fault.bandwidthBytesPerSecond : 0,
  };
}
