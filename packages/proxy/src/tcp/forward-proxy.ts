/** An opaque connection through a forward proxy: DestinationRule `trafficPolicy.tunnel` (RFC 9110 9.3.6, and by POST). */
import type { Tunnel } from '@weft/plan';
import { type Head, Http1Client, type ResetCode, type Stream, type StreamHandler } from '@weft/wire';
import type { Core } from '../core.ts';
import { field } from '../http/headers.ts';
import type { DialResult } from '../net/dial.ts';
import { CodecSink, type Pipe } from '../net/pipe.ts';
import { StreamPipe } from '../net/stream-pipe.ts';
import type { Deadline, TimerOwner } from '../net/timers.ts';

class Asked implements StreamHandler, TimerOwner {
  readonly #pipe: Pipe;
  readonly #result: DialResult;
  readonly #deadline: Deadline;
  #done = false;

  constructor(core: Core, pipe: Pipe, tunnel: Tunnel, timeoutMs: number, result: DialResult) {
    this.#pipe = pipe;
    this.#result = result;
    this.#deadline = core.timers.add(timeoutMs, this);
    const client = new Http1Client({
      output: pipe,
      counters: core.counters,
      limits: core.wireLimits,
      nowMs: core.nowMs,
      // A POST is over: the connection is nobody's.
      onIdle: () => pipe.destroy('the tunnel has ended'),
    });
    pipe.sink = new CodecSink(client, pipe, core.ticker, () => {});
    pipe.settle?.();
    const { authority, post } = tunnel;
    const head: Head = post
      ? [':method', 'POST', ':scheme', 'http', ':authority', authority, ':path', '/']
      : [':method', 'CONNECT', ':authority', authority];
    client.request(head, false, this);
  }

  onTimer(): void {
    this.#fail('timeout', 'the forward proxy did not answer');
  }

  onHead(stream: Stream, response: Head, end: boolean): void {
    if (this.#done) return;
    const status = field(response, ':status') ?? '';
    if (!/^2\d\d$/.test(status)) {
      this.#fail('connect', `the forward proxy answered ${status}`);
      return;
    }
    this.#done = true;
    this.#deadline.cancel();
    const inside = new StreamPipe(stream, this.#pipe.remoteAddress, this.#pipe.remotePort);
    stream.handler = inside;
    this.#result.connected(inside);
    if (end) inside.sink.ended();
  }
  onData(): void {}
  onTrailers(): void {}
  onReset(_stream: Stream, code: ResetCode, detail: string): void {
    this.#fail('connect', detail || code);
  }
  onDrain(): void {}

  #fail(reason: 'connect' | 'timeout', detail: string): void {
    if (this.#done) return;
    this.#done = true;
    this.#deadline.cancel();
    this.#pipe.destroy(detail);
    this.#result.failed(reason, detail);
  }
}

/**
 * `pipe`: to the forward proxy, on which nothing but a PROXY header was sent. It speaks HTTP/1.1. The answer has
 * `timeoutMs` from now on.
 */
export function throughForwardProxy(
  core: Core,
  pipe: Pipe,
  tunnel: Tunnel,
  timeoutMs: number,
  result: DialResult,
): void {
  new Asked(core, pipe, tunnel, timeoutMs, result);
}
