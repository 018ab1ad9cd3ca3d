import type { Head, WireLimits } from '../stream.ts';
import { isAuthority, isPort, isTarget, isToken, NAME_BYTES, parseLength, TARGET_BYTES, VALUE_BYTES } from './chars.ts';
import { latin1, nameOf, statusText, textOf } from './strings.ts';

/**
 * What a codec will not take: the status of its own answer (on the server), the counter `http1.<counter>` and words for
 * the log. Thrown inside the codec only; not an Error, since an attacker should not make us capture stacks.
 */
export class Refusal {
  readonly status: number;
  readonly counter: string;
  readonly detail: string;
  constructor(status: number, counter: string, detail: string) {
    this.status = status;
    this.counter = counter;
    this.detail = detail;
  }
}

/** How the length of a body is known (RFC 9112 section 6.3). */
export type Framing = 'none' | 'length' | 'chunked' | 'close';

export interface RequestHead {
  head: Head;
  method: string;
  http10: boolean;
  keepAlive: boolean;
  framing: Framing;
  length: number;
  expectContinue: boolean;
  /** 'connect' and 'upgrade' become a tunnel when the answer is a success. */
  tunnel: 'none' | 'connect' | 'upgrade';
  /** Of an upgrade: the protocol asked for, as the client wrote it. */
  protocol: string;
  /** Of a WebSocket: the client's sec-websocket-key; '' where there is none. */
  webSocketKey: string;
}

export interface ResponseHead {
  head: Head;
  status: number;
  http10: boolean;
  keepAlive: boolean;
  /** As the fields say; HEAD, 1xx, 204, 304 and CONNECT are for the caller, who knows the request. */
  framing: Framing;
  length: number;
}

const COLON = 58;
const HEAD_END = Buffer.from('\r\n\r\n');
const LINE_END = Buffer.from('\r\n');
const NOTHING = Buffer.alloc(0);

