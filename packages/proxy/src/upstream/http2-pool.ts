/** HTTP/2 over plaintext with prior knowledge (h2c) to one address: applications that speak gRPC or HTTP/2. */
import type { Head, Stream, StreamHandler } from '@weft/wire';
import { Http2Connection } from '@weft/wire';
import type { Dialer } from '../net/dial.ts';
import { CodecSink, type Pipe } from '../net/pipe.ts';
import type { Ticking } from '../net/timers.ts';
import { endOfTurn } from '../net/turn.ts';
import { defaultPoolSettings, type PoolDeps, type PoolSettings } from './http1-pool.ts';
import type { Asker, Lane, LanePool } from './lane.ts';

class Http2Lane implements Lane {
  connection!: Http2Connection;
  readonly weft = false;
  requests = 0;
  idleSinceMs = 0;
  bornMs = 0;
  dead = false;
  going = false;
  pipe: Pipe;
  /** When it was asked last whether it lives; `pingOpen`: it has not answered. */
  pingAtMs = 0;
  pingOpen = false;
  constructor(pipe: Pipe) {
    this.pipe = pipe;
  }
  get reused(): boolean {
    return this.requests > 1;
  }
  request(head: Head, end: boolean, handler: StreamHandler): Stream {
    this.requests++;
    return this.connection.request(head, end, handler);
  }
}

export class Http2Pool implements LanePool, Ticking {
  #dial: Dialer;
  #deps: PoolDeps;
  #settings: PoolSettings;
  #lanes: Http2Lane[] = [];
  #connecting = 0;
  #waiting: Asker[] = [];
  /** Streams that a connection of this application takes, as far as known. */
  #perConnection: number;
  #serveScheduled = false;

  constructor(dial: Dialer, deps: PoolDeps, settings: PoolSettings) {
    this.#dial = dial;
    this.#deps = deps;
    this.#settings = settings;
    this.#perConnection = settings.maxStreams;
    deps.ticker.add(this);
  }

  get open(): number {
    return this.#lanes.length;
  }
  /** No connection is open or on its way. */
  get empty(): boolean {
    return this.#lanes.length + this.#connecting + this.#waiting.length === 0;
  }

  /** Other settings, for what comes from now on. */
  configure(settings: PoolSettings): void {
    this.#settings = settings;
  }

  ask(asker: Asker): void {
    const lane = this.#pick();
    if (lane) {
      asker.onLane(lane);
      return;
    }
    if (this.#waiting.length >= this.#settings.maxPending) {
      asker.onUnavailable('overflow', 'overflow');
      return;
    }
    this.#waiting.push(asker);
    this.#grow();
  }

