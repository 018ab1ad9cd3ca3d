/** One port of a gateway: who comes in, by which server of the plan, and what ends when that server goes. */
import { createServer, type Server, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { hostPort, WeftError } from '@weft/base';
import {
  authorize,
  findGatewayServer,
  type GatewayPortView,
  type GatewayServerView,
  type Snapshot,
  type TcpRouteView,
} from '@weft/engine';
import { Protocol } from '@weft/plan';
import type { StreamHandler } from '@weft/wire';
import type { Core } from '../core.ts';
import { Served, serveHttp } from '../http/serve.ts';
import type { LinkPeer } from '../link/server.ts';
import { codecOf, Detector } from '../net/detect.ts';
import { putBack, readClientHello } from '../net/hello.ts';
import type { InFlightList } from '../net/in-flight.ts';
import { HoldSink, type Pipe } from '../net/pipe.ts';
import { ProxyHeaderSink } from '../net/proxy-header.ts';
import { SocketPipe } from '../net/socket-output.ts';
import { OutboundTcp } from '../tcp/outbound.ts';
import type { TcpSession } from '../tcp/session.ts';
import { type GatewayVia, gatewayExchange } from './exchange.ts';
import { materialOf, TlsEnd } from './tls.ts';

/** A connection on which nothing passed for so long is asked by TCP whether it still has another end. */
const KEEP_ALIVE_MS = 60_000;
const DEFAULT_DRAIN_MS = 5000;

/** A connection that a server of the plan was chosen for. */
interface Taken {
  readonly ref: string;
  /** Name that its client asked for; undefined without TLS. */
  readonly sni: string | undefined;
  /** Where TLS was ended here: by what. */
  readonly end: TlsEnd | undefined;
  readonly opaque: boolean;
  readonly peer: LinkPeer | undefined;
  leaving: boolean;
  /** Lets what runs on it finish. */
  drain(): void;
  close(why: string): void;
}

export class GatewayPort {
  readonly port: number;
  readonly served = new Served();
  readonly sockets = new Set<Socket>();
  readonly server: Server;
  state: 'closed' | 'opening' | 'open' = 'closed';
  readonly #core: Core;
  readonly #sessions: InFlightList<TcpSession>;
  readonly #taken = new Set<Taken>();
  /** Clients of TLS connections that came by a balancer, by the balancer's address and port. */
  readonly #clients = new Map<string, { address: string; port: number }>();
  /** By the server's ref. */
  readonly #tls = new Map<string, TlsEnd>();

  /** `sessions`: of the proxy's opaque connections, which a drain waits for. */
  constructor(core: Core, port: number, sessions: InFlightList<TcpSession>) {
    this.#core = core;
    this.port = port;
    this.#sessions = sessions;
    this.server = createServer(
      // Visitors that vanished without a word are found out; those with HTTP/2 are asked by PING.
      { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS },
      (socket) => this.#accept(socket),
    );
  }

  get view(): GatewayPortView | undefined {
    return this.#core.snapshot?.gateways.get(this.port);
  }

  /** Nothing but mesh links leads to it: it is not to be opened. */
  get meshOnly(): boolean {
    return this.view?.plain?.server.meshOnly ?? false;
  }

  /** Connections, tunnels of the mesh included. */
  get connections(): number {
    let tunnels = 0;
    for (const t of this.#taken) if (t.peer) tunnels++;
    return this.sockets.size + tunnels;
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

  /** Certificates of the plan in force; connections whose server is not theirs any more are let go. */
  apply(snapshot: Snapshot): void {
    const servers = snapshot.gateways.get(this.port)?.servers;
    for (const ref of this.#tls.keys()) if (!servers?.get(ref)?.server.tls) this.#tls.delete(ref);
    for (const [ref, { server, opaque }] of servers ?? []) {
      if (!server.tls) continue;
      const material = materialOf(server.tls, snapshot);
      if (!material) continue;
      const end = this.#tls.get(ref);
      if (end?.asksTheSame(server.tls, material)) {
        end.update(server.tls, material);
        continue;
      }
      this.#tls.delete(ref);
      try {
        const made: TlsEnd = new TlsEnd(this.#core, server.tls, material, !opaque, (s) => this.#secure(s, ref, made));
        this.#tls.set(ref, made);
      } catch (error) {
        this.#core.observer.count('gateway_certificate_refused');
        this.#core.logger.error(
          { secret: server.tls.secret, port: this.port, error: (error as Error).message },
          'a certificate cannot be used: nothing is served with it',
        );
      }
    }
    for (const taken of this.#taken) if (!this.#stays(taken)) this.#leave(taken);
  }

  /** Whether the plan in force would still give a connection to the server that it has. */
  #stays(taken: Taken): boolean {
    const { view } = this;
    if (!view) return false;
    const { ref, sni, end, opaque, peer } = taken;
    if (sni === undefined) {
      const { plain } = view;
      return (
        plain !== undefined && (plain.opaque !== undefined) === opaque && (peer !== undefined || !plain.server.meshOnly)
      );
    }
    const found = findGatewayServer(view, sni);
    return found?.server.ref === ref && (found.opaque !== undefined) === opaque && this.#tls.get(ref) === end;
  }

  /** GOAWAY, or `connection: close` with the next answer; what is still open after the drain time is closed. */
  #leave(taken: Taken): void {
    if (taken.leaving) return;
    taken.leaving = true;
    const core = this.#core;
    core.observer.count('gateway_connections_drained');
    taken.drain();
    const onTimer = (): void => {
      if (this.#taken.has(taken)) taken.close('its server left the plan');
    };
    core.timers.add(core.snapshot?.self?.drainMs || DEFAULT_DRAIN_MS, { onTimer });
  }

  /** Its port left the plan: takes no new connections, and ends those that are open. */
  leave(): void {
    this.server.close();
    this.state = 'closed';
    for (const taken of this.#taken) this.#leave(taken);
  }

  /** Takes no new connections, and ends those that are open when their requests are done. */
  drain(): void {
    this.server.close();
    this.state = 'closed';
    this.served.drain();
  }

  close(): void {
    this.drain();
    for (const taken of [...this.#taken]) taken.close('shutting down');
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
    const { view } = this;
    if (!view) {
      socket.resetAndDestroy();
      return;
    }
    const pipe = new SocketPipe(socket, core.ticker, core.limits.bufferBytes);
    if (!core.snapshot?.self?.proxyProtocol) {
      this.#choose(pipe, undefined, undefined);
      return;
    }
    new ProxyHeaderSink(pipe, core, (hold) => this.#choose(pipe, hold, undefined));
  }

  /** A connection in a tunnel of a mesh link. */
  carry(pipe: Pipe, peer: LinkPeer): void {
    this.#choose(pipe, undefined, peer);
  }

  /** A request that came by a mesh link. */
  request(via: GatewayVia, ...[stream, head, end]: Parameters<Parameters<typeof serveHttp>[5]>): StreamHandler {
    const core = this.#core;
    const { view } = this;
    const server = view?.plain?.opaque ? undefined : view?.plain;
    return gatewayExchange(core, core.snapshot!, stream, head, end, via, server);
  }

  /** Finds the server of a connection, by its first bytes where they tell. */
  #choose(pipe: Pipe, hold: HoldSink | undefined, peer: LinkPeer | undefined): void {
    const core = this.#core;
    const { view } = this;
    const plain = view?.plain;
    if (plain && (plain.server.meshOnly ? !peer : false)) {
      core.observer.count('gateway_plaintext_refused');
      pipe.abort();
      return;
    }
    if (plain?.opaque) {
      // Its server may be the one that speaks first: there is nothing to wait for.
      this.#tcp(pipe, hold, plain.server.ref, plain.opaque, undefined, undefined, peer);
      return;
    }
    const detector = new Detector(pipe, core, undefined, (kind, held) => {
      if (plain) {
        // Whatever it is, it gets an HTTP answer.
        const codec = codecOf(kind, plain.server.protocol, held) ?? 'http1';
        this.#http(pipe, held, plain.server.ref, codec, undefined, undefined, peer);
      } else if (kind === 'tls') {
        readClientHello(pipe, held, core, (hello, all) => this.#byName(pipe, all, hello?.sni ?? '', peer));
      } else {
        core.observer.count('gateway_plaintext_refused');
        pipe.abort();
      }
    });
    hold?.release(pipe, detector);
  }

  /** Hands a connection to the server whose name the client asked for. */
  #byName(pipe: Pipe, hold: HoldSink, sni: string, peer: LinkPeer | undefined): void {
    const core = this.#core;
    const { view } = this;
    const found = view && findGatewayServer(view, sni);
    if (found?.server.protocol === Protocol.TLS && found.opaque && hold.lost === undefined) {
      this.#tcp(pipe, hold, found.server.ref, found.opaque, sni, undefined, peer);
      return;
    }
    const end = found && this.#tls.get(found.server.ref);
    // In a tunnel there is no socket that TLS could be ended on: such ports are not told to the mesh.
    if (!end || hold.lost !== undefined || !(pipe instanceof SocketPipe)) {
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

  #secure(socket: TLSSocket, ref: string, end: TlsEnd): void {
    const server = this.view?.servers.get(ref);
    if (!server || this.#tls.get(ref) !== end) {
      socket.on('error', () => {});
      socket.destroy();
      return;
    }
    const pipe = new SocketPipe(socket, this.#core.ticker, this.#core.limits.bufferBytes);
    const client = this.#clients.get(clientKey(socket));
    if (client) {
      pipe.remoteAddress = client.address;
      pipe.remotePort = client.port;
    }
    const sni = typeof socket.servername === 'string' ? socket.servername : '';
    if (server.opaque) this.#tcp(pipe, undefined, ref, server.opaque, sni, end, undefined);
    else {
      const kind = socket.alpnProtocol === 'h2' ? 'http2' : 'http1';
      this.#http(pipe, undefined, ref, kind, sni, end, undefined, end.certificateOf(socket));
    }
  }

  #tcp(
    pipe: Pipe,
    hold: HoldSink | undefined,
    ref: string,
    routes: TcpRouteView,
    sni: string | undefined,
    end: TlsEnd | undefined,
    peer: LinkPeer | undefined,
  ): void {
    const core = this.#core;
    const { port } = this;
    const { remoteAddress } = pipe;
    const principal = peer?.principal;
    const taken: Taken = {
      ...{ ref, sni, end, opaque: true, peer, leaving: false },
      drain: () => {},
      close: (why) => tcp.destroy(why),
    };
    const gate = {
      principal,
      judge: (snapshot: Snapshot, approved: readonly string[]) =>
        authorize(snapshot, {
          ...(approved.length > 0 && { approved }),
          principal,
          remoteIp: remoteAddress,
          destPort: port,
          localIp: core.options.address,
          sni: sni || undefined,
        }),
    };
    let held = hold;
    if (!held) pipe.sink = held = new HoldSink();
    this.#taken.add(taken);
    const onOver = (): void => void this.#taken.delete(taken);
    const target = { routes, host: core.options.address, port, gate, onOver };
    const asked = sni === undefined ? target : { ...target, sni };
    const tcp = new OutboundTcp(core, core.snapshot!, pipe, held, asked, this.#sessions);
    tcp.start();
  }

  #http(
    pipe: Pipe,
    hold: HoldSink | undefined,
    ref: string,
    kind: 'http1' | 'http2',
    sni: string | undefined,
    end: TlsEnd | undefined,
    peer: LinkPeer | undefined,
    certificate = '',
  ): void {
    const core = this.#core;
    const { port } = this;
    const { remoteAddress, remotePort } = pipe;
    const secure = sni !== undefined;
    const via: GatewayVia = {
      remoteIp: remoteAddress,
      remote: hostPort(remoteAddress, remotePort),
      httpVersion: kind === 'http1' ? 'HTTP/1.1' : 'HTTP/2',
      secure,
      certificate,
      port,
      sni: sni || undefined,
      peer,
    };
    const scheme = secure ? 'https' : 'http';
    const acceptHttp10 = core.snapshot?.self?.acceptHttp10 ?? false;
    const taken: Taken = {
      ...{ ref, sni, end, opaque: false, peer, leaving: false },
      drain: () => connection.drain(),
      close: (why) => {
        this.#taken.delete(taken);
        pipe.destroy(why);
        connection.closed(why);
      },
    };
    this.#taken.add(taken);
    const onGone = (): void => void this.#taken.delete(taken);
    const connection = serveHttp(
      core,
      this.served,
      kind,
      pipe,
      hold,
      (stream, head, end) => {
        // The newest plan, also on a connection that is older than it.
        const snapshot = core.snapshot!;
        const view = snapshot.gateways.get(port);
        const server: GatewayServerView | undefined = secure ? view?.servers.get(ref) : view?.plain;
        return gatewayExchange(core, snapshot, stream, head, end, via, server);
      },
      { scheme, acceptHttp10, onGone },
    );
  }
}

function clientKey(socket: Socket): string {
  return `${socket.remoteAddress}|${socket.remotePort}`;
}
