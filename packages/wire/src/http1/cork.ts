import type { Output } from '../stream.ts';

const FLUSH_BYTES = 64 * 1024;
/** Larger chunks go out uncopied. */
const DIRECT_BYTES = 4 * 1024;
const SLAB_BYTES = 16 * 1024;

/** What connections write goes one behind the other here; bytes once written are never touched again. */
let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let slabAt = 0;
/** Behind `slabAt`, up to here, stands what is being composed: nobody's until `Cork.commit`. */
let end = 0;

interface Latin1 {
  latin1Write(text: string, at: number): number;
}

/** Shorter texts are copied by a loop, which is quicker than a call out of JavaScript. */
const LOOP_LENGTH = 14;

/** Begins to compose, for instance a head; what was composed before and not committed never was. */
export function begin(): void {
  end = slabAt;
}

/** Adds latin1 `text`. */
export function put(text: string): void {
  const { length } = text;
  if (end + length > slab.length) grow(length);
  if (length > LOOP_LENGTH) {
    (slab as unknown as Latin1).latin1Write(text, end);
    end += length;
    return;
  }
  const target = slab;
  let at = end;
  for (let i = 0; i < length; i++) target[at++] = text.charCodeAt(i);
  end = at;
}

/** Adds `text` when `allowed` has a 1 for each of its characters (chars.ts). */
export function putChecked(text: string, allowed: Uint8Array): boolean {
  const { length } = text;
  if (end + length > slab.length) grow(length);
  const target = slab;
  let at = end;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code > 255 || allowed[code] === 0) return false;
    target[at++] = code;
  }
  end = at;
  return true;
}

/** Adds `bytes[from..to]`. */
export function putBytes(bytes: Buffer, from: number, to: number): void {
  const size = to - from;
  if (end + size > slab.length) grow(size);
  bytes.copy(slab, end, from, to);
  end += size;
}

/** What is composed moves to a new slab, with room for `bytes` more. */
function grow(bytes: number): void {
  const old = slab;
  const size = end - slabAt;
  slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, (size + bytes) * 2));
  old.copy(slab, 0, slabAt, end);
  slabAt = 0;
  end = size;
}

/**
 * Gathers what one turn writes, so that a head, its first data and the answers to pipelined requests leave in one write.
 * At most 64 KiB are held; beyond, and for large chunks, bytes go out at once and uncopied.
 */
export class Cork {
  /** False after a write that returned false, until `drained`. */
  writable = true;
  /** Parts of earlier slabs, then `current[start..end]`. */
  private parts: Uint8Array[] | undefined;
  private current: Buffer | undefined;
  private start = 0;
  private end = 0;
  private size = 0;
  private scheduled = false;
  private readonly output: Output;
  private readonly deferred = () => {
    this.scheduled = false;
    this.flush();
  };

  constructor(output: Output) {
    this.output = output;
  }

  /** `text` is latin1. */
  text(text: string): void {
    begin();
    put(text);
    this.commit();
  }

  bytes(bytes: Uint8Array): void {
    const { length } = bytes;
    if (length === 0) return;
    if (length > DIRECT_BYTES) {
      this.flush();
      this.write(bytes);
      return;
    }
    begin();
    if (end + length > slab.length) grow(length);
    slab.set(bytes, end);
    end += length;
    this.commit();
  }

  /** What was composed is written by this connection. */
  commit(): void {
    if (this.current !== slab || this.end !== slabAt) {
      if (this.current !== undefined && this.end > this.start) {
        const part = this.current.subarray(this.start, this.end);
        if (this.parts === undefined) this.parts = [part];
        else this.parts.push(part);
      }
      this.current = slab;
      this.start = slabAt;
    }
    this.size += end - slabAt;
    this.end = slabAt = end;
    if (this.size > FLUSH_BYTES) this.flush();
    else if (!this.scheduled) {
      this.scheduled = true;
      this.output.defer(this.deferred);
    }
  }

  flush(): void {
    if (this.size === 0) return;
    const { parts } = this;
    const last = (this.current as Buffer).subarray(this.start, this.end);
    this.parts = undefined;
    this.current = undefined;
    this.size = 0;
    if (parts !== undefined) for (const part of parts) this.write(part);
    this.write(last);
  }

  private write(bytes: Uint8Array): void {
    if (!this.output.write(bytes)) this.writable = false;
  }
}
