/**
 * A pipe is one side of a byte stream: a socket, a TLS socket or the inside of a CONNECT stream. A codec writes into
 * it as its Output; a tunnel joins two of them. Whoever owns the bytes now is its sink, and may hand it on.
 */
import { type Connection, type Output, own } from '@weft/wire';
import type { Ticker, Ticking } from './timers.ts';

export interface PipeSink {
  bytes(chunk: Uint8Array): void;
  /** The other side half-closed. */
  ended(): void;
  /** Room again after write returned false. */
  drained(): void;
  /** Nothing comes or goes any more. Called once, unless the owner destroyed the pipe itself. */
  gone(detail: string): void;
}

export interface Pipe extends Output {
  /** Ends both ways as a failure (RST), not as a clean end. */
  abort(): void;
  /** Its sink is the last one: nobody takes the socket out of the pipe any more. Absent where that makes no difference. */
  settle?(): void;
  sink: PipeSink;
  readonly remoteAddress: string;
  readonly remotePort: number;
}

/** Feeds a codec from a pipe and keeps its clock. */
export class CodecSink implements PipeSink, Ticking {
  #connection: Connection;
  #pipe: Pipe;
  #ticker: Ticker;
  #onGone: (() => void) | undefined;

  constructor(connection: Connection, pipe: Pipe, ticker: Ticker, onGone?: () => void) {
    this.#connection = connection;
    this.#pipe = pipe;
    this.#ticker = ticker;
    this.#onGone = onGone;
    ticker.add(this);
  }
  bytes(chunk: Uint8Array): void {
    this.#connection.receive(chunk);
  }
  ended(): void {
    this.#connection.receiveEnd();
  }
  drained(): void {
    this.#connection.drained();
  }
  gone(detail: string): void {
    this.#ticker.delete(this);
    this.#connection.closed(detail);
    this.#onGone?.();
  }
  tick(nowMs: number): void {
    // Who destroys a pipe itself, as codecs do with a bad peer's, is not told that it is gone.
    if (this.#pipe.sink !== this) this.gone('closed here');
    else this.#connection.tick(nowMs);
  }
}

/** Takes bytes that nobody waits for, until the real owner is known. */
export const nullSink: PipeSink = { bytes() {}, ended() {}, drained() {}, gone() {} };

/** Holds early bytes and the end until the real sink is set by `release`. */
export class HoldSink implements PipeSink {
  chunks: Uint8Array[] = [];
  end = false;
  lost: string | undefined;
  bytes(chunk: Uint8Array): void {
    this.chunks.push(own(chunk));
  }
  ended(): void {
    this.end = true;
  }
  drained(): void {}
  gone(detail: string): void {
    this.lost = detail;
  }
  /** Gives the pipe to `sink`, with what came meanwhile. */
  release(pipe: Pipe, sink: PipeSink): void {
    pipe.sink = sink;
    for (const chunk of this.chunks) {
      if (pipe.sink === sink) sink.bytes(chunk);
    }
    this.chunks = [];
    if (this.lost !== undefined) sink.gone(this.lost);
    else if (this.end && pipe.sink === sink) sink.ended();
  }
}
