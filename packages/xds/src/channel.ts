/** A gRPC connection to a control plane over HTTP/2. */
import type { SecureClientSessionOptions } from 'node:http2';
import { connect } from 'node:net';
import type { DescService } from '@bufbuild/protobuf';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';

/** `tls` undefined means plaintext, for loopback only. */
export interface ServerAddress {
  host: string;
  port: number;
  tls?: SecureClientSessionOptions;
}

export interface Channel {
  transport: Transport;
  /** Ends the connection at once, and what runs on it. */
  close(): void;
}

const MAX_RESPONSE_BYTES = 256 * 1024 * 1024;

export function baseUrl({ host, port, tls }: ServerAddress): string {
  return `${tls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Calls of a service over a channel. */
export function clientOf<T extends DescService>(service: T, { transport }: Channel): Client<T> {
  return createClient(service, transport);
}

/** For single calls. Nothing is dialled before the first. A peer that stops answering is noticed within 10 s by pings. */
export function createChannel(address: ServerAddress): Channel {
  const url = baseUrl(address);
  const sessionManager = new Http2SessionManager(
    url,
    // Idle connections are not pinged: the library would then ping a destroyed one too, which throws from a timer.
    { pingIntervalMs: 5000, pingTimeoutMs: 5000 },
    address.tls,
  );
  const transport = createGrpcTransport({ baseUrl: url, sessionManager, readMaxBytes: MAX_RESPONSE_BYTES });
  return { transport, close: () => sessionManager.abort() };
}

const MAX_LOCAL_RESPONSE_BYTES = 256 * 1024;

/** What callers of a SPIFFE Workload API say, so that nobody is made to call it by a request that he forwards. */
export const WORKLOAD_HEADER = { 'workload.spiffe.io': 'true' };

/** To a server on a Unix socket, as a SPIFFE Workload API. Answers of at most 256 KiB. */
export function unixChannel(path: string): Channel {
  const url = 'http://localhost';
  const sessionManager = new Http2SessionManager(url, undefined, { createConnection: () => connect(path) });
  const transport = createGrpcTransport({ baseUrl: url, sessionManager, readMaxBytes: MAX_LOCAL_RESPONSE_BYTES });
  return { transport, close: () => sessionManager.abort() };
}
