import type { Head, WireLimits } from '../stream.ts';
import { parseTrailers } from './fields.ts';
import { Refusal } from './refusal.ts';

/** What one call of `ChunkedDecoder.next` has found. */
export type ChunkStep = 'more' | 'data' | 'end';

type State = 'size' | 'extension' | 'size-lf' | 'data' | 'data-cr' | 'data-lf' | 'trailers' | 'done';

const MAX_SIZE_DIGITS = 16;

/** Reads the chunked coding (RFC 9112 section 7.1) strictly, one step a call, so that the caller may stop between steps. */
export class ChunkedDecoder {
  /** Where the next call begins. */
  offset = 0;
  /** Of a 'data' step: the bytes are `subarray(dataStart, offset)`. */
  dataStart = 0;
  /** Of an 'end' step; empty when there were none. */
  trailers: Head = [];
  private state: State = 'size';
  private size = 0;
  private digits = 0;
  private extension = 0;
  private extensionTotal = 0;
  private trailerText = '';
  private readonly limits: WireLimits;

  constructor(limits: WireLimits) {
    this.limits = limits;
  }

  /** Reads on from `offset` (set by the caller for a new buffer). Throws Refusal. */
  next(bytes: Buffer): ChunkStep {
    while (this.offset < bytes.length) {
      switch (this.state) {
        case 'size':
          this.readSize(bytes[this.offset++]);
          break;
        case 'extension':
          this.readExtension(bytes[this.offset++]);
          break;
        case 'size-lf':
          this.expect(bytes[this.offset++], 10);
          this.digits = 0;
          this.state = this.size === 0 ? 'trailers' : 'data';
          break;
        case 'data': {
          const take = Math.min(this.size, bytes.length - this.offset);
          this.dataStart = this.offset;
          this.offset += take;
          this.size -= take;
          if (this.size === 0) this.state = 'data-cr';
          return 'data';
        }
        case 'data-cr':
          this.expect(bytes[this.offset++], 13);
          this.state = 'data-lf';
          break;
        case 'data-lf':
          this.expect(bytes[this.offset++], 10);
          this.state = 'size';
          break;
        case 'trailers':
          if (this.readTrailers(bytes)) return 'end';
          break;
        case 'done':
          return 'end';
      }
    }
    return 'more';
  }

  /** After 'data': when exactly the plain last chunk follows, takes it and says so; saves its user one event. */
  takePlainEnd(bytes: Buffer): boolean {
    const at = this.offset;
    if (this.state !== 'data-cr' || bytes.length - at < 7) return false;
    const plain =
      bytes[at] === 13 &&
      bytes[at + 1] === 10 &&
      bytes[at + 2] === 48 &&
      bytes[at + 3] === 13 &&
      bytes[at + 4] === 10 &&
      bytes[at + 5] === 13 &&
      bytes[at + 6] === 10;
    if (plain) {
      this.offset = at + 7;
      this.state = 'done';
    }
    return plain;
  }

  private readSize(code: number): void {
    const digit = hexValue(code);
    if (digit >= 0) {
      this.size = this.digits === 0 ? digit : this.size * 16 + digit;
      if (++this.digits > MAX_SIZE_DIGITS || this.size > Number.MAX_SAFE_INTEGER) {
        throw new Refusal(400, 'chunk_size', 'a chunk size larger than the limit');
      }
      return;
    }
    if (this.digits === 0) throw new Refusal(400, 'chunk_size', 'malformed chunk size');
    if (code === 13) this.state = 'size-lf';
    else if (code === 59) {
      this.extension = 0;
      this.state = 'extension';
      this.countExtension();
    } else throw new Refusal(400, 'chunk_size', 'malformed chunk size');
  }

  private readExtension(code: number): void {
    if (code === 13) {
      this.state = 'size-lf';
      return;
    }
    if ((code < 32 && code !== 9) || code === 127)
      throw new Refusal(400, 'chunk_extension', 'malformed chunk extension');
    this.countExtension();
  }

  private countExtension(): void {
    this.extension++;
    this.extensionTotal++;
    if (
      this.extension > this.limits.chunkExtensionBytes ||
      this.extensionTotal > this.limits.chunkExtensionTotalBytes
    ) {
      throw new Refusal(400, 'chunk_extension', 'chunk extensions larger than the limit');
    }
  }

  private readTrailers(bytes: Buffer): boolean {
    // Line by line: a line is looked at again only when it was split over reads.
    const lf = bytes.indexOf(10, this.offset);
    const end = lf === -1 ? bytes.length : lf + 1;
    const before = this.trailerText.length;
    if (before + end - this.offset > this.limits.trailerBytes + 4) {
      throw new Refusal(431, 'trailer_bytes', 'the trailers are larger than the limit');
    }
    this.trailerText += bytes.toString('latin1', this.offset, end);
    this.offset = end;
    if (lf === -1) return false;
    const text = this.trailerText;
    if (text.charCodeAt(text.length - 2) !== 13) throw new Refusal(400, 'bare_lf', 'a line ended by LF alone');
    if (text.length > 2 && !text.endsWith('\r\n\r\n')) return false;
    this.trailers = text.length > 2 ? parseTrailers(text.slice(0, -4), this.limits) : [];
    this.state = 'done';
    return true;
  }

  private expect(code: number, wanted: number): void {
    if (code !== wanted) throw new Refusal(400, 'chunk_framing', 'a chunk not ended by CRLF');
  }
}

function hexValue(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  if (code >= 97 && code <= 102) return code - 87;
  if (code >= 65 && code <= 70) return code - 55;
  return -1;
}
