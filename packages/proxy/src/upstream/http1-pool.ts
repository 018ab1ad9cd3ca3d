/** Keep-alive HTTP/1.1 connections to one address: most recently used first, so that a burst's extra ones age out. */
import type { Head, Stream, StreamHandler, WireCounters, WireLimits } from '@weft/wire';
import { Http1Client } from '@weft/wire';
import type { Dialer } from '../net/dial.ts';
import { CodecSink, type Pipe } from '../net/pipe.ts';
import type { Ticker, Ticking, TimerWheel } from '../net/timers.ts';
import type { Asker, Lane, LanePool } from './lane.ts';

export interface PoolSettings {
  connectTimeoutMs: number;
  /** A connection that was idle so long is closed. Applications often close after 5 s, so the default is below that. */
  idleMs: number;
  maxConnections: number;
  maxPending: number;
  maxRequestsPerConnection: number;
  /** An older connection takes no further request. */
  maxDurationMs: number;
  /** Streams at once on an HTTP/2 connection. */
  maxStreams: number;
  /** How often an HTTP/2 connection is asked whether it lives, and how long its answer may take. */
  pingEveryMs: number;
  pingTimeoutMs: number;
}

export const defaultPoolSettings: Readonly<PoolSettings> = Object.freeze({
  connectTimeoutMs: 10_000,
  idleMs: 4000,
  maxConnections: Number.POSITIVE_INFINITY,
  maxPending: Number.POSITIVE_INFINITY,
  maxRequestsPerConnection: Number.POSITIVE_INFINITY,
  maxDurationMs: Number.POSITIVE_INFINITY,
  maxStreams: 100,
  pingEveryMs: Number.POSITIVE_INFINITY,
  pingTimeoutMs: 20_000,
});

export interface PoolDeps {
  timers: TimerWheel;
  ticker: Ticker;
  counters: WireCounters;
  nowMs: () => number;
  wireLimits: WireLimits;
}

class Http1Lane implements Lane {
  readonly client: Http1Client;
  readonly weft = false;
  requests = 0;
  idleSinceMs = 0;
  /** Stands among the idle ones. */
  listed = false;
  readonly bornMs: number;
  dead = false;
  constructor(pool: Http1Pool, pipe: Pipe, deps: PoolDeps) {
    this.bornMs = deps.nowMs();
    this.client = new Http1Client({
      output: pipe,
      counters: deps.counters,
      limits: deps.wireLimits,
      nowMs: deps.nowMs,
      onIdle: () => pool.idle(this),
      onClosed: () => pool.closed(this),
    });
    pipe.sink = new CodecSink(this.client, pipe, deps.ticker, () => pool.closed(this));
    pipe.settle?.();
  }
  get reused(): boolean {
    return this.requests > 1;
  }
  request(head: Head, end: boolean, handler: StreamHandler): Stream {
    this.requests++;
    return this.client.request(head, end, handler);
  }
}

export class Http1Pool implements LanePool, Ticking {
  #dial: Dialer;
  #deps: PoolDeps;
  #settings: PoolSettings;
  #idle: Http1Lane[] = [];
  #all = new Set<Http1Lane>();
  #connecting = 0;
  #waiting: Asker[] = [];
  #closed = false;
  /** When it was ticked last: as exact as what is looked at once a second needs it. */
  #tickedMs: number;

  constructor(dial: Dialer, deps: PoolDeps, settings: PoolSettings = defaultPoolSettings) {
    this.#dial = dial;
    this.#deps = deps;
    this.#settings = settings;
    this.#tickedMs = deps.nowMs();
    deps.ticker.add(this);
  }

  get open(): number {
    return this.#all.size;
  }
  /** No connection is open or on its way. */
  get empty(): boolean {
    return this.#all.size + this.#connecting + this.#waiting.length === 0;
  }

