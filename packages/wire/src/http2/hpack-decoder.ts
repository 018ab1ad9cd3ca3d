import { latin1, sharedText } from '../latin1.ts';
import type { Head } from '../stream.ts';
import {
  isPseudo,
  kind,
  kindOfName,
  staticCount,
  staticKinds,
  staticNames,
  staticValues,
  valueKind,
  valueKinds,
} from './hpack-tables.ts';
import { huffmanDecode } from './huffman.ts';

/** What became of a header block. */
export const decoded = Object.freeze({
  ok: 0,
  /** COMPRESSION_ERROR: the connection cannot go on. */
  broken: 1,
  /** Above a limit; the table is in step, so that the connection can go on. */
  tooLarge: 2,
  /** Four times above the byte limit: decoding was stopped, the connection must end. */
  abusive: 3,
});

export interface FieldLimits {
  headerBytes: number;
  headerFieldBytes: number;
  headerCount: number;
}

/** What new lists of fields are cut from. */
const blanks: Head = Array.from({ length: 128 }, () => '');

/** HPACK decoder (RFC 7541) of one connection. Never throws. */
export class HpackDecoder {
  /** What the fields of the last block are: scratch, overwritten by the next one. */
  readonly kinds: number[] = [];

  #limits: FieldLimits;
  /** What we announced; the peer may choose any size up to it. */
  #allowed = 4096;
  #capacity = 4096;
  /** The peer must begin its next block with a size update (RFC 7541 4.2). */
  #updateDue = false;
  #size = 0;
  // The dynamic table is a ring: the newest entry is at #next - 1.
  #ringNames: string[] = [];
  #ringValues: string[] = [];
  #ringKinds: number[] = [];
  #mask: number;
  #next = 0;
  #entries = 0;
  #scratch = Buffer.allocUnsafeSlow(4096);
  // State of the block being decoded.
  #at = 0;
  #end = 0;
  #buf: Buffer = this.#scratch;
  /** Names and values in the last block. */
  #length = 0;
  /** What the last string read is as a value. */
  #value: number = valueKinds.visible;

  /** `tableBytes`: the largest table that will ever be allowed. */
  constructor(limits: FieldLimits, tableBytes = 4096) {
    this.#limits = limits;
    let slots = 1;
    while (slots < Math.max(tableBytes, 4096) / 32 + 1) slots *= 2;
    this.#mask = slots - 1;
  }

