/** The ports of a gateway: opened and closed as the plan says, with TLS where it says so, and HTTP on all of them. */
import { createServer, type Server, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { hostPort, WeftError } from '@weft/base';
import { findGatewayServer, type GatewayPortView, type GatewayServerView, type Snapshot } from '@weft/engine';
import type { Core } from '../core.ts';
import { Served, serveHttp } from '../http/serve.ts';
import { codecOf, Detector } from '../net/detect.ts';
import { putBack, readClientHello } from '../net/hello.ts';
import type { HoldSink } from '../net/pipe.ts';
import { ProxyHeaderSink } from '../net/proxy-header.ts';
import { SocketPipe } from '../net/socket-output.ts';
import type { Ticking } from '../net/timers.ts';
import { GatewayExchange, type GatewayVia } from './exchange.ts';
import { TlsEnd } from './tls.ts';

/** A connection on which nothing passed for so long is asked by TCP whether it still has another end. */
const KEEP_ALIVE_MS = 60_000;

/** One port that is open, or is to be. */
class GatewayPort {
  readonly port: number;
  readonly served = new Served();
  readonly sockets = new Set<Socket>();
  readonly server: Server;
  state: 'closed' | 'opening' | 'open' = 'closed';
  readonly #core: Core;
  /** Clients of TLS connections that came by a balancer, by the balancer's address and port. */
  readonly #clients = new Map<string, { address: string; port: number }>();
  /** By the server's ref. */
  readonly #tls = new Map<string, TlsEnd>();

  constructor(core: Core, port: number) {
    this.#core = core;
    this.port = port;
    this.server = createServer(
      // Visitors that vanished without a word are found out; those with HTTP/2 are asked by PING.
      { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS },
      (socket) => this.#accept(socket),
    );
  }

  listen(host: string): Promise<void> {
    this.state = 'opening';
    return new Promise((resolve, reject) => {
      const failed = (error: NodeJS.ErrnoException): void => {
        const hint =
          error.code === 'EACCES'
            ? '; ports below 1024 need root: a Service of the gateway can lead to another by its targetPort'
            : '';
        this.state = 'closed';
        reject(new WeftError('proxy.listen', `cannot listen on ${host}:${this.port}: ${error.message}${hint}`));
      };
      this.server.once('error', failed);
      this.server.listen({ host, port: this.port, backlog: 4096 }, () => {
        this.state = 'open';
        this.server.off('error', failed);
        this.server.on('error', () => {});
        resolve();
      });
    });
  }

  /** Certificates of the plan in force. */
  apply(snapshot: Snapshot): void {
    const servers = snapshot.gateways.get(this.port)?.servers;
    for (const ref of this.#tls.keys()) if (!servers?.get(ref)?.server.tls) this.#tls.delete(ref);
    for (const [ref, { server }] of servers ?? []) {
      if (!server.tls) continue;
      const secret = snapshot.secrets.get(server.tls.secret);
      if (!secret) continue;
      const end = this.#tls.get(ref);
      if (end) {
        end.update(server.tls, secret);
        continue;
      }
      try {
        this.#tls.set(ref, new TlsEnd(this.#core, server.tls, secret, (socket) => this.#secure(socket, ref)));
      } catch (error) {
        this.#core.observer.count('gateway_certificate_refused');
        this.#core.logger.error(
          { secret: secret.ref, port: this.port, error: (error as Error).message },
          'a certificate cannot be used: nothing is served with it',
        );
      }
    }
  }

  /** Takes no new connections, and ends those that are open when their requests are done. */
  drain(): void {
    this.server.close();
    this.state = 'closed';
    this.served.drain();
  }

  close(): void {
    this.drain();
    for (const socket of this.sockets) socket.destroy();
  }

  #accept(socket: Socket): void {
    const core = this.#core;
    socket.on('error', () => {});
    if (!core.admit(socket)) return;
    if (this.sockets.size >= core.limits.maxConnectionsPerListener) {
      core.observer.count('gateway_connections_overflow');
      socket.destroy();
      return;
    }
    this.sockets.add(socket);
    socket.once('close', () => this.sockets.delete(socket));
    const view = core.snapshot?.gateways.get(this.port);
    if (!view) {
      socket.resetAndDestroy();
      return;
    }
    const pipe = new SocketPipe(socket, core.ticker, core.limits.bufferBytes);
    if (!core.snapshot?.self?.proxyProtocol) {
      this.#detect(pipe, view);
      return;
    }
    new ProxyHeaderSink(pipe, core, (hold) => hold.release(pipe, this.#detect(pipe, view)));
  }

  #detect(pipe: SocketPipe, view: GatewayPortView): Detector {
    const core = this.#core;
    const plain = [...view.servers.values()].find((s) => !s.server.tls);
    return new Detector(pipe, core, undefined, (kind, hold) => {
      if (plain) {
        // Whatever it is, it gets an HTTP answer.
        const codec = codecOf(kind, plain.server.protocol, hold) ?? 'http1';
        this.#serve(pipe, hold, plain.server.ref, codec, false, undefined);
      } else if (kind === 'tls') {
        readClientHello(pipe, hold, core, (hello, held) => this.#choose(pipe, held, hello?.sni));
      } else {
        core.observer.count('gateway_plaintext_refused');
        pipe.abort();
      }
    });
  }

  /** Hands a connection to the server whose name the client asked for. */
  #choose(pipe: SocketPipe, hold: HoldSink, sni: string | undefined): void {
    const core = this.#core;
    const view = core.snapshot?.gateways.get(this.port);
    const server = view && findGatewayServer(view, sni ?? '');
    const end = server && this.#tls.get(server.server.ref);
    if (!end || hold.lost !== undefined) {
      core.observer.count('gateway_server_name_refused');
      pipe.abort();
      return;
    }
    const socket = pipe.release();
    if (core.snapshot?.self?.proxyProtocol) {
      const key = clientKey(socket);
      this.#clients.set(key, { address: pipe.remoteAddress, port: pipe.remotePort });
      socket.once('close', () => this.#clients.delete(key));
    }
    putBack(socket, hold);
    end.handshake(socket);
  }

  #secure(socket: TLSSocket, ref: string): void {
    const pipe = new SocketPipe(socket, this.#core.ticker, this.#core.limits.bufferBytes);
    const client = this.#clients.get(clientKey(socket));
    if (client) {
      pipe.remoteAddress = client.address;
      pipe.remotePort = client.port;
    }
    const kind = socket.alpnProtocol === 'h2' ? 'http2' : 'http1';
    this.#serve(
      pipe,
      undefined,
      ref,
      kind,
      true,
      typeof socket.servername === 'string' ? socket.servername : undefined,
    );
  }

  #serve(
    pipe: SocketPipe,
    hold: HoldSink | undefined,
    ref: string,
    kind: 'http1' | 'http2',
    secure: boolean,
    sni: string | undefined,
  ): void {
    const core = this.#core;
    const { port } = this;
    const { remoteAddress, remotePort } = pipe;
    const via: GatewayVia = {
      remoteIp: remoteAddress,
      remote: hostPort(remoteAddress, remotePort),
      httpVersion: kind === 'http1' ? 'HTTP/1.1' : 'HTTP/2',
      secure,
      port,
      sni,
    };
    const scheme = secure ? 'https' : 'http';
    const acceptHttp10 = core.snapshot?.self?.acceptHttp10 ?? false;
    serveHttp(
      core,
      this.served,
      kind,
      pipe,
      hold,
      (stream, head, end) => {
        // The newest plan, also on a connection that is older than it.
        const snapshot = core.snapshot!;
        const server: GatewayServerView | undefined = snapshot.gateways.get(port)?.servers.get(ref);
        return new GatewayExchange(core, snapshot, stream, head, end, via).serve(server);
      },
      { scheme, acceptHttp10 },
    );
  }
}

