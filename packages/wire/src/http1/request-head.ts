import { latin1 } from '../latin1.ts';
import type { Head, WireLimits } from '../stream.ts';
import { isAuthority, isPort, isTarget, isToken, NAME_BYTES, TARGET_BYTES } from './chars.ts';
import { applyConnection, type Framing, isChunked, readFields, special } from './fields.ts';
import { knownPlaces } from './known-lines.ts';
import { lineTooLong, Refusal } from './refusal.ts';
import { textOf } from './strings.ts';

const LINE_END = Buffer.from('\r\n');
const QUESTION_MARK = 63;

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

const knownHeads = knownPlaces();

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
  let targetHash = 0;
  let query = false;
  for (; at < end; at++) {
    const c = bytes[at];
    if (TARGET_BYTES[c] === 0) break;
    if (c === QUESTION_MARK) query = true;
    targetHash = (Math.imul(targetHash, 31) + c) | 0;
  }
  const targetEnd = at++;
  const shape =
    methodEnd > start && targetEnd > targetStart && at < end && bytes[methodEnd] === 32 && bytes[targetEnd] === 32;
  const http11 = shape && isVersion(bytes, at, end, 49);
  const http10 = shape && !http11 && isVersion(bytes, at, end, 48);
  if (!http11 && !http10) throw badRequestLine(bytes, start, end, limits);
  const lineEnd = at + 8;
  if (lineEnd - start > limits.requestLineBytes) throw lineTooLong();
  const method = textOf(bytes, start, methodEnd, hash);
  // Queries are rarely the same, and hold secrets more often than paths do.
  const target = query ? latin1(bytes, targetStart, targetEnd) : textOf(bytes, targetStart, targetEnd, targetHash);
  // RFC 9113 11.6 keeps this method for the preface of HTTP/2; a server may take what follows for its frames.
  if (method === 'PRI') throw new Refusal(400, 'bad_request_line', 'the method PRI is never used');
  const connect = method === 'CONNECT';
  const head: Head = connect
    ? [':method', method, ':authority', target]
    : [':method', method, ':scheme', scheme, ':authority', '', ':path', target];
  const firstField = head.length;
  readFields(bytes, lineEnd + 2, end, limits, head, limits.headerCount, limits.headerBytes, knownHeads);
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
