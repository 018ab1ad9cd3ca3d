import type { Head } from '../stream.ts';
import type { HpackDecoder } from './hpack-decoder.ts';
import { kind } from './hpack-tables.ts';

/** Turns decoded fields into heads and refuses what RFC 9113 8 calls malformed. */

/** Interim responses one request may get. */
export const mostInterims = 32;

/** Requests whose messages are DATA frames as small as they like. */
export function isGrpc(head: Head): boolean {
  for (let i = 0; i < head.length; i += 2) {
    if (head[i] === 'content-type') return head[i + 1].startsWith('application/grpc');
  }
  return false;
}

/** What is known of a checked head besides its fields. */
export interface HeadFacts {
  /** Why the message is malformed; '' when it is not. */
  problem: string;
  /** -1: none. */
  contentLength: number;
  status: number;
  isConnect: boolean;
  isHead: boolean;
}

export function newFacts(): HeadFacts {
  return { problem: '', contentLength: -1, status: 0, isConnect: false, isHead: false };
}

function clear(facts: HeadFacts): void {
  facts.problem = '';
  facts.contentLength = -1;
  facts.status = 0;
  facts.isConnect = false;
  facts.isHead = false;
}

/** Seven values by kind; a scratch, since this runs to its end at once. */
const pseudo: (string | undefined)[] = new Array(kind.lastPseudo + 1);

function takePseudo(fields: HpackDecoder, facts: HeadFacts): number {
  pseudo.fill(undefined);
  let i = 0;
  for (; i < fields.count; i++) {
    const what = fields.kinds[i];
    if (what === kind.plain || what > kind.lastPseudo) break;
    if (pseudo[what] !== undefined) facts.problem = `${fields.names[i]} stands twice`;
    pseudo[what] = fields.values[i];
  }
  return i;
}

/** Checks the fields from `first` on and appends them to `head`. Returns the Host value, joined cookies at the end. */
function takeFields(fields: HpackDecoder, first: number, head: Head, facts: HeadFacts): string | undefined {
  let host: string | undefined;
  let cookie: string | undefined;
  for (let i = first; i < fields.count; i++) {
    const value = fields.values[i];
    switch (fields.kinds[i]) {
      case kind.plain:
        break;
      case kind.te:
        if (value !== 'trailers') facts.problem = 'te may only be "trailers"';
        break;
      case kind.host:
        if (host !== undefined) facts.problem = 'host stands twice';
        host = value;
        continue;
      case kind.cookie:
        // Crumbs are joined for whoever is not HTTP/2 (RFC 9113 8.2.3).
        cookie = cookie === undefined ? value : `${cookie}; ${value}`;
        continue;
      case kind.contentLength: {
        const length = parseLength(value);
        if (length < 0 || (facts.contentLength >= 0 && facts.contentLength !== length)) {
          facts.problem = 'content-length is no single number';
        }
        if (facts.contentLength >= 0) continue;
        facts.contentLength = length;
        break;
      }
      case kind.forbidden:
        facts.problem = `${fields.names[i]} may not stand in HTTP/2`;
        continue;
      case kind.bad:
        facts.problem = 'a field with bytes that may not be there';
        continue;
      default:
        facts.problem = 'a pseudo-header after a field, or in trailers';
        continue;
    }
    head.push(fields.names[i], value);
  }
  if (cookie !== undefined) head.push('cookie', cookie);
  return host;
}

function parseLength(text: string): number {
  if (text.length === 0 || text.length > 15) return -1;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

/** Visible ASCII and bytes above it, nothing else: a blank would end the target in HTTP/1. */
function visible(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code <= 32 || code === 127) return false;
  }
  return true;
}

function isToken(text: string): boolean {
  if (text.length === 0) return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code <= 32 || code >= 127 || '"(),/:;<=>?@[\\]{}'.includes(text[i])) return false;
  }
  return true;
}

/** One spelling (RFC 3986 3.1): what looks at it must not be led around by `htTp` (CVE-2023-35944). */
function lowerScheme(scheme: string | undefined): string | undefined {
  return scheme === undefined || scheme === 'http' || scheme === 'https' ? scheme : scheme.toLowerCase();
}

/** A request's head in the order of `Head`. `extended`: we announced extended CONNECT (RFC 8441). */
export function requestHead(fields: HpackDecoder, facts: HeadFacts, extended: boolean): Head {
  clear(facts);
  const first = takePseudo(fields, facts);
  const method = pseudo[kind.method];
  const scheme = lowerScheme(pseudo[kind.scheme]);
  const path = pseudo[kind.path];
  const protocol = pseudo[kind.protocol];
  let authority = pseudo[kind.authority];
  const head: Head = [':method', method ?? ''];
  if (pseudo[kind.status] !== undefined) facts.problem = ':status in a request';
  // RFC 9113 11.6: PRI is the preface's, and no server behind us should have to guess.
  if (method === undefined || method === 'PRI' || !isToken(method)) facts.problem = ':method is missing or no token';
  facts.isConnect = method === 'CONNECT';
  facts.isHead = method === 'HEAD';
  const tunnel = facts.isConnect && protocol === undefined;
  if (tunnel) {
    if (scheme !== undefined || path !== undefined) facts.problem = 'CONNECT with :scheme or :path';
    if (!authority) facts.problem = 'CONNECT without :authority';
    head.push(':authority', authority ?? '');
  } else {
    if (protocol !== undefined && (!facts.isConnect || !extended || !isToken(protocol))) {
      facts.problem = ':protocol is not for this request, or extended CONNECT was not announced';
    }
    if (scheme !== 'http' && scheme !== 'https') facts.problem = ':scheme is not http or https';
    if (!path || !visible(path) || (path.charCodeAt(0) !== 47 && !(path === '*' && method === 'OPTIONS'))) {
      facts.problem = ':path is missing or no path';
    }
    head.push(':scheme', scheme ?? '', ':authority', authority ?? '', ':path', path ?? '');
    if (protocol !== undefined) head.push(':protocol', protocol);
  }
  const host = takeFields(fields, first, head, facts);
  if (host !== undefined) {
    if (authority === undefined || authority === '') {
      authority = host;
      head[tunnel ? 3 : 5] = host;
    } else if (host !== authority && host.toLowerCase() !== authority.toLowerCase()) {
      facts.problem = 'host and :authority name different hosts';
    }
  }
  if (authority !== undefined && (!visible(authority) || authority.includes('@') || authority.includes('/'))) {
    facts.problem = ':authority is no host and port';
  }
  if (tunnel) facts.contentLength = -1;
  return head;
}

/** A response's head. */
export function responseHead(fields: HpackDecoder, facts: HeadFacts): Head {
  clear(facts);
  const first = takePseudo(fields, facts);
  const status = pseudo[kind.status] ?? '';
  for (let i = kind.method; i <= kind.protocol; i++) {
    if (pseudo[i] !== undefined) facts.problem = 'a request pseudo-header in a response';
  }
  facts.status = status.length === 3 ? parseLength(status) : -1;
  if (facts.status < 100 || facts.status === 101) facts.problem = ':status is missing or wrong';
  const head: Head = [':status', status];
  const host = takeFields(fields, first, head, facts);
  if (host !== undefined) head.push('host', host);
  return head;
}

/** Trailers: fields only. */
export function trailerFields(fields: HpackDecoder, facts: HeadFacts): Head {
  clear(facts);
  const head: Head = [];
  const host = takeFields(fields, 0, head, facts);
  if (host !== undefined) head.push('host', host);
  return head;
}
