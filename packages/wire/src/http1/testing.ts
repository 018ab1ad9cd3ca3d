import type { Head, Output, Stream, StreamHandler } from '../stream.ts';

/** An Output over arrays, for tests: what was written, and whether the codec reads, ended or destroyed. */
export class RecordingOutput implements Output {
  written: Uint8Array[] = [];
  ended = false;
  destroyed = false;
  reading = true;
  full = false;
  private deferred: (() => void)[] = [];

  write(bytes: Uint8Array): boolean {
    if (this.ended) throw new Error('written after the end');
    if (!this.destroyed) this.written.push(bytes);
    return !this.full;
  }
  end(): void {
    this.ended = true;
  }
  destroy(): void {
    this.destroyed = true;
  }
  pauseReading(): void {
    this.reading = false;
  }
  resumeReading(): void {
    this.reading = true;
  }
  defer(fn: () => void): void {
    this.deferred.push(fn);
  }
  /** Waits for the next turn: see nextTurn. */
  waiting: (() => void)[] = [];
  later(fn: () => void): void {
    this.waiting.push(fn);
  }
  nextTurn(): void {
    this.turn();
    for (const fn of this.waiting.splice(0)) fn();
  }
  /** Ends the turn. */
  turn(): void {
    while (this.deferred.length > 0) this.deferred.shift()!();
  }
  /** What was written since the last call. */
  take(): Buffer {
    this.turn();
    const all = Buffer.concat(this.written);
    this.written = [];
    return all;
  }
  get text(): string {
    this.turn();
    return Buffer.concat(this.written).toString('latin1');
  }
}

/** Everything one side of an exchange has heard, as comparable data. */
export class Recorder implements StreamHandler {
  head: Head | undefined;
  interims: Head[] = [];
  body = '';
  events = 0;
  ended = false;
  trailers: Head | undefined;
  reset: string | undefined;
  detail = '';
  drains = 0;
  closes = 0;

  onHead(_stream: Stream, head: Head, end: boolean): void {
    this.head = head;
    if (end) this.ended = true;
  }
  onInterim(_stream: Stream, head: Head): void {
    this.interims.push(head);
  }
  onData(_stream: Stream, chunk: Uint8Array, end: boolean): void {
    if (this.ended) throw new Error('data after the end');
    this.body += Buffer.from(chunk).toString('latin1');
    this.events++;
    if (end) this.ended = true;
  }
  onTrailers(_stream: Stream, fields: Head): void {
    if (this.ended) throw new Error('trailers after the end');
    this.trailers = fields;
    this.ended = true;
  }
  onReset(_stream: Stream, code: string, detail: string): void {
    if (this.reset !== undefined) throw new Error('a second reset');
    this.reset = code;
    this.detail = detail;
  }
  onDrain(): void {
    this.drains++;
  }
  onClose(): void {
    this.closes++;
  }
}
