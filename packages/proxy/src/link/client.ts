/**
 * Mesh links as a client: per destination proxy (address, mesh port, identity) few long-lived TLS 1.3 connections that
 * carry every request and tunnel as HTTP/2 streams. They grow with demand, shrink when idle, and are replaced before
 * the certificates they were made with end, the new one first.
 */
import type { Socket } from 'node:net';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import type { Logger } from '@weft/base';
import { checkPeer, clientTlsOptions, type Identity, inTime, peerCertificate } from '@weft/identity';
import type { Head, Stream, StreamHandler, WireCounters, WireLimits } from '@weft/wire';
import { Http2Connection } from '@weft/wire';
import type { ProxyLimits } from '../limits.ts';
import type { Connector } from '../net/dial.ts';
import { CodecSink } from '../net/pipe.ts';
import { SocketPipe } from '../net/socket-output.ts';
import type { Deadline, Ticker, Ticking, TimerOwner, TimerWheel } from '../net/timers.ts';
import type { Asker, Lane, LanePool } from '../upstream/lane.ts';
import type { PoolLimits } from '../upstream/upstreams.ts';
import { PortLanes } from './port-lanes.ts';
import { WEFT_SETTING, WEFT_SETTINGS } from './settings.ts';

export const STREAMS_PER_LINK = 100;
export const MAX_LINKS = 128;
const IDLE_EXTRA_MS = 15_000;
const IDLE_LAST_MS = 300_000;
/** Renew before a certificate's end by a tenth of what was left at the handshake, within these bounds. */
const MARGIN_MIN_MS = 2000;
const MARGIN_MAX_MS = 60_000;
/** Where a certificate is out of its time (a machine slept, a clock jumped), its owner is getting another just now. */
const OUT_OF_TIME = /CERT_HAS_EXPIRED|CERT_NOT_YET_VALID|alert certificate expired/;
const OUT_OF_TIME_RETRY_MS = 200;
/** Wall time that moved so much against the monotonic one has jumped. */
const JUMP_MS = 2000;

