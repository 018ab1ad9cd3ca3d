/**
 * Half-close is for what a connection carries. Within the handshake a client's end is its end: Node would hold such a
 * connection until the handshake's deadline, so it may be half open only once it is secured.
 */
import type { Socket } from 'node:net';
import type { Server, TLSSocket } from 'node:tls';

/** Ends TLS of a client on a socket that was accepted elsewhere; what was read of it has been put back. */
export function handshakeOn(server: Server, raw: Socket): void {
  // Its end was read before: it does not come a second time, and who has ended finishes no handshake.
  if (raw.readableEnded || raw.destroyed) {
    raw.destroy();
    return;
  }
  beginHandshake(raw);
  server.emit('connection', raw);
}

/** The TLS socket on top takes this over from the raw one. */
export function beginHandshake(raw: Socket): void {
  raw.allowHalfOpen = false;
}

/** To be called as soon as the handshake is done. */
export function allowHalfClose(secured: TLSSocket): void {
  secured.allowHalfOpen = true;
}
