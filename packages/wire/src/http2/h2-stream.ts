import type { Head, ResetCode, Stream, StreamHandler } from '../stream.ts';
import { ChunkQueue } from './chunk-queue.ts';
import { http2Counter } from './floods.ts';
import { errorOfReset } from './frames.ts';
import { listBytes } from './hpack-encoder.ts';
import { nothingQueued, SendQueue } from './send-queue.ts';
import type { Sender } from './sender.ts';

/** What a stream needs of its connection. */
export interface StreamHost {
  readonly sender: Sender;
  readonly bufferBytes: number;
  readonly isServer: boolean;
  readonly initialWindow: number;
  /** Asks for `bytes` more window for one stream; returns what the connection's budget grants. */
  growWindow(window: number): number;
  giveBack(bytes: number): void;
  count(name: string): void;
  /** Both directions are over, or the stream was reset. */
  remove(stream: H2Stream, resetByUs: boolean): void;
}

/** What came for a reader that pauses. */
class Held {
  readonly chunks = new ChunkQueue();
  /** The last chunk ends the message. */
  ends = false;
  trailers: Head | undefined = undefined;
  delivering = false;
}

/** One HTTP/2 stream. Fields that are not in `Stream` are for the connection only. */
export class H2Stream implements Stream {
  handler: StreamHandler;
  context: unknown = undefined;
  readonly id: number;
  host: StreamHost;

  // Sending.
  queue = nothingQueued;
  sendWindow: number;
  localEnded = false;
  headSent: boolean;

  // Receiving.
  remoteEnded = false;
  headReceived: boolean;
  isHead = false;
  /** Interim responses so far. */
  interims = 0;
  isConnect = false;
  /** A tunnel or gRPC: small frames are what it is for. */
  smallFrames = false;
  /** Announced body bytes still to come; -1: not announced. */
  bodyLeft = -1;
  /** Bytes the peer may still send. */
  recvWindow: number;
  /** The window we keep open; doubles while the reader keeps up. */
  #window: number;
  #uncredited = 0;
  #sinceGrowth = 0;
  #paused = false;
  #held: Held | undefined = undefined;

  /** Reset, or both directions over: nothing is sent any more. */
  done = false;
  /** No event may reach the handler any more. */
  #silent = false;
  #endDelivered = false;

  constructor(host: StreamHost, id: number, handler: StreamHandler) {
    this.host = host;
    this.id = id;
    this.handler = handler;
    this.sendWindow = host.sender.initialWindow;
    this.headSent = !host.isServer;
    this.headReceived = host.isServer;
    this.recvWindow = host.initialWindow;
    this.#window = host.initialWindow;
  }

  sendHead(head: Head, end: boolean): void {
    if (this.done || this.headSent) return;
    this.headSent = true;
    const bytes = listBytes(head);
    if (bytes > this.host.sender.maxHeaderList) {
      // The peer said that it does not take it (RFC 9113 10.5.1): what it gets says so, and the body is dropped.
      this.host.count(http2Counter.peerHeaderList);
      this.host.sender.headers(this.id, [':status', '502', 'content-length', '0'], true);
      this.#ended();
      return;
    }
    this.host.sender.headers(this.id, head, end, bytes);
    if (end) this.#ended();
  }

  sendInterim(head: Head): void {
    if (this.done || this.headSent) return;
    this.host.sender.headers(this.id, head, false);
  }

  sendData(chunk: Uint8Array, end: boolean): boolean {
    if (this.done || this.localEnded || this.queue.finished) return true;
    if (!this.headSent) {
      this.reset('internal'); // a body without a head is a mistake of the caller
      return true;
    }
    if (chunk.length === 0 && !end) return true;
    const sender = this.host.sender;
    if (sender.direct(this, chunk.length) || (chunk.length === 0 && this.queue.bytes === 0)) {
      sender.data(this, chunk, end);
      if (end) this.#ended();
      return true;
    }
    if (this.queue === nothingQueued) this.queue = new SendQueue(this.host.bufferBytes);
    const { queue } = this;
    queue.push(chunk);
    queue.ends = end;
    sender.enqueue(this);
    return queue.hasRoom();
  }

  sendTrailers(fields: Head): void {
    if (this.done || this.localEnded || this.queue.finished) return;
    if (fields.length === 0) {
      this.sendData(nothing, true);
    } else if (listBytes(fields) > this.host.sender.maxHeaderList) {
      this.host.count(http2Counter.peerHeaderList);
      this.reset('internal'); // to end without them would look like a whole message
    } else if (this.queue.bytes > 0) {
      this.queue.trailers = fields;
    } else {
      this.host.sender.headers(this.id, fields, true);
      this.#ended();
    }
  }