export interface LinkDeps {
  connector: Connector;
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

class Link implements Lane, TimerOwner {
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
      raw = deps.connector(pool.host, pool.port);
    } catch (error) {
      this.#detail = (error as Error).message;
      setImmediate(() => this.#lost('connect'));
      return;
    }
    raw.on('error', this.#error);
    const socket = tlsConnect({ socket: raw, ...clientTlsOptions(identity, pool.expected) });
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

/** All links to one destination proxy. */
export class LinkPool implements LanePool, Ticking, TimerOwner {
  readonly host: string;
  readonly port: number;
  readonly expected: ReadonlySet<string>;
  readonly identityId: string;
  #deps: LinkDeps;
  #links: Link[] = [];
  #waiting: Asker[] = [];
  #ports = new Map<number, PortLanes>();
  #timeoutMs = 10_000;
  #emptySinceMs = 0;
  /** Until when who waits goes on waiting for a certificate that is in its time; undefined: none is missed. */
  #certificateByMs: number | undefined;
  #retry: Deadline | undefined;
  /** Wall time less monotonic time, as it was last seen. */
  #drift: number;
  #unsettledUntilMs = 0;
  #onEmpty: (pool: LinkPool) => void;

  constructor(host: string, port: number, identityId: string, deps: LinkDeps, onEmpty: (pool: LinkPool) => void) {
    this.host = host;
    this.port = port;
    this.identityId = identityId;
    this.expected = new Set([identityId]);
    this.#deps = deps;
    this.#onEmpty = onEmpty;
    this.#drift = deps.wallMs() - deps.nowMs();
    deps.ticker.add(this);
  }

  get open(): number {
    return this.#links.length;
  }
  get streams(): number {
    let n = 0;
    for (const link of this.#links) n += link.open;
    return n;
  }

  /** The connect timeout of the cluster that asks; links are shared by clusters, so the last one counts. */
  set connectTimeoutMs(ms: number) {
    this.#timeoutMs = ms;
  }

  /** A lane is a link: for requests where the peer is a Weft proxy, else for tunnels alone. */
  ask(asker: Asker): void {
    const link = this.#pick();
    if (link) {
      hand(asker, link);
      return;
    }
    this.#waiting.push(asker);
    this.#grow();
  }

  /** For requests to a port of the peer's workload, whatever the peer understands. `h2`: what the workload speaks. */
  lanes(port: number, h2: boolean, limits: PoolLimits | undefined): LanePool {
    const key = port * 2 + (h2 ? 1 : 0);
    let lanes = this.#ports.get(key);
    if (lanes) lanes.limits = limits;
    else this.#ports.set(key, (lanes = new PortLanes(this, port, h2, this.#deps, limits)));
    return lanes;
  }

  serve(): void {
    while (this.#waiting.length > 0) {
      if (this.#waiting[0].abandoned) {
        this.#waiting.shift();
        continue;
      }
      const link = this.#pick();
      if (!link) {
        this.#grow();
        return;
      }
      hand(this.#waiting.shift() as Asker, link);
    }
  }

  linkReady(): void {
    this.#certificateByMs = undefined;
    this.#replaceRetiring();
    this.serve();
  }

  linkLost(link: Link, reason: 'connect' | 'timeout', detail: string): void {
    const i = this.#links.indexOf(link);
    if (i >= 0) this.#links.splice(i, 1);
    if (!link.ready) {
      this.#deps.counters.count('link_connect_failed');
      this.#deps.logger.debug({ host: this.host, port: this.port, detail }, 'mesh link failed');
      if (this.#links.some((l) => !l.dead && !l.draining)) return;
      if ((OUT_OF_TIME.test(detail) || this.#jumped()) && this.#awaitCertificate()) return;
      this.#fail(reason, detail);
    } else {
      this.serve();
    }
  }

  #fail(reason: 'connect' | 'timeout', detail: string): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const asker of waiting) if (!asker.abandoned) asker.onUnavailable(reason, detail);
  }

  /**
   * A certificate is missed: who waits does so for another moment, in all as long as for a link. False: that is over, and
   * until there is one nobody waits any more.
   */
  #awaitCertificate(): boolean {
    const now = this.#deps.nowMs();
    if (this.#certificateByMs === undefined) {
      this.#certificateByMs = now + this.#timeoutMs;
      this.#deps.counters.count('link_certificate_awaited');
    }
    if (now >= this.#certificateByMs) return false;
    this.#retry ??= this.#deps.timers.add(OUT_OF_TIME_RETRY_MS, this);
    return true;
  }

  /**
   * Whether the clock has jumped within the time that a link may take. Not all proxies have the new time in the same
   * moment: until they have, one takes another's certificate for one of the past or of the future, and just closes.
   */
  #jumped(): boolean {
    const now = this.#deps.nowMs();
    const drift = this.#deps.wallMs() - now;
    if (Math.abs(drift - this.#drift) > JUMP_MS) this.#unsettledUntilMs = now + this.#timeoutMs;
    this.#drift = drift;
    return now < this.#unsettledUntilMs;
  }

  /** Looks for a certificate again. */
  onTimer(): void {
    this.#retry = undefined;
    this.serve();
  }

  /** The own identity was renewed: all links made with the old one get successors. */
  rotate(): void {
    const current = this.#deps.identity();
    if (current)
      for (const link of [...this.#links]) if (link.identity.bundle !== current.bundle) link.rejudge(current);
    let any = false;
    for (const link of this.#links) {
      if (link.identity !== current) {
        link.retiring = true;
        any = true;
      }
    }
    if (any) this.#startSuccessor();
    this.#certificateByMs = undefined;
    if (this.#waiting.length > 0) this.serve();
  }

  tick(nowMs: number): void {
    const wall = this.#deps.wallMs();
    this.#jumped();
    for (const link of [...this.#links]) link.tick(nowMs, wall);
    this.#startSuccessor();
    let live = 0;
    for (const link of this.#links) if (!link.draining) live++;
    for (const link of this.#links) {
      if (!link.ready || link.draining || link.open > 0) continue;
      const limit = live > 1 ? IDLE_EXTRA_MS : IDLE_LAST_MS;
      if (nowMs - link.idleSinceMs > limit) {
        link.drain();
        live--;
      }
    }
    if (this.#links.length > 0 || this.#waiting.length > 0) this.#emptySinceMs = nowMs;
    else if (this.#emptySinceMs === 0) this.#emptySinceMs = nowMs;
    else if (nowMs - this.#emptySinceMs > IDLE_EXTRA_MS) {
      this.#deps.ticker.delete(this);
      for (const lanes of this.#ports.values()) lanes.close();
      this.#onEmpty(this);
    }
  }

  drain(): void {
    for (const link of this.#links) link.drain();
  }

  destroy(): void {
    this.#retry?.cancel();
    this.#deps.ticker.delete(this);
    for (const lanes of this.#ports.values()) lanes.close();
    for (const link of [...this.#links]) link.destroy();
    this.#links = [];
  }

  /** Fullest link below the mark first, so that turns batch well and others can go idle; then, at the limit, the least full. */
  #pick(): Link | undefined {
    let retiring: Link | undefined;
    let least: Link | undefined;
    for (const link of this.#links) {
      if (!link.usable) continue;
      if (link.retiring) {
        retiring ??= link;
        continue;
      }
      if (link.open < STREAMS_PER_LINK) return link;
      if (!least || link.open < least.open) least = link;
    }
    // Growing happens beside the work: until the new link is up, a busy or an old one serves.
    if (least || retiring) {
      this.#grow();
      return least && least.open < STREAMS_PER_LINK * 2 ? least : (retiring ?? least);
    }
    return undefined;
  }

  #grow(): void {
    if (this.#links.length >= MAX_LINKS) return;
    let connecting = 0;
    for (const link of this.#links) if (!link.ready) connecting++;
    if (connecting > 0 && connecting * STREAMS_PER_LINK >= this.#waiting.length) return;
    const identity = this.#deps.identity();
    if (!identity || !inTime(identity, this.#deps.wallMs())) {
      if (!this.#awaitCertificate()) setImmediate(() => this.#fail('connect', 'no valid certificate'));
      return;
    }
    this.#links.push(new Link(this, this.#deps, identity, this.#timeoutMs));
  }

  #startSuccessor(): void {
    let retiring = false;
    let fresh = false;
    for (const link of this.#links) {
      if (link.draining) continue;
      if (link.retiring) retiring = true;
      else fresh = true;
    }
    if (retiring && !fresh) this.#grow();
    else if (retiring) this.#replaceRetiring();
  }

  #replaceRetiring(): void {
    if (!this.#links.some((l) => l.usable && !l.retiring)) return;
    for (const link of this.#links) if (link.retiring) link.drain();
  }
}

function hand(asker: Asker, link: Link): void {
  if (!link.weft && asker.inside) asker.inside.askInside(asker);
  else asker.onLane(link);
}

/** All link pools of one source identity. */
export class Links {
  #deps: LinkDeps;
  #pools = new Map<string, Map<string, LinkPool>>();

  constructor(deps: LinkDeps) {
    this.#deps = deps;
  }

  /** `identityId`: the SPIFFE id that the peer must prove. */
  pool(host: string, port: number, identityId: string): LinkPool {
    let byIdentity = this.#pools.get(host);
    if (!byIdentity) this.#pools.set(host, (byIdentity = new Map()));
    // One proxy address has one mesh port; a changed port makes a new pool and lets the old one run out.
    let pool = byIdentity.get(identityId);
    if (!pool || pool.port !== port) {
      pool = new LinkPool(host, port, identityId, this.#deps, (p) => {
        const m = this.#pools.get(host);
        if (m?.get(identityId) === p) m.delete(identityId);
        if (m?.size === 0) this.#pools.delete(host);
      });
      byIdentity.set(identityId, pool);
    }
    return pool;
  }

  rotate(): void {
    for (const m of this.#pools.values()) for (const p of m.values()) p.rotate();
  }
  drain(): void {
    for (const m of this.#pools.values()) for (const p of m.values()) p.drain();
  }
  destroy(): void {
    for (const m of this.#pools.values()) for (const p of m.values()) p.destroy();
    this.#pools.clear();
  }
  counts(): { links: number; streams: number } {
    let links = 0;
    let streams = 0;
    for (const m of this.#pools.values()) {
      for (const p of m.values()) {
        links += p.open;
        streams += p.streams;
      }
    }
    return { links, streams };
  }
}
