/** The data path of one sidecar or gateway, put together: listeners, links, pools. It knows nothing of where plans come from. */
import { randomFillSync } from 'node:crypto';
import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import { performance } from 'node:perf_hooks';
import { type Logger, type Random, systemRandom, WeftError } from '@weft/base';
import { type Snapshot, sweep } from '@weft/engine';
import type { Identity } from '@weft/identity';
import { outboundClusterName } from '@weft/plan';
import { IdSource } from '@weft/telemetry';
import type { Bind } from './bootstrap.ts';
import { Core } from './core.ts';
import { Gateway } from './gateway/listeners.ts';
import { linkStream } from './inbound/links.ts';
import { InboundListener } from './inbound/listener.ts';
import { defaultLimitsOf, type ProxyLimits } from './limits.ts';
import { Links } from './link/links.ts';
import { type ProbedService, probeService } from './link/probe.ts';
import { LinkServer } from './link/server.ts';
import { type Connector, loopbackConnector, plainConnector } from './net/dial.ts';
import { Ticker, TimerWheel } from './net/timers.ts';
import { onSocketError } from './net/turn.ts';
import { ReferenceIndex } from './observe/references.ts';
import type { Observer } from './observe/types.ts';
import { HealthChecks } from './outbound/health-checks.ts';
import { OutboundListener } from './outbound/listener.ts';
import { ServicesInUse } from './outbound/services-in-use.ts';
import { MemorySensor } from './overload/memory.ts';
import { Overload, shedLargest } from './overload/overload.ts';
import type { ProxyCounts } from './state.ts';
import { Upstreams } from './upstream/upstreams.ts';

const MEMORY_SAMPLE_MS = 250;
const LAST_SPANS_MS = 1000;

export interface DataPlaneOptions {
  address: string;
  /** The workload's IPv6 address, where it has one beside `address`. */
  address6?: string | undefined;
  capture: 'transparent' | 'explicit';
  /**
   * Of a sidecar; a gateway has `mesh` alone, where workloads of the mesh come to it. What stands for the sidecar of a
   * workload that left the mesh has `outbound` alone, and needs no identity.
   */
  bind: { outbound?: Bind; inbound?: Bind; mesh?: Bind };
  /** Makes it a gateway, which listens at this address, on the ports of its plan alone. */
  gateway?: { host: string };
  proxySecret?: string;
  observer: Observer;
  /** Where the rules of the plan stand. */
  references?: ReferenceIndex;
  logger: Logger;
  random?: Random;
  connector?: Connector;
  /** Of this machine, to workloads of the mesh on others. */
  entrance?: Bind | undefined;
  originalDestination?: (socket: Socket) => { host: string; port: number } | undefined;
  limits?: Partial<ProxyLimits>;
  /** Names of the endpoints of all services in use, each time that they are others. */
  onServicesInUse?: (names: readonly string[]) => void;
}

export class DataPlane {
  readonly core: Core;
  readonly outbound: OutboundListener;
  readonly inbound: InboundListener;
  readonly servicesInUse: ServicesInUse;
  readonly #gateway: Gateway | undefined;
  #options: DataPlaneOptions;
  #mesh: LinkServer | undefined;
  #captured: Server | undefined;
  #workload = new Map<number, Server>();
  /** As it was given. */
  #given: Identity | undefined;
  /** With what the plan says of links. */
  #identity: Identity | undefined;
  #bound = false;
  #memoryTimer: NodeJS.Timeout | undefined;

