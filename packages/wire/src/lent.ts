/**
 * Bytes that are lent: sockets read into one buffer, and what they read lies in it only until the reader returns. Whoever
 * keeps a chunk longer than that keeps `own(chunk)`.
 */

/** What all sockets of the process read into. */
export const readBuffer: Buffer = Buffer.allocUnsafeSlow(64 * 1024);
const memory = readBuffer.buffer;

export function isLent(chunk: Uint8Array): boolean {
  return chunk.buffer === memory;
}

/** The same bytes, to keep: a copy where they are lent. */
export function own<T extends Uint8Array>(chunk: T): T {
  return isLent(chunk) ? (copyOf(chunk) as Uint8Array as T) : chunk;
}

function copyOf(chunk: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafe(chunk.length);
  copy.set(chunk);
  return copy;
}
