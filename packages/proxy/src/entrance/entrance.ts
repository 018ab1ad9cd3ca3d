/**
 * The entrance of a machine to the workloads of a mesh that spans several: mesh links come to one address and port, and go
 * on by the server name of their ClientHello. TLS is between the two proxies; an entrance has no key, reads nothing beyond
 * the ClientHello, and changes nothing.
 *
 * From outside, links come to workloads of this machine. From workloads of this machine (whose namespaces may lead nowhere
 * else), links go to the entrances of other machines, and calls to the control plane to where that is.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { type Logger, WeftError } from '@weft/base';
import type { Bind } from '../bootstrap.ts';
import type { ProxyLimits } from '../limits.ts';
import { dialTcp, plainConnector } from '../net/dial.ts';
import { readClientHello } from '../net/hello.ts';
import { HoldSink } from '../net/pipe.ts';
import { SocketPipe } from '../net/socket-output.ts';
import { Ticker, TimerWheel } from '../net/timers.ts';
import { Splice } from '../tcp/splice.ts';
import type { Ways } from './table.ts';

const CONNECT_TIMEOUT_MS = 10_000;
/** How long the way to a machine is looked for that is not known, and how often. */
const LATE_MS = 5000;
const LATE_LOOK_MS = 200;

export interface EntranceOptions {
  /** Where other machines come to. */
  readonly outside: Bind;
  /** Where workloads of this machine come to. */
  readonly inside: Bind;
  /** What comes to `bind` goes to `to` as it is: the way to the control plane. */
  readonly forwards: readonly { readonly bind: Bind; readonly to: Bind }[];
  readonly ways: Pick<Ways, 'find' | 'isName'>;
  readonly limits: Pick<ProxyLimits, 'maxConnections' | 'detectTimeoutMs' | 'tcpIdleTimeoutMs'>;
  readonly count: (name: string) => void;
  readonly logger: Logger;
}

export class Entrance {
  readonly #options: EntranceOptions;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #timers: TimerWheel;
  readonly #ticker: Ticker;

  constructor(options: EntranceOptions) {
    this.#options = options;
    const report = (error: unknown): void => options.logger.error({ error: String(error) }, 'internal error');
    this.#timers = new TimerWheel(report);
    this.#ticker = new Ticker(report);
  }

  /** Rejects with `proxy.listen`, naming the address. */
  async listen(): Promise<void> {
    const { outside, inside, forwards } = this.#options;
    await this.#serve(outside, (socket) => this.#byName(socket, true));
    await this.#serve(inside, (socket) => this.#byName(socket, false));
    for (const { bind, to } of forwards)
      await this.#serve(bind, (socket) => this.#join(new SocketPipe(socket), new HoldSink(), to));
  }

  /** Connections that are open, both sides of a way counted as one. */
  get open(): number {
    return this.#sockets.size;
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#ticker.close();
    this.#timers.close();
  }

  #serve(bind: Bind, take: (socket: Socket) => void): Promise<void> {
    const { limits, count } = this.#options;
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      socket.on('error', () => {});
      if (this.#sockets.size >= limits.maxConnections) {
        count('entrance_connections_overflow');
        socket.destroy();
        return;
      }
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      take(socket);
    });
    this.#servers.push(server);
    return new Promise((resolve, reject) => {
      server.once('error', (cause) => {
        const message = `cannot listen on ${bind.host}:${bind.port}: ${cause.message}`;
        reject(new WeftError('proxy.listen', message, { cause }));
      });
      server.listen({ host: bind.host, port: bind.port, backlog: 4096 }, () => {
        server.on('error', (error) => this.#options.logger.error({ error: String(error) }, 'listener failed'));
        resolve();
      });
    });
  }

  #byName(socket: Socket, fromOutside: boolean): void {
    const { limits, count, ways } = this.#options;
    const pipe = new SocketPipe(socket);
    const held = new HoldSink();
    pipe.sink = held;
    const deps = { timers: this.#timers, counters: { count }, limits };
    readClientHello(pipe, held, deps, (hello, hold) => {
      const name = hello?.sni ?? '';
      const to = ways.find(name, fromOutside);
      if (to) this.#join(pipe, hold, to);
      else if (fromOutside || !ways.isName(name)) this.#refuse(pipe);
      else this.#await(pipe, hold, name, LATE_MS);
    });
  }

  #refuse(pipe: SocketPipe): void {
    this.#options.count('entrance_unknown_destination');
    pipe.abort();
  }

  /** Workloads of a machine that joins now may be known to a proxy a moment before its entrance is known here. */
  #await(pipe: SocketPipe, hold: HoldSink, name: string, leftMs: number): void {
    pipe.sink = hold;
    pipe.pauseReading();
    this.#timers.add(LATE_LOOK_MS, {
      onTimer: () => {
        if (hold.lost !== undefined) return;
        const to = this.#options.ways.find(name, false);
        if (to) this.#join(pipe, hold, to);
        else if (leftMs <= LATE_LOOK_MS) this.#refuse(pipe);
        else this.#await(pipe, hold, name, leftMs - LATE_LOOK_MS);
      },
    });
  }

  #join(pipe: SocketPipe, hold: HoldSink, to: Bind): void {
    const { limits, count } = this.#options;
    pipe.sink = hold;
    pipe.pauseReading();
    dialTcp(plainConnector, to.host, to.port, CONNECT_TIMEOUT_MS, this.#timers, {
      connected: (up) => {
        if (hold.lost !== undefined) {
          up.abort();
          return;
        }
        const splice = new Splice(pipe, up, this.#ticker, () => {}, limits.tcpIdleTimeoutMs);
        up.sink = splice.b;
        hold.release(pipe, splice.a);
        pipe.settle();
        up.settle?.();
        pipe.resumeReading();
      },
      failed: () => {
        count('entrance_connect_failed');
        pipe.abort();
      },
    });
  }
}
