import { latin1 } from '../latin1.ts';
import type { Head, WireLimits } from '../stream.ts';
import { isToken, NAME_BYTES, parseDigits, VALUE_BYTES } from './chars.ts';
import { type KnownLines, knownAt, knownPlaces } from './known-lines.ts';
import { Refusal } from './refusal.ts';
import { type FieldName, nameOf, textOf } from './strings.ts';

const COLON = 58;
const LINE_END = Buffer.from('\r\n');

/** How the length of a body is known (RFC 9112 section 6.3). */
export type Framing = 'none' | 'length' | 'chunked' | 'close';

/** Fields a codec reads itself; never forwarded as they came (RFC 9110 7.6.1). */
interface Special {
  host: string | undefined;
  length: number;
  transferEncoding: string | undefined;
  connection: string;
  upgrade: string;
  upgradeCount: number;
  teTrailers: boolean;
  expectContinue: boolean;
}

/** One for all: a head is read to its end before the next one begins. */
export const special: Special = {
  host: undefined,
  length: -1,
  transferEncoding: undefined,
  connection: '',
  upgrade: '',
  upgradeCount: 0,
  teTrailers: false,
  expectContinue: false,
};

function clearSpecial(): void {
  special.host = undefined;
  special.length = -1;
  special.transferEncoding = undefined;
  special.connection = '';
  special.upgrade = '';
  special.upgradeCount = 0;
  special.teTrailers = false;
  special.expectContinue = false;
}

/**
 * Reads the lines `name: value` in `bytes[from..end]`, appends what may be forwarded to `out`. Those that stand in the head
 * of `places` that has the same length are taken from there.
 */
export function readFields(
  bytes: Buffer,
  from: number,
  end: number,
  limits: WireLimits,
  out: Head,
  maxCount: number,
  maxBytes: number,
  places: KnownLines[],
): Special {
  clearSpecial();
  const known = knownAt(places, end - from);
  known.begin();
  const { count, starts, texts, learning } = known;
  let fresh = 0;
  let n = 0;
  let total = 0;
  let at = from;
  while (at < end) {
    let name: string;
    let value: string;
    let own: boolean;
    if (n < count && sameLine(bytes, at, end, known.bytes, starts[n], starts[n + 1])) {
      name = texts[2 * n] as string;
      value = texts[2 * n + 1] as string;
      own = ((known.special >> n) & 1) === 1;
      at += starts[n + 1] - starts[n];
    } else {
      const lineStart = at;
      let hash = 0;
      for (; at < end; at++) {
        const c = NAME_BYTES[bytes[at]];
        if (c === 0) break;
        hash = (Math.imul(hash, 31) + c) | 0;
      }
      // Also refuses obs-fold (a line that starts with a space) and a space before the colon.
      if (at === lineStart || at >= end || bytes[at] !== COLON) throw badName(bytes, lineStart, end);
      const fieldName = nameOf(bytes, lineStart, at, hash);
      at++;
      while (at < end && (bytes[at] === 32 || bytes[at] === 9)) at++;
      const valueStart = at;
      hash = 0;
      for (; at < end; at++) {
        const c = bytes[at];
        if (VALUE_BYTES[c] === 0) break;
        hash = (Math.imul(hash, 31) + c) | 0;
      }
      if (at < end && (bytes[at] !== 13 || bytes[at + 1] !== 10)) {
        throw new Refusal(400, 'bad_field', 'a header value with forbidden characters');
      }
      let valueEnd = at;
      while (valueEnd > valueStart && (bytes[valueEnd - 1] === 32 || bytes[valueEnd - 1] === 9)) valueEnd--;
      at += 2;
      name = fieldName.text;
      own = fieldName.special;
      value =
        fieldName.secret || valueEnd !== at - 2
          ? latin1(bytes, valueStart, valueEnd)
          : textOf(bytes, valueStart, valueEnd, hash);
      if (!fieldName.secret) fresh++;
      if (learning) learn(known, fieldName, value, bytes, lineStart, at);
    }
    n++;
    const size = name.length + value.length;
    if (size > limits.headerFieldBytes)
      throw new Refusal(431, 'header_field_bytes', 'a header field is larger than the limit');
    total += size + 32;
    if (total > maxBytes) throw new Refusal(431, 'header_bytes', 'the header fields are larger than the limit');
    if (n > maxCount) throw new Refusal(431, 'header_count', 'more header fields than the limit');
    if (!own || !takeSpecial(name, value)) out.push(name, value);
  }
  known.done(fresh);
  return special;
}

/** Whether `bytes` at `at` begins with the line `line[from..to]`, whose CRLF may be the end of the head. */
function sameLine(bytes: Buffer, at: number, end: number, line: Buffer, from: number, to: number): boolean {
  if (from === to || at + to - from > end + 2) return false;
  while (from < to && bytes[at] === line[from]) {
    at++;
    from++;
  }
  return from === to;
}

/** The last line may stand without its CRLF at the end of `bytes`: such a one is not learned, nor is a secret one. */
function learn(known: KnownLines, name: FieldName, value: string, bytes: Buffer, from: number, to: number): void {
  if (name.secret || to > bytes.length) known.skip();
  else known.add(name.text, value, name.special, bytes.subarray(from, to));
}

