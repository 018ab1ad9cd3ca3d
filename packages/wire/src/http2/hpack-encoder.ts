import { staticCount, staticNames, staticValues } from './hpack-tables.ts';
import { huffmanLength, huffmanWrite, wireByte } from './huffman.ts';

/** How the value of a field is sent. */
const indexed = 0;
/** Changes with every request: it would only push others out of the table. Its name is indexed. */
const passing = 1;
/** Secret: no hop may put it in a table (RFC 7541 7.1.3). */
const secret = 2;

interface KnownName {
  index: number;
  values: Map<string, number> | undefined;
  /** Length of the longest of them; -1: there are none. */
  longestValue: number;
  policy: number;
}

const known = new Map<string, KnownName>();
for (let i = 1; i <= staticCount; i++) {
  let entry = known.get(staticNames[i]);
  if (entry === undefined) {
    entry = { index: i, values: undefined, longestValue: -1, policy: indexed };
    known.set(staticNames[i], entry);
  }
  if (staticValues[i] === '') continue;
  (entry.values ??= new Map()).set(staticValues[i], i);
  entry.longestValue = Math.max(entry.longestValue, staticValues[i].length);
}
function setPolicy(policy: number, names: string): void {
  for (const name of names.split(' ')) {
    const entry = known.get(name);
    if (entry === undefined) known.set(name, { index: 0, values: undefined, longestValue: -1, policy });
    else entry.policy = policy;
  }
}
setPolicy(
  secret,
  'authorization proxy-authorization cookie set-cookie x-api-key x-auth-token x-csrf-token x-amz-security-token ' +
    'x-forwarded-client-cert',
);
setPolicy(
  passing,
  ':path x-request-id traceparent tracestate baggage b3 x-b3-traceid x-b3-spanid x-b3-parentspanid ' +
    'content-range range etag age last-modified location if-none-match if-modified-since grpc-timeout ' +
    'x-envoy-upstream-service-time x-weft-decision',
);

/** What one connection's encoder knows of a name. */
class NameRecord {
  /** '' once the connection has forgotten it. */
  name: string;
  /** In the static table; 0: not there. */
  readonly index: number;
  readonly policy: number;
  readonly fixed: Map<string, number> | undefined;
  /** Length of the longest value there: -1 without any. */
  readonly longestFixed: number;
  /** The value of the static table that was asked for last: a look at it costs less than a search. */
  fixedValue: string | undefined = undefined;
  fixedIndex = 0;
  /** Value → sequence number of its entry in the dynamic table. */
  values: Map<string, number> | undefined = undefined;
  /** Newest entry of this name, while `values` has any, and its value. */
  last = 0;
  lastValue = '';
  /** Values of this name in a row that were not in the table. */
  misses = 0;

  constructor(name: string, known: KnownName | undefined) {
    this.name = name;
    this.index = known?.index ?? 0;
    this.policy = known?.policy ?? indexed;
    this.fixed = known?.values;
    this.longestFixed = known?.longestValue ?? -1;
  }
}

/** Heads of one kind follow each other: a name is looked for first where it stood in the last one. */
const places = 32;
/** Stands where nothing is known of a name. */
const stranger = new NameRecord('', undefined);

/** After so many values in a row that were never seen again, a name's values are taken for passing… */
const PASSING_AFTER = 8;
/** …but one of so many still goes into the table, to find out when that ends. A power of two. */
const PROBE_EVERY = 64;

/** Size updates at the beginning of a block. */
const updateBytes = 12;

/** Decoded bytes of these fields: names, values and 32 for each (RFC 9113 6.5.2). */
export function listBytes(fields: readonly string[]): number {
  let bytes = fields.length * 16;
  for (let i = 0; i < fields.length; i++) bytes += fields[i].length;
  return bytes;
}

/** Upper bound of the bytes that `encode` writes for fields of so many decoded bytes. */
export function blockBytes(decodedBytes: number): number {
  return decodedBytes + updateBytes;
}

/** HPACK encoder (RFC 7541) of one connection. */
export class HpackEncoder {
  #most: number;
  #capacity: number;
  #size = 0;
  /** Entries ever inserted, and the oldest one still there; an entry's index is 62 + inserted - 1 - sequence number. */
  #inserted = 0;
  #oldest = 0;
  #names: string[] = [];
  #values: string[] = [];
  #mask: number;
  /** Of names with a rule or an index of their own, once they were used, and of those that stand in the table. */
  #records = new Map<string, NameRecord>();
  /** Records of the names that stood last at each place of a head. */
  #places: NameRecord[] = new Array<NameRecord>(places).fill(stranger);
  /** Size updates to send with the next block: the smallest size since the last block, and the last one; -1: none. */
  #smallest = -1;

