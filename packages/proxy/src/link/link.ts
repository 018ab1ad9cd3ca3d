/** One mesh link as a client: a TLS 1.3 connection that carries requests and tunnels as HTTP/2 streams. */
import type { Socket } from 'node:net';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import type { Logger } from '@weft/base';
import { checkPeer, clientTlsOptions, type Identity, peerCertificate } from '@weft/identity';
import {
  type Head,
  Http2Connection,
  type Stream,
  type StreamHandler,
  type WireCounters,
  type WireLimits,
} from '@weft/wire';
import type { Bind } from '../bootstrap.ts';
import type { ProxyLimits } from '../limits.ts';
import type { Connector } from '../net/dial.ts';
import { CodecSink } from '../net/pipe.ts';
import { SocketPipe } from '../net/socket-output.ts';
import type { Deadline, Ticker, TimerOwner, TimerWheel } from '../net/timers.ts';
import type { Lane } from '../upstream/lane.ts';
import type { LinkPool } from './pool.ts';
import { WEFT_SETTING, WEFT_SETTINGS } from './settings.ts';

/** How long a link that is not needed stays without streams, and a drained one whose peer does not close its half. */
export const IDLE_EXTRA_MS = 15_000;
/** Renew before a certificate's end by a tenth of what was left at the handshake, within these bounds. */
const MARGIN_MIN_MS = 2000;
const MARGIN_MAX_MS = 60_000;

export interface LinkDeps {
  connector: Connector;
  /** Of this machine, to workloads on others; undefined: the mesh is on this one alone. */
  entrance: Bind | undefined;
  timers: TimerWheel;
  ticker: Ticker;
  counters: WireCounters;
  nowMs: () => number;
  wallMs: () => number;
  identity: () => Identity | undefined;
  logger: Logger;
  limits: Pick<ProxyLimits, 'linkPingEveryMs' | 'linkPingTimeoutMs' | 'linkResetBurst' | 'linkResetPerSecond'>;
  wireLimits: WireLimits;
}

/** Throws where there is none. */
export function dialEntrance({ connector, entrance }: Pick<LinkDeps, 'connector' | 'entrance'>): Socket {
  if (!entrance) throw new Error('no entrance leads to other machines');
  return connector(entrance.host, entrance.port);
}

export class Link implements Lane, TimerOwner {
  weft = false;
  ready = false;
  dead = false;
  /** Finishes what runs and takes nothing more as soon as a successor is there. */
  retiring = false;
  draining = false;
  requests = 0;
  idleSinceMs = 0;
  connection: Http2Connection | undefined;
  readonly identity: Identity;
  #pool: LinkPool;
  #deps: LinkDeps;
  #tls: TLSSocket | undefined;
  #pipe: SocketPipe | undefined;
  #deadline: Deadline;
  #detail = '';
  #pingAtMs = 0;
  #pingOpen = false;
  #replaceAtWallMs = Number.POSITIVE_INFINITY;
  #endAtWallMs = Number.POSITIVE_INFINITY;