/** Collects bytes up to the empty line. A head split over many reads is copied once and searched once. */
export class HeadBuffer {
  /** After `push` has returned an offset: the head without its last CRLF CRLF is `bytes[start..end]`, valid for this turn. */
  bytes: Buffer = NOTHING;
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
      const end = bytes.indexOf(HEAD_END, start);
      if (end === -1) return this.keep(bytes, start);
      this.checkSize(end - start);
      this.bytes = bytes;
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
    const end = kept.subarray(0, this.used).indexOf(HEAD_END, Math.max(0, before - 3));
    if (end === -1) {
      this.inspect(before);
      return -1;
    }
    this.checkSize(end);
    this.bytes = kept;
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

function lineTooLong(): Refusal {
  return new Refusal(414, 'request_line', 'the request line is longer than the limit');
}

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
const special: Special = {
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

/** Reads the lines `name: value` in `bytes[from..end]`, appends what may be forwarded to `out`. */
function readFields(
  bytes: Buffer,
  from: number,
  end: number,
  limits: WireLimits,
  out: Head,
  maxCount: number,
  maxBytes: number,
): Special {
  clearSpecial();
  let count = 0;
  let total = 0;
  let at = from;
  while (at < end) {
    const nameStart = at;
    let hash = 0;
    for (; at < end; at++) {
      const c = NAME_BYTES[bytes[at]];
      if (c === 0) break;
      hash = (Math.imul(hash, 31) + c) | 0;
    }
    // Also refuses obs-fold (a line that starts with a space) and a space before the colon.
    if (at === nameStart || at >= end || bytes[at] !== COLON) throw badName(bytes, nameStart, end);
    const name = nameOf(bytes, nameStart, at, hash);
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
    const size = name.text.length + valueEnd - valueStart;
    if (size > limits.headerFieldBytes)
      throw new Refusal(431, 'header_field_bytes', 'a header field is larger than the limit');
    total += size + 32;
    if (total > maxBytes) throw new Refusal(431, 'header_bytes', 'the header fields are larger than the limit');
    if (++count > maxCount) throw new Refusal(431, 'header_count', 'more header fields than the limit');
    const value =
      name.secret || valueEnd !== at ? latin1(bytes, valueStart, valueEnd) : textOf(bytes, valueStart, valueEnd, hash);
    if (!name.special || !takeSpecial(name.text, value)) out.push(name.text, value);
    at += 2;
  }
  return special;
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
      const length = parseLength(value);
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
      special.connection =
        special.connection === '' ? value.toLowerCase() : special.connection + ',' + value.toLowerCase();
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
function applyConnection(head: Head, firstField: number): ConnectionOptions {
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
function isChunked(http10: boolean): boolean {
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

/** Reads a request head `bytes[start..end]` (without its empty line). `scheme` is the connection's. Throws Refusal. */
export function parseRequestHead(
  bytes: Buffer,
  start: number,
  end: number,
  scheme: string,
  limits: WireLimits,
): RequestHead {
  let at = start;
  let hash = 0;
  for (; at < end; at++) {
    const c = bytes[at];
    if (NAME_BYTES[c] === 0) break;
    hash = (Math.imul(hash, 31) + c) | 0;
  }
  const methodEnd = at++;
  const targetStart = at;
  while (at < end && TARGET_BYTES[bytes[at]] === 1) at++;
  const targetEnd = at++;
  const shape =
    methodEnd > start && targetEnd > targetStart && at < end && bytes[methodEnd] === 32 && bytes[targetEnd] === 32;
  const http11 = shape && isVersion(bytes, at, end, 49);
  const http10 = shape && !http11 && isVersion(bytes, at, end, 48);
  if (!http11 && !http10) throw badRequestLine(bytes, start, end, limits);
  const lineEnd = at + 8;
  if (lineEnd - start > limits.requestLineBytes) throw lineTooLong();
  const method = textOf(bytes, start, methodEnd, hash);
  const target = latin1(bytes, targetStart, targetEnd);
  // RFC 9113 11.6 keeps this method for the preface of HTTP/2; a server may take what follows for its frames.
  if (method === 'PRI') throw new Refusal(400, 'bad_request_line', 'the method PRI is never used');
  const connect = method === 'CONNECT';
  const head: Head = connect
    ? [':method', method, ':authority', target]
    : [':method', method, ':scheme', scheme, ':authority', '', ':path', target];
  const firstField = head.length;
  readFields(bytes, lineEnd + 2, end, limits, head, limits.headerCount, limits.headerBytes);
  if (special.host === undefined) {
    if (!http10) throw new Refusal(400, 'bad_host', 'no Host field');
  } else if (special.host !== goodHost) {
    if (!isAuthority(special.host, true)) throw new Refusal(400, 'bad_host', 'malformed Host');
    goodHost = special.host;
  }
  if (connect) checkConnectTarget(target);
  else setTarget(head, method, target, special.host ?? '');
  const options = applyConnection(head, firstField);
  const chunked = isChunked(http10);
  if (special.teTrailers) head.push('te', 'trailers');
  const request: RequestHead = {
    head,
    method,
    http10,
    keepAlive: !options.close && (!http10 || options.keepAlive),
    framing: chunked ? 'chunked' : special.length > 0 ? 'length' : 'none',
    length: special.length,
    expectContinue: special.expectContinue && !http10,
    tunnel: 'none',
    protocol: '',
    webSocketKey: '',
  };
  if (connect) {
    // RFC 9110 9.3.6 gives a body of CONNECT no meaning; bytes that look like one would become tunnel bytes.
    if (chunked || special.length > 0) throw new Refusal(400, 'connect_body', 'CONNECT with a body');
    request.tunnel = 'connect';
    request.framing = 'none';
  } else if (options.upgrade && special.upgradeCount === 1 && !http10) takeUpgrade(request, special.upgrade);
  return request;
}

/** The last Host that was found well-formed. */
let goodHost = '';

/** `HTTP/1.` and the digit, and then the end of the line. */
function isVersion(bytes: Buffer, at: number, end: number, digit: number): boolean {
  return (
    bytes[at] === 72 &&
    bytes[at + 1] === 84 &&
    bytes[at + 2] === 84 &&
    bytes[at + 3] === 80 &&
    bytes[at + 4] === 47 &&
    bytes[at + 5] === 49 &&
    bytes[at + 6] === 46 &&
    bytes[at + 7] === digit &&
    (at + 8 === end || (at + 8 < end && bytes[at + 8] === 13 && bytes[at + 9] === 10))
  );
}

/** Says what is wrong with a request line. */
function badRequestLine(bytes: Buffer, start: number, end: number, limits: WireLimits): Refusal {
  const found = bytes.indexOf(LINE_END, start);
  const line = latin1(bytes, start, found === -1 || found > end ? end : found);
  if (line.length > limits.requestLineBytes) return lineTooLong();
  const malformed = (what: string): Refusal => new Refusal(400, 'bad_request_line', what);
  const firstSpace = line.indexOf(' ');
  const secondSpace = firstSpace === -1 ? -1 : line.indexOf(' ', firstSpace + 1);
  if (secondSpace === -1) return malformed('malformed request line');
  if (!isToken(line.slice(0, firstSpace))) return malformed('a method with forbidden characters');
  if (!isTarget(line.slice(firstSpace + 1, secondSpace)))
    return malformed('a request target with forbidden characters');
  const version = line.slice(secondSpace + 1);
  const other = version.length === 8 && version.startsWith('HTTP/') && isDigit(version, 5) && isDigit(version, 7);
  return new Refusal(other && version[6] === '.' ? 505 : 400, 'bad_version', 'not HTTP/1.0 or HTTP/1.1');
}

function isDigit(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code >= 48 && code <= 57;
}

function checkConnectTarget(target: string): void {
  const colon = target.lastIndexOf(':');
  if (
    !isAuthority(target, false) ||
    colon === -1 ||
    !isPort(target.slice(colon + 1)) ||
    Number(target.slice(colon + 1)) === 0
  ) {
    throw new Refusal(400, 'bad_request_line', 'CONNECT needs host:port');
  }
}

function setTarget(head: Head, method: string, target: string, host: string): void {
  head[5] = host;
  if (target.charCodeAt(0) === 47) return;
  if (target === '*') {
    if (method !== 'OPTIONS') throw new Refusal(400, 'bad_request_line', 'the target * is for OPTIONS only');
    return;
  }
  const mark = target.indexOf('://');
  const scheme = mark === -1 ? '' : target.slice(0, mark).toLowerCase();
  if (scheme !== 'http' && scheme !== 'https') throw new Refusal(400, 'bad_request_line', 'malformed request target');
  const start = mark + 3;
  let end = start;
  while (end < target.length && target[end] !== '/' && target[end] !== '?') end++;
  const authority = target.slice(start, end);
  if (!isAuthority(authority, false)) throw new Refusal(400, 'bad_request_line', 'malformed authority in the target');
  head[3] = scheme;
  // RFC 9112 3.2.2: the authority of an absolute target replaces Host.
  head[5] = authority;
  head[7] = end === target.length ? '/' : target[end] === '?' ? '/' + target.slice(end) : target.slice(end);
}

/** An upgrade that can be shown as extended CONNECT. Others are ignored, as RFC 9110 7.8 allows; h2c always is. */
function takeUpgrade(request: RequestHead, upgrade: string): void {
  const protocol = upgrade.toLowerCase();
  const slash = protocol.indexOf('/');
  const name = slash === -1 ? protocol : protocol.slice(0, slash);
  if (!isToken(name) || (slash !== -1 && !isToken(protocol.slice(slash + 1)))) return;
  const head = request.head;
  if (name === 'h2c' || name === 'h2') {
    dropField(head, 8, 'http2-settings');
    return;
  }
  if (request.method !== 'GET' || request.framing !== 'none') return;
  head[1] = 'CONNECT';
  head.splice(8, 0, ':protocol', protocol);
  request.tunnel = 'upgrade';
  request.protocol = upgrade;
  if (protocol !== 'websocket') return;
  for (let i = 10; i < head.length; i += 2) if (head[i] === 'sec-websocket-key') request.webSocketKey = head[i + 1];
}

export function dropField(head: Head, from: number, name: string): void {
  for (let i = head.length - 2; i >= from; i -= 2) if (head[i] === name) head.splice(i, 2);
}

/** Reads a response head `bytes[start..end]` (without its empty line). Throws Refusal (502). */
export function parseResponseHead(bytes: Buffer, start: number, end: number, limits: WireLimits): ResponseHead {
  const http10 = bytes[start + 7] === 48;
  const status = (bytes[start + 9] - 48) * 100 + (bytes[start + 10] - 48) * 10 + (bytes[start + 11] - 48);
  let at = start + 12;
  const shape =
    end - start >= 12 &&
    isVersionOfResponse(bytes, start) &&
    digitAt(bytes, start + 9) &&
    digitAt(bytes, start + 10) &&
    digitAt(bytes, start + 11) &&
    status >= 100;
  // The space before an empty reason is often left out; nothing follows from the reason, so both are read.
  if (!shape || (at < end && bytes[at] !== 32 && bytes[at] !== 13)) {
    throw new Refusal(502, 'bad_status_line', 'malformed status line');
  }
  while (at < end && VALUE_BYTES[bytes[at]] === 1) at++;
  if (at < end && (bytes[at] !== 13 || bytes[at + 1] !== 10)) {
    throw new Refusal(502, 'bad_status_line', 'malformed status line');
  }
  const head: Head = [':status', statusText(status)];
  readFields(bytes, at + 2, end, limits, head, limits.headerCount, limits.headerBytes);
  if (special.host !== undefined) head.push('host', special.host);
  const options = applyConnection(head, 2);
  const chunked = isChunked(http10);
  return {
    head,
    status,
    http10,
    keepAlive: !options.close && (!http10 || options.keepAlive),
    framing: chunked ? 'chunked' : special.length > 0 ? 'length' : special.length === 0 ? 'none' : 'close',
    length: special.length,
  };
}

/** `HTTP/1.0 ` or `HTTP/1.1 `. */
function isVersionOfResponse(bytes: Buffer, at: number): boolean {
  return (
    bytes[at] === 72 &&
    bytes[at + 1] === 84 &&
    bytes[at + 2] === 84 &&
    bytes[at + 3] === 80 &&
    bytes[at + 4] === 47 &&
    bytes[at + 5] === 49 &&
    bytes[at + 6] === 46 &&
    (bytes[at + 7] === 49 || bytes[at + 7] === 48) &&
    bytes[at + 8] === 32
  );
}

function digitAt(bytes: Buffer, at: number): boolean {
  return bytes[at] >= 48 && bytes[at] <= 57;
}

const FORBIDDEN_TRAILERS = new Set([
  'content-length',
  'trailer',
  'content-encoding',
  'content-type',
  'content-range',
  'expect',
]);

/** Reads a trailer section; fields that frame, route or describe the message are dropped (RFC 9110 6.5.1). */
export function parseTrailers(text: string, limits: WireLimits): Head {
  const fields: Head = [];
  const bytes = Buffer.from(text, 'latin1');
  readFields(bytes, 0, bytes.length, limits, fields, limits.trailerCount, limits.trailerBytes);
  for (let i = fields.length - 2; i >= 0; i -= 2) if (FORBIDDEN_TRAILERS.has(fields[i])) fields.splice(i, 2);
  return fields;
}
