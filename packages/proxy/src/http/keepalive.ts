/** Asks an HTTP/2 client now and then whether it is still there: one that vanished without a word would hold its place for an hour. */
import type { Http2Connection, WireCounters } from '@weft/wire';
import type { Pipe } from '../net/pipe.ts';
import type { Ticker, Ticking } from '../net/timers.ts';

export interface KeepAliveDeps {
  readonly ticker: Ticker;
  readonly counters: WireCounters;
  readonly nowMs: () => number;
  readonly limits: { readonly clientPingEveryMs: number; readonly clientPingTimeoutMs: number };
}

export class KeepAlive implements Ticking {
  readonly #connection: Http2Connection;
  readonly #pipe: Pipe;
  readonly #deps: KeepAliveDeps;
  /** Of the last PING, or the beginning. */
  #atMs: number;
  #waiting = false;

  constructor(connection: Http2Connection, pipe: Pipe, deps: KeepAliveDeps) {
    this.#connection = connection;
    this.#pipe = pipe;
    this.#deps = deps;
    this.#atMs = deps.nowMs();
    deps.ticker.add(this);
  }

  tick(nowMs: number): void {
    const { counters, limits } = this.#deps;
    if (this.#connection.dead) this.stop();
    else if (this.#waiting) {
      if (nowMs - this.#atMs < limits.clientPingTimeoutMs) return;
      counters.count('client_ping_timeout');
      this.stop();
      this.#pipe.destroy('ping timeout');
      this.#connection.closed('ping timeout');
    } else if (nowMs - this.#atMs >= limits.clientPingEveryMs) {
      this.#atMs = nowMs;
      this.#waiting = true;
      this.#connection.ping(() => {
        this.#waiting = false;
      });
    }
  }

  /** The connection is over. */
  stop(): void {
    this.#deps.ticker.delete(this);
  }
}
