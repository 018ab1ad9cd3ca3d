/** One try of an exchange at one upstream: from asking for a lane to the end of the response. */
import type { EndpointView } from '@weft/engine';
import type { Head, ResetCode, Stream, StreamHandler } from '@weft/wire';
import type { Deadline } from '../net/timers.ts';
import { turnMs } from '../net/turn.ts';
import type { Asker, InsideTunnels, Lane, UnavailableReason } from '../upstream/lane.ts';
import type { Exchange } from './exchange.ts';

export class Attempt implements StreamHandler, Asker {
  /** Not wanted any more: events of it are ignored. */
  abandoned = false;
  inside: InsideTunnels | undefined;
  stream: Stream | undefined;
  lane: Lane | undefined;
  endpoint: EndpointView | undefined;
  host = '';
  deadline: Deadline | undefined;
  /** Until it has a lane, where that may not take long. */
  wait: Deadline | undefined;
  headSeen = false;
  /** When it was given an endpoint, and when the response's head came; 0: not yet. */
  startedMs = 0;
  headMs = 0;
  #exchange: Exchange;

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }
  onLane(lane: Lane): void {
    if (!this.abandoned) this.#exchange.laneReady(this, lane);
  }
  onUnavailable(reason: UnavailableReason, detail: string): void {
    if (!this.abandoned) this.#exchange.unavailable(this, reason, detail);
  }
  onHead(_s: Stream, head: Head, end: boolean): void {
    if (this.abandoned) return;
    this.headMs = turnMs();
    this.#exchange.responseHead(this, head, end);
  }
  onInterim(_s: Stream, head: Head): void {
    if (!this.abandoned) this.#exchange.interim(head);
  }
  onData(_s: Stream, chunk: Uint8Array, end: boolean): void {
    if (!this.abandoned) this.#exchange.responseData(this, chunk, end);
  }
  onTrailers(_s: Stream, fields: Head): void {
    if (!this.abandoned) this.#exchange.responseTrailers(this, fields);
  }
  onReset(_s: Stream, code: ResetCode, detail: string): void {
    if (!this.abandoned) this.#exchange.upstreamReset(this, code, detail);
  }
  onDrain(): void {
    if (!this.abandoned) this.#exchange.upstreamDrained();
  }
}
