/** Ids are cut from long texts made at once: so many trace and span ids, and so many request ids, per text. */
const poolBytes = 4096;
const requestIds = 64;
const uuidLength = 36;
const digits = new TextEncoder().encode('0123456789abcdef');

/** Trace, span and request ids from a pool of random bytes: one call of the system for some hundred requests. */
export class IdSource {
  readonly #randomBytes: (count: number) => Uint8Array;
  #pool: Uint8Array = new Uint8Array(0);
  /** The pool in hex. */
  #text = '';
  #at = 0;
  #uuids = '';
  #uuidAt = 0;

  /** `randomBytes` must be fit for secrets (node:crypto's randomBytes): request ids are guessed at otherwise. */
  constructor(randomBytes: (count: number) => Uint8Array) {
    this.#randomBytes = randomBytes;
  }

  #take(count: number): number {
    if (this.#at + count > this.#pool.length) {
      this.#pool = this.#randomBytes(poolBytes);
      this.#text = hexText(this.#pool);
      this.#at = 0;
    }
    const at = this.#at;
    this.#at += count;
    return at;
  }

  #hex(count: number): string {
    const at = this.#take(count);
    return this.#text.slice(at * 2, (at + count) * 2);
  }

  /** 16 bytes as hex, never all zero. */
  traceId(): string {
    const id = this.#hex(16);
    return id === zeroTrace ? `${id.slice(1)}1` : id;
  }

  /** 8 bytes as hex, never all zero. */
  spanId(): string {
    const id = this.#hex(8);
    return id === zeroSpan ? `${id.slice(1)}1` : id;
  }

  /** A UUID of version 4 (RFC 9562), for x-request-id. */
  requestId(): string {
    if (this.#uuidAt === this.#uuids.length) {
      this.#uuids = uuidText(this.#randomBytes(16 * requestIds));
      this.#uuidAt = 0;
    }
    const at = this.#uuidAt;
    this.#uuidAt += uuidLength;
    return this.#uuids.slice(at, this.#uuidAt);
  }

  /** True for about `fraction` (0 to 1) of the calls. */
  sample(fraction: number): boolean {
    if (fraction <= 0) return false;
    if (fraction >= 1) return true;
    const at = this.#take(4);
    const b = this.#pool;
    return ((b[at] << 24) | (b[at + 1] << 16) | (b[at + 2] << 8) | b[at + 3]) >>> 0 < fraction * 4294967296;
  }
}

const zeroTrace = '0'.repeat(32);
const zeroSpan = '0'.repeat(16);

function ascii(codes: Uint8Array): string {
  return String.fromCharCode.apply(null, codes as unknown as number[]);
}

function hexText(bytes: Uint8Array): string {
  const codes = new Uint8Array(bytes.length * 2);
  for (let i = 0; i < bytes.length; i++) {
    codes[2 * i] = digits[bytes[i] >>> 4];
    codes[2 * i + 1] = digits[bytes[i] & 15];
  }
  return ascii(codes);
}

/** One UUID behind the other, 16 bytes each. */
function uuidText(bytes: Uint8Array): string {
  const codes = new Uint8Array((bytes.length / 16) * uuidLength);
  let to = 0;
  for (let i = 0; i < bytes.length; i++) {
    const place = i & 15;
    if (place === 4 || place === 6 || place === 8 || place === 10) codes[to++] = 45;
    let byte = bytes[i];
    if (place === 6) byte = (byte & 0x0f) | 0x40;
    else if (place === 8) byte = (byte & 0x3f) | 0x80;
    codes[to++] = digits[byte >>> 4];
    codes[to++] = digits[byte & 15];
  }
  return ascii(codes);
}
