/** Takes the PROXY protocol's header off a connection, before anything else looks at its bytes. */
import { PROXY_HEADER_BYTES, readProxyHeader } from '@weft/wire';
import type { DetectDeps } from './detect.ts';
import { HoldSink } from './pipe.ts';
import { plainAddress, type SocketPipe } from './socket-output.ts';
import type { Deadline, TimerOwner } from './timers.ts';

/**
 * From then on the pipe's remote address is the client's. `done` is called once, with what came behind the header; a
 * connection without a correct header, or whose header is late, is reset and counted: its address would be a guess.
 */
export class ProxyHeaderSink extends HoldSink implements TimerOwner {
  readonly #pipe: SocketPipe;
  readonly #deps: DetectDeps;
  readonly #deadline: Deadline;
  #done: ((hold: HoldSink) => void) | undefined;

  constructor(pipe: SocketPipe, deps: DetectDeps, done: (hold: HoldSink) => void) {
    super();
    this.#pipe = pipe;
    this.#deps = deps;
    this.#done = done;
    this.#deadline = deps.timers.add(deps.limits.detectTimeoutMs, this);
    pipe.sink = this;
  }

  override bytes(chunk: Uint8Array): void {
    super.bytes(chunk);
    const done = this.#done;
    if (!done) return;
    const all = Buffer.concat(this.chunks);
    this.chunks = [all];
    const header = readProxyHeader(all.subarray(0, PROXY_HEADER_BYTES));
    if (header === 'more') return;
    if (header === 'bad') {
      this.#refuse('proxy_header_bad');
      return;
    }
    this.#done = undefined;
    this.#deadline.cancel();
    this.chunks = all.length > header.size ? [all.subarray(header.size)] : [];
    if (header.addresses) {
      this.#pipe.remoteAddress = plainAddress(header.addresses.source);
      this.#pipe.remotePort = header.addresses.sourcePort;
    }
    done(this);
  }

  override ended(): void {
    super.ended();
    if (this.#done) this.#refuse('proxy_header_bad');
  }

  override gone(detail: string): void {
    super.gone(detail);
    this.#done = undefined;
    this.#deadline.cancel();
  }

  onTimer(): void {
    if (this.#done) this.#refuse('proxy_header_timeout');
  }

  #refuse(counter: string): void {
    this.#done = undefined;
    this.#deadline.cancel();
    this.#deps.counters.count(counter);
    this.#pipe.abort();
  }
}
