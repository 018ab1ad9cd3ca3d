/** The SPIFFE Workload API on a Unix socket (gRPC), for the application beside this proxy and nobody else. */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type ServerHttp2Session } from 'node:http2';
import { createServer as createSocketServer, type Socket } from 'node:net';
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextKey,
  createContextValues,
  type Interceptor,
} from '@connectrpc/connect';
import { type Logger, WeftError } from '@weft/base';
import { madeInOwnNetwork, peerCredentials } from '@weft/capture';
import { grpcHandler } from '@weft/xds';

const MAX_MESSAGE_BYTES = 64 * 1024;
const MAX_STREAMS = 100;

export interface WorkloadApiBind {
  /** Path of the socket. Its folder says who may reach it at all. */
  socket: string;
  /** Users that the application runs as. */
  uids: number[];
  /** Whether callers must be in this proxy's network namespace, which is the workload's. */
  ownNetwork: boolean;
}

export interface WorkloadApiOptions {
  bind: WorkloadApiBind;
  maxConnections: number;
  routes(router: ConnectRouter): void;
  count(name: string): void;
  logger: Logger;
}

const refusalKey = createContextKey('');

/** The standard asks for this header of every call, so that a server that is made to fetch a URL cannot be used to ask. */
const guard: Interceptor = (next) => (request) => {
  if (request.header.get('workload.spiffe.io') !== 'true')
    throw new ConnectError('the metadata "workload.spiffe.io: true" is missing', Code.InvalidArgument);
  const refusal = request.contextValues.get(refusalKey);
  if (refusal !== '') throw new ConnectError(`no identity for this caller: ${refusal}`, Code.PermissionDenied);
  return next(request);
};

/** Why a caller is not the application; empty where it is. */
export function attest(socket: Socket, bind: WorkloadApiBind): string {
  try {
    const { uid } = peerCredentials(socket);
    if (!bind.uids.includes(uid)) return `it runs as user ${uid}`;
    if (bind.ownNetwork && !madeInOwnNetwork(socket)) return 'it is not in the workload';
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

/** Throws `workload-api/listen` where the socket cannot be made. */
export async function startWorkloadApi(options: WorkloadApiOptions): Promise<{ close(): Promise<void> }> {
  const { bind, maxConnections, count, logger } = options;
  const refusals = new WeakMap<ServerHttp2Session, string>();
  const sessions = new Set<ServerHttp2Session>();
  const sockets = new Set<Socket>();
  const grpc = createServer(
    { settings: { maxConcurrentStreams: MAX_STREAMS } },
    grpcHandler({
      routes: options.routes,
      interceptors: [guard],
      readMaxBytes: MAX_MESSAGE_BYTES,
      contextValues: (request) => {
        const { session } = request.stream;
        const refusal = session ? refusals.get(session as ServerHttp2Session) : undefined;
        return createContextValues().set(refusalKey, refusal ?? 'its connection is closed');
      },
    }),
  );
  let refusal = 'it was not looked at';
  grpc.on('session', (session) => {
    refusals.set(session, refusal);
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    session.on('error', () => {});
  });
  grpc.on('sessionError', () => {});
  const server = createSocketServer((socket) => {
    socket.on('error', () => {});
    if (sockets.size >= maxConnections) {
      count('workload_api_overflow');
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    refusal = attest(socket, bind);
    if (refusal !== '') {
      count('workload_api_refused');
      logger.warn({ reason: refusal }, 'a caller of the Workload API is not the application');
    }
    // Makes the session, and tells of it, before it returns.
    grpc.emit('connection', socket);
    refusal = 'it was not looked at';
  });
  rmSync(bind.socket, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new WeftError('workload-api/listen', `${bind.socket} cannot be opened: ${cause.message}`, { cause })),
    );
    server.listen(bind.socket, resolve);
  });
  server.on('error', (error) => logger.error({ error: String(error) }, 'the Workload API failed'));
  chmodSync(bind.socket, 0o666);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const session of sessions) session.destroy();
        for (const socket of sockets) socket.destroy();
      }),
  };
}