  /** The sender took queued bytes; `end`: with END_STREAM. */
  wrote(end: boolean): void {
    if (end) {
      this.#ended();
      return;
    }
    const { queue } = this;
    if (queue.trailers !== undefined) {
      if (queue.bytes > 0) return;
      this.host.sender.headers(this.id, queue.trailers, true);
      this.#ended();
    } else if (queue.drained()) {
      this.handler.onDrain(this);
    }
  }

  reset(code: ResetCode): void {
    this.#silent = true;
    this.#held?.chunks.clear();
    if (this.done) return;
    this.kill();
    if (this.id !== 0) {
      this.host.sender.reset(this.id, errorOfReset(code));
      this.host.remove(this, true);
    }
  }

  get buffered(): number {
    return this.queue.bytes + (this.#held?.chunks.bytes ?? 0);
  }

  /** The peer has answered in full and wants no more of the request (RFC 9113 8.1): its answer counts all the same. */
  answeredEarly(): void {
    this.queue.clear();
    this.#ended();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#sinceGrowth = 0; // it did not keep up
    this.#deliver();
    if (!this.#paused) this.#credit();
  }

  /** DATA came: `flow` bytes of window, of which `chunk` is content. False: more than the window allows. */
  received(chunk: Uint8Array, flow: number, end: boolean): boolean {
    this.recvWindow -= flow;
    if (this.recvWindow < 0) return false;
    if (end) this.remoteEnded = true;
    if (this.#paused || this.#held !== undefined) {
      this.#held ??= new Held();
      this.#held.chunks.push(chunk);
      this.#held.ends = end;
      this.#uncredited += flow;
    } else {
      this.#uncredited += flow;
      this.#sinceGrowth += flow;
      if (chunk.length > 0 || end) {
        this.#endDelivered = end;
        this.handler.onData(this, chunk, end);
      }
      if (!this.#paused) this.#credit();
    }
    if (end) this.#checkOver();
    return true;
  }

  /** Trailers came, or (`fields` empty) the end with a head. */
  receivedEnd(fields: Head): void {
    this.remoteEnded = true;
    if (this.#paused || this.#held !== undefined) {
      this.#held ??= new Held();
      this.#held.trailers = fields;
    } else {
      this.#endDelivered = true;
      this.handler.onTrailers(this, fields);
    }
    this.#checkOver();
  }

  /** The end came with the head, which the connection has delivered. */
  endedWithHead(): void {
    this.remoteEnded = true;
    this.#endDelivered = true;
    this.#checkOver();
  }

  /** Answers a request that was never sent. */
  answeredHere(head: Head): void {
    if (this.#silent) return;
    this.#silent = true;
    this.handler.onHead(this, head, true);
    this.handler.onClose?.(this);
  }

  /** The exchange is over from outside; the connection has taken it off its list. */
  failed(code: ResetCode, detail: string): void {
    this.kill();
    if (this.#silent) return;
    this.#silent = true;
    this.#held?.chunks.clear();
    this.handler.onReset(this, code, detail);
  }

  kill(): void {
    this.done = true;
    this.queue.clear();
    this.host.giveBack(this.#window - this.host.initialWindow);
    this.#window = this.host.initialWindow;
  }

  #ended(): void {
    this.localEnded = true;
    this.#checkOver();
  }

  #checkOver(): void {
    if (!this.localEnded || !this.remoteEnded) return;
    if (!this.done) {
      this.kill();
      this.host.remove(this, false);
    }
    if (this.#endDelivered && !this.#silent) {
      this.#silent = true;
      this.handler.onClose?.(this);
    }
  }

  #deliver(): void {
    const held = this.#held;
    if (held === undefined || held.delivering) return;
    const { chunks } = held;
    held.delivering = true;
    while (!this.#paused && !this.#silent && chunks.bytes > 0) {
      const chunk = chunks.shift();
      const end = held.ends && chunks.bytes === 0;
      if (end) this.#endDelivered = true;
      this.handler.onData(this, chunk, end);
    }
    held.delivering = false;
    if (this.#paused || this.#silent) return;
    this.#held = undefined;
    if (held.trailers !== undefined) {
      this.#endDelivered = true;
      this.handler.onTrailers(this, held.trailers);
    } else if (held.ends && !this.#endDelivered) {
      this.#endDelivered = true;
      this.handler.onData(this, nothing, true);
    }
    this.#checkOver();
  }

  /** Opens the window again when half of it is used up, wider each time a whole window went through. */
  #credit(): void {
    if (this.remoteEnded || this.done || this.#uncredited * 2 < this.#window) return;
    let increment = this.#uncredited;
    this.#uncredited = 0;
    if (this.#sinceGrowth >= this.#window) {
      this.#sinceGrowth = 0;
      const more = this.host.growWindow(this.#window);
      this.#window += more;
      increment += more;
    }
    this.recvWindow += increment;
    this.host.sender.windowUpdate(this.id, increment);
  }
}

const nothing = new Uint8Array(0);
