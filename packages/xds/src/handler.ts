/** gRPC services on Node's HTTP/2 server, whatever a stranger sends. */
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { ConnectRouter, ContextValues, Interceptor } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';

export interface GrpcOptions {
  routes(router: ConnectRouter): void;
  interceptors?: Interceptor[];
  /** Of one message, also after it was decompressed. */
  readMaxBytes: number;
  contextValues?(request: Http2ServerRequest): ContextValues;
}

/**
 * A listener for `request` of an HTTP/2 server: gRPC alone. The library makes a URL of the authority and the path, and
 * throws out of the event where they make none ("%2F" in an authority, as gRPC sends it for a Unix socket, is enough).
 * Nothing here depends on the authority, so that it is one that is always good; what still throws is answered by 400.
 */
export function grpcHandler(
  options: GrpcOptions,
): (request: Http2ServerRequest, response: Http2ServerResponse) => void {
  const { contextValues } = options;
  const handler = connectNodeAdapter({
    routes: options.routes,
    interceptors: options.interceptors,
    connect: false,
    grpcWeb: false,
    // A compressed message may be a thousand times its size, and nobody here sends one.
    acceptCompression: [],
    readMaxBytes: options.readMaxBytes,
    ...(contextValues ? { contextValues: (r) => contextValues(r as Http2ServerRequest) } : {}),
  });
  return (request, response) => {
    try {
      request.headers[':authority'] = 'localhost';
      request.headers.host = 'localhost';
      handler(request, response);
    } catch {
      if (response.headersSent || response.destroyed) return;
      response.writeHead(400);
      response.end();
    }
  };
}
