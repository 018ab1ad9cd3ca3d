/** A net or tls socket as a Pipe: writes of one turn of the loop leave as one contiguous write, errors never escape. */
import type { Socket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { type DirectWriter, directWriter, readsDirectly } from './handle.ts';
import { nullSink, type Pipe, type PipeSink } from './pipe.ts';
import type { Ticker, Ticking } from './timers.ts';
import { arrived, endOfTurn, flushAtEnd, gather, socketError } from './turn.ts';
import { WriteQueue } from './write-queue.ts';

/** Above this many unsent bytes `write` says false; below half of it the sink hears `drained`. */
const HIGH_BYTES = 64 * 1024;
/** How long a socket may stay half-open after an HTTP codec ended it. */
const LINGER_MS = 5000;

export class SocketPipe implements Pipe, Ticking {
  sink: PipeSink = nullSink;
  /** Of the client: a balancer may say who that is (ProxyHeaderSink). */
  remoteAddress: string;
  remotePort: number;
  readonly socket: Socket;
  readonly #queue = new WriteQueue();
  #blocked = false;
  #ending = false;
  #gone = false;
  #dirty = false;
  #detail = '';
  #lingerFrom = 0;
  #linger: Ticker | undefined;
  readonly #highBytes: number;
  #writer: DirectWriter | undefined;

  /**
   * The socket must be made with allowHalfOpen. `linger`: end half-open leftovers after a while (HTTP, not tunnels).
   * `highBytes`: unsent bytes above which `write` says false, never more than the default.
   */
  constructor(socket: Socket, linger?: Ticker, highBytes = HIGH_BYTES) {
    this.socket = socket;
    this.#highBytes = Math.min(highBytes, HIGH_BYTES);
    this.#linger = linger;
    this.remoteAddress = plainAddress(socket.remoteAddress ?? '');
    this.remotePort = socket.remotePort ?? 0;
    socket.setNoDelay(true);
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('error', this.#onError);
    socket.on('close', this.#onClose);
    if (socket.destroyed) setImmediate(this.#onClose);
    else this.#writer = directWriter(socket, this.#onDirect);
  }

  /** The one who reads now keeps the socket (`release` may not be called any more): the shorter way of reading may begin. */
  settle(): void {
    if (!this.#gone && readsDirectly(this.socket, this.#onData)) this.socket.off('data', this.#onData);
  }

  /** Bytes given that the kernel has not taken. */
  get unsent(): number {
    return this.#queue.bytes + (this.#writer === undefined ? this.socket.writableLength : this.#writer.pending);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#gone || this.#ending) return true;
    if (bytes.length > 0) {
      this.#queue.push(bytes);
      this.#mark();
    }
    if (this.unsent > this.#highBytes) {
      this.#blocked = true;
      return false;
    }
    return true;
  }

  end(): void {
    if (this.#gone || this.#ending) return;
    this.#ending = true;
    this.#mark();
  }

  destroy(reason = 'closed here'): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#detail = reason;
    // What was written before a destroy is an error reply or a GOAWAY: give it to the kernel first.
    this.#write();
    this.#linger?.delete(this);
    this.sink = nullSink;
    this.socket.destroy();
  }

  /** Closes by RST, so that the peer sees a failure and not an end. */
  abort(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#linger?.delete(this);
    this.sink = nullSink;
    const raw = this.socket as Socket & { resetAndDestroy(): void; encrypted?: boolean };
    if (raw.encrypted || raw.connecting) raw.destroy();
    else raw.resetAndDestroy();
  }

  get buffered(): number {
    return this.unsent;
  }

  pauseReading(): void {
    this.socket.pause();
  }

  resumeReading(): void {
    if (!this.#gone) this.socket.resume();
  }

  defer(fn: () => void): void {
    endOfTurn(fn);
  }
  gather(fn: () => void): void {
    gather(fn);
  }
  later(fn: () => void): void {
    setImmediate(fn);
  }

  /** Lets go of the socket without closing it, for a new owner (a TLS server). Bytes taken must be unshifted by the caller. */
  release(): Socket {
    this.#gone = true;
    this.sink = nullSink;
    const s = this.socket;
    s.pause();
    s.off('data', this.#onData);
    s.off('end', this.#onEnd);
    s.off('close', this.#onClose);
    return s; // the error listener stays: an error between owners must not be thrown
  }

  /** Called at the end of a turn. */
  flush(): void {
    this.#dirty = false;
    if (this.#gone) return;
    this.#write();
    // What a writer that was let go on gave meanwhile goes first; it is flushed in the same turn.
    if (this.#ending && this.#queue.bytes === 0) {
      this.socket.end();
      if (this.#linger) {
        this.#lingerFrom = 0;
        this.#linger.add(this);
      }
    }
  }

  tick(nowMs: number): void {
    if (this.#lingerFrom === 0) this.#lingerFrom = nowMs;
    else if (nowMs - this.#lingerFrom > LINGER_MS && this.unsent === 0) {
      this.#linger?.delete(this);
      this.socket.destroy();
    }
  }

  #mark(): void {
    if (this.#dirty) return;
    this.#dirty = true;
    flushAtEnd(this);
  }

  #write(): void {
    const { socket } = this;
    if (this.#queue.bytes === 0 || socket.destroyed || !socket.writable) return;
    if (this.#writer === undefined) {
      // TLS takes one write at a time, and copies what waits behind it: that waits here instead.
      if (socket.writableLength === 0) socket.write(this.#queue.take() as Uint8Array, this.#onWritten);
      return;
    }
    for (let piece = this.#queue.take(); piece !== undefined; piece = this.#queue.take()) {
      if (!this.#direct(piece)) return;
    }
    if (this.#writer.pending === 0) this.#queue.release();
  }

  #direct(bytes: Uint8Array): boolean {
    const failed = (this.#writer as DirectWriter).write(bytes);
    if (failed !== 0) {
      this.#writeFailed(failed);
      return false;
    }
    if (this.#blocked) this.#onWritten();
    return true;
  }

  #onDirect = (failed: number): void => {
    if (failed !== 0) this.#writeFailed(failed);
    else this.#onWritten();
  };

  /** As the socket does by itself: whoever has the pipe hears it by 'close'. */
  #writeFailed(error: number): void {
    this.#detail ||= getSystemErrorName(error);
    this.socket.destroy();
  }

  #onWritten = (): void => {
    const waiting = this.#writer === undefined ? this.socket.writableLength : this.#writer.pending;
    if (waiting === 0) this.#queue.release();
    if (this.#queue.bytes > 0) this.#mark();
    if (this.#blocked && !this.#gone && this.unsent <= this.#highBytes / 2) {
      this.#blocked = false;
      this.#guard(() => this.sink.drained());
    }
  };

  #onData = (chunk: Uint8Array): void => {
    arrived(chunk.length);
    try {
      this.sink.bytes(chunk);
    } catch (error) {
      this.#failed(error);
    }
  };

  #onEnd = (): void => {
    this.#guard(() => this.sink.ended());
  };

  #onError = (error: Error & { code?: string }): void => {
    this.#detail = error.code ?? error.message;
  };

  #onClose = (): void => {
    if (this.#gone) return;
    this.#gone = true;
    this.#linger?.delete(this);
    const sink = this.sink;
    this.sink = nullSink;
    try {
      sink.gone(this.#detail || 'connection closed');
    } catch (error) {
      socketError(error);
    }
  };

  #guard(fn: () => void): void {
    try {
      fn();
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    socketError(error);
    this.#detail = 'internal error';
    this.socket.destroy();
  }
}

/** `::ffff:1.2.3.4` is 1.2.3.4: a dual-stack socket's view of IPv4. */
export function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address;
}