  constructor(options: DataPlaneOptions) {
    this.#options = options;
    const { logger } = options;
    const report = (error: unknown): void => {
      logger.error(
        { error: error instanceof Error ? (error.stack ?? error.message) : String(error) },
        'internal error',
      );
      options.observer.count('internal_error');
    };
    onSocketError(report);
    const timers = new TimerWheel(report);
    const ticker = new Ticker(report);
    const explicit = options.capture === 'explicit';
    const connector = options.connector ?? (explicit ? loopbackConnector(options.address) : plainConnector);
    const nowMs = (): number => performance.now();
    const wallMs = (): number => Date.now();
    this.core = new Core({
      address: options.address,
      address6: options.address6,
      explicit: options.capture === 'explicit',
      gateway: options.gateway !== undefined,
      logger,
      observer: options.observer,
      references: options.references ?? new ReferenceIndex(),
      random: options.random ?? systemRandom,
      ids: new IdSource((bytes) => void randomFillSync(bytes)),
      timers,
      ticker,
      connector,
      entrance: options.entrance,
      nowMs,
      wallMs,
      limits: { ...defaultLimitsOf(options.gateway ? 'gateway' : 'sidecar'), ...options.limits },
    });
    const { counters, limits, wireLimits } = this.core;
    this.core.overload = this.#watchMemory();
    this.core.upstreams = new Upstreams({ connector, timers, ticker, counters, nowMs, wireLimits });
    this.core.links = new Links({
      connector,
      entrance: options.entrance,
      timers,
      ticker,
      counters,
      nowMs,
      wallMs,
      logger,
      limits,
      wireLimits,
      identity: () => this.#identity,
    });
    this.outbound = new OutboundListener(this.core, {
      port: options.bind.outbound?.port ?? 0,
      explicit: options.capture === 'explicit',
      secret: options.proxySecret,
      originalDestination: options.originalDestination ?? (() => undefined),
    });
    this.inbound = new InboundListener(this.core, this.outbound.sessions);
    this.#gateway = options.gateway && new Gateway(this.core, options.gateway.host, this.outbound.sessions);
    new HealthChecks(this.core);
    this.servicesInUse = new ServicesInUse({
      snapshot: () => this.core.snapshot,
      limits,
      counters,
      onChange: options.onServicesInUse ?? (() => {}),
    });
    ticker.add(this.servicesInUse);
    ticker.add({ tick: (now) => this.core.snapshot && sweep(this.core.snapshot, now) });
  }

