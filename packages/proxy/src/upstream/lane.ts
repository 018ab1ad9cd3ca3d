/**
 * How an exchange gets a place to send its request: it asks a pool, and hears once, now or later, of a lane or of why
 * there is none. A lane is one HTTP connection (a mesh link, an application's keep-alive connection) with room.
 */
import type { Head, Stream, StreamHandler } from '@weft/wire';

export interface Lane {
  request(head: Head, end: boolean, handler: StreamHandler): Stream;
  /** Has carried a request before: a reset without an answer may be a keep-alive race. */
  readonly reused: boolean;
  /** The peer is a Weft proxy: its mesh headers are honoured, and it understands ours. */
  readonly weft: boolean;
}

export type UnavailableReason = 'connect' | 'timeout' | 'overflow' | 'closed';

export interface Asker {
  /** The asker gave up; pools skip it. */
  readonly abandoned: boolean;
  /** Set by a pool on which the peer may turn out to take no requests of ours: the asker is handed on to this. */
  inside?: InsideTunnels | undefined;
  onLane(lane: Lane): void;
  onUnavailable(reason: UnavailableReason, detail: string): void;
}

export interface LanePool {
  ask(asker: Asker): void;
  readonly open: number;
}

/** Lanes to a port of a peer that only knows HBONE: HTTP connections inside CONNECT tunnels. */
export interface InsideTunnels {
  askInside(asker: Asker): void;
}
