import type { Head, WireLimits } from '../stream.ts';
import { isAuthority, isFieldValue, isPort, isTarget, isToken, parseLength } from './chars.ts';

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

/** Collects bytes up to the empty line. A head split over many reads is copied once and searched once. */
export class HeadBuffer {
  /** The head without its last CRLF CRLF, after `push` has returned an offset. */
  text = '';
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
      const end = bytes.indexOf('\r\n\r\n', start, 'latin1');
      if (end === -1) return this.keep(bytes, start);
      this.checkSize(end - start);
      this.text = bytes.toString('latin1', start, end);
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
    const end = kept.subarray(0, this.used).indexOf('\r\n\r\n', Math.max(0, before - 3), 'latin1');
    if (end === -1) {
      this.inspect(before);
      return -1;
    }
    this.checkSize(end);
    this.text = kept.toString('latin1', 0, end);
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

/** Reads `name: value` lines of `text` from `from`, appends what may be forwarded to `out`. */
function readFields(
  text: string,
  from: number,
  limits: WireLimits,
  out: Head,
  maxCount: number,
  maxBytes: number,
): Special {
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
  let count = 0;
  let bytes = 0;
  let position = from;
  while (position < text.length) {
    let lineEnd = text.indexOf('\r\n', position);
    if (lineEnd === -1) lineEnd = text.length;
    const colon = text.indexOf(':', position);
    if (colon === -1 || colon >= lineEnd) throw new Refusal(400, 'bad_field', 'a header line without a colon');
    const rawName = text.slice(position, colon);
    // Also refuses obs-fold (a line that starts with a space) and a space before the colon.
    if (!isToken(rawName)) throw new Refusal(400, 'bad_field', 'a header name with forbidden characters');
    let start = colon + 1;
    let end = lineEnd;
    while (start < end && isSpace(text.charCodeAt(start))) start++;
    while (end > start && isSpace(text.charCodeAt(end - 1))) end--;
    const value = text.slice(start, end);
    if (!isFieldValue(value)) throw new Refusal(400, 'bad_field', 'a header value with forbidden characters');
    const name = rawName.toLowerCase();
    const size = name.length + value.length;
    if (size > limits.headerFieldBytes)
      throw new Refusal(431, 'header_field_bytes', 'a header field is larger than the limit');
    bytes += size + 32;
    if (bytes > maxBytes) throw new Refusal(431, 'header_bytes', 'the header fields are larger than the limit');
    if (++count > maxCount) throw new Refusal(431, 'header_count', 'more header fields than the limit');
    if (!takeSpecial(special, name, value)) out.push(name, value);
    position = lineEnd + 2;
  }
  return special;
}

function isSpace(code: number): boolean {
  return code === 32 || code === 9;
}

/** True when the field does not go into the head. */
function takeSpecial(special: Special, name: string, value: string): boolean {
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

/** Reads Connection and takes the fields it names out of the head; framing is never touched by it. */
function applyConnection(special: Special, head: Head, firstField: number): ConnectionOptions {
  const options: ConnectionOptions = { close: false, keepAlive: false, upgrade: false };
  if (special.connection === '') return options;
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
function isChunked(special: Special, http10: boolean): boolean {
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

/** Reads a request head (without its empty line). `scheme` is the connection's. Throws Refusal. */
export function parseRequestHead(text: string, scheme: string, limits: WireLimits): RequestHead {
  let lineEnd = text.indexOf('\r\n');
  if (lineEnd === -1) lineEnd = text.length;
  if (lineEnd > limits.requestLineBytes) throw lineTooLong();
  const firstSpace = text.indexOf(' ');
  const secondSpace = firstSpace === -1 ? -1 : text.indexOf(' ', firstSpace + 1);
  if (secondSpace === -1 || secondSpace >= lineEnd)
    throw new Refusal(400, 'bad_request_line', 'malformed request line');
  const method = text.slice(0, firstSpace);
  const target = text.slice(firstSpace + 1, secondSpace);
  const version = text.slice(secondSpace + 1, lineEnd);
  if (!isToken(method)) throw new Refusal(400, 'bad_request_line', 'a method with forbidden characters');
  if (!isTarget(target)) throw new Refusal(400, 'bad_request_line', 'a request target with forbidden characters');
  if (version !== 'HTTP/1.1' && version !== 'HTTP/1.0') {
    const other = version.length === 8 && version.startsWith('HTTP/') && isDigit(version, 5) && isDigit(version, 7);
    throw new Refusal(other && version[6] === '.' ? 505 : 400, 'bad_version', 'not HTTP/1.0 or HTTP/1.1');
  }
  // RFC 9113 11.6 keeps this method for the preface of HTTP/2; a server may take what follows for its frames.
  if (method === 'PRI') throw new Refusal(400, 'bad_request_line', 'the method PRI is never used');
  const http10 = version === 'HTTP/1.0';
  const connect = method === 'CONNECT';
  const head: Head = connect
    ? [':method', method, ':authority', target]
    : [':method', method, ':scheme', scheme, ':authority', '', ':path', target];
  const firstField = head.length;
  const special = readFields(text, lineEnd + 2, limits, head, limits.headerCount, limits.headerBytes);
  if (special.host === undefined) {
    if (!http10) throw new Refusal(400, 'bad_host', 'no Host field');
  } else if (!isAuthority(special.host, true)) throw new Refusal(400, 'bad_host', 'malformed Host');
  if (connect) checkConnectTarget(target);
  else setTarget(head, method, target, special.host ?? '');
  const options = applyConnection(special, head, firstField);
  const chunked = isChunked(special, http10);
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

/** Reads a response head (without its empty line). Throws Refusal (502). */
export function parseResponseHead(text: string, limits: WireLimits): ResponseHead {
  let lineEnd = text.indexOf('\r\n');
  if (lineEnd === -1) lineEnd = text.length;
  const http10 = text.startsWith('HTTP/1.0 ');
  if (!http10 && !text.startsWith('HTTP/1.1 ')) throw new Refusal(502, 'bad_status_line', 'malformed status line');
  const code = text.slice(9, 12);
  const status = parseLength(code);
  // The space before an empty reason is often left out; nothing follows from the reason, so both are read.
  const shape = lineEnd === 12 || (lineEnd > 12 && text.charCodeAt(12) === 32);
  if (code.length !== 3 || status < 100 || !shape || !isFieldValue(text.slice(12, lineEnd))) {
    throw new Refusal(502, 'bad_status_line', 'malformed status line');
  }
  const head: Head = [':status', code];
  const special = readFields(text, lineEnd + 2, limits, head, limits.headerCount, limits.headerBytes);
  if (special.host !== undefined) head.push('host', special.host);
  const options = applyConnection(special, head, 2);
  const chunked = isChunked(special, http10);
  return {
    head,
    status,
    http10,
    keepAlive: !options.close && (!http10 || options.keepAlive),
    framing: chunked ? 'chunked' : special.length > 0 ? 'length' : special.length === 0 ? 'none' : 'close',
    length: special.length,
  };
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
  readFields(text, 0, limits, fields, limits.trailerCount, limits.trailerBytes);
  for (let i = fields.length - 2; i >= 0; i -= 2) if (FORBIDDEN_TRAILERS.has(fields[i])) fields.splice(i, 2);
  return fields;
}
