/** Port 15012: xDS, certificates and telemetry over one TLS server. */
import {
  createSecureServer,
  type Http2SecureServer,
  Http2ServerRequest,
  Http2ServerResponse,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { Code, type ConnectRouter, createContextValues, type Interceptor } from '@connectrpc/connect';
import { type Clock, type Logger, type Timer, WeftError } from '@weft/base';
import { type Identity, type IdentityClient, serverTlsOptions } from '@weft/identity';
import { CertificateService, IstioCertificateService } from '@weft/plan';
import { ADS_PREFIX, type AdsHandler, grpcHandler } from '@weft/xds';
import type { Listen } from './config.ts';
import { HOST_PREFIX, type HostHandler } from './hosts/api.ts';
import { judgePeer, NEEDED, type Peer, peerKey, peerOf } from './peer.ts';

const MAX_MESSAGE_BYTES = 8 * 1024 * 1024;
/** Of who may be anybody: a certificate request with its token. */
const MAX_CA_MESSAGE_BYTES = 64 * 1024;
/** Connections without a certificate. */
const DEFAULT_MAX_ANONYMOUS = 1000;
const MAX_STREAMS = 100;
const SWEEP_MS = 1000;
/** A caller without a certificate has one thing to ask, and soon. */
const ANONYMOUS_IDLE_MS = 30_000;

export interface RpcOptions {
  /** The first one's port is told. */
  listen: readonly Listen[];
  /** Calls of machines that joined, below `HOST_PREFIX`. */
  hosts: HostHandler;
  /** Connections without a certificate, default 1000. */
  maxAnonymous?: number | undefined;
  identity: IdentityClient;
  ads: AdsHandler<Peer>;
  routes(router: ConnectRouter): void;
  logger: Logger;
  clock: Clock;
}

const CA_SERVICES: ReadonlySet<string> = new Set([CertificateService.typeName, IstioCertificateService.typeName]);

/** gRPC's answer to a call of which nothing was read. */
const UNAUTHENTICATED = { 'content-type': 'application/grpc', 'grpc-status': String(Code.Unauthenticated) };

/** The CA judges its caller itself (a token will do); every other method, also one added later, needs a verified peer. */
const requirePeer: Interceptor = (next) => (request) => {
  if (!CA_SERVICES.has(request.service.typeName)) peerOf({ values: request.contextValues });
  return next(request);
};

export interface RpcCounters {
  /** Connections without a certificate that were one too many. */
  anonymousRefused: number;
}

export interface RpcServer {
  readonly port: number;
  readonly counters: RpcCounters;
  close(): Promise<void>;
}

export async function startRpc(options: RpcOptions): Promise<RpcServer> {
  const { identity, logger, clock } = options;
  const peers = new WeakMap<ServerHttp2Session, Peer>();
  const sessions = new Map<ServerHttp2Session, Peer>();
  // Without a certificate a proxy may still ask for its first: refused per method, not per connection.
  const tlsOptions = (own: Identity) => ({ ...serverTlsOptions(own), rejectUnauthorized: false });
  const own = () => identity.current() as Identity;
  const shared = {
    routes: options.routes,
    interceptors: [requirePeer],
    contextValues: (request: Http2ServerRequest) => {
      const peer = peerOfStream(request.stream);
      return peer ? createContextValues().set(peerKey, peer) : createContextValues();
    },
  };
  const peerOfStream = (stream: ServerHttp2Stream): Peer | undefined => {
    const session = stream.session as ServerHttp2Session | undefined;
    return session && peers.get(session);
  };
  const forAnybody = grpcHandler({ ...shared, readMaxBytes: MAX_CA_MESSAGE_BYTES });
  const forPeers = grpcHandler({ ...shared, readMaxBytes: MAX_MESSAGE_BYTES });
  const handler = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, rawHeaders: string[]): void => {
    const path = headers[':path'] ?? '';
    const peer = peerOfStream(stream);
    if (path.startsWith(HOST_PREFIX)) {
      options.hosts(stream, headers, peer);
      return;
    }
    const anybody = CA_SERVICES.has(path.split('/', 2)[1] ?? '');
    if (!anybody && !peer?.spiffeId) {
      // Before a byte of the message is looked at.
      const reason = peer?.reason ?? 'the connection is closed';
      stream.on('error', () => {});
      if (stream.destroyed) return;
      stream.respond(
        { ':status': 200, ...UNAUTHENTICATED, 'grpc-message': encodeURIComponent(`${NEEDED}: ${reason}`) },
        { endStream: true },
      );
    } else if (!anybody && path.startsWith(ADS_PREFIX)) {
      options.ads(stream, headers, peer as Peer);
    } else {
      const request = new Http2ServerRequest(stream, headers, {}, rawHeaders);
      (anybody ? forAnybody : forPeers)(request, new Http2ServerResponse(stream));
    }
  };
  let anonymous = 0;
  const counters: RpcCounters = { anonymousRefused: 0 };
  const settings = { maxConcurrentStreams: MAX_STREAMS };
  const listenAt = async (listen: Listen): Promise<Http2SecureServer> => {
    const server = createSecureServer({ ...tlsOptions(own()), allowHTTP1: false, settings });
    // Not `request`: that gives each stream a request and a response, which one that stays for days does without.
    server.on(
      'stream',
      (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _flags: number, rawHeaders: string[]) =>
        handler(stream, headers, rawHeaders),
    );
    server.on('session', (session) => {
      const peer = judgePeer(session, own().bundle);
      if (peer.spiffeId === '') {
        if (anonymous >= (options.maxAnonymous ?? DEFAULT_MAX_ANONYMOUS)) {
          counters.anonymousRefused++;
          session.on('error', () => {});
          session.destroy();
          return;
        }
        anonymous++;
        session.on('close', () => anonymous--);
      }
      peers.set(session, peer);
      sessions.set(session, peer);
      session.on('close', () => sessions.delete(session));
      session.on('error', (error) => logger.debug({ error: String(error) }, 'a connection of a proxy failed'));
      if (peer.spiffeId === '') session.setTimeout(ANONYMOUS_IDLE_MS, () => session.destroy());
    });
    server.on('tlsClientError', (error) => logger.debug({ error: String(error) }, 'a TLS handshake failed'));
    server.on('sessionError', (error) => logger.debug({ error: String(error) }, 'a connection of a proxy failed'));
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) =>
        reject(
          new WeftError(
            'control/listen',
            `the control plane cannot listen on ${listen.host}:${listen.port}: ${cause.message}`,
            { cause },
          ),
        ),
      );
      server.listen(listen.port, listen.host, resolve);
    });
    server.on('error', (error) => logger.error({ error: String(error) }, 'the xDS server failed'));
    return server;
  };
  const servers: Http2SecureServer[] = [];
  const closeAll = () => Promise.all(servers.map((s) => new Promise<void>((resolve) => s.close(() => resolve()))));
  try {
    for (const listen of options.listen) servers.push(await listenAt(listen));
  } catch (error) {
    await closeAll();
    throw error;
  }
  const off = identity.onRotate((next) => {
    for (const server of servers) server.setSecureContext(tlsOptions(next));
  });
  let timer: Timer;
  /** What the connections there are were judged by; one made since then was judged by the newer. */
  let judgedBy = own().bundle;
  const sweep = () => {
    const now = clock.wall();
    for (const [session, peer] of sessions) {
      if (peer.spiffeId === '') continue;
      const { bundle } = own();
      if (now > peer.notAfterMs) {
        logger.info({ peer: peer.spiffeId }, 'a connection ends with the certificate it was made with');
        session.destroy();
      } else if (bundle !== judgedBy) {
        const again = judgePeer(session, bundle);
        if (again.spiffeId !== '') continue;
        logger.warn({ peer: peer.spiffeId, reason: again.reason }, 'a connection ends: its peer is no longer believed');
        session.destroy();
      }
    }
    judgedBy = own().bundle;
    timer = clock.after(SWEEP_MS, sweep);
  };
  timer = clock.after(SWEEP_MS, sweep);
  const address = servers[0]?.address();
  return {
    port: typeof address === 'object' && address ? address.port : (options.listen[0]?.port ?? 0),
    counters,
    close: async () => {
      off();
      timer.cancel();
      const closed = closeAll();
      for (const session of sessions.keys()) session.destroy();
      await closed;
    },
  };
}
