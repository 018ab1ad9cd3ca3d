/**
 * Inbound connections that do not come by a mesh link: captured ones on 15006 (transparent), or the workload's own
 * address and port (explicit). TLS with a mesh ALPN is ended here, other TLS is the application's, the rest is plaintext.
 */

import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import { hostPort } from '@weft/base';
import { authenticatePort, findInbound, type Snapshot } from '@weft/engine';
import { type Identity, serverTlsOptions } from '@weft/identity';
import { Protocol, serverFirst } from '@weft/plan';
import type { Core } from '../core.ts';
import { Served, serveHttp } from '../http/serve.ts';
import { countTlsError, type LinkPeer, peerOf, stillBelieved } from '../link/server.ts';
import { isProxyPort } from '../link/settings.ts';
import { codecOf, Detector } from '../net/detect.ts';
import { allowHalfClose, handshakeOn } from '../net/handshake.ts';
import { putBack, readClientHello } from '../net/hello.ts';
import type { InFlightList } from '../net/in-flight.ts';
import { HoldSink, type Pipe } from '../net/pipe.ts';
import { plainAddress, SocketPipe } from '../net/socket-output.ts';
import type { Ticking } from '../net/timers.ts';
import { inboundTcp } from '../tcp/inbound.ts';
import type { TcpSession } from '../tcp/session.ts';
import { inboundExchange } from './exchange.ts';
import { undeclared } from './port.ts';

const MESH_ALPN = ['istio-http/1.1', 'istio-h2', 'istio', 'istio-peer-exchange', 'h2-mesh'];

export function isMeshAlpn(alpn: readonly string[]): boolean {
  return alpn.some((a) => a === 'h2-mesh' || a === 'istio' || a.startsWith('istio-'));
}

export class InboundListener {
  readonly served = new Served();
  readonly #core: Core;
  readonly #sessions: InFlightList<TcpSession>;
  #tls: TlsServer | undefined;
  #identity: Identity | undefined;
  /** Ports of raw sockets that the TLS server has, by the peer's address and port. */
  #handed = new Map<string, number>();
  /** Connections that TLS was ended of here, and how each ends. */
  #secured = new Map<TLSSocket, Ticking>();

  constructor(core: Core, sessions: InFlightList<TcpSession>) {
    this.#core = core;
    this.#sessions = sessions;
  }