  /** Connects as often as those who wait call for. */
  #grow(): void {
    while (
      this.#connecting * this.#perConnection < this.#waiting.length &&
      this.#lanes.length + this.#connecting < this.#settings.maxConnections
    ) {
      this.#connect();
    }
  }

  /** A stream has ended: whoever waits gets its place at the end of this turn. */
  #room(): void {
    if (this.#waiting.length === 0 || this.#serveScheduled) return;
    this.#serveScheduled = true;
    endOfTurn(() => {
      this.#serveScheduled = false;
      this.#serve();
    });
  }

  tick(): void {
    const now = this.#deps.nowMs();
    for (const lane of [...this.#lanes]) {
      if (this.#silent(lane, now)) continue;
      if (this.#spent(lane, now)) this.#retire(lane);
      else if (lane.connection.open > 0) lane.idleSinceMs = now;
      else if (now - lane.idleSinceMs > this.#settings.idleMs) lane.connection.drain();
    }
    this.#serve();
  }

  /** Asks whether it lives when it is time to; true: it did not answer, and is given up. */
  #silent(lane: Http2Lane, nowMs: number): boolean {
    const { pingEveryMs, pingTimeoutMs } = this.#settings;
    if (lane.pingOpen) {
      if (nowMs - lane.pingAtMs < pingTimeoutMs) return false;
      this.#deps.counters.count('upstream_ping_timeout');
      lane.pipe.destroy('ping timeout');
      lane.connection.closed('ping timeout');
      return true;
    }
    if (nowMs - lane.pingAtMs < pingEveryMs) return false;
    lane.pingAtMs = nowMs;
    lane.pingOpen = true;
    lane.connection.ping(() => {
      lane.pingOpen = false;
    });
    return false;
  }

  close(): void {
    this.#deps.ticker.delete(this);
    for (const lane of [...this.#lanes]) lane.connection.drain();
  }

  #pick(): Http2Lane | undefined {
    const { maxStreams, maxConnections } = this.#settings;
    const now = this.#deps.nowMs();
    let full: Http2Lane | undefined;
    let spent: Http2Lane | undefined;
    for (const lane of this.#lanes) {
      if (lane.dead || lane.going || lane.connection.availableStreams <= 0) continue;
      if (this.#spent(lane, now)) {
        spent = lane;
        continue;
      }
      if (lane.connection.open < maxStreams) return lane;
      full ??= lane;
    }
    if (spent) this.#retire(spent);
    // Where the rule says how many streams are the most, they are; else a full house crowds together.
    return this.#lanes.length >= maxConnections && maxStreams === defaultPoolSettings.maxStreams ? full : undefined;
  }

  /** It is too old, or has carried as many requests as one connection is to. */
  #spent(lane: Http2Lane, nowMs: number): boolean {
    const { maxDurationMs, maxRequestsPerConnection } = this.#settings;
    return nowMs - lane.bornMs >= maxDurationMs || lane.requests >= maxRequestsPerConnection;
  }

  /** Finishes what runs on it and closes. */
  #retire(lane: Http2Lane): void {
    if (lane.going) return;
    lane.going = true;
    lane.connection.drain();
  }

  #serve(): void {
    while (this.#waiting.length > 0) {
      if (this.#waiting[0].abandoned) {
        this.#waiting.shift();
        continue;
      }
      const lane = this.#pick();
      if (!lane) {
        this.#grow();
        return;
      }
      (this.#waiting.shift() as Asker).onLane(lane);
    }
  }

  #connect(): void {
    this.#connecting++;
    const { connectTimeoutMs } = this.#settings;
    this.#dial(connectTimeoutMs, {
      connected: (pipe) => this.#connected(pipe, connectTimeoutMs),
      failed: (reason, detail) => this.#failed(reason, detail),
    });
  }

  #failed(reason: 'connect' | 'timeout', detail: string): void {
    this.#connecting--;
    if (this.#connecting > 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const asker of waiting) if (!asker.abandoned) asker.onUnavailable(reason, detail);
  }

  /** The lane opens with the peer's SETTINGS: what it does not send them over is no HTTP/2, and they may forbid a request. */
  #connected(pipe: Pipe, timeoutMs: number): void {
    const lane = new Http2Lane(pipe);
    let ready = false;
    const lost = (detail: string): void => {
      deadline.cancel();
      if (lane.dead) return;
      lane.dead = true;
      if (!ready) {
        this.#failed('connect', detail);
        return;
      }
      const i = this.#lanes.indexOf(lane);
      if (i >= 0) this.#lanes.splice(i, 1);
      this.#grow();
    };
    const deadline = this.#deps.timers.add(timeoutMs, {
      onTimer: () => {
        if (ready || lane.dead) return;
        lane.dead = true;
        pipe.destroy('no SETTINGS in time');
        lane.connection.closed('no SETTINGS in time');
        this.#failed('timeout', 'no SETTINGS in time');
      },
    });
    lane.connection = new Http2Connection({
      role: 'client',
      output: pipe,
      counters: this.#deps.counters,
      limits: this.#deps.wireLimits,
      nowMs: this.#deps.nowMs,
      onSettings: () => {
        if (ready || lane.dead) return;
        ready = true;
        deadline.cancel();
        this.#connecting--;
        lane.idleSinceMs = this.#deps.nowMs();
        lane.bornMs = lane.idleSinceMs;
        lane.pingAtMs = lane.bornMs;
        this.#perConnection = Math.max(1, Math.min(this.#settings.maxStreams, lane.connection.peerMaxStreams));
        this.#lanes.push(lane);
        this.#serve();
        this.#grow();
      },
      onRoom: () => this.#room(),
      onGoaway: () => {
        lane.going = true;
      },
      onClosed: lost,
    });
    pipe.sink = new CodecSink(lane.connection, pipe, this.#deps.ticker, () => lost('connection closed'));
    pipe.settle?.();
  }
}
