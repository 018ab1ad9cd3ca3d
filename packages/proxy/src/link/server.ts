/** Mesh links as a server: TLS with a client certificate that must be somebody's of a known trust domain, then HTTP/2. */

import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { Logger } from '@weft/base';
import { hostPort } from '@weft/base';
import { checkPeer, type Identity, parseSpiffeId, principalOf, serverTlsOptions } from '@weft/identity';
import type { Head, Stream, StreamHandler, WireCounters, WireLimits } from '@weft/wire';
import { Http2Connection } from '@weft/wire';
import type { InboundVia } from '../inbound/exchange.ts';
import type { ProxyLimits } from '../limits.ts';
import { allowHalfClose } from '../net/handshake.ts';
import { CodecSink } from '../net/pipe.ts';
import { plainAddress, SocketPipe } from '../net/socket-output.ts';
import type { Ticker, Ticking } from '../net/timers.ts';
import type { PeerInfo } from '../observe/types.ts';
import { WEFT_SETTING, WEFT_SETTINGS } from './settings.ts';
import { decodeSource } from './source.ts';

/** Who is at the other end of a link or of an inbound TLS connection. */
export class LinkPeer {
  readonly spiffeId: string;
  readonly principal: string;
  readonly namespace: string;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** SHA-256 of the peer's certificate in lower-case hex, for XFCC. */
  readonly certificateHash: string;
  /** It announced itself as a Weft proxy: its mesh headers count. */
  weft = false;
  /** How its request streams came. */
  readonly via: InboundVia;
  #raw: string | undefined;
  #source: PeerInfo | undefined;
  #forwarded = '';
  #forwardedTo = '';

  constructor(spiffeId: string, hash: string, remoteAddress: string, remotePort: number) {
    this.spiffeId = spiffeId;
    this.principal = principalOf(spiffeId);
    this.namespace = parseSpiffeId(spiffeId)?.namespace ?? '';
    this.certificateHash = hash;
    this.remoteAddress = remoteAddress;
    this.remotePort = remotePort;
    this.via = {
      peer: this,
      remoteAddress,
      remotePort,
      remote: hostPort(remoteAddress, remotePort),
      httpVersion: 'HTTP/2',
    };
  }

  /** XFCC for the application of the workload whose id is `own`: one peer's is the same each time. */
  forwarded(own: string): string {
    if (this.#forwarded === '' || own !== this.#forwardedTo) {
      this.#forwardedTo = own;
      this.#forwarded = `By=${own};Hash=${this.certificateHash};Subject="";URI=${this.spiffeId}`;
    }
    return this.#forwarded;
  }

  /** The peer's metadata; one client says the same each time, so it is decoded once. */
  source(header: string | undefined): PeerInfo {
    if (this.#source === undefined || header !== this.#raw) {
      this.#raw = header;
      this.#source = decodeSource(header, this.spiffeId);
    }
    return this.#source;
  }
}

/** Judges a finished handshake; undefined means that the socket was refused and destroyed. */
export function peerOf(socket: TLSSocket, identity: Identity, counters: WireCounters, logger: Logger) {
  const result = checkPeer(socket, { bundle: identity.bundle });
  if ('error' in result) {
    counters.count('inbound_peer_refused');
    logger.warn({ remote: socket.remoteAddress, error: result.error }, 'peer refused');
    socket.on('error', () => {});
    socket.destroy();
    return undefined;
  }
  const { spiffeId, certificate } = result;
  const hash = certificate.fingerprint256.replaceAll(':', '').toLowerCase();
  const peer = new LinkPeer(spiffeId, hash, plainAddress(socket.remoteAddress ?? ''), socket.remotePort ?? 0);
  return { peer, endAtWallMs: certificate.validToDate.getTime() };
}

/** Judges a peer again, by what is believed now; false means that it was refused: the caller ends the connection. */
export function stillBelieved(socket: TLSSocket, identity: Identity, counters: WireCounters, logger: Logger): boolean {
  const result = checkPeer(socket, { bundle: identity.bundle });
  if (!('error' in result)) return true;
  counters.count('inbound_peer_no_longer_believed');
  logger.warn(
    { remote: socket.remoteAddress, error: result.error },
    'connection ended: its peer is no longer believed',
  );
  return false;
}

/** A handshake that failed, or that was not done in time. */
export function countTlsError(counters: WireCounters, error: Error & { code?: string }): void {
  const late = error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT';
  counters.count(late ? 'inbound_tls_handshake_timeout' : 'inbound_tls_refused');
}

