import { own } from '../lent.ts';
import type { Head, ResetCode, Stream, StreamHandler } from '../stream.ts';

/** What a stream needs from its connection; after the exchange the stream has none and every call does nothing. */
export interface ExchangeOwner {
  sendHead(head: Head, end: boolean): void;
  sendInterim(head: Head): void;
  sendData(chunk: Uint8Array, end: boolean): boolean;
  sendTrailers(fields: Head): void;
  reset(code: ResetCode): void;
  setPaused(paused: boolean): void;
  readonly buffered: number;
}

/** One HTTP/1.1 exchange. */
export class Exchange implements Stream {
  handler: StreamHandler;
  context: unknown = undefined;
  owner: ExchangeOwner | undefined;

  constructor(owner: ExchangeOwner | undefined, handler: StreamHandler) {
    this.owner = owner;
    this.handler = handler;
  }

  sendHead(head: Head, end: boolean): void {
    this.owner?.sendHead(head, end);
  }

  sendInterim(head: Head): void {
    this.owner?.sendInterim(head);
  }

  sendData(chunk: Uint8Array, end: boolean): boolean {
    return this.owner === undefined ? true : this.owner.sendData(chunk, end);
  }

  sendTrailers(fields: Head): void {
    this.owner?.sendTrailers(fields);
  }

  reset(code: ResetCode): void {
    this.owner?.reset(code);
  }

  get buffered(): number {
    return this.owner?.buffered ?? 0;
  }

  pause(): void {
    this.owner?.setPaused(true);
  }

  resume(): void {
    this.owner?.setPaused(false);
  }
}

export const EMPTY: Uint8Array = new Uint8Array(0);

/** The bytes as a Buffer over the same memory. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Received bytes that are not read yet. */
export class InputQueue {
  size = 0;
  private current: Buffer | undefined;
  private rest: Buffer[] = [];

  push(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.size += bytes.length;
    if (this.current === undefined) this.current = bytes;
    else this.rest.push(bytes);
  }

  /** The next bytes, to be given back by `unread` where they were not all used. */
  take(): Buffer | undefined {
    const bytes = this.current;
    if (bytes === undefined) return undefined;
    this.size -= bytes.length;
    this.current = this.rest.length === 0 ? undefined : this.rest.shift();
    return bytes;
  }

  /** Puts the tail of what was taken last back in front. */
  unread(bytes: Buffer, from: number): void {
    if (from >= bytes.length) return;
    if (this.current !== undefined) this.rest.unshift(this.current);
    this.current = from === 0 ? bytes : bytes.subarray(from);
    this.size += bytes.length - from;
  }

  /** Whoever lent the bytes wants them back: what is left is copied. */
  keep(): void {
    if (this.size === 0) return;
    if (this.current !== undefined) this.current = own(this.current);
    for (let i = 0; i < this.rest.length; i++) this.rest[i] = own(this.rest[i]);
  }

  clear(): void {
    this.size = 0;
    this.current = undefined;
    this.rest = [];
  }
}

/** How the body that we write is delimited. */
export type WriteFraming = 'none' | 'length' | 'chunked' | 'close' | 'tunnel';

/** Lower-case hexadecimal size line of a chunk. */
export function chunkSize(size: number): string {
  return size.toString(16) + '\r\n';
}
