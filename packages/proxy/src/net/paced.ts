/** A pipe that takes bytes no faster than a rate: what a TCPFault's `bandwidth` makes of a connection. */
import { Pace } from './pace.ts';
import type { Pipe, PipeSink } from './pipe.ts';
import { nullSink } from './pipe.ts';
import type { Deadline, TimerOwner, TimerWheel } from './timers.ts';

/** Stands between a pipe and whoever writes to it: it is the pipe's sink, and passes on what comes from there as it is. */
export class PacedPipe implements Pipe, PipeSink, TimerOwner {
  sink: PipeSink = nullSink;
  readonly #inner: Pipe;
  readonly #timers: TimerWheel;
  readonly #nowMs: () => number;
  readonly #held: Pace;
  #timer: Deadline | undefined;
  #full = false;
  #ending = false;
  #over = false;

  /** `bytesPerSecond`: at least 1. Set it as the sink of `inner`. */
  constructor(inner: Pipe, bytesPerSecond: number, timers: TimerWheel, nowMs: () => number) {
    this.#inner = inner;
    this.#timers = timers;
    this.#nowMs = nowMs;
    this.#held = new Pace(bytesPerSecond);
  }
  get remoteAddress(): string {
    return this.#inner.remoteAddress;
  }
  get remotePort(): number {
    return this.#inner.remotePort;
  }
  get buffered(): number {
    return this.#held.bytes + (this.#inner.buffered ?? 0);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#over || bytes.length === 0) return !this.#over;
    this.#held.push(bytes);
    this.#pump();
    return this.#held.bytes === 0 && !this.#full;
  }
  end(): void {
    this.#ending = true;
    if (this.#held.bytes === 0) this.#inner.end();
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
    if (this.#held.bytes === 0 && !this.#full && !this.#over && !this.#ending) this.sink.drained();
  }

  #pump(): void {
    while (this.#held.bytes > 0 && !this.#full && !this.#timer && !this.#over) {
      const now = this.#nowMs();
      const waitMs = this.#held.waitMs(now);
      if (waitMs > 0) {
        this.#timer = this.#timers.add(waitMs, this);
        return;
      }
      if (!this.#inner.write(this.#held.take(now))) this.#full = true;
      if (this.#held.bytes === 0 && this.#ending) this.#inner.end();
    }
  }

  #stop(): void {
    this.#over = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#held.clear();
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
    if (this.#held.bytes === 0 && !this.#full && !this.#ending) this.sink.drained();
  }
  gone(detail: string): void {
    this.#stop();
    this.sink.gone(detail);
  }
}
