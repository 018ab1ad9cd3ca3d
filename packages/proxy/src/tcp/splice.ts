/** Joins two pipes: bytes both ways, back-pressure each way, half-close kept, failure of one is failure of both. */
import type { Pipe, PipeSink } from '../net/pipe.ts';
import type { Ticker, Ticking } from '../net/timers.ts';

/** The detail of an end for want of bytes. */
export const IDLE_DETAIL = 'idle timeout';
/** And of one that its rule allows no longer. */
export const DURATION_DETAIL = 'max_connection_duration';

export interface SpliceEnd {
  /** Bytes from a to b, and from b to a. */
  fromA: number;
  fromB: number;
  detail: string;
  /** Which side broke; 'none' after a clean end of both. */
  broken: 'a' | 'b' | 'idle' | 'none';
}

class Side implements PipeSink {
  other!: Side;
  readonly pipe: Pipe;
  readonly #splice: Splice;
  /** Bytes that came from this pipe. */
  count = 0;
  done = false;

  constructor(pipe: Pipe, splice: Splice) {
    this.pipe = pipe;
    this.#splice = splice;
  }
  bytes(chunk: Uint8Array): void {
    this.count += chunk.length;
    this.#splice.active = true;
    if (!this.other.pipe.write(chunk)) this.pipe.pauseReading();
  }
  ended(): void {
    if (this.done) return;
    this.done = true;
    this.other.pipe.end();
  }
  drained(): void {
    this.other.pipe.resumeReading();
  }
  gone(detail: string): void {
    this.#splice.lost(this, detail);
  }
}

export class Splice implements Ticking {
  readonly a: Side;
  readonly b: Side;
  active = true;
  #idleMs = 0;
  #lastMs = 0;
  #limitMs: number;
  #maxMs: number;
  #ageMs = 0;
  #ticker: Ticker;
  #over = false;
  #onEnd: (end: SpliceEnd) => void;

  /** `maxMs`: it ends at this age; 0: at none. Takes over the sinks of both pipes. Bytes held before must be given with `feed` by the caller. */
  constructor(a: Pipe, b: Pipe, ticker: Ticker, onEnd: (end: SpliceEnd) => void, idleMs: number, maxMs = 0) {
    this.a = new Side(a, this);
    this.b = new Side(b, this);
    this.a.other = this.b;
    this.b.other = this.a;
    this.#ticker = ticker;
    this.#onEnd = onEnd;
    this.#limitMs = idleMs;
    this.#maxMs = maxMs;
    ticker.add(this);
  }

  /** Bytes that wait here for the slower side. */
  get heldBytes(): number {
    return (this.a.pipe.buffered ?? 0) + (this.b.pipe.buffered ?? 0);
  }

  /** Bytes both ways until now. */
  get fromA(): number {
    return this.a.count;
  }
  get fromB(): number {
    return this.b.count;
  }

  tick(nowMs: number): void {
    const passed = this.#lastMs === 0 ? 0 : nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    this.#ageMs += passed;
    if (this.#maxMs > 0 && this.#ageMs >= this.#maxMs) {
      this.#finish('idle', DURATION_DETAIL);
      return;
    }
    if (this.active) {
      this.active = false;
      this.#idleMs = 0;
      return;
    }
    this.#idleMs += passed;
    if (this.#idleMs >= this.#limitMs) this.#finish('idle', IDLE_DETAIL);
  }

  lost(side: Side, detail: string): void {
    if (this.#over) return;
    const clean = this.a.done && this.b.done;
    this.#finish(clean ? 'none' : side === this.a ? 'a' : 'b', clean ? '' : detail);
  }

  /** Ends both sides from outside, e.g. at the deadline of a drain. */
  destroy(detail: string): void {
    this.#finish('idle', detail);
  }

  #finish(broken: SpliceEnd['broken'], detail: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#ticker.delete(this);
    if (broken === 'none') {
      // Both directions ended. The side that has not closed yet still writes its last bytes: end, do not cut.
      this.a.pipe.end();
      this.b.pipe.end();
    } else {
      this.a.pipe.abort();
      this.b.pipe.abort();
    }
    this.#onEnd({ fromA: this.a.count, fromB: this.b.count, detail, broken });
  }
}
