/** The system is asked for so many random bytes at once: asking takes as long as some thousand of them. */
const poolBytes = 16_384;
/** Request ids and new traces are cut from texts made at once, of so many each: what is kept of one keeps its text. */
const textsPerPool = 128;
const uuidLength = 36;
const traceparentLength = 55;
const zero = 48;
const one = 49;
const dash = 45;
/** Two digits of hex for each byte, as setUint16 writes them. */
const pairs = Uint16Array.from({ length: 256 }, (_, byte) =>
  Buffer.from(byte.toString(16).padStart(2, '0'), 'latin1').readUInt16BE(),
);

/** A long text of which pieces of one length are handed out. */
class TextPool {
  readonly #length: number;
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #write: (target: DataView) => void;
  #text = '';
  #at = 0;

  /** `write` fills in the bytes of all pieces. */
  constructor(length: number, write: (target: DataView) => void) {
    this.#length = length;
    this.#bytes = Buffer.alloc(length * textsPerPool);
    this.#view = viewOf(this.#bytes);
    this.#write = write;
  }

  next(): string {
    if (this.#at >= this.#text.length) {
      this.#write(this.#view);
      this.#text = this.#bytes.toString('latin1');
      this.#at = 0;
    }
    const at = this.#at;
    this.#at += this.#length;
    return this.#text.slice(at, this.#at);
  }

  /** What is left is not wanted any more. */
  clear(): void {
    this.#at = this.#text.length;
  }
}

/** Trace, span and request ids from a pool of random bytes: one call of the system for some hundred requests. */
export class IdSource {
  readonly #fill: (bytes: Uint8Array) => void;
  readonly #pool = new Uint8Array(poolBytes);
  #at = poolBytes;
  readonly #uuids: TextPool;
  readonly #traces: TextPool;
  /** Part of the traces in the pool that are sampled. */
  #fraction = -1;

  /** `fill` must be fit for secrets (node:crypto's randomFillSync): request ids are guessed at otherwise. */
  constructor(fill: (bytes: Uint8Array) => void) {
    this.#fill = fill;
    this.#uuids = new TextPool(uuidLength, (target) => {
      writeUuids(this.#pool, this.#next(16 * textsPerPool), target);
    });
    this.#traces = new TextPool(traceparentLength, (target) => {
      writeTraces(this.#pool, this.#next(24 * textsPerPool), target, this.#fraction);
    });
  }

  /** Where the next so many bytes stand in the pool. */
  #next(count: number): number {
    if (this.#at + count > poolBytes) {
      this.#fill(this.#pool);
      this.#at = 0;
    }
    const at = this.#at;
    this.#at += count;
    return at;
  }

  /** 8 bytes as hex, never all zero. */
  spanId(): string {
    const digits = Buffer.allocUnsafe(16);
    this.writeSpanId(viewOf(digits), 0);
    return digits.toString('latin1');
  }

  /** The same, as the 16 bytes of its digits. */
  writeSpanId(target: DataView, at: number): void {
    const from = this.#next(8);
    writeId(this.#pool, from, from + 8, target, at);
  }

  /**
   * `00-{trace id}-{span id}-{flags}` of a trace that begins (W3C Trace Context); neither id is all zero. `fraction` (0 to
   * 1) of them are sampled, as sampledByTraceId says.
   */
  traceparent(fraction: number): string {
    if (fraction !== this.#fraction) {
      this.#fraction = fraction;
      this.#traces.clear();
    }
    return this.#traces.next();
  }

  /** A UUID of version 4 (RFC 9562), for x-request-id. */
  requestId(): string {
    return this.#uuids.next();
  }
}

/**
 * Whether a trace is one of the `fraction` (0 to 1) that are sampled: by its last 56 bits, of which the first 32 are
 * looked at, as OpenTelemetry's consistent sampling does, so that all who use one fraction decide alike.
 */
export function sampledByTraceId(traceId: string, fraction: number): boolean {
  return Number.parseInt(traceId.slice(18, 26), 16) >= threshold(fraction);
}

function threshold(fraction: number): number {
  return (1 - fraction) * 4294967296;
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Writes bytes `from..end` as hex; returns where it ends. */
function writeHex(bytes: Uint8Array, from: number, end: number, target: DataView, at: number): number {
  for (let i = from; i < end; i++, at += 2) target.setUint16(at, pairs[bytes[i]]);
  return at;
}

/** The same; all zero it would be no id, so the last digit is 1 then. */
function writeId(bytes: Uint8Array, from: number, end: number, target: DataView, at: number): number {
  const after = writeHex(bytes, from, end, target, at);
  for (let i = from; i < end; i++) if (bytes[i] !== 0) return after;
  target.setUint8(after - 1, one);
  return after;
}

/** One traceparent behind the other, of 24 random bytes each. */
function writeTraces(random: Uint8Array, from: number, target: DataView, fraction: number): void {
  const least = threshold(fraction);
  for (let i = from, at = 0; at < target.byteLength; i += 24) {
    target.setUint8(at++, zero);
    target.setUint8(at++, zero);
    target.setUint8(at++, dash);
    at = writeId(random, i, i + 16, target, at);
    target.setUint8(at++, dash);
    at = writeId(random, i + 16, i + 24, target, at);
    target.setUint8(at++, dash);
    const decides = ((random[i + 9] << 24) | (random[i + 10] << 16) | (random[i + 11] << 8) | random[i + 12]) >>> 0;
    target.setUint8(at++, zero);
    target.setUint8(at++, decides >= least ? one : zero);
  }
}

/** One UUID behind the other, of 16 random bytes each, in which the version is written. */
function writeUuids(random: Uint8Array, from: number, target: DataView): void {
  for (let i = from, at = 0; at < target.byteLength; i += 16) {
    random[i + 6] = (random[i + 6] & 0x0f) | 0x40;
    random[i + 8] = (random[i + 8] & 0x3f) | 0x80;
    at = writeHex(random, i, i + 4, target, at);
    for (let part = i + 4; part < i + 10; part += 2) {
      target.setUint8(at++, dash);
      at = writeHex(random, part, part + 2, target, at);
    }
    target.setUint8(at++, dash);
    at = writeHex(random, i + 10, i + 16, target, at);
  }
}