export interface LinkServerDeps {
  ticker: Ticker;
  counters: WireCounters;
  nowMs: () => number;
  wallMs: () => number;
  logger: Logger;
  limits: ProxyLimits;
  wireLimits: WireLimits;
  /** Counts a new connection; false where it was refused. */
  admit(socket: Socket): boolean;
  onStream(peer: LinkPeer, stream: Stream, head: Head, end: boolean): StreamHandler;
}

interface Served extends Ticking {
  connection: Http2Connection;
  pipe: SocketPipe;
  socket: TLSSocket;
  end(why: string): void;
}

export class LinkServer {
  readonly server: Server;
  #deps: LinkServerDeps;
  #identity: Identity;
  #open = new Set<Served>();
  #draining = false;

  constructor(identity: Identity, deps: LinkServerDeps) {
    this.#deps = deps;
    this.#identity = identity;
    const handshakeTimeout = deps.limits.tlsHandshakeTimeoutMs;
    this.server = createServer({ ...serverTlsOptions(identity), noDelay: true, handshakeTimeout }, this.#secure);
    this.server.on('tlsClientError', (error: Error & { code?: string }, socket: TLSSocket) => {
      countTlsError(deps.counters, error);
      deps.logger.debug({ remote: socket.remoteAddress, error: error.message }, 'TLS handshake refused');
      socket.on('error', () => {});
      socket.destroy();
    });
    // An error of the raw socket before the handshake is done must not be thrown.
    this.server.prependListener('connection', (raw: Socket) => {
      raw.on('error', () => {});
      deps.admit(raw);
    });
  }

  get open(): number {
    return this.#open.size;
  }
  get streams(): number {
    let n = 0;
    for (const s of this.#open) n += s.connection.open;
    return n;
  }

  /**
   * New handshakes use it; links made before it run until their peers replace them or its certificate ends. A link whose
   * peer is no longer believed ends at once, with all it carries.
   */
  rotate(identity: Identity): void {
    const { bundle } = this.#identity;
    this.#identity = identity;
    this.server.setSecureContext(serverTlsOptions(identity));
    if (identity.bundle === bundle) return;
    const { counters, logger } = this.#deps;
    for (const served of [...this.#open])
      if (!stillBelieved(served.socket, identity, counters, logger)) served.end('peer no longer believed');
  }

  drain(): void {
    this.#draining = true;
    this.goaway();
  }

  /** The links there are finish what runs and end; new ones are served. */
  goaway(): void {
    for (const s of this.#open) s.connection.drain();
  }

  destroy(): void {
    for (const s of this.#open) {
      s.pipe.destroy('shutting down');
      this.#deps.ticker.delete(s);
    }
    this.#open.clear();
    this.server.close();
  }

  #secure = (socket: TLSSocket): void => {
    allowHalfClose(socket);
    const deps = this.#deps;
    const identity = this.#identity;
    if (socket.alpnProtocol !== 'h2') {
      deps.counters.count('inbound_alpn_refused');
      socket.on('error', () => {});
      socket.destroy();
      return;
    }
    const judged = peerOf(socket, identity, deps.counters, deps.logger);
    if (!judged) return;
    const { peer } = judged;
    const endAtWallMs = Math.min(judged.endAtWallMs, identity.notAfterMs);
    const pipe = new SocketPipe(socket, deps.ticker);
    const connection = new Http2Connection({
      role: 'server',
      output: pipe,
      counters: deps.counters,
      nowMs: deps.nowMs,
      announce: WEFT_SETTINGS,
      enableConnectProtocol: true,
      limits: deps.wireLimits,
      onSettings: (settings) => {
        if (!peer.weft && settings.get(WEFT_SETTING) === 1)
          connection.trustProxy(deps.limits.linkResetBurst, deps.limits.linkResetPerSecond);
        peer.weft = settings.get(WEFT_SETTING) === 1;
      },
      onStream: (stream, head, end) => deps.onStream(peer, stream, head, end),
    });
    const served: Served = {
      connection,
      pipe,
      socket,
      end: (why) => {
        pipe.destroy(why);
        gone();
        connection.closed(why);
      },
      tick: () => {
        if (deps.wallMs() < endAtWallMs) return;
        deps.counters.count('link_certificate_ended');
        served.end('certificate ended');
      },
    };
    const gone = (): void => {
      this.#open.delete(served);
      deps.ticker.delete(served);
    };
    this.#open.add(served);
    deps.ticker.add(served);
    pipe.sink = new CodecSink(connection, pipe, deps.ticker, gone);
    pipe.settle();
    if (this.#draining) connection.drain();
  };
}
