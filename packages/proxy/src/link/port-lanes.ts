/**
 * One port of the workload behind a link's peer, for requests. A Weft proxy takes them as streams of the link. Any other
 * peer knows tunnels alone: there an HTTP connection runs inside a CONNECT tunnel.
 */
import { Http1Pool, type PoolDeps } from '../upstream/http1-pool.ts';
import { Http2Pool } from '../upstream/http2-pool.ts';
import type { Asker, InsideTunnels, LanePool } from '../upstream/lane.ts';
import { type PoolLimits, poolSettings } from '../upstream/upstreams.ts';
import { openTunnel } from './tunnel.ts';

/** What this needs of the link pool. */
export interface Peer extends LanePool {
  readonly host: string;
}

export class PortLanes implements LanePool, InsideTunnels {
  #peer: Peer;
  #port: number;
  #h2: boolean;
  #deps: PoolDeps;
  #limits: PoolLimits | undefined;
  #pool: Http1Pool | Http2Pool | undefined;

  constructor(peer: Peer, port: number, h2: boolean, deps: PoolDeps, limits: PoolLimits | undefined) {
    this.#peer = peer;
    this.#port = port;
    this.#h2 = h2;
    this.#deps = deps;
    this.#limits = limits;
  }

  get open(): number {
    return this.#pool?.open ?? 0;
  }

  ask(asker: Asker): void {
    asker.inside = this;
    this.#peer.ask(asker);
  }

  /** Limits of the plan in force; the same object as before means that nothing changed. */
  set limits(limits: PoolLimits | undefined) {
    if (limits === this.#limits) return;
    this.#limits = limits;
    this.#pool?.configure(poolSettings(limits));
  }

  askInside(asker: Asker): void {
    this.#pool ??= this.#tunnels();
    this.#pool.ask(asker);
  }

  close(): void {
    this.#pool?.close();
    this.#pool = undefined;
  }

  #tunnels(): Http1Pool | Http2Pool {
    const settings = poolSettings(this.#limits);
    const Pool = this.#h2 ? Http2Pool : Http1Pool;
    return new Pool(
      (timeoutMs, result) =>
        openTunnel(this.#peer, this.#peer.host, this.#port, '', timeoutMs, this.#deps.timers, result),
      this.#deps,
      settings,
    );
  }
}
