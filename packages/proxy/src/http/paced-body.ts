/**
 * A response's body that passes no faster than a rate: what `weft.dev/fault-bandwidth` makes of it. It stands between the
 * destination and the client's stream; the destination is held up by flow control while bytes wait here.
 */
import type { Head } from '@weft/wire';
import { PART_MS, Pace } from '../net/pace.ts';
import type { Deadline, TimerOwner, TimerWheel } from '../net/timers.ts';

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
  readonly #target: PacedTarget;
  readonly #timers: TimerWheel;
  readonly #nowMs: () => number;
  readonly #held: Pace;
  #ended = false;
  #trailers: Head | undefined;
  #timer: Deadline | undefined;
  #over = false;

  /** `bytesPerSecond`: at least 1. */
  constructor(target: PacedTarget, bytesPerSecond: number, timers: TimerWheel, nowMs: () => number) {
    this.#target = target;
    this.#timers = timers;
    this.#nowMs = nowMs;
    this.#held = new Pace(bytesPerSecond);
  }

  get heldBytes(): number {
    return this.#held.bytes;
  }

  data(chunk: Uint8Array, end: boolean): void {
    if (this.#over) return;
    if (end) this.#ended = true;
    if (chunk.length > 0) this.#held.push(chunk);
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
    this.#held.clear();
  }

  onTimer(): void {
    this.#timer = undefined;
    this.#pump();
    if (this.heldBytes === 0 && !this.#over && !this.#ended) this.#target.more();
  }

  #pump(): void {
    while (this.heldBytes > 0 && !this.#timer && !this.#over) {
      const now = this.#nowMs();
      const waitMs = this.#target.full ? PART_MS : this.#held.waitMs(now);
      if (waitMs > 0) {
        this.#timer = this.#timers.add(waitMs, this);
        return;
      }
      const part = this.#held.take(now);
      this.#target.part(part, this.heldBytes === 0 && this.#ended && !this.#trailers);
      if (this.heldBytes === 0 && this.#ended && !this.#trailers) this.#over = true;
    }
    if (this.heldBytes > 0 || !this.#ended || this.#over) return;
    this.#over = true;
    if (this.#trailers) this.#target.trailers(this.#trailers);
    else this.#target.part(new Uint8Array(0), true);
  }
}