  /** What peers that are no longer believed have open ends at once. */
  rotate(identity: Identity): void {
    const before = this.#identity;
    this.#identity = identity;
    if (before && before.bundle !== identity.bundle) {
      const { counters, logger } = this.#core;
      for (const socket of [...this.#secured.keys()])
        if (!stillBelieved(socket, identity, counters, logger)) socket.destroy();
    }
    const options = { ...serverTlsOptions(identity), ALPNProtocols: MESH_ALPN };
    if (this.#tls) {
      this.#tls.setSecureContext(options);
      return;
    }
    const handshakeTimeout = this.#core.limits.tlsHandshakeTimeoutMs;
    const tls = createTlsServer({ ...options, handshakeTimeout }, (socket) => this.#secure(socket));
    tls.on('tlsClientError', (error: Error & { code?: string }, socket: TLSSocket) => {
      countTlsError(this.#core.counters, error);
      socket.on('error', () => {});
      socket.destroy();
    });
    this.#tls = tls;
  }

  /** 15006. */
  captured(originalDestination: (socket: Socket) => { host: string; port: number } | undefined): Server {
    const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      socket.on('error', () => {});
      if (!this.#core.admit(socket)) return;
      const target = originalDestination(socket);
      // The proxy's own ports are not reached through capture, 15006 itself would come back for ever.
      if (!target || isProxyPort(target.port)) {
        this.#core.observer.count('inbound_loop_refused');
        socket.resetAndDestroy();
        return;
      }
      this.accept(socket, target.port);
    });
    return server;
  }

  /** A connection to the workload's `port`. */
  accept(socket: Socket, port: number): void {
    const core = this.#core;
    const snapshot = core.snapshot;
    if (!snapshot) {
      socket.resetAndDestroy();
      return;
    }
    const pipe = new SocketPipe(socket);
    const inbound = findInbound(snapshot, port);
    const strict = !authenticatePort(snapshot, port, { mtls: false });
    if (!strict && (inbound?.protocol === Protocol.TCP || serverFirst(port)) && inbound?.protocol !== Protocol.HTTP) {
      // May be a server-first protocol: nothing to wait for. Mesh TLS on such a port comes by 15008.
      this.#opaque(pipe, undefined, port, undefined, '');
      return;
    }
    const declared = inbound?.protocol ?? Protocol.UNSPECIFIED;
    // What a STRICT port refuses tells nothing of its application.
    const outcome = declared === Protocol.UNSPECIFIED && !strict ? core.outcomes.inbound(port) : undefined;
    new Detector(pipe, core, outcome, (kind, hold) => {
      if (kind === 'tls') {
        readClientHello(pipe, hold, core, (hello, held) => this.#tlsOrOpaque(pipe, held, port, strict, hello));
        return;
      }
      if (strict) {
        this.#refuse(pipe, port);
        return;
      }
      const codec = declared === Protocol.TLS ? undefined : codecOf(kind, declared, hold);
      if (codec) this.#http(pipe, hold, port, undefined, codec);
      else this.#opaque(pipe, hold, port, undefined, '');
    });
  }

  #tlsOrOpaque(
    pipe: SocketPipe,
    hold: HoldSink,
    port: number,
    strict: boolean,
    hello: { sni?: string; alpn: string[] } | undefined,
  ): void {
    if (hello && this.#tls && isMeshAlpn(hello.alpn)) {
      const key = `${pipe.remoteAddress}|${pipe.remotePort}`;
      const socket = pipe.release();
      this.#handed.set(key, port);
      socket.once('close', () => this.#handed.delete(key));
      putBack(socket, hold);
      handshakeOn(this.#tls, socket);
      return;
    }
    if (strict) {
      this.#refuse(pipe, port);
      return;
    }
    this.#opaque(pipe, hold, port, undefined, hello?.sni ?? '');
  }

  #secure(socket: TLSSocket): void {
    allowHalfClose(socket);
    const core = this.#core;
    const identity = this.#identity;
    const key = `${plainAddress(socket.remoteAddress ?? '')}|${socket.remotePort}`;
    const port = this.#handed.get(key);
    const judged = identity && peerOf(socket, identity, core.counters, core.logger);
    if (!judged || port === undefined) {
      socket.on('error', () => {});
      socket.destroy();
      return;
    }
    const endAtWallMs = Math.min(judged.endAtWallMs, identity.notAfterMs);
    const secured: Ticking = {
      tick: () => {
        if (core.wallMs() < endAtWallMs) return;
        core.counters.count('link_certificate_ended');
        socket.destroy();
      },
    };
    this.#secured.set(socket, secured);
    core.ticker.add(secured);
    socket.once('close', () => {
      this.#secured.delete(socket);
      core.ticker.delete(secured);
    });
    this.carry(new SocketPipe(socket), port, judged.peer);
  }

  /** What a peer that has proved who it is sends to a port, in a TLS connection of its own or in a tunnel. */
  carry(pipe: Pipe, port: number, peer: LinkPeer): void {
    const core = this.#core;
    const declared = (core.snapshot && findInbound(core.snapshot, port)?.protocol) ?? Protocol.UNSPECIFIED;
    if (declared === Protocol.TCP || (declared === Protocol.UNSPECIFIED && serverFirst(port))) {
      this.#opaque(pipe, undefined, port, peer, '');
      return;
    }
    const outcome = declared === Protocol.UNSPECIFIED ? core.outcomes.inbound(port) : undefined;
    new Detector(pipe, core, outcome, (kind, hold) => {
      const codec = codecOf(kind, declared, hold);
      if (codec) this.#http(pipe, hold, port, peer, codec);
      else this.#opaque(pipe, hold, port, peer, '');
    });
  }

  #refuse(pipe: SocketPipe, port: number): void {
    const core = this.#core;
    const { remoteAddress } = pipe;
    const source = core.callerAt(remoteAddress);
    const ref = (core.snapshot && findInbound(core.snapshot, port)?.mtlsRef) ?? '';
    core.observer.count('inbound_plaintext_refused');
    core.observer.plaintext(source, remoteAddress, port, true, ref);
    const caller = source && `${source.namespace}/${source.workload}`;
    core.logger.info({ remote: remoteAddress, caller, port, ref }, 'plaintext refused: this port is STRICT');
    pipe.abort();
  }

  #http(pipe: Pipe, hold: HoldSink, port: number, peer: LinkPeer | undefined, kind: 'http1' | 'http2'): void {
    const core = this.#core;
    const via = {
      peer,
      remoteAddress: pipe.remoteAddress,
      remotePort: pipe.remotePort,
      remote: hostPort(pipe.remoteAddress, pipe.remotePort),
      httpVersion: kind === 'http1' ? 'HTTP/1.1' : 'HTTP/2',
    };
    serveHttp(core, this.served, kind, pipe, hold, (stream, head, end) => {
      const snapshot = core.snapshot as Snapshot;
      return inboundExchange(core, snapshot, stream, head, end, via, core.inboundPorts.at(snapshot, port));
    });
  }

  #opaque(pipe: Pipe, hold: HoldSink | undefined, port: number, peer: LinkPeer | undefined, sni: string): void {
    const core = this.#core;
    const snapshot = core.snapshot as Snapshot;
    let held = hold;
    if (!held) {
      held = new HoldSink();
      pipe.sink = held;
    }
    const kept = held;
    pipe.pauseReading();
    inboundTcp({
      core,
      snapshot,
      inbound: findInbound(snapshot, port) ?? undeclared(port),
      port,
      peer,
      source: peer ? peer.source(undefined) : core.callerAt(pipe.remoteAddress),
      remoteAddress: pipe.remoteAddress,
      remotePort: pipe.remotePort,
      sni,
      sessions: this.#sessions,
      accept: () => ({ pipe, hold: kept }),
      refuse: () => pipe.abort(),
    });
  }
}
