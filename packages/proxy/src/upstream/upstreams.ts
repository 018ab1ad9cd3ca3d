/** All upstreams that are no mesh links: the proxy's own application, destinations without a proxy, TLS begun here. */
import { type Connector, type Dialer, dialTcp } from '../net/dial.ts';
import { type Keepalive, withKeepalive } from '../net/keepalive.ts';
import type { Originator } from '../net/originate.ts';
import type { Ticking } from '../net/timers.ts';
import { defaultPoolSettings, Http1Pool, type PoolDeps, type PoolSettings } from './http1-pool.ts';
import { Http2Pool } from './http2-pool.ts';
import type { LanePool } from './lane.ts';

export interface PoolLimits {
  maxConnections: number;
  maxPending: number;
  connectTimeoutMs: number;
  idleTimeoutMs: number;
  maxRequestsPerConnection: number;
  maxConnectionDurationMs?: number;
  maxConcurrentStreams?: number;
  keepalive?: Keepalive | undefined;
  http2PingIntervalMs?: number;
  http2PingTimeoutMs?: number;
}

/** 0 in a plan means "no limit" or "the default". */
export function poolSettings(limits: PoolLimits | undefined): PoolSettings {
  if (!limits) return defaultPoolSettings;
  return {
    connectTimeoutMs: limits.connectTimeoutMs || defaultPoolSettings.connectTimeoutMs,
    idleMs: limits.idleTimeoutMs || defaultPoolSettings.idleMs,
    maxConnections: limits.maxConnections || Number.POSITIVE_INFINITY,
    maxPending: limits.maxPending || Number.POSITIVE_INFINITY,
    maxRequestsPerConnection: limits.maxRequestsPerConnection || Number.POSITIVE_INFINITY,
    maxDurationMs: limits.maxConnectionDurationMs || Number.POSITIVE_INFINITY,
    maxStreams: limits.maxConcurrentStreams || defaultPoolSettings.maxStreams,
    pingEveryMs: limits.http2PingIntervalMs || Number.POSITIVE_INFINITY,
    pingTimeoutMs: limits.http2PingTimeoutMs || defaultPoolSettings.pingTimeoutMs,
  };
}

/** Pools that nobody asked for so long, and that hold nothing, are forgotten: destinations come and go. */
const FORGET_MS = 60_000;

interface Entry {
  readonly host: string;
  readonly port: number;
  http1: Http1Pool | undefined;
  http2: Http2Pool | undefined;
  /** Of the plan in force when it was asked last. */
  limits: PoolLimits | undefined;
  /** Asked since the last sweep. */
  asked: boolean;
}

export interface UpstreamDeps extends PoolDeps {
  connector: Connector;
}

export class Upstreams implements Ticking {
  #deps: UpstreamDeps;
  #sweptMs = 0;
  #byHost = new Map<string, Map<number, Entry>>();
  /** The one that was asked for last: a workload's own application is asked for again and again. */
  #last: Entry | undefined;
  /** Connections that begin with TLS, by whose it is. */
  #byTls = new Map<Originator, Upstreams>();
  #tls: Originator | undefined;

  /** `tls`: every connection begins with it. */
  constructor(deps: UpstreamDeps, tls?: Originator) {
    this.#deps = deps;
    this.#tls = tls;
    if (!tls) deps.ticker.add(this);
  }

  /** The upstreams that are reached by this TLS. */
  overTls(tls: Originator): Upstreams {
    let upstreams = this.#byTls.get(tls);
    if (!upstreams) this.#byTls.set(tls, (upstreams = new Upstreams(this.#deps, tls)));
    return upstreams;
  }

  pool(host: string, port: number, h2: boolean, limits: PoolLimits | undefined): LanePool {
    const entry = this.#last?.host === host && this.#last.port === port ? this.#last : this.#entry(host, port, limits);
    entry.asked = true;
    if (entry.limits !== limits) {
      // The plan has changed, or another cluster with the same endpoint asks: the last one counts.
      entry.limits = limits;
      const settings = poolSettings(limits);
      entry.http1?.configure(settings);
      entry.http2?.configure(settings);
    }
    if (h2)
      return (entry.http2 ??= new Http2Pool(this.#dialer(host, port, 'h2', entry), this.#deps, poolSettings(limits)));
    return (entry.http1 ??= new Http1Pool(
      this.#dialer(host, port, 'http/1.1', entry),
      this.#deps,
      poolSettings(limits),
    ));
  }

  #entry(host: string, port: number, limits: PoolLimits | undefined): Entry {
    let ports = this.#byHost.get(host);
    if (!ports) this.#byHost.set(host, (ports = new Map()));
    let entry = ports.get(port);
    if (!entry) ports.set(port, (entry = { host, port, http1: undefined, http2: undefined, limits, asked: true }));
    this.#last = entry;
    return entry;
  }

  tick(nowMs: number): void {
    if (nowMs - this.#sweptMs < FORGET_MS) return;
    this.#sweptMs = nowMs;
    this.#forget();
  }

  /** True where nothing is left. */
  #forget(): boolean {
    for (const [host, ports] of this.#byHost) {
      for (const [port, entry] of ports) {
        const empty = (entry.http1?.empty ?? true) && (entry.http2?.empty ?? true);
        if (empty && !entry.asked) {
          entry.http1?.close();
          entry.http2?.close();
          ports.delete(port);
          if (this.#last === entry) this.#last = undefined;
        }
        entry.asked = false;
      }
      if (ports.size === 0) this.#byHost.delete(host);
    }
    for (const [tls, upstreams] of this.#byTls) if (upstreams.#forget()) this.#byTls.delete(tls);
    return this.#byHost.size === 0;
  }

  /** Destinations that are remembered. */
  get size(): number {
    let n = 0;
    for (const ports of this.#byHost.values()) n += ports.size;
    for (const upstreams of this.#byTls.values()) n += upstreams.size;
    return n;
  }

  #dialer(host: string, port: number, alpn: string, entry: Entry): Dialer {
    const { timers, ticker } = this.#deps;
    const plain = withKeepalive(this.#deps.connector, () => entry.limits?.keepalive);
    const connector = this.#tls ? this.#tls.connector(plain, alpn) : plain;
    return (timeoutMs, result) => void dialTcp(connector, host, port, timeoutMs, timers, result, ticker);
  }

  get open(): number {
    let n = 0;
    for (const upstreams of this.#byTls.values()) n += upstreams.open;
    for (const ports of this.#byHost.values())
      for (const e of ports.values()) n += (e.http1?.open ?? 0) + (e.http2?.open ?? 0);
    return n;
  }

  close(): void {
    this.#deps.ticker.delete(this);
    for (const ports of this.#byHost.values()) {
      for (const e of ports.values()) {
        e.http1?.close();
        e.http2?.close();
      }
    }
    this.#byHost.clear();
    this.#last = undefined;
    for (const upstreams of this.#byTls.values()) upstreams.close();
    this.#byTls.clear();
  }
}
