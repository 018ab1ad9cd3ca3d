const hex: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));
const poolBytes = 4096;

/** Trace, span and request ids from a pool of random bytes: one call of the system for some hundred requests. */
export class IdSource {
  readonly #randomBytes: (count: number) => Uint8Array;
  #pool: Uint8Array = new Uint8Array(0);
  #at = 0;

  /** `randomBytes` must be fit for secrets (node:crypto's randomBytes): request ids are guessed at otherwise. */
  constructor(randomBytes: (count: number) => Uint8Array) {
    this.#randomBytes = randomBytes;
  }

  #take(count: number): number {
    if (this.#at + count > this.#pool.length) {
      this.#pool = this.#randomBytes(poolBytes);
      this.#at = 0;
    }
    const at = this.#at;
    this.#at += count;
    return at;
  }

  #hex(count: number): string {
    const at = this.#take(count);
    let out = '';
    for (let i = at; i < at + count; i++) out += hex[this.#pool[i]];
    return out;
  }

  /** 16 bytes as hex, never all zero. */
  traceId(): string {
    const id = this.#hex(16);
    return id === '0'.repeat(32) ? `${id.slice(1)}1` : id;
  }

  /** 8 bytes as hex, never all zero. */
  spanId(): string {
    const id = this.#hex(8);
    return id === '0'.repeat(16) ? `${id.slice(1)}1` : id;
  }

  /** A UUID of version 4 (RFC 9562), for x-request-id. */
  requestId(): string {
    const at = this.#take(16);
    const b = this.#pool;
    let out = '';
    for (let i = 0; i < 16; i++) {
      if (i === 4 || i === 6 || i === 8 || i === 10) out += '-';
      const byte = b[at + i];
      out += hex[i === 6 ? (byte & 0x0f) | 0x40 : i === 8 ? (byte & 0x3f) | 0x80 : byte];
    }
    return out;
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