function clientKey(socket: Socket): string {
  return `${socket.remoteAddress}|${socket.remotePort}`;
}

export class Gateway implements Ticking {
  readonly #core: Core;
  readonly #host: string;
  readonly #ports = new Map<number, GatewayPort>();
  /** Ports that left the plan, until their last connection is closed. */
  readonly #leaving = new Set<GatewayPort>();
  #started = false;

  constructor(core: Core, host: string) {
    this.#core = core;
    this.#host = host;
  }

  get connections(): number {
    let n = 0;
    for (const p of [...this.#ports.values(), ...this.#leaving]) n += p.sockets.size;
    return n;
  }

  get exchanges(): number {
    let n = 0;
    for (const p of [...this.#ports.values(), ...this.#leaving]) n += p.served.exchanges;
    return n;
  }

  /** Opens the ports of the plan in force. Rejects with `proxy.listen` where one cannot be opened. */
  async listen(): Promise<void> {
    if (this.#core.snapshot) this.#follow(this.#core.snapshot);
    for (const port of this.#ports.values()) await port.listen(this.#host);
    this.#started = true;
    this.#core.ticker.add(this);
  }

  /** Brings ports and certificates to a new plan. */
  apply(snapshot: Snapshot): void {
    if (!this.#started) return;
    this.#follow(snapshot);
    this.#openAll();
  }

  #follow(snapshot: Snapshot): void {
    for (const [number, port] of this.#ports) {
      if (snapshot.gateways.has(number)) continue;
      this.#ports.delete(number);
      this.#leaving.add(port);
      port.drain();
    }
    for (const number of snapshot.gateways.keys()) {
      if (this.#ports.has(number)) continue;
      this.#ports.set(number, new GatewayPort(this.#core, number));
    }
    for (const port of this.#ports.values()) port.apply(snapshot);
  }

  /** Once a second: opens what a newer plan added, or could not be opened before. */
  tick(): void {
    for (const port of this.#leaving) if (port.sockets.size === 0) this.#leaving.delete(port);
    this.#openAll();
  }

  #openAll(): void {
    for (const port of this.#ports.values()) {
      if (port.state !== 'closed') continue;
      port.listen(this.#host).catch((error: Error) => {
        this.#core.observer.count('gateway_listen_failed');
        this.#core.logger.error({ port: port.port, error: error.message }, 'a port of the gateway cannot be opened');
      });
    }
  }

  drain(): void {
    this.#started = false;
    this.#core.ticker.delete(this);
    for (const port of [...this.#ports.values(), ...this.#leaving]) port.drain();
  }

  close(): void {
    this.drain();
    for (const port of [...this.#ports.values(), ...this.#leaving]) port.close();
  }
}
