import type { Output, ResetCode } from '../stream.ts';

/** Frame types, flags, settings and error codes of HTTP/2 (RFC 9113 6, 7; RFC 8441), and the writer and reader of frames. */

export const frame = Object.freeze({
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
});

export const flag = Object.freeze({ endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 0x20 });

export const setting = Object.freeze({
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
  enableConnectProtocol: 8,
});

export const h2Error = Object.freeze({
  none: 0,
  protocol: 1,
  internal: 2,
  flowControl: 3,
  settingsTimeout: 4,
  streamClosed: 5,
  frameSize: 6,
  refusedStream: 7,
  cancel: 8,
  compression: 9,
  connect: 10,
  enhanceYourCalm: 11,
  inadequateSecurity: 12,
  http11Required: 13,
});

export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
export const frameHeaderBytes = 9;
export const maxWindow = 0x7fffffff;
/** Window of a connection, and of a stream until SETTINGS say otherwise (RFC 9113 6.9.2). */
export const defaultWindow = 65_535;
export const defaultFrameBytes = 16_384;

/** The code sent for a reset of ours. A broken connection is CONNECT_ERROR, so that the next hop can tell it apart. */
export function errorOfReset(code: ResetCode): number {
  switch (code) {
    case 'refused':
      return h2Error.refusedStream;
    case 'connection':
      return h2Error.connect;
    case 'protocol':
      return h2Error.protocol;
    case 'internal':
      return h2Error.internal;
    case 'flow':
      return h2Error.enhanceYourCalm;
    default:
      return h2Error.cancel; // cancel, and timeout, which HTTP/2 has no code for
  }
}

/** What a peer's RST_STREAM or GOAWAY code means. */
export function resetOfError(error: number): ResetCode {
  switch (error) {
    case h2Error.none:
    case h2Error.cancel:
      return 'cancel';
    case h2Error.refusedStream:
      return 'refused';
    case h2Error.connect:
      return 'connection';
    case h2Error.flowControl:
    case h2Error.enhanceYourCalm:
      return 'flow';
    case h2Error.settingsTimeout:
      return 'timeout';
    case h2Error.protocol:
    case h2Error.streamClosed:
    case h2Error.frameSize:
    case h2Error.compression:
    case h2Error.inadequateSecurity:
    case h2Error.http11Required:
      return 'protocol';
    default:
      return 'internal';
  }
}

const slabBytes = 64 * 1024;
/** Slabs that wait for their bytes to leave; more of them are let go. */
const waitingSlabs = 4;

/**
 * Appends frames to a slab that leaves in one write. Bytes once written are not touched until the output has let go of
 * them, where it says so (`buffered`); the rest of the slab serves the next turn.
 */
export class FrameWriter {
  #output: Output;
  /** The output said that it is above its high-water mark and has not yet drained. */
  blocked = false;
  slab: Buffer = Buffer.allocUnsafeSlow(slabBytes);
  pos = 0;
  #start = 0;
  /** Bytes given to the output so far. */
  #given = 0;
  /** Full slabs, the oldest first, and how many bytes had been given with their last one. */
  #used: Buffer[] = [];
  #usedUpTo: number[] = [];

  constructor(output: Output) {
    this.#output = output;
  }

