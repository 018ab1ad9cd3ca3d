/** Looks at the first bytes of a connection, for at most 10 s, and gives them on. */
import { detectProtocol } from '@weft/wire';
import { HoldSink, type Pipe } from './pipe.ts';
import type { Deadline, TimerOwner, TimerWheel } from './timers.ts';

export const DETECT_MS = 10_000;
const DETECT_BYTES = 16 * 1024;

export type Detected = 'tls' | 'http1' | 'http2' | 'tcp';

export class Detector extends HoldSink implements TimerOwner {
  #pipe: Pipe;
  #deadline: Deadline;
  #result: ((kind: Detected, hold: HoldSink) => void) | undefined;
  #size = 0;

  /** `done` is called once with the protocol and what was held; a client that says nothing is 'tcp'. */
  constructor(pipe: Pipe, timers: TimerWheel, done: (kind: Detected, hold: HoldSink) => void) {
    super();
    this.#pipe = pipe;
    this.#result = done;
    this.#deadline = timers.add(DETECT_MS, this);
    pipe.sink = this;
  }
  override bytes(chunk: Uint8Array): void {
    super.bytes(chunk);
    if (!this.#result) return;
    this.#size += chunk.length;
    const all = this.chunks.length === 1 ? chunk : Buffer.concat(this.chunks);
    if (this.chunks.length > 1) this.chunks = [all];
    const kind = detectProtocol(all);
    if (kind !== 'more') this.#finish(kind);
    else if (this.#size > DETECT_BYTES) this.#finish('tcp');
  }
  override ended(): void {
    super.ended();
    this.#finish('tcp');
  }
  override gone(detail: string): void {
    super.gone(detail);
    this.#deadline.cancel();
    this.#result = undefined;
  }
  onTimer(): void {
    this.#finish('tcp');
  }
  #finish(kind: Detected): void {
    const result = this.#result;
    if (!result) return;
    this.#result = undefined;
    this.#deadline.cancel();
    result(kind, this);
  }
  get pipe(): Pipe {
    return this.#pipe;
  }
}

/** Ports on which the server speaks first, so that detection would only delay (Istio's list and Linkerd's). */
const SERVER_FIRST = new Set([25, 53, 587, 3306, 4444, 27_017]);

export function serverFirst(port: number): boolean {
  return SERVER_FIRST.has(port);
}
