/** HBONE: a CONNECT stream on a mesh link, whose inside is a pipe to one port of the workload behind the peer. */
import { hostPort } from '@weft/base';
import type { Head, ResetCode, Stream, StreamHandler } from '@weft/wire';
import { field } from '../http/headers.ts';
import type { DialResult } from '../net/dial.ts';
import { StreamPipe } from '../net/stream-pipe.ts';
import type { Deadline, TimerOwner, TimerWheel } from '../net/timers.ts';
import type { Asker, Lane, LanePool, UnavailableReason } from '../upstream/lane.ts';
import { PORT_HEADER, SOURCE_HEADER } from './settings.ts';

/** The peer answers a CONNECT once it has reached the application, for which it has a time of its own. */
const ANSWER_MS = 10_000;

class Tunnel implements Asker, StreamHandler, TimerOwner {
  abandoned = false;
  #address: string;
  #port: number;
  #source: string;
  #result: DialResult;
  #deadline: Deadline;
  #stream: Stream | undefined;

  constructor(
    address: string,
    port: number,
    source: string,
    timeoutMs: number,
    timers: TimerWheel,
    result: DialResult,
  ) {
    this.#address = address;
    this.#port = port;
    this.#source = source;
    this.#result = result;
    this.#deadline = timers.add(timeoutMs + ANSWER_MS, this);
  }

  onLane(lane: Lane): void {
    const head: Head = [':method', 'CONNECT', ':authority', hostPort(this.#address, this.#port)];
    if (lane.weft) head.push(PORT_HEADER, String(this.#port), SOURCE_HEADER, this.#source);
    this.#stream = lane.request(head, false, this);
  }

  onUnavailable(reason: UnavailableReason, detail: string): void {
    this.#fail(reason === 'timeout' ? 'timeout' : 'connect', detail);
  }

  onTimer(): void {
    this.#fail('timeout', 'the peer did not answer the CONNECT');
  }

  onHead(stream: Stream, response: Head, end: boolean): void {
    if (this.abandoned) return;
    const status = field(response, ':status');
    if (status !== '200') {
      this.#fail('connect', `CONNECT answered ${status}`);
      return;
    }
    this.#over();
    const pipe = new StreamPipe(stream, this.#address, this.#port);
    stream.handler = pipe;
    this.#result.connected(pipe);
    if (end) pipe.sink.ended();
  }
  onData(): void {}
  onTrailers(): void {}
  onReset(_stream: Stream, code: ResetCode, detail: string): void {
    this.#stream = undefined;
    this.#fail('connect', detail || code);
  }
  onDrain(): void {}

  #over(): void {
    this.abandoned = true;
    this.#deadline.cancel();
  }
  #fail(reason: 'connect' | 'timeout', detail: string): void {
    if (this.abandoned) return;
    this.#over();
    this.#stream?.reset('cancel');
    this.#result.failed(reason, detail);
  }
}

/**
 * `links`: the pool of the peer's links; `address` and `port`: of the workload. `source`: what the mesh header says of
 * the caller where the peer is a Weft proxy. `timeoutMs`: for the link; the answer to the CONNECT has more.
 */
export function openTunnel(
  links: LanePool,
  address: string,
  port: number,
  source: string,
  timeoutMs: number,
  timers: TimerWheel,
  result: DialResult,
): void {
  links.ask(new Tunnel(address, port, source, timeoutMs, timers, result));
}
