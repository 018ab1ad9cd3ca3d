/**
 * A response's body that passes no faster than a rate: what `weft.dev/fault-bandwidth` makes of it. It stands between the
 * destination and the client's stream; the destination is held up by flow control while bytes wait here.
 */
import { type Head, own } from '@weft/wire';
import type { Deadline, TimerOwner, TimerWheel } from '../net/timers.ts';

/** Bytes leave in parts, each after the time that the part before it takes at the rate. */
const PART_MS = 50;

export interface PacedTarget {
  /** The client's stream has no room: ask again later. */
  readonly full: boolean;
  part(chunk: Uint8Array, end: boolean): void;
  trailers(fields: Head): void;
  /** Nothing may come, or what comes is wanted again. */
  hold(): void;
  more(): void;
}

export class PacedBody implements TimerOwner {
  heldBytes = 0;
  readonly #target: PacedTarget;
  readonly #timers: TimerWheel;
  readonly #nowMs: () => number;
  readonly #bytesPerMs: number;
  readonly #partBytes: number;
  #held: Uint8Array[] = [];
  #ended = false;
  #trailers: Head | undefined;
  #freeAtMs = 0;
  #timer: Deadline | undefined;
  #over = false;

  /** `bytesPerSecond`: at least 1. */
  constructor(target: PacedTarget, bytesPerSecond: number, timers: TimerWheel, nowMs: () => number) {
    this.#target = target;
    this.#timers = timers;
    this.#nowMs = nowMs;
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#partBytes = Math.max(1, Math.floor(this.#bytesPerMs * PART_MS));
  }

  data(chunk: Uint8Array, end: boolean): void {
    if (this.#over) return;
    if (end) this.#ended = true;
    if (chunk.length > 0) {
      this.#held.push(own(chunk));
      this.heldBytes += chunk.length;
    }
    this.#pump();
    if (this.heldBytes > 0 && !this.#ended) this.#target.hold();
  }

  end(trailers: Head): void {
    if (this.#over) return;
    this.#ended = true;
    this.#trailers = trailers;
    this.#pump();
  }

  /** What waits is not wanted any more. */
  stop(): void {
    this.#over = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#held = [];
    this.heldBytes = 0;
  }

  onTimer(): void {
    this.#timer = undefined;
    this.#pump();
    if (this.heldBytes === 0 && !this.#over && !this.#ended) this.#target.more();
  }

  #pump(): void {
    while (this.heldBytes > 0 && !this.#timer && !this.#over) {
      const now = this.#nowMs();
      const waitMs = this.#target.full ? PART_MS : this.#freeAtMs - now;
      if (waitMs > 0) {
        this.#timer = this.#timers.add(waitMs, this);
        return;
      }
      const part = this.#take();
      this.#freeAtMs = Math.max(this.#freeAtMs, now) + part.length / this.#bytesPerMs;
      this.#target.part(part, this.heldBytes === 0 && this.#ended && !this.#trailers);
      if (this.heldBytes === 0 && this.#ended && !this.#trailers) this.#over = true;
    }
    if (this.heldBytes > 0 || !this.#ended || this.#over) return;
    this.#over = true;
    if (this.#trailers) this.#target.trailers(this.#trailers);
    else this.#target.part(new Uint8Array(0), true);
  }

  #take(): Uint8Array {
    const first = this.#held[0];
    if (first.length <= this.#partBytes) this.#held.shift();
    else this.#held[0] = first.subarray(this.#partBytes);
    const part = first.length <= this.#partBytes ? first : first.subarray(0, this.#partBytes);
    this.heldBytes -= part.length;
    return part;
  }
}