  constructor(pool: LinkPool, deps: LinkDeps, identity: Identity, timeoutMs: number) {
    this.#pool = pool;
    this.#deps = deps;
    this.identity = identity;
    this.#deadline = deps.timers.add(timeoutMs, this);
    let raw: Socket;
    try {
      raw = pool.byEntrance ? dialEntrance(deps) : deps.connector(pool.host, pool.port);
    } catch (error) {
      this.#detail = (error as Error).message;
      setImmediate(() => this.#lost('connect'));
      return;
    }
    raw.on('error', this.#error);
    const servername = pool.byEntrance ? pool.host : undefined;
    const socket = tlsConnect({ socket: raw, servername, ...clientTlsOptions(identity, pool.expected) });
    this.#tls = socket;
    socket.on('error', this.#error);
    socket.once('secureConnect', this.#secure);
    socket.once('close', this.#closed);
  }

  get reused(): boolean {
    return this.requests > 1;
  }
  get open(): number {
    return this.connection?.open ?? 0;
  }
  get usable(): boolean {
    return this.ready && !this.dead && !this.draining && (this.connection as Http2Connection).availableStreams > 0;
  }

  request(head: Head, end: boolean, handler: StreamHandler): Stream {
    this.requests++;
    return (this.connection as Http2Connection).request(head, end, handler);
  }

  onTimer(): void {
    this.#detail = 'connection timeout';
    this.destroy();
    this.#lost('timeout');
  }

  /** Lets running streams end, then closes. */
  drain(): void {
    if (this.draining || this.dead) return;
    this.draining = true;
    this.connection?.drain();
  }

  destroy(): void {
    if (this.#pipe) this.#pipe.destroy('link closed');
    this.#tls?.destroy();
    this.connection?.closed(this.#detail || 'link closed');
  }

  /** Ends where the peer is no longer believed, with all it carries. */
  rejudge(identity: Identity): void {
    if (!this.#pipe || this.dead || !this.#tls) return;
    const result = checkPeer(this.#tls, { bundle: identity.bundle, expected: this.#pool.expected });
    if (!('error' in result)) return;
    this.#deps.counters.count('link_peer_no_longer_believed');
    this.#deps.logger.warn(
      { host: this.#pool.host, error: result.error },
      'link ended: its peer is no longer believed',
    );
    this.#detail = 'peer no longer believed';
    this.destroy();
    this.#lost('connect');
  }

  tick(nowMs: number, wallMs: number): void {
    if (!this.ready) return;
    const c = this.connection as Http2Connection;
    if (wallMs >= this.#endAtWallMs) {
      this.#deps.counters.count('link_certificate_ended');
      this.#detail = 'certificate ended';
      this.destroy();
      this.#lost('connect');
      return;
    }
    if (wallMs >= this.#replaceAtWallMs) this.retiring = true;
    if (c.open > 0) {
      this.idleSinceMs = nowMs;
      if (this.#pingOpen) {
        if (nowMs - this.#pingAtMs > this.#deps.limits.linkPingTimeoutMs) {
          this.#deps.counters.count('link_ping_timeout');
          this.#detail = 'ping timeout';
          this.destroy();
          this.#lost('connect');
        }
      } else if (nowMs - this.#pingAtMs > this.#deps.limits.linkPingEveryMs) {
        this.#pingAtMs = nowMs;
        this.#pingOpen = true;
        c.ping(() => {
          this.#pingOpen = false;
        });
      }
    } else if (this.draining) {
      // The codec ends the connection after a drain; this is for a peer that does not close its half.
      if (nowMs - this.idleSinceMs > IDLE_EXTRA_MS) this.destroy();
    }
  }

  #secure = (): void => {
    const socket = this.#tls as TLSSocket;
    if (this.dead) return;
    socket.off('close', this.#closed);
    const wall = this.#deps.wallMs();
    const peerEnd = peerCertificate(socket)?.validToDate.getTime() ?? Number.POSITIVE_INFINITY;
    this.#endAtWallMs = Math.min(peerEnd, this.identity.notAfterMs);
    const margin = Math.min(MARGIN_MAX_MS, Math.max(MARGIN_MIN_MS, (this.#endAtWallMs - wall) * 0.1));
    this.#replaceAtWallMs = this.#endAtWallMs - margin;
    const pipe = new SocketPipe(socket);
    this.#pipe = pipe;
    this.connection = new Http2Connection({
      role: 'client',
      output: pipe,
      counters: this.#deps.counters,
      nowMs: this.#deps.nowMs,
      announce: WEFT_SETTINGS,
      limits: this.#deps.wireLimits,
      onSettings: (peer) => this.#settings(peer),
      onGoaway: () => {
        this.draining = true;
        this.#pool.serve();
      },
      onClosed: (detail) => {
        this.#detail ||= detail;
        this.#lost('connect');
      },
    });
    pipe.sink = new CodecSink(this.connection, pipe, this.#deps.ticker, () => this.#lost('connect'));
    pipe.settle();
  };

  /** The peer has judged our certificate and speaks: only now may anything be sent. */
  #settings(peer: ReadonlyMap<number, number>): void {
    if (this.ready || this.dead) return;
    this.#deadline.cancel();
    this.weft = peer.get(WEFT_SETTING) === 1;
    if (this.weft) {
      const { linkResetBurst, linkResetPerSecond } = this.#deps.limits;
      (this.connection as Http2Connection).trustProxy(linkResetBurst, linkResetPerSecond);
    }
    this.ready = true;
    this.idleSinceMs = this.#deps.nowMs();
    this.#pingAtMs = this.idleSinceMs;
    this.#pool.linkReady();
  }

  #error = (error: Error & { code?: string }): void => {
    this.#detail ||= error.code && !error.code.startsWith('ERR_') ? error.code : error.message;
  };
  #closed = (): void => this.#lost('connect');

  #lost(reason: 'connect' | 'timeout'): void {
    if (this.dead) return;
    this.dead = true;
    this.#deadline.cancel();
    this.#pool.linkLost(this, reason, this.#detail || 'connection closed before the peer answered');
  }
}
