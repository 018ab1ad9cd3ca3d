/** A pipe that takes bytes no faster than a rate: what a TCPFault's `bandwidth` makes of a connection. */
import { own } from '@weft/wire';
import type { Pipe, PipeSink } from './pipe.ts';
import { nullSink } from './pipe.ts';
import type { Deadline, TimerOwner, TimerWheel } from './timers.ts';

/** Bytes leave in parts, each after the time that the part before it takes at the rate. */
const PART_MS = 50;

/** Stands between a pipe and whoever writes to it: it is the pipe's sink, and passes on what comes from there as it is. */
export class PacedPipe implements Pipe, PipeSink, TimerOwner {
  sink: PipeSink = nullSink;
  readonly #inner: Pipe;
  readonly #timers: TimerWheel;
  readonly #nowMs: () => number;
  readonly #bytesPerMs: number;
  readonly #partBytes: number;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #freeAtMs = 0;
  #timer: Deadline | undefined;
  #full = false;
  #ending = false;
  #over = false;

  /** `bytesPerSecond`: at least 1. Set it as the sink of `inner`. */
  constructor(inner: Pipe, bytesPerSecond: number, timers: TimerWheel, nowMs: () => number) {
    this.#inner = inner;
    this.#timers = timers;
    this.#nowMs = nowMs;
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#partBytes = Math.max(1, Math.floor(this.#bytesPerMs * PART_MS));
  }
  get remoteAddress(): string {
    return this.#inner.remoteAddress;
  }
  get remotePort(): number {
    return this.#inner.remotePort;
  }
  get buffered(): number {
    return this.#heldBytes + (this.#inner.buffered ?? 0);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#over || bytes.length === 0) return !this.#over;
    this.#held.push(own(bytes));
    this.#heldBytes += bytes.length;
    this.#pump();
    return this.#heldBytes === 0 && !this.#full;
  }
  end(): void {
    this.#ending = true;
    if (this.#heldBytes === 0) this.#inner.end();
  }
  destroy(reason?: string): void {
    this.#stop();
    this.#inner.destroy(reason);
  }
  abort(): void {
    this.#stop();
    this.#inner.abort();
  }
  pauseReading(): void {
    this.#inner.pauseReading();
  }
  resumeReading(): void {
    this.#inner.resumeReading();
  }
  defer(fn: () => void): void {
    this.#inner.defer(fn);
  }
  later(fn: () => void): void {
    this.#inner.later(fn);
  }

  onTimer(): void {
    this.#timer = undefined;
    this.#pump();
    if (this.#heldBytes === 0 && !this.#full && !this.#over && !this.#ending) this.sink.drained();
  }

  #pump(): void {
    while (this.#heldBytes > 0 && !this.#full && !this.#timer && !this.#over) {
      const now = this.#nowMs();
      if (now < this.#freeAtMs) {
        this.#timer = this.#timers.add(this.#freeAtMs - now, this);
        return;
      }
      const part = this.#take();
      this.#freeAtMs = Math.max(this.#freeAtMs, now) + part.length / this.#bytesPerMs;
      if (!this.#inner.write(part)) this.#full = true;
      if (this.#heldBytes === 0 && this.#ending) this.#inner.end();
    }
  }

  #take(): Uint8Array {
    const first = this.#held[0];
    if (first.length <= this.#partBytes) this.#held.shift();
    else this.#held[0] = first.subarray(this.#partBytes);
    const part = first.length <= this.#partBytes ? first : first.subarray(0, this.#partBytes);
    this.#heldBytes -= part.length;
    return part;
  }

  #stop(): void {
    this.#over = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#held = [];
    this.#heldBytes = 0;
  }

  // ---- as the sink of the pipe behind it

  bytes(chunk: Uint8Array): void {
    this.sink.bytes(chunk);
  }
  ended(): void {
    this.sink.ended();
  }
  drained(): void {
    this.#full = false;
    this.#pump();
    if (this.#heldBytes === 0 && !this.#full && !this.#ending) this.sink.drained();
  }
  gone(detail: string): void {
    this.#stop();
    this.sink.gone(detail);
  }
}
