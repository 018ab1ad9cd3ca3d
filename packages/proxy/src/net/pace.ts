/** Bytes that leave no faster than a rate. Who holds it says when it asks again. */
import { own } from '@weft/wire';

/** Bytes leave in parts, each after the time that the part before it takes at the rate. */
export const PART_MS = 50;

export class Pace {
  /** That wait. */
  bytes = 0;
  readonly #bytesPerMs: number;
  readonly #partBytes: number;
  #held: Uint8Array[] = [];
  #freeAtMs = 0;

  /** `bytesPerSecond`: at least 1. */
  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#partBytes = Math.max(1, Math.floor(this.#bytesPerMs * PART_MS));
  }

  push(chunk: Uint8Array): void {
    this.#held.push(own(chunk));
    this.bytes += chunk.length;
  }

  /** Until the next part may leave; 0 or less: it may. */
  waitMs(nowMs: number): number {
    return this.#freeAtMs - nowMs;
  }

  /** The next part; some bytes must wait. */
  take(nowMs: number): Uint8Array {
    const first = this.#held[0];
    const whole = first.length <= this.#partBytes;
    if (whole) this.#held.shift();
    else this.#held[0] = first.subarray(this.#partBytes);
    const part = whole ? first : first.subarray(0, this.#partBytes);
    this.bytes -= part.length;
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + part.length / this.#bytesPerMs;
    return part;
  }

  clear(): void {
    this.#held = [];
    this.bytes = 0;
  }
}
