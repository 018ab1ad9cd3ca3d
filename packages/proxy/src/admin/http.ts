import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Logger } from '@weft/base';
import { WeftError } from '@weft/base';

/** The small HTTP server under admin, metrics, health and probes. Not on the data path, so node:http serves. */

export interface Bind {
  host: string;
  port: number;
}

/** `path` has no query. Answer by `response`; what is thrown or rejected becomes a 500. */
export type Handler = (path: string, response: ServerResponse, request: IncomingMessage) => void | Promise<void>;

export interface SmallServer {
  readonly port: number;
  close(): Promise<void>;
}

export interface SmallServerOptions {
  bind: Bind;
  name: string;
  logger: Logger;
  handler: Handler;
  /** Answers only to requests whose Host is a loopback name (a web page must not reach it by DNS rebinding). */
  loopbackOnly?: boolean;
  count?: (name: string) => void;
}

/** `localhost`, 127.0.0.0/8 and [::1], with or without a port. */
export function isLoopbackHost(host: string | undefined): boolean {
  if (host === undefined) return false;
  const name = host.replace(/:\d{1,5}$/, '').toLowerCase();
  if (name === 'localhost' || name === '[::1]' || host === '::1') return true;
  const parts = name.split('.');
  return parts.length === 4 && parts[0] === '127' && parts.every((p) => /^\d{1,3}$/.test(p) && Number(p) < 256);
}

/** Only GET (and HEAD); 64 connections, 10 s for a request's head. Rejects with WeftError `listen-failed`. */
export async function startSmallServer(options: SmallServerOptions): Promise<SmallServer> {
  const { bind, name, logger, handler } = options;
  if (options.loopbackOnly && !isLoopbackHost(bind.host.includes(':') ? `[${bind.host}]` : bind.host)) {
    throw new WeftError(
      'admin-not-loopback',
      `${name}: refusing to listen on ${bind.host}: bind it to 127.0.0.1 or ::1, everyone who reaches it may read it`,
    );
  }
  const server: Server = createServer({ maxHeaderSize: 16 * 1024, keepAliveTimeout: 5000 }, (request, response) => {
    response.on('error', () => {});
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      return send(response, 405, 'only GET: this port cannot change anything\n');
    }
    if (options.loopbackOnly && !isLoopbackHost(request.headers.host)) {
      options.count?.('admin_host_refused');
      return send(response, 403, 'the Host header must be a loopback name\n');
    }
    if (options.loopbackOnly && request.headers.origin !== undefined) {
      options.count?.('admin_host_refused');
      return send(response, 403, 'pages of other origins are not answered\n');
    }
    const url = request.url ?? '/';
    const query = url.indexOf('?');
    try {
      Promise.resolve(handler(query < 0 ? url : url.slice(0, query), response, request)).catch((error) =>
        fail(response, error),
      );
    } catch (error) {
      fail(response, error);
    }
  });
  const fail = (response: ServerResponse, error: unknown): void => {
    logger.error({ server: name, error: String(error) }, 'request failed');
    if (response.headersSent) response.destroy();
    else send(response, 500, 'internal error\n');
  };
  server.headersTimeout = 10_000;
  server.requestTimeout = 10_000;
  server.maxConnections = 64;
  server.on('drop', () => options.count?.('admin_connection_refused'));
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const message = `${name}: cannot listen on ${bind.host}:${bind.port}: ${cause.code ?? cause.message}`;
      reject(new WeftError('listen-failed', message, { cause }));
    });
    server.listen({ host: bind.host, port: bind.port }, () => resolve());
  });
  server.on('error', (error) => logger.error({ server: name, error: String(error) }, 'server error'));
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export function send(response: ServerResponse, status: number, body: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'x-content-type-options': 'nosniff',
    'cache-control': 'no-store',
  });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

export function sendJson(response: ServerResponse, value: unknown): void {
  const json = JSON.stringify(value, (_key, v) => (typeof v === 'bigint' ? String(v) : v), 2);
  send(response, 200, `${json}\n`, 'application/json');
}
