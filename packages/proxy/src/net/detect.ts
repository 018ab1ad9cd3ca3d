/** Looks at the first bytes of a connection, for a bounded time, and gives them on. */
import { Protocol } from '@weft/plan';
import { detectProtocol, type WireCounters } from '@weft/wire';
import type { Finding, Outcome } from './outcomes.ts';
import { HoldSink, type Pipe } from './pipe.ts';
import type { Deadline, TimerOwner, TimerWheel } from './timers.ts';

const DETECT_BYTES = 16 * 1024;

export interface DetectDeps {
  readonly timers: TimerWheel;
  readonly counters: WireCounters;
  readonly limits: { readonly detectTimeoutMs: number };
}

export type Detected = 'tls' | 'http1' | 'http2' | 'tcp';

export class Detector extends HoldSink implements TimerOwner {
  #pipe: Pipe;
  #deadline: Deadline;
  #result: ((kind: Detected, hold: HoldSink) => void) | undefined;
  #size = 0;
  #deps: DetectDeps;
  #outcome: Outcome | undefined;

  /**
   * `done` is called once with the protocol and what was held; a client that says nothing is 'tcp'. `outcome`: what is
   * remembered of the port; undefined where its protocol is declared.
   */
  constructor(
    pipe: Pipe,
    deps: DetectDeps,
    outcome: Outcome | undefined,
    done: (kind: Detected, hold: HoldSink) => void,
  ) {
    super();
    this.#outcome = outcome;
    this.#pipe = pipe;
    this.#result = done;
    this.#deps = deps;
    const limitMs = deps.limits.detectTimeoutMs;
    this.#deadline = deps.timers.add(outcome ? outcome.waitMs(limitMs) : limitMs, this);
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
    if (this.#result) this.#deps.counters.count('detect_timeout');
    this.#finish('tcp', this.#size === 0 ? 'silent' : 'tcp');
  }
  #finish(kind: Detected, finding: Finding = kind): void {
    const result = this.#result;
    if (!result) return;
    this.#result = undefined;
    this.#deadline.cancel();
    // A client that ended without a word tells nothing of the port.
    if (this.#size > 0 || finding === 'silent') this.#outcome?.add(finding);
    result(kind, this);
  }
  get pipe(): Pipe {
    return this.#pipe;
  }
}

/**
 * The HTTP codec for a connection; undefined: opaque. A port that is declared as HTTP gets an HTTP answer whatever the
 * bytes are, in the protocol that was declared: what is neither a preface nor HTTP/1 is no HTTP/2 (RFC 9113 3.4).
 */
export function codecOf(kind: Detected, declared: Protocol, hold: HoldSink): 'http1' | 'http2' | undefined {
  if (kind === 'http1' || kind === 'http2') return kind;
  if (kind === 'tls' || hold.chunks.length === 0) return undefined;
  switch (declared) {
    case Protocol.HTTP:
    case Protocol.GRPC_WEB:
      return 'http1';
    case Protocol.HTTP2:
    case Protocol.GRPC:
      return 'http2';
    default:
      return undefined;
  }
}