  /** `most`: the largest dynamic table we use, in bytes, whatever the peer allows. The table is 4096 until resized. */
  constructor(most = 4096) {
    this.#most = Math.min(most, 4096);
    this.#capacity = 4096;
    this.#mask = 255; // 4096 / 32 entries at most
    if (this.#most < 4096) this.resize(4096);
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  resize(peerBytes: number): void {
    const capacity = Math.min(peerBytes, this.#most);
    if (capacity === this.#capacity) return;
    if (this.#smallest < 0 || capacity < this.#smallest) this.#smallest = capacity;
    this.#capacity = capacity;
    this.#evict(capacity);
  }

  /** Writes the block of a flat array of names and values at `at`; returns the position after it. */
  encode(fields: readonly string[], target: Buffer, at: number): number {
    if (this.#smallest >= 0) {
      if (this.#smallest < this.#capacity) at = writeInteger(target, at, 0x20, 5, this.#smallest);
      at = writeInteger(target, at, 0x20, 5, this.#capacity);
      this.#smallest = -1;
    }
    for (let i = 0; i + 1 < fields.length; i += 2) {
      const name = fields[i];
      const place = (i >>> 1) & (places - 1);
      let record = this.#places[place];
      if (record.name !== name) this.#places[place] = record = this.#record(name);
      at = this.#field(name, fields[i + 1], record, target, at);
    }
    return at;
  }

  #record(name: string): NameRecord {
    let record = this.#records.get(name);
    if (record !== undefined) return record;
    const fixed = known.get(name);
    if (fixed === undefined) return stranger;
    this.#records.set(name, (record = new NameRecord(name, fixed)));
    return record;
  }

  #field(name: string, value: string, record: NameRecord, target: Buffer, at: number): number {
    if (value.length <= record.longestFixed) {
      let index: number | undefined = record.fixedIndex;
      if (value !== record.fixedValue && (index = record.fixed!.get(value)) !== undefined) {
        record.fixedValue = value;
        record.fixedIndex = index;
      }
      if (index !== undefined) {
        target[at] = 0x80 | index;
        return at + 1;
      }
    }
    let { policy, index } = record;
    if (policy === secret) {
      at = writeInteger(target, at, 0x10, 4, index);
      if (index === 0) at = writeOnce(name, target, at);
      return writeString(value, target, at);
    }
    if (record.values !== undefined) {
      if (policy === indexed) {
        // What differs each time is not searched for: that costs more than it could save.
        const searched = record.misses <= PASSING_AFTER;
        const sequence = value === record.lastValue ? record.last : searched ? record.values.get(value) : undefined;
        if (sequence !== undefined) {
          record.misses = 0;
          return writeInteger(target, at, 0x80, 7, staticCount + this.#inserted - sequence);
        }
        // An id that somebody sends under a name we do not know: it would push out what comes again.
        if (++record.misses > PASSING_AFTER && record.misses % PROBE_EVERY !== 0) policy = passing;
      }
      if (index === 0) index = staticCount + this.#inserted - record.last;
    }
    const size = name.length + value.length + 32;
    // A passing field with no static name is put in once for its name's sake. Large entries are not worth their room.
    const add = size <= this.#capacity >>> 1 && (policy === indexed || index === 0);
    at = writeInteger(target, at, add ? 0x40 : 0, add ? 6 : 4, index);
    if (index === 0) at = writeOnce(name, target, at);
    if (!add) return writeString(value, target, at);
    this.#insert(name, value, record, size);
    return writeOnce(value, target, at);
  }

  #insert(name: string, value: string, known: NameRecord, size: number): void {
    this.#evict(this.#capacity - size);
    const sequence = this.#inserted++;
    this.#names[sequence & this.#mask] = name;
    this.#values[sequence & this.#mask] = value;
    this.#size += size;
    // The eviction may have forgotten it, with the last entry of its name.
    const record = known.name === '' ? new NameRecord(name, undefined) : known;
    if (record.values === undefined) {
      record.values = new Map();
      this.#records.set(name, record);
    }
    // An older entry with this value is not found any more, and goes when its time comes.
    record.values.set(value, sequence);
    record.last = sequence;
    record.lastValue = value;
  }

  #evict(room: number): void {
    while (this.#size > room && this.#oldest < this.#inserted) {
      const sequence = this.#oldest++;
      const slot = sequence & this.#mask;
      const name = this.#names[slot];
      const value = this.#values[slot];
      this.#names[slot] = '';
      this.#values[slot] = '';
      this.#size -= name.length + value.length + 32;
      const record = this.#records.get(name);
      if (record?.values === undefined) continue;
      if (record.values.get(value) === sequence) record.values.delete(value);
      if (record.values.size > 0) continue;
      record.values = undefined;
      record.lastValue = '';
      record.misses = 0;
      if (record.index > 0 || record.policy !== indexed) continue;
      this.#records.delete(name);
      record.name = '';
    }
  }
}

function writeInteger(target: Buffer, at: number, pattern: number, bits: number, value: number): number {
  const most = (1 << bits) - 1;
  if (value < most) {
    target[at] = pattern | value;
    return at + 1;
  }
  target[at++] = pattern | most;
  value -= most;
  while (value >= 0x80) {
    target[at++] = 0x80 | (value & 0x7f);
    value >>>= 7;
  }
  target[at] = value;
  return at + 1;
}

/** What is sent once is compressed. */
function writeOnce(text: string, target: Buffer, at: number): number {
  const length = huffmanLength(text);
  if (length >= text.length) return writeString(text, target, at);
  return huffmanWrite(text, target, writeInteger(target, at, 0x80, 7, length));
}

/** What is sent with every request is not worth the time. */
function writeString(text: string, target: Buffer, at: number): number {
  at = writeInteger(target, at, 0, 7, text.length);
  for (let i = 0; i < text.length; i++) target[at++] = wireByte(text.charCodeAt(i));
  return at;
}
