/** A gRPC connection to a control plane over HTTP/2. */
import type { SecureClientSessionOptions } from 'node:http2';
import type { Transport } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';

export interface Channel {
  transport: Transport;
  /** Ends the connection at once, and what runs on it. */
  close(): void;
}

const MAX_RESPONSE_BYTES = 256 * 1024 * 1024;

/**
 * `tls` undefined means plaintext, for loopback only. Nothing is dialled before the first call. A peer that stops
 * answering is noticed within 10 s by pings.
 */
export function createChannel(options: { host: string; port: number; tls?: SecureClientSessionOptions }): Channel {
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  const baseUrl = `${options.tls ? 'https' : 'http'}://${host}:${options.port}`;
  const sessionManager = new Http2SessionManager(
    baseUrl,
    // Idle connections are not pinged: the library would then ping a destroyed one too, which throws from a timer.
    { pingIntervalMs: 5000, pingTimeoutMs: 5000 },
    options.tls,
  );
  const transport = createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: MAX_RESPONSE_BYTES });
  return { transport, close: () => sessionManager.abort() };
}