  #watchMemory(): Overload {
    const { core } = this;
    const sensor = new MemorySensor(core.limits.memoryBytes);
    const overload = new Overload({
      limits: core.limits,
      read: () => sensor.read(core.nowMs()),
      count: core.counters.count,
      logger: core.logger,
      nowMs: core.nowMs,
      goaway: () => {
        this.outbound.served.drain();
        this.inbound.served.drain();
        this.#gateway?.goaway();
        this.#mesh?.goaway();
      },
      shed: (bytes) => shedLargest([...core.exchanges, ...this.outbound.sessions], bytes),
    });
    this.#memoryTimer = setInterval(() => overload.sample(), MEMORY_SAMPLE_MS);
    this.#memoryTimer.unref();
    return overload;
  }

  /** First and every later identity. Links made with the old one are replaced. */
  setIdentity(given: Identity): void {
    this.#given = given;
    const settings = this.core.snapshot?.tls;
    const identity = settings
      ? { ...given, tls: { curves: settings.meshCurves, cipherSuites: settings.meshCipherSuites } }
      : given;
    this.#identity = identity;
    const gateway = this.#gateway;
    if (!gateway) this.inbound.rotate(identity);
    if (gateway && !this.#options.bind.mesh) {
      this.core.links.rotate();
      return;
    }
    if (this.#mesh) this.#mesh.rotate(identity);
    else {
      const { core } = this;
      this.#mesh = new LinkServer(identity, {
        ticker: core.ticker,
        counters: core.counters,
        nowMs: core.nowMs,
        wallMs: core.wallMs,
        logger: core.logger,
        limits: core.limits,
        wireLimits: core.wireLimits,
        admit: (socket) => core.admit(socket),
        onStream: (peer, stream, head, end) =>
          gateway
            ? gateway.linkStream(peer, stream, head, end)
            : linkStream(core, this.inbound, this.outbound.sessions, peer, stream, head, end),
      });
    }
    this.core.links.rotate();
  }

  apply(snapshot: Snapshot, epoch: bigint): void {
    const before = this.core.snapshot;
    this.core.apply(snapshot, epoch);
    // Links are made anew, by what the settings say now.
    if (this.#given && before?.tls !== snapshot.tls) this.setIdentity(this.#given);
    if (before && (before.authorization !== snapshot.authorization || before.inbound !== snapshot.inbound)) {
      for (const session of [...this.outbound.sessions]) session.rejudge?.(snapshot);
    }
    this.#gateway?.apply(snapshot);
    if (this.#bound) this.#workloadPorts(snapshot);
  }

  /** Binds everything. Needs an identity. Rejects with `proxy.listen`, naming the address. */
  async listen(): Promise<void> {
    const options = this.#options;
    const { bind, capture, originalDestination } = options;
    if (this.#gateway) {
      if (this.#mesh && bind.mesh) await listen(this.#mesh.server, bind.mesh);
      await this.#gateway.listen();
      return;
    }
    if (!bind.outbound) throw new WeftError('proxy.bind', 'a sidecar needs bind.outbound');
    if (bind.mesh && !this.#mesh)
      throw new WeftError('proxy.identity', 'the proxy has no identity yet: it cannot listen for mesh links');
    await listen(this.outbound.server, bind.outbound);
    // What IPv6 redirects comes to its own loopback address.
    if (capture === 'transparent' && options.address6 && bind.outbound.host === '127.0.0.1')
      await listen(this.outbound.server6, { host: '::1', port: bind.outbound.port });
    if (this.#mesh && bind.mesh) await listen(this.#mesh.server, bind.mesh);
    if (capture === 'transparent' && bind.inbound && originalDestination) {
      this.#captured = this.inbound.captured(originalDestination);
      await listen(this.#captured, bind.inbound);
    }
    this.#bound = true;
    if (this.core.snapshot) this.#workloadPorts(this.core.snapshot);
  }

  /** Explicit capture: the workload's ports are served here, the application listens elsewhere. */
  #workloadPorts(snapshot: Snapshot): void {
    if (this.#options.capture !== 'explicit') return;
    const { address } = this.#options;
    for (const [port, server] of this.#workload) {
      if (snapshot.inbound.has(port)) continue;
      server.close();
      this.#workload.delete(port);
    }
    for (const inbound of snapshot.inbound.values()) {
      const { port, dialAddress, dialPort } = inbound;
      if (port === 0 || this.#workload.has(port) || dialPort === 0) continue;
      if ((dialAddress === '' || dialAddress === address) && dialPort === port) continue;
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
        socket.on('error', () => {});
        if (this.core.admit(socket)) this.inbound.accept(socket, port);
      });
      server.on('error', (error: Error) => {
        this.core.logger.error({ address, port, error: error.message }, 'cannot serve a port of the workload');
        this.#workload.delete(port);
      });
      this.#workload.set(port, server);
      server.listen(port, address);
    }
  }

  /** Does a handshake with each endpoint of a service, as a link would; undefined where the plan has no such service. */
  async probe(host: string, port: number): Promise<ProbedService | undefined> {
    const { core } = this;
    const cluster = core.snapshot?.clusters.get(outboundClusterName(port, '', host));
    const identity = this.#identity;
    if (!cluster || !identity) return undefined;
    return probeService(core, cluster, identity);
  }

  counts(): ProxyCounts {
    const links = this.core.links.counts();
    return {
      downstream:
        this.outbound.served.size +
        this.inbound.served.size +
        this.outbound.sessions.size +
        (this.#gateway?.connections ?? 0),
      links: links.links + (this.#mesh?.open ?? 0),
      linkStreams: links.streams + (this.#mesh?.streams ?? 0),
      upstream: this.core.upstreams.open,
      inbound: this.#inboundRunning(),
    };
  }

  /** Takes nothing new, finishes what runs, and closes the rest at the deadline. Resolves when all is closed. */
  async drain(deadlineMs: number): Promise<void> {
    const { core } = this;
    core.draining = true;
    const end = performance.now() + deadlineMs;
    this.#captured?.close();
    for (const server of this.#workload.values()) server.close();
    this.#mesh?.server.close();
    this.#mesh?.drain();
    this.inbound.served.drain();
    this.#gateway?.drain();
    // The application may still need its way out while it finishes its own requests.
    while (performance.now() < end && (this.#running() || this.outbound.served.exchanges > 0)) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    // Spans of what ended last; a collector that is away is not waited for.
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, LAST_SPANS_MS);
    });
    await Promise.race([core.tracer.finish(), late]);
    clearTimeout(timer);
    this.close();
  }

  #running(): boolean {
    return this.#inboundRunning() + this.outbound.sessions.size > 0;
  }

  /** Requests and tunnels that others have open to this workload. */
  #inboundRunning(): number {
    return (this.#mesh?.streams ?? 0) + this.inbound.served.exchanges + (this.#gateway?.exchanges ?? 0);
  }

  /** Closes everything now. */
  close(): void {
    clearInterval(this.#memoryTimer);
    this.outbound.server.close();
    this.outbound.server6.close();
    this.#captured?.close();
    for (const server of this.#workload.values()) server.close();
    for (const session of [...this.outbound.sessions]) session.destroy('shutting down');
    this.outbound.served.drain();
    this.inbound.served.drain();
    this.#mesh?.destroy();
    this.#gateway?.close();
    this.core.tracer.close();
    this.core.links.destroy();
    this.core.upstreams.close();
    this.core.ticker.close();
    this.core.timers.close();
  }
}

function listen(server: Server, bind: Bind): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void =>
      reject(
        new WeftError('proxy.listen', `cannot listen on ${bind.host}:${bind.port}: ${error.message}`, { cause: error }),
      );
    server.once('error', failed);
    server.listen({ host: bind.host, port: bind.port, backlog: 4096 }, () => {
      server.off('error', failed);
      server.on('error', () => {});
      resolve();
    });
  });
}
