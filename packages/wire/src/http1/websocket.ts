/** The two fields of a WebSocket handshake that HTTP/1.1 has and HTTP/2 has not (RFC 6455 4, RFC 8441 5). */
import { createHash } from 'node:crypto';

const guid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** The answer to a key: shows that the server speaks WebSocket, nothing more. */
export function webSocketAccept(key: string): string {
  return createHash('sha1')
    .update(key + guid, 'latin1')
    .digest('base64');
}

/** A key for a server that wants one, where the client is none of HTTP/1.1. It is no secret (RFC 6455 10.3). */
export function webSocketKey(): string {
  const bytes = Buffer.alloc(16);
  for (let i = 0; i < 16; i++) bytes[i] = Math.floor(Math.random() * 256);
  return bytes.toString('base64');
}
