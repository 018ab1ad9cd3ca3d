/** Puts an HTTP server codec on a pipe. */
import { type Connection, Http1Server, Http2Connection, type OnStream } from '@weft/wire';
import type { Core } from '../core.ts';
import { InFlightList, type Placed } from '../net/in-flight.ts';
import { CodecSink, type HoldSink, type Pipe } from '../net/pipe.ts';
import { turnMs } from '../net/turn.ts';
import { KeepAlive } from './keepalive.ts';

interface ServedConnection extends Placed {
  readonly connection: Connection;
}

/** Connections that a proxy serves, for drains and counts. */
export class Served {
  #open = new InFlightList<ServedConnection>();
  get size(): number {
    return this.#open.size;
  }
  get exchanges(): number {
    let n = 0;
    for (const { connection } of this.#open) n += connection.open;
    return n;
  }
  /** Returns what takes it out again. */
  add(connection: Connection): () => void {
    const served = { connection, place: -1 };
    this.#open.add(served);
    return () => this.#open.delete(served);
  }
  drain(): void {
    for (const { connection } of this.#open) connection.drain();
  }
}

export interface ServeOptions {
  /** Of requests; default http. */
  scheme?: 'http' | 'https';
  /** Default true; else HTTP/1.0 gets 426. */
  acceptHttp10?: boolean;
  /** Its connection is closed. */
  onGone?(): void;
}

export function serveHttp(
  core: Core,
  served: Served,
  kind: 'http1' | 'http2',
  pipe: Pipe,
  hold: HoldSink | undefined,
  onStream: OnStream,
  { scheme = 'http', acceptHttp10, onGone }: ServeOptions = {},
): Connection {
  const common = { output: pipe, onStream, counters: core.counters, nowMs: turnMs, limits: core.wireLimits };
  const connection: Connection =
    kind === 'http1'
      ? new Http1Server({ ...common, scheme, acceptHttp10 })
      : new Http2Connection({ ...common, role: 'server', enableConnectProtocol: true });
  const gone = served.add(connection);
  const asked =
    connection instanceof Http2Connection && core.limits.clientPingEveryMs > 0
      ? new KeepAlive(connection, pipe, core)
      : undefined;
  const sink = new CodecSink(connection, pipe, core.ticker, () => {
    gone();
    asked?.stop();
    onGone?.();
  });
  if (hold) hold.release(pipe, sink);
  else pipe.sink = sink;
  pipe.settle?.();
  if (core.draining) connection.drain();
  return connection;
}
