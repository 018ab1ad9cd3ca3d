import type { Head } from '../stream.ts';
import { ChunkQueue } from './chunk-queue.ts';
import type { H2Stream } from './h2-stream.ts';

const smallestMark = 64 * 1024;

/** What of a stream waits to be sent. Most streams never have one: their bytes leave at once. */
export class SendQueue extends ChunkQueue {
  /** END_STREAM goes with the last byte. */
  ends = false;
  /** To be sent behind the last byte. */
  trailers: Head | undefined = undefined;
  /** In the sender's line, and who comes after it there. */
  inLine = false;
  next: H2Stream | undefined = undefined;
  /** Bytes that waited at the last tick of a finished message, and since when none of them left. */
  stalledBytes = 0;
  stalledSinceMs = 0;
  #needDrain = false;
  /** High-water mark; doubles each time the peer has emptied the queue, up to `#most`. */
  #mark: number;
  readonly #most: number;

  constructor(mostBytes: number) {
    super();
    this.#most = mostBytes;
    this.#mark = Math.min(smallestMark, mostBytes);
  }

  /** Nothing more is taken: the message has its end. */
  get finished(): boolean {
    return this.ends || this.trailers !== undefined;
  }

  /** Whether there is room for more. Where not, `drained` tells once that there is again. */
  hasRoom(): boolean {
    if (this.bytes <= this.#mark) return true;
    this.#needDrain = true;
    return false;
  }

  /** Whether somebody waits for room, and there is some. */
  drained(): boolean {
    if (!this.#needDrain || this.bytes * 2 > this.#mark) return false;
    this.#needDrain = false;
    this.#mark = Math.min(this.#mark * 2, this.#most);
    return true;
  }

  override clear(): void {
    super.clear();
    this.trailers = undefined;
  }
}

/** The queue of streams that have none: stays empty. */
export const nothingQueued = new SendQueue(0);
