/**
 * What is to be written to a socket, in order: gives it in few contiguous pieces. Small chunks and lent ones are copied
 * together into blocks that serve again when their bytes have left; large ones pass as they are.
 */
import { BLOCK_BYTES, giveBlock, isLent, takeBlock } from '@weft/wire';

/** Larger chunks go alone, since a copy would cost more than a write. */
const ALONE_BYTES = 16 * 1024;
export class WriteQueue {
  /** That wait here. */
  bytes = 0;
  #first: Uint8Array | undefined;
  #more: Uint8Array[] | undefined;
  /** Behind all others: the block that lent bytes are gathered in. */
  #block: Buffer | undefined;
  #blockEnd = 0;
  /** Blocks that are full and wait, in order. */
  #full: Buffer[] | undefined;
  /** Blocks of which a piece was given. */
  #out: Buffer[] | undefined;

  push(chunk: Uint8Array): void {
    const { length } = chunk;
    if (isLent(chunk)) this.#copy(chunk);
    else if (this.#block === undefined) this.#keep(chunk);
    else if (this.#blockEnd + length <= BLOCK_BYTES && length <= ALONE_BYTES) this.#copy(chunk);
    else {
      this.#close();
      this.#keep(chunk);
    }
    this.bytes += length;
  }

  /** The next piece, which stays as it is until `release`; undefined: there is none. */
  take(): Uint8Array | undefined {
    const piece = this.#next();
    if (piece !== undefined) this.bytes -= piece.length;
    return piece;
  }

  /** All pieces that were taken have left. */
  release(): void {
    const out = this.#out;
    if (out === undefined) return;
    this.#out = undefined;
    for (const block of out) giveBlock(block);
  }

  #next(): Uint8Array | undefined {
    const first = this.#first;
    if (first === undefined) {
      if (this.#block === undefined) return undefined;
      this.#close();
      return this.#shift();
    }
    if (first.length > ALONE_BYTES || (this.#more === undefined && this.#block === undefined)) return this.#shift();
    // Small ones, as many as fit in one block.
    if (this.#block !== undefined) this.#close();
    const block = takeBlock();
    let end = 0;
    for (let chunk = this.#first; chunk !== undefined && end + chunk.length <= BLOCK_BYTES; chunk = this.#first) {
      block.set(chunk, end);
      end += chunk.length;
      this.#shift();
    }
    this.#give(block);
    return block.subarray(0, end);
  }

  #keep(chunk: Uint8Array): void {
    if (this.#first === undefined) this.#first = chunk;
    else if (this.#more === undefined) this.#more = [chunk];
    else this.#more.push(chunk);
  }

  #shift(): Uint8Array | undefined {
    const first = this.#first;
    const more = this.#more;
    this.#first = more?.shift();
    if (more?.length === 0) this.#more = undefined;
    if (this.#full !== undefined && first?.buffer === this.#full[0].buffer) {
      this.#give(this.#full.shift() as Buffer);
      if (this.#full.length === 0) this.#full = undefined;
    }
    return first;
  }

  #copy(chunk: Uint8Array): void {
    if (this.#block !== undefined && this.#blockEnd + chunk.length > BLOCK_BYTES) this.#close();
    if (this.#block === undefined) this.#open(chunk.length);
    (this.#block as Buffer).set(chunk, this.#blockEnd);
    this.#blockEnd += chunk.length;
  }

  /** What little waits is taken along, so that a head and its body are one piece. `bytes` at most come next. */
  #open(bytes: number): void {
    const block = takeBlock();
    let end = 0;
    if (this.bytes <= ALONE_BYTES && this.bytes + bytes <= BLOCK_BYTES) {
      for (let chunk = this.#shift(); chunk !== undefined; chunk = this.#shift()) {
        block.set(chunk, end);
        end += chunk.length;
      }
    }
    this.#block = block;
    this.#blockEnd = end;
  }

  #close(): void {
    const block = this.#block as Buffer;
    this.#block = undefined;
    if (this.#full === undefined) this.#full = [block];
    else this.#full.push(block);
    this.#keep(block.subarray(0, this.#blockEnd));
  }

  #give(block: Buffer): void {
    if (this.#out === undefined) this.#out = [block];
    else this.#out.push(block);
  }
}