function badName(bytes: Buffer, from: number, end: number): Refusal {
  const next = bytes.indexOf(LINE_END, from);
  const lineEnd = next === -1 || next > end ? end : next;
  const colon = bytes.indexOf(COLON, from);
  return colon === -1 || colon >= lineEnd
    ? new Refusal(400, 'bad_field', 'a header line without a colon')
    : new Refusal(400, 'bad_field', 'a header name with forbidden characters');
}

/** True when the field does not go into the head. */
function takeSpecial(name: string, value: string): boolean {
  switch (name) {
    case 'host':
      if (special.host !== undefined) throw new Refusal(400, 'bad_host', 'more than one Host field');
      special.host = value;
      return true;
    case 'content-length': {
      const length = parseDigits(value);
      if (length < 0 || special.length >= 0)
        throw new Refusal(400, 'content_length', 'invalid or repeated Content-Length');
      special.length = length;
      return false;
    }
    case 'transfer-encoding':
      if (special.transferEncoding !== undefined) {
        throw new Refusal(400, 'transfer_encoding', 'more than one Transfer-Encoding field');
      }
      special.transferEncoding = value.toLowerCase();
      return true;
    case 'connection':
      if (special.connection !== '') special.connection += ',';
      special.connection += value === 'keep-alive' ? value : value.toLowerCase();
      return true;
    case 'upgrade':
      special.upgrade = value;
      special.upgradeCount++;
      return true;
    case 'te':
      if (
        value
          .toLowerCase()
          .split(',')
          .some((part) => part.split(';')[0].trim() === 'trailers')
      )
        special.teTrailers = true;
      return true;
    case 'keep-alive':
    case 'proxy-connection':
      return true;
    case 'expect':
      if (value.toLowerCase() === '100-continue') special.expectContinue = true;
      return false;
    default:
      return false;
  }
}

interface ConnectionOptions {
  close: boolean;
  keepAlive: boolean;
  upgrade: boolean;
}

const NO_OPTIONS: ConnectionOptions = Object.freeze({ close: false, keepAlive: false, upgrade: false });
const KEEP_ALIVE: ConnectionOptions = Object.freeze({ close: false, keepAlive: true, upgrade: false });

/** Reads Connection and takes the fields it names out of the head; framing is never touched by it. */
export function applyConnection(head: Head, firstField: number): ConnectionOptions {
  if (special.connection === '') return NO_OPTIONS;
  if (special.connection === 'keep-alive') return KEEP_ALIVE;
  const options: ConnectionOptions = { close: false, keepAlive: false, upgrade: false };
  let named: string[] | undefined;
  for (const part of special.connection.split(',')) {
    const token = part.trim();
    if (token === '') continue;
    if (!isToken(token)) throw new Refusal(400, 'bad_connection', 'Connection with forbidden characters');
    if (token === 'close') options.close = true;
    else if (token === 'keep-alive') options.keepAlive = true;
    else if (token === 'upgrade') options.upgrade = true;
    else if (token !== 'content-length' && token !== 'expect') (named ??= []).push(token);
  }
  if (named !== undefined) {
    let to = firstField;
    for (let i = firstField; i < head.length; i += 2) {
      if (named.includes(head[i])) continue;
      head[to] = head[i];
      head[to + 1] = head[i + 1];
      to += 2;
    }
    head.length = to;
  }
  return options;
}

/** True for `chunked`; throws for every other transfer coding and for the combinations used for smuggling. */
export function isChunked(http10: boolean): boolean {
  const coding = special.transferEncoding;
  if (coding === undefined) return false;
  if (special.length >= 0) throw new Refusal(400, 'te_and_cl', 'both Transfer-Encoding and Content-Length');
  if (http10) throw new Refusal(400, 'transfer_encoding', 'Transfer-Encoding in HTTP/1.0');
  if (coding === 'chunked') return true;
  const parts = coding.split(',').map((part) => part.trim());
  const known = parts.every((part) =>
    ['gzip', 'x-gzip', 'deflate', 'compress', 'x-compress', 'chunked'].includes(part),
  );
  const status = known && parts.indexOf('chunked') === parts.length - 1 ? 501 : 400;
  throw new Refusal(status, 'transfer_encoding', 'a transfer coding other than chunked');
}

const FORBIDDEN_TRAILERS = new Set([
  'content-length',
  'trailer',
  'content-encoding',
  'content-type',
  'content-range',
  'expect',
]);

const knownTrailers = knownPlaces();

/** Reads a trailer section; fields that frame, route or describe the message are dropped (RFC 9110 6.5.1). */
export function parseTrailers(text: string, limits: WireLimits): Head {
  const fields: Head = [];
  const bytes = Buffer.from(text, 'latin1');
  readFields(bytes, 0, bytes.length, limits, fields, limits.trailerCount, limits.trailerBytes, knownTrailers);
  for (let i = fields.length - 2; i >= 0; i -= 2) if (FORBIDDEN_TRAILERS.has(fields[i])) fields.splice(i, 2);
  return fields;
}
