import type { Head, Output } from '../stream.ts';
import {
  defaultFrameBytes,
  defaultWindow,
  FrameWriter,
  flag,
  frame,
  frameHeaderBytes,
  h2Error,
  maxWindow,
} from './frames.ts';
import type { H2Stream } from './h2-stream.ts';
import { blockBytes, HpackEncoder, listBytes } from './hpack-encoder.ts';

/** What a TLS record carries at most (RFC 8446 5.1). SETTINGS_MAX_FRAME_SIZE is never smaller. */
const recordBytes = 16_384;

/**
 * The sending half of a connection: encodes heads, shares the connection's window and the output among streams (one
 * frame each in turn), and lets all frames of a turn leave in one write.
 */
export class Sender {
  readonly writer: FrameWriter;
  readonly encoder: HpackEncoder;
  /** What the peer allows. */
  window = defaultWindow;
  initialWindow = defaultWindow;
  maxFrame = defaultFrameBytes;
  /** Of DATA: a frame and its header fill a TLS record, so that the peer mostly gets it whole, in one read. */
  readonly dataBytes = recordBytes - frameHeaderBytes;
  /** Decoded bytes of a head (listBytes). */
  maxHeaderList = maxWindow;
  /** DATA frames sent so far. */
  dataFrames = 0;
  dead = false;
  /** Heads and resets written since the output is blocked, and their bytes: DATA waits in its stream, these do not. */
  queuedFrames = 0;
  queuedBytes = 0;

  #output: Output;
  #scheduled = false;
  #flushing = false;
  #runFlush: () => void;
  #afterFlush: () => void;
  // Streams that have bytes and window, as a linked list through SendQueue.next.
  #first: H2Stream | undefined;
  #last: H2Stream | undefined;

  /** `afterFlush` runs after each flush; `guard` runs the flush and catches what handlers throw. */
  constructor(output: Output, hpackTableBytes: number, guard: (run: () => void) => void, afterFlush: () => void) {
    this.#output = output;
    this.writer = new FrameWriter(output);
    this.encoder = new HpackEncoder(hpackTableBytes);
    this.#afterFlush = afterFlush;
    const run = (): void => this.flush();
    this.#runFlush = () => {
      this.#scheduled = false;
      guard(run);
    };
  }

  /** Sees to a flush at the end of this turn, or of a later one that brings more to write. */
  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    const output = this.#output;
    if (output.gather === undefined) output.defer(this.#runFlush);
    else output.gather(this.#runFlush);
  }

  flush(): void {
    if (this.dead || this.#flushing) return;
    this.#flushing = true;
    try {
      this.#drain();
      this.writer.flush();
    } finally {
      this.#flushing = false;
    }
    this.#afterFlush();
  }

  drained(): void {
    this.writer.blocked = false;
    this.queuedFrames = 0;
    this.queuedBytes = 0;
    this.flush();
  }

  /** HEADERS, with CONTINUATION when the block is larger than a frame. `bytes`: of the fields, where they are counted. */
  headers(id: number, fields: Head, end: boolean, bytes = listBytes(fields)): void {
    const writer = this.writer;
    const bound = blockBytes(bytes);
    const endFlag = end ? flag.endStream : 0;
    if (writer.blocked) {
      this.queuedFrames++;
      this.queuedBytes += bound;
    }
    if (bound <= this.maxFrame) {
      writer.room(frameHeaderBytes + bound);
      const at = writer.pos;
      const blockEnd = this.encoder.encode(fields, writer.slab, at + frameHeaderBytes);
      writer.header(blockEnd - at - frameHeaderBytes, frame.headers, flag.endHeaders | endFlag, id);
      writer.pos = blockEnd;
    } else {
      const block = Buffer.allocUnsafe(bound);
      const size = this.encoder.encode(fields, block, 0);
      let type: number = frame.headers;
      for (let at = 0; at < size || at === 0; at += this.maxFrame) {
        const last = at + this.maxFrame >= size;
        const flags = (last ? flag.endHeaders : 0) | (type === frame.headers ? endFlag : 0);
        writer.frame(type, flags, id, block.subarray(at, Math.min(size, at + this.maxFrame)));
        type = frame.continuation;
      }
    }
    this.schedule();
  }

  /** Whether a chunk of `length` bytes may leave at once: nobody waits, and window and output have room. */
  direct(stream: H2Stream, length: number): boolean {
    return (
      this.#first === undefined &&
      !this.writer.blocked &&
      stream.queue.bytes === 0 &&
      length <= stream.sendWindow &&
      length <= this.window
    );
  }

  /** What `direct` allowed, or nothing but the end. */
  data(stream: H2Stream, chunk: Uint8Array, end: boolean): void {
    const { length } = chunk;
    const { dataBytes } = this;
    stream.sendWindow -= length;
    this.window -= length;
    let at = 0;
    for (; length - at > dataBytes; at += dataBytes) {
      this.dataFrames++;
      this.writer.frame(frame.data, 0, stream.id, chunk.subarray(at, at + dataBytes));
    }
    this.dataFrames++;
    this.writer.frame(frame.data, end ? flag.endStream : 0, stream.id, at === 0 ? chunk : chunk.subarray(at));
    this.schedule();
  }

  /** Puts a stream with queued bytes in line, if its window is open. */
  enqueue(stream: H2Stream): void {
    const { queue } = stream;
    if (queue.inLine || queue.bytes === 0 || stream.sendWindow <= 0) return;
    queue.inLine = true;
    queue.next = undefined;
    if (this.#last === undefined) this.#first = stream;
    else this.#last.queue.next = stream;
    this.#last = stream;
    if (!this.writer.blocked && this.window > 0) this.schedule();
  }

  /** The peer opened the connection's window; false when it overflows. */
  open(increment: number): boolean {
    this.window += increment;
    if (this.window > maxWindow) return false;
    if (this.#first !== undefined) this.schedule();
    return true;
  }

  reset(id: number, error: number): void {
    if (this.writer.blocked) this.queuedFrames++;
    this.writer.frame32(frame.rstStream, id, error);
    this.schedule();
  }

  windowUpdate(id: number, increment: number): void {
    this.writer.frame32(frame.windowUpdate, id, increment);
    this.schedule();
  }

  goaway(lastId: number, error: number, detail: string): void {
    const text = error === h2Error.none ? 0 : Math.min(detail.length, 200);
    this.writer.room(frameHeaderBytes + 8 + text);
    this.writer.header(8 + text, frame.goaway, 0, 0);
    this.writer.uint32(lastId);
    this.writer.uint32(error);
    this.writer.slab.write(detail.slice(0, text), this.writer.pos, 'latin1');
    this.writer.pos += text;
    this.schedule();
  }

  #drain(): void {
    while (this.#first !== undefined && this.window > 0 && !this.writer.blocked) {
      const stream = this.#first;
      const { queue } = stream;
      this.#first = queue.next;
      if (this.#first === undefined) this.#last = undefined;
      queue.next = undefined;
      queue.inLine = false;
      const length = Math.min(queue.bytes, stream.sendWindow, this.window, this.dataBytes);
      // A stream that was reset since, or whose window a SETTINGS shrank.
      if (stream.done || length <= 0) continue;
      const end = queue.ends && length === queue.bytes;
      const writer = this.writer;
      writer.room(frameHeaderBytes + length);
      writer.header(length, frame.data, end ? flag.endStream : 0, stream.id);
      queue.take(writer.slab, writer.pos, length);
      writer.pos += length;
      stream.sendWindow -= length;
      this.window -= length;
      this.dataFrames++;
      this.enqueue(stream);
      stream.wrote(end);
    }
  }
}
