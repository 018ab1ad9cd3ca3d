/** Messages of a gRPC stream, cut out of the bytes as they come. */
import { Code, ConnectError } from '@connectrpc/connect';

export const PREFIX_BYTES = 5;

export class MessageReader {
  readonly #maxBytes: number;
  readonly #onMessage: (bytes: Uint8Array) => void;
  /** The beginning of a message whose end has not come: not put together before it can be. */
  #chunks: Buffer[] = [];
  #bytes = 0;
  /** Until so many bytes are there nothing can be cut out. */
  #needed = PREFIX_BYTES;

  /** `maxBytes`: of one message. */
  constructor(maxBytes: number, onMessage: (bytes: Uint8Array) => void) {
    this.#maxBytes = maxBytes;
    this.#onMessage = onMessage;
  }

  /** Throws a ConnectError for what may not be sent, and whatever `onMessage` throws; then nothing more may be given. */
  take(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes < this.#needed) return;
    let rest = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    this.drop();
    while (rest.length >= PREFIX_BYTES) {
      const length = rest.readUInt32BE(1);
      if (rest[0] !== 0) throw new ConnectError('compressed messages are not taken', Code.Unimplemented);
      if (length > this.#maxBytes) {
        const message = `a message of ${length} bytes is larger than the ${this.#maxBytes} that are taken`;
        throw new ConnectError(message, Code.ResourceExhausted);
      }
      this.#needed = PREFIX_BYTES + length;
      if (rest.length < this.#needed) break;
      this.#onMessage(rest.subarray(PREFIX_BYTES, this.#needed));
      rest = rest.subarray(this.#needed);
      this.#needed = PREFIX_BYTES;
    }
    if (rest.length === 0) return;
    this.#chunks.push(rest);
    this.#bytes = rest.length;
  }

  /** Forgets what has come. */
  drop(): void {
    this.#chunks = [];
    this.#bytes = 0;
  }
}

/** A small message with its prefix. */
export function frame(message: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  out[0] = 0;
  out.writeUInt32BE(message.length, 1);
  out.set(message, PREFIX_BYTES);
  return out;
}
