import type { WireLimits } from '../stream.ts';
import { lineTooLong, Refusal } from './refusal.ts';

/** Where the first CRLF CRLF of `bytes[from..to]` begins, or -1. Looks at each fourth byte, but near ends of lines. */
function headEnd(bytes: Buffer, from: number, to: number): number {
  for (let at = from + 3; at < to; ) {
    const c = bytes[at];
    if (c > 13) at += 4;
    else if (c === 13) at++;
    else if (c === 10) {
      if (bytes[at - 1] === 13 && bytes[at - 2] === 10 && bytes[at - 3] === 13) return at - 3;
      at += 2;
    } else at += 4;
  }
  return -1;
}

/** Collects bytes up to the empty line. A head split over many reads is copied once and searched once. */
export class HeadBuffer {
  /**
   * After `push` has returned an offset: the head without its last CRLF CRLF is `gathered[start..end]`, or of the bytes
   * that were pushed where it came whole.
   */
  gathered: Buffer | undefined;
  start = 0;
  end = 0;
  private kept: Buffer | undefined;
  private used = 0;
  private lineEnded = false;
  private skippedEmptyLine = false;
  private readonly maxLine: number;
  private readonly maxBytes: number;

  constructor(limits: WireLimits) {
    this.maxLine = limits.requestLineBytes;
    // Field names, values and separators; decoded sizes are checked when the fields are read.
    this.maxBytes = limits.requestLineBytes + limits.headerBytes;
  }

  /** Bytes of an unfinished head are held. */
  get started(): boolean {
    return this.used > 0 || this.skippedEmptyLine;
  }

  /** The offset behind the head, or -1 when all bytes were taken and more are needed. Throws Refusal. */
  push(bytes: Buffer, from: number): number {
    if (this.used === 0) {
      let start = from;
      // RFC 9112 2.2: one empty line before a request line is to be ignored (old clients send it after a POST).
      if (bytes[start] === 13 && !this.skippedEmptyLine) {
        if (start + 1 === bytes.length) return this.keep(bytes, start);
        this.skipEmptyLine(bytes[start + 1]);
        start += 2;
        if (start === bytes.length) return -1;
      }
      // A second one is refused at its first byte, so that the verdict does not depend on how the bytes came.
      if (this.skippedEmptyLine && bytes[start] === 13) this.skipEmptyLine(13);
      const end = headEnd(bytes, start, bytes.length);
      if (end === -1) return this.keep(bytes, start);
      this.checkSize(end - start);
      this.gathered = undefined;
      this.start = start;
      this.end = end;
      this.skippedEmptyLine = false;
      return end + 4;
    }
    return this.pushMore(bytes, from);
  }

  private skipEmptyLine(second: number): void {
    if (second !== 10 || this.skippedEmptyLine)
      throw new Refusal(400, 'bad_request_line', 'an empty line before the head');
    this.skippedEmptyLine = true;
  }

  private keep(bytes: Buffer, from: number): number {
    const size = bytes.length - from;
    if (size === 0) return -1;
    this.kept = Buffer.allocUnsafe(Math.max(1024, size * 2));
    bytes.copy(this.kept, 0, from);
    this.used = size;
    this.inspect(0);
    return -1;
  }

  private pushMore(bytes: Buffer, from: number): number {
    let kept = this.kept!;
    const before = this.used;
    // Never keep more than the limit allows: what lies behind it cannot be part of an acceptable head.
    const take = Math.min(bytes.length - from, this.maxBytes + 8 - before);
    if (before + take > kept.length) {
      const grown = Buffer.allocUnsafe(Math.max(kept.length * 2, before + take));
      kept.copy(grown, 0, 0, before);
      this.kept = kept = grown;
    }
    bytes.copy(kept, before, from, from + take);
    this.used = before + take;
    if (before === 1 && kept[0] === 13) {
      this.skipEmptyLine(kept[1]);
      this.used = 0;
      this.kept = undefined;
      // Go on with what follows the empty line as with fresh bytes.
      return from + 1 === bytes.length ? -1 : this.push(bytes, from + 1);
    }
    const end = headEnd(kept, Math.max(0, before - 3), this.used);
    if (end === -1) {
      this.inspect(before);
      return -1;
    }
    this.checkSize(end);
    this.gathered = kept;
    this.start = 0;
    this.end = end;
    this.kept = undefined;
    this.used = 0;
    this.lineEnded = false;
    this.skippedEmptyLine = false;
    return from + (end + 4 - before);
  }

  /** Refuses early what can only become a refusal, so that a bad peer is answered at once and not after a timeout. */
  private inspect(from: number): void {
    const bytes = this.kept!.subarray(0, this.used);
    for (let at = bytes.indexOf(10, from); at !== -1; at = bytes.indexOf(10, at + 1)) {
      if (at === 0 || bytes[at - 1] !== 13) throw new Refusal(400, 'bare_lf', 'a line ended by LF alone');
      if (!this.lineEnded) {
        this.lineEnded = true;
        if (at - 1 > this.maxLine) throw lineTooLong();
      }
    }
    if (!this.lineEnded && this.used > this.maxLine + 1) throw lineTooLong();
    this.checkSize(this.used - 4);
  }

  private checkSize(size: number): void {
    if (size > this.maxBytes) throw new Refusal(431, 'header_bytes', 'the head is larger than the limit');
  }
}