  /** A slab whose bytes have left, or a new one. */
  #nextSlab(): Buffer {
    const { buffered } = this.#output;
    if (buffered === undefined) return Buffer.allocUnsafeSlow(slabBytes);
    if (this.slab.length === slabBytes && this.#used.length < waitingSlabs) {
      this.#used.push(this.slab);
      this.#usedUpTo.push(this.#given);
    }
    if (this.#used.length > 0 && this.#usedUpTo[0] <= this.#given - buffered) {
      this.#usedUpTo.shift();
      return this.#used.shift() as Buffer;
    }
    return Buffer.allocUnsafeSlow(slabBytes);
  }

  /** Makes room for `bytes` contiguous bytes at `slab[pos]`. What does not fit beside the rest of a turn is written now. */
  room(bytes: number): void {
    if (this.slab.length - this.pos >= bytes) return;
    const pending = this.pos - this.#start;
    if (pending + bytes <= slabBytes) {
      const before = this.slab;
      const slab = this.#nextSlab();
      before.copy(slab, 0, this.#start, this.pos);
      this.slab = slab;
      this.pos = pending;
    } else {
      this.flush();
      this.slab = bytes > slabBytes ? Buffer.allocUnsafeSlow(bytes) : this.#nextSlab();
      this.pos = 0;
    }
    this.#start = 0;
  }

  /** Writes a frame header; the caller has made room for header and payload. */
  header(length: number, type: number, flags: number, id: number): void {
    const slab = this.slab;
    let pos = this.pos;
    slab[pos++] = length >>> 16;
    slab[pos++] = (length >>> 8) & 0xff;
    slab[pos++] = length & 0xff;
    slab[pos++] = type;
    slab[pos++] = flags;
    slab[pos++] = id >>> 24;
    slab[pos++] = (id >>> 16) & 0xff;
    slab[pos++] = (id >>> 8) & 0xff;
    slab[pos++] = id & 0xff;
    this.pos = pos;
  }

  uint32(value: number): void {
    this.pos = this.slab.writeUInt32BE(value >>> 0, this.pos);
  }

  /** A whole frame with this payload. */
  frame(type: number, flags: number, id: number, payload: Uint8Array): void {
    this.room(frameHeaderBytes + payload.length);
    this.header(payload.length, type, flags, id);
    this.slab.set(payload, this.pos);
    this.pos += payload.length;
  }

  /** A frame whose payload is one 32-bit number: RST_STREAM, WINDOW_UPDATE. */
  frame32(type: number, id: number, value: number): void {
    this.room(frameHeaderBytes + 4);
    this.header(4, type, 0, id);
    this.uint32(value);
  }

  /** Hands everything to the output. */
  flush(): void {
    if (this.pos === this.#start) return;
    const bytes = this.slab.subarray(this.#start, this.pos);
    this.#start = this.pos;
    this.#given += bytes.length;
    if (!this.#output.write(bytes)) this.blocked = true;
  }
}

/** Who gets frames. False stops the reader: the connection is over. */
export interface FrameSink {
  /** What is left of a read is to come again in a later turn. */
  readonly enough: boolean;
  onFrame(type: number, flags: number, id: number, buf: Buffer, start: number, end: number): boolean;
  /** A frame above our SETTINGS_MAX_FRAME_SIZE. */
  onOversize(id: number): void;
}

/** Cuts a stream of bytes into frames. A frame that came whole is passed without a copy. */
export class FrameReader {
  #sink: FrameSink;
  #maxFrame: number;
  #header = Buffer.allocUnsafeSlow(frameHeaderBytes);
  #headerFill = 0;
  #payload: Buffer | undefined;
  #fill = 0;
  #stopped = false;

  constructor(sink: FrameSink, maxFrame: number) {
    this.#sink = sink;
    this.#maxFrame = maxFrame;
  }

  stop(): void {
    this.#stopped = true;
    this.#payload = undefined;
  }

  /** Returns what is left where the sink has had enough. */
  push(chunk: Buffer): Buffer | undefined {
    let at = 0;
    const size = chunk.length;
    while (at < size && !this.#stopped) {
      if (this.#sink.enough) return chunk.subarray(at);
      if (this.#headerFill === 0 && size - at >= frameHeaderBytes) {
        const length = (chunk[at] << 16) | (chunk[at + 1] << 8) | chunk[at + 2];
        if (size - at - frameHeaderBytes >= length) {
          if (!this.#emit(chunk, at, length, chunk, at + frameHeaderBytes)) return undefined;
          at += frameHeaderBytes + length;
          continue;
        }
      }
      if (this.#headerFill < frameHeaderBytes) {
        const part = Math.min(frameHeaderBytes - this.#headerFill, size - at);
        chunk.copy(this.#header, this.#headerFill, at, at + part);
        this.#headerFill += part;
        at += part;
        if (this.#headerFill < frameHeaderBytes) return undefined;
        const length = this.#header.readUIntBE(0, 3);
        if (length > this.#maxFrame) {
          this.#emit(this.#header, 0, length, this.#header, 0);
          return undefined;
        }
        this.#payload = Buffer.allocUnsafeSlow(length);
        this.#fill = 0;
      }
      const payload = this.#payload!;
      const part = Math.min(payload.length - this.#fill, size - at);
      chunk.copy(payload, this.#fill, at, at + part);
      this.#fill += part;
      at += part;
      if (this.#fill < payload.length) return undefined;
      this.#headerFill = 0;
      this.#payload = undefined;
      if (!this.#emit(this.#header, 0, payload.length, payload, 0)) return undefined;
    }
    return undefined;
  }

  #emit(header: Buffer, at: number, length: number, buf: Buffer, start: number): boolean {
    const id = header.readUInt32BE(at + 5) & 0x7fffffff;
    if (length > this.#maxFrame) {
      this.#stopped = true;
      this.#sink.onOversize(id);
      return false;
    }
    if (this.#sink.onFrame(header[at + 3], header[at + 4], id, buf, start, start + length)) return !this.#stopped;
    this.#stopped = true;
    return false;
  }
}