  /** Other settings, for what comes from now on. */
  configure(settings: PoolSettings): void {
    this.#settings = settings;
    while (this.#waiting.length > this.#connecting && this.#all.size + this.#connecting < settings.maxConnections)
      this.#connect();
  }

  ask(asker: Asker): void {
    const lane = this.#takeIdle();
    if (lane) {
      asker.onLane(lane);
      return;
    }
    const room = this.#all.size + this.#connecting < this.#settings.maxConnections;
    if (!room && this.#waiting.length >= this.#settings.maxPending) {
      asker.onUnavailable('overflow', 'overflow');
      return;
    }
    this.#waiting.push(asker);
    if (room) this.#connect();
  }

  /** A lane's exchange is over and it may take another. */
  idle(lane: Http1Lane): void {
    if (lane.dead) return;
    const spent = lane.requests >= this.#settings.maxRequestsPerConnection || this.#old(lane);
    if (this.#closed || !lane.client.reusable || spent) {
      lane.client.drain();
      return;
    }
    const next = this.#nextWaiting();
    if (next) {
      next.onLane(lane);
      return;
    }
    if (lane.listed) return;
    lane.listed = true;
    lane.idleSinceMs = this.#tickedMs;
    this.#idle.push(lane);
  }

  closed(lane: Http1Lane): void {
    if (lane.dead) return;
    lane.dead = true;
    this.#all.delete(lane);
    const i = this.#idle.indexOf(lane);
    if (i >= 0) this.#idle.splice(i, 1);
    // Those who wait for a place under maxConnections.
    if (this.#waiting.length > this.#connecting && this.#all.size + this.#connecting < this.#settings.maxConnections) {
      this.#connect();
    }
  }

  tick(): void {
    this.#tickedMs = this.#deps.nowMs();
    const limit = this.#tickedMs - this.#settings.idleMs;
    // Oldest first, as the list is a stack.
    while (this.#idle.length > 0 && this.#idle[0].idleSinceMs < limit) {
      const lane = this.#idle.shift() as Http1Lane;
      lane.listed = false;
      lane.client.drain();
    }
    for (const lane of [...this.#idle]) {
      if (!this.#old(lane)) continue;
      this.#idle.splice(this.#idle.indexOf(lane), 1);
      lane.listed = false;
      lane.client.drain();
    }
  }

  #old(lane: Http1Lane): boolean {
    const { maxDurationMs } = this.#settings;
    return maxDurationMs !== Number.POSITIVE_INFINITY && this.#deps.nowMs() - lane.bornMs >= maxDurationMs;
  }

  /** Closes idle connections now, others when their exchange ends. */
  close(): void {
    this.#closed = true;
    this.#deps.ticker.delete(this);
    this.#idle = [];
    for (const lane of [...this.#all]) lane.client.drain();
  }

  #takeIdle(): Http1Lane | undefined {
    for (;;) {
      const lane = this.#idle.pop();
      if (!lane) return undefined;
      lane.listed = false;
      if (lane.dead) continue;
      if (this.#old(lane)) lane.client.drain();
      else if (lane.client.idle && lane.client.reusable) return lane;
    }
  }

  #nextWaiting(): Asker | undefined {
    for (;;) {
      const asker = this.#waiting.shift();
      if (!asker?.abandoned) return asker;
    }
  }

  #connect(): void {
    this.#connecting++;
    this.#dial(this.#settings.connectTimeoutMs, {
      connected: (pipe) => {
        this.#connecting--;
        const lane = new Http1Lane(this, pipe, this.#deps);
        this.#all.add(lane);
        const asker = this.#nextWaiting();
        if (asker) asker.onLane(lane);
        else this.idle(lane);
      },
      failed: (reason, detail) => {
        this.#connecting--;
        // One attempt failed: one asker hears it; the others have attempts of their own, or none is left.
        this.#nextWaiting()?.onUnavailable(reason, detail);
        if (this.#connecting === 0 && this.#all.size === 0) {
          for (let a = this.#nextWaiting(); a; a = this.#nextWaiting()) a.onUnavailable(reason, detail);
        }
      },
    });
  }
}