  /** The peer has acknowledged this table size. */
  allow(tableBytes: number): void {
    this.#allowed = tableBytes;
    if (tableBytes < this.#capacity) this.#updateDue = true;
  }

  /** A list for `decode`. Heads of one kind follow each other: as long as the last one, it need not grow. */
  newList(): Head {
    return blanks.slice(0, this.#length);
  }

  /**
   * Decodes the whole block in `start..end` into `head`, whatever that held; `limits` replaces the usual ones (trailers).
   * What the fields are stands in `kinds`.
   */
  decode(buf: Buffer, start: number, end: number, head: Head, limits: FieldLimits = this.#limits): number {
    const { kinds } = this;
    let count = 0;
    let bytes = 0;
    this.#buf = buf;
    this.#at = start;
    this.#end = end;
    let overLimit = false;
    let updates = 0;
    let fields = false;
    while (this.#at < end) {
      const byte = buf[this.#at];
      let name: string;
      let value: string;
      let what: number;
      if (byte >= 0x80) {
        const index = this.#integer(7);
        if (index <= 0) return decoded.broken;
        if (index <= staticCount) {
          name = staticNames[index];
          value = staticValues[index];
          what = staticKinds[index];
        } else {
          const slot = this.#slot(index);
          if (slot < 0) return decoded.broken;
          name = this.#ringNames[slot];
          value = this.#ringValues[slot];
          what = this.#ringKinds[slot];
        }
      } else if ((byte & 0xe0) === 0x20) {
        const size = this.#integer(5);
        if (fields || size < 0 || size > this.#allowed || ++updates > 2) return decoded.broken;
        this.#updateDue = false;
        this.#capacity = size;
        this.#evict(size);
        continue;
      } else {
        const add = byte >= 0x40;
        const index = this.#integer(add ? 6 : 4);
        if (index < 0) return decoded.broken;
        if (index === 0) {
          const text = this.#string();
          if (text === undefined) return decoded.broken;
          // What goes into the table comes again.
          name = add ? sharedText(text) : text;
          what = kindOfName(name);
        } else if (index <= staticCount) {
          name = staticNames[index];
          what = staticKinds[index];
        } else {
          const slot = this.#slot(index);
          if (slot < 0) return decoded.broken;
          name = this.#ringNames[slot];
          what = this.#ringKinds[slot];
          // The entry may be bad for its value; the name may serve all the same.
          if (what === kind.bad) what = kindOfName(name);
        }
        const text = this.#string();
        if (text === undefined) return decoded.broken;
        value = text;
        if (this.#value !== valueKinds.visible && (this.#value === valueKinds.bad || isPseudo(what))) what = kind.bad;
        if (add) this.#insert(name, value, what);
      }
      if (this.#updateDue) return decoded.broken;
      fields = true;
      const size = name.length + value.length;
      bytes += size + 32;
      if (bytes > limits.headerBytes || size > limits.headerFieldBytes || count >= limits.headerCount) {
        overLimit = true;
        if (bytes > 4 * this.#limits.headerBytes) return decoded.abusive;
      } else {
        head[2 * count] = name;
        head[2 * count + 1] = value;
        kinds[count++] = what;
      }
    }
    this.#length = 2 * count;
    while (head.length > this.#length) head.pop();
    return overLimit ? decoded.tooLarge : decoded.ok;
  }

  /** Reads an integer with a prefix of `bits` bits; -1 when it is cut off or above 2^28 (nothing valid is). */
  #integer(bits: number): number {
    const most = (1 << bits) - 1;
    let value = this.#buf[this.#at++] & most;
    if (value < most) return value;
    let shift = 0;
    while (this.#at < this.#end && shift <= 21) {
      const byte = this.#buf[this.#at++];
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
      shift += 7;
    }
    return -1;
  }

  #string(): string | undefined {
    if (this.#at >= this.#end) return undefined;
    const huffman = this.#buf[this.#at] >= 0x80;
    const length = this.#integer(7);
    const start = this.#at;
    if (length < 0 || length > this.#end - start) return undefined;
    this.#at += length;
    if (!huffman) {
      this.#value = valueKind(this.#buf, start, start + length);
      return latin1(this.#buf, start, start + length);
    }
    if (this.#scratch.length < length * 1.6 + 1) this.#scratch = Buffer.allocUnsafeSlow(length * 2);
    const size = huffmanDecode(this.#buf, start, start + length, this.#scratch);
    if (size < 0) return undefined;
    this.#value = valueKind(this.#scratch, 0, size);
    return latin1(this.#scratch, 0, size);
  }

  #slot(index: number): number {
    const age = index - staticCount; // 1 is the newest
    return age > this.#entries ? -1 : (this.#next - age) & this.#mask;
  }

  #insert(name: string, value: string, what: number): void {
    const size = name.length + value.length + 32;
    this.#evict(this.#capacity - size);
    if (size > this.#capacity) return; // RFC 7541 4.4: the table is empty now, and that is no error
    const slot = this.#next;
    this.#ringNames[slot] = name;
    this.#ringValues[slot] = value;
    this.#ringKinds[slot] = what;
    this.#next = (slot + 1) & this.#mask;
    this.#entries++;
    this.#size += size;
  }

  #evict(room: number): void {
    while (this.#size > room && this.#entries > 0) {
      const slot = (this.#next - this.#entries) & this.#mask;
      this.#size -= this.#ringNames[slot].length + this.#ringValues[slot].length + 32;
      this.#ringNames[slot] = '';
      this.#ringValues[slot] = '';
      this.#entries--;
    }
  }
}
