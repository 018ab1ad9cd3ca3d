/** The system is asked for so many random bytes at once: asking takes as long as some thousand of them. */
const poolBytes = 16_384;
/** Request ids and new traces are cut from texts made at once, of so many each: what is kept of one keeps its text. */
const textsPerPool = 128;
const uuidLength = 36;
const traceparentLength = 55;
const digits = Buffer.from('0123456789abcdef', 'latin1');
const dash = 45;

/** A long text of which pieces of one length are handed out. */
class TextPool {
  readonly #make: () => string;
  readonly #length: number;
  #text = '';
  #at = 0;

  constructor(length: number, make: () => string) {
    this.#length = length;
    this.#make = make;
  }

  next(): string {
    if (this.#at >= this.#text.length) {
      this.#text = this.#make();
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
  readonly #randomBytes: (count: number) => Uint8Array;
  #pool: Uint8Array = new Uint8Array(0);
  #at = 0;
  readonly #uuids: TextPool;
  readonly #traces: TextPool;
  /** Part of the traces in the pool that are sampled. */
  #fraction = -1;

  /** `randomBytes` must be fit for secrets (node:crypto's randomBytes): request ids are guessed at otherwise. */
  constructor(randomBytes: (count: number) => Uint8Array) {
    this.#randomBytes = randomBytes;
    this.#uuids = new TextPool(uuidLength, () => uuidText(this.#take(16 * textsPerPool)));
    this.#traces = new TextPool(traceparentLength, () => traceText(this.#take(24 * textsPerPool), this.#fraction));
  }

  #take(count: number): Uint8Array {
    const at = this.#next(count);
    return this.#pool.subarray(at, at + count);
  }

  /** Where the next bytes stand in the pool. */
  #next(count: number): number {
    if (this.#at + count > this.#pool.length) {
      this.#pool = this.#randomBytes(poolBytes);
      this.#at = 0;
    }
    const at = this.#at;
    this.#at += count;
    return at;
  }

  /** 8 bytes as hex, never all zero. */
  spanId(): string {
    const digits = Buffer.allocUnsafe(16);
    this.writeSpanId(digits, 0);
    return digits.toString('latin1');
  }

  /** The same, as the 16 bytes of its digits. */
  writeSpanId(target: Uint8Array, at: number): void {
    const from = this.#next(8);
    writeHex(this.#pool, from, from + 8, target, at);
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

/** Writes bytes `from..end` as hex; all zero they would be no id, so the last digit is 1 then. */
function writeHex(bytes: Uint8Array, from: number, end: number, target: Uint8Array, at: number): number {
  let any = 0;
  for (let i = from; i < end; i++) {
    any |= bytes[i];
    target[at++] = digits[bytes[i] >>> 4];
    target[at++] = digits[bytes[i] & 15];
  }
  if (any === 0) target[at - 1] = digits[1];
  return at;
}

/** One traceparent behind the other, 24 bytes each. */
function traceText(bytes: Uint8Array, fraction: number): string {
  const target = Buffer.allocUnsafe((bytes.length / 24) * traceparentLength);
  const least = threshold(fraction);
  let at = 0;
  for (let i = 0; i < bytes.length; i += 24) {
    at += target.write('00-', at, 'latin1');
    at = writeHex(bytes, i, i + 16, target, at);
    target[at++] = dash;
    at = writeHex(bytes, i + 16, i + 24, target, at);
    target[at++] = dash;
    const decides = ((bytes[i + 9] << 24) | (bytes[i + 10] << 16) | (bytes[i + 11] << 8) | bytes[i + 12]) >>> 0;
    target[at++] = digits[0];
    target[at++] = digits[decides >= least ? 1 : 0];
  }
  return target.toString('latin1');
}

/** One UUID behind the other, 16 bytes each. */
function uuidText(bytes: Uint8Array): string {
  const target = Buffer.allocUnsafe((bytes.length / 16) * uuidLength);
  let at = 0;
  for (let i = 0; i < bytes.length; i++) {
    const place = i & 15;
    if (place === 4 || place === 6 || place === 8 || place === 10) target[at++] = dash;
    let byte = bytes[i];
    if (place === 6) byte = (byte & 0x0f) | 0x40;
    else if (place === 8) byte = (byte & 0x3f) | 0x80;
    target[at++] = digits[byte >>> 4];
    target[at++] = digits[byte & 15];
  }
  return target.toString('latin1');
}
