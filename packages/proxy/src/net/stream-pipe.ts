/** The inside of a CONNECT exchange as a Pipe: a tunnel on the mesh link, or what an explicit client sends in CONNECT. */
import type { Head, ResetCode, Stream, StreamHandler } from '@weft/wire';
import { nullSink, type Pipe, type PipeSink } from './pipe.ts';
import { endOfTurn } from './turn.ts';

const EMPTY = new Uint8Array(0);

export class StreamPipe implements Pipe, StreamHandler {
  sink: PipeSink = nullSink;
  readonly remoteAddress: string;
  readonly remotePort: number;
  #stream: Stream;
  #ended = false;
  #gone = false;

  constructor(stream: Stream, remoteAddress: string, remotePort: number) {
    this.#stream = stream;
    this.remoteAddress = remoteAddress;
    this.remotePort = remotePort;
  }

  write(bytes: Uint8Array): boolean {
    if (this.#gone || this.#ended) return true;
    return this.#stream.sendData(bytes, false);
  }
  end(): void {
    if (this.#gone || this.#ended) return;
    this.#ended = true;
    this.#stream.sendData(EMPTY, true);
  }
  destroy(_reason?: string): void {
    this.#close('cancel');
  }
  /** Ends as a failure: the far proxy resets its socket. */
  abort(): void {
    this.#close('connection');
  }
  get buffered(): number {
    return this.#stream.buffered;
  }
  pauseReading(): void {
    if (!this.#gone) this.#stream.pause();
  }
  resumeReading(): void {
    if (!this.#gone) this.#stream.resume();
  }
  defer(fn: () => void): void {
    endOfTurn(fn);
  }
  later(fn: () => void): void {
    setImmediate(fn);
  }

  onHead(_stream: Stream, _head: Head, end: boolean): void {
    if (end) this.sink.ended();
  }
  onData(_stream: Stream, chunk: Uint8Array, end: boolean): void {
    if (chunk.length > 0) this.sink.bytes(chunk);
    if (end && !this.#gone) this.sink.ended();
  }
  onTrailers(): void {
    this.sink.ended();
  }
  onReset(_stream: Stream, code: ResetCode, detail: string): void {
    this.#lost(detail || code);
  }
  onDrain(): void {
    this.sink.drained();
  }
  onClose(): void {
    this.#lost('');
  }

  #close(code: ResetCode): void {
    if (this.#gone) return;
    this.#gone = true;
    this.sink = nullSink;
    this.#stream.reset(code);
  }
  #lost(detail: string): void {
    if (this.#gone) return;
    this.#gone = true;
    const sink = this.sink;
    this.sink = nullSink;
    sink.gone(detail);
  }
}
