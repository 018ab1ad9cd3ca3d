import { giveBlock, takeBlock } from '../blocks.ts';
import { isLent, own } from '../lent.ts';

/** Blocks that small chunks are gathered in, so that a one-byte chunk does not hold its whole socket buffer. */
const blockBytes = 8192;
const smallBytes = 1024;
/** Lent chunks from this size on are copied into a block of their own, which serves again. */
const lentBytes = 16 * 1024;

/** Most queues are never used: one list for all of them, which stays empty. */
const NOTHING: Uint8Array[] = [];

/** A queue of bytes. Large chunks are kept as they are, small ones are copied together. */
export class ChunkQueue {
  bytes = 0;
  #items = NOTHING;
  #head = 0;
  /** Bytes of the first item that are gone already. */
  #offset = 0;
  #block: Buffer | undefined;
  #blockStart = 0;
  #blockEnd = 0;
  /** Of lent chunks, in order. */
  #lent: Buffer[] | undefined;

  push(chunk: Uint8Array): void {
    const length = chunk.length;
    if (length === 0) return;
    this.bytes += length;
    if (this.#items === NOTHING) this.#items = [];
    if (length >= smallBytes) {
      this.#items.push(length >= lentBytes && isLent(chunk) ? this.#inBlock(chunk) : own(chunk));
      this.#blockStart = this.#blockEnd; // what comes next does not belong to the item before this one
      return;
    }
    if (this.#block === undefined || this.#block.length - this.#blockEnd < length) {
      this.#block = Buffer.allocUnsafeSlow(blockBytes);
      this.#blockStart = 0;
      this.#blockEnd = 0;
    }
    const extend = this.#blockEnd > this.#blockStart && this.#items.length > this.#head;
    this.#block.set(chunk, this.#blockEnd);
    if (!extend) this.#blockStart = this.#blockEnd;
    this.#blockEnd += length;
    const view = this.#block.subarray(this.#blockStart, this.#blockEnd);
    if (extend) this.#items[this.#items.length - 1] = view;
    else this.#items.push(view);
  }

  #inBlock(chunk: Uint8Array): Uint8Array {
    const block = takeBlock();
    block.set(chunk);
    if (this.#lent === undefined) this.#lent = [block];
    else this.#lent.push(block);
    return block.subarray(0, chunk.length);
  }

  /** Takes the first chunk; the queue must not be empty. */
  shift(): Uint8Array {
    const item = this.#items[this.#head];
    this.#lentFirst(); // it leaves, with its block
    const chunk = this.#offset > 0 ? item.subarray(this.#offset) : item;
    this.#offset = 0;
    this.bytes -= chunk.length;
    this.#next();
    return chunk;
  }

  /** Moves the first `length` bytes to `target[at]`; there must be as many. */
  take(target: Uint8Array, at: number, length: number): void {
    this.bytes -= length;
    while (length > 0) {
      const item = this.#items[this.#head];
      const part = Math.min(item.length - this.#offset, length);
      target.set(part === item.length ? item : item.subarray(this.#offset, this.#offset + part), at);
      at += part;
      length -= part;
      this.#offset += part;
      if (this.#offset === item.length) {
        this.#offset = 0;
        const block = this.#lentFirst();
        if (block !== undefined) giveBlock(block);
        this.#next();
      }
    }
  }

  clear(): void {
    if (this.#items === NOTHING) return;
    this.bytes = 0;
    this.#items = NOTHING;
    this.#lent = undefined;
    this.#head = 0;
    this.#offset = 0;
    this.#block = undefined;
  }

  /** The block of the first item, taken off the list; undefined: it has none. */
  #lentFirst(): Buffer | undefined {
    const lent = this.#lent;
    if (lent === undefined || this.#items[this.#head].buffer !== lent[0].buffer) return undefined;
    const block = lent.shift();
    if (lent.length === 0) this.#lent = undefined;
    return block;
  }

  #next(): void {
    this.#items[this.#head++] = empty;
    if (this.#head === this.#items.length) {
      this.#items.length = 0;
      this.#head = 0;
      this.#blockStart = this.#blockEnd;
    } else if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
  }
}
const empty = new Uint8Array(0);
