import { isToken, parseDigits } from '../http1/chars.ts';
import type { Head } from '../stream.ts';
import { isPseudo, kind } from './hpack-tables.ts';

/**
 * Makes heads, in place, of decoded fields, and refuses what RFC 9113 8 calls malformed. `kinds` are those of the fields
 * (hpack-tables.ts); a malformed head may be left in any state.
 */

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
  /** The last ones that were good. */
  method: string;
  authority: string;
}

export function newFacts(): HeadFacts {
  return { problem: '', contentLength: -1, status: 0, isConnect: false, isHead: false, method: '', authority: '' };
}

function clear(facts: HeadFacts): void {
  facts.problem = '';
  facts.contentLength = -1;
  facts.status = 0;
  facts.isConnect = false;
  facts.isHead = false;
}

/**
 * Checks the fields of `head` from `first` on and takes off those that a head has elsewhere or not at all; cookies are
 * joined at the end. Returns the Host value.
 */
function takeFields(head: Head, kinds: readonly number[], first: number, facts: HeadFacts): string | undefined {
  let host: string | undefined;
  let cookie: string | undefined;
  let to = first;
  for (let i = first; i < head.length; i += 2) {
    const value = head[i + 1];
    switch (kinds[i >>> 1]) {
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
        const length = parseDigits(value);
        if (length < 0 || (facts.contentLength >= 0 && facts.contentLength !== length)) {
          facts.problem = 'content-length is no single number';
        }
        if (facts.contentLength >= 0) continue;
        facts.contentLength = length;
        break;
      }
      case kind.forbidden:
        facts.problem = `${head[i]} may not stand in HTTP/2`;
        continue;
      case kind.bad:
        facts.problem = 'a field with bytes that may not be there';
        continue;
      default:
        facts.problem = 'a pseudo-header after a field, or in trailers';
        continue;
    }
    if (to !== i) {
      head[to] = head[i];
      head[to + 1] = value;
    }
    to += 2;
  }
  if (cookie !== undefined) {
    head[to++] = 'cookie';
    head[to++] = cookie;
  }
  // Not a plain store: it costs a call of the runtime.
  if (to !== head.length) head.length = to;
  return host;
}

/** Visible ASCII without what would make more of it than host and port, and bytes above it. */
function isAuthority(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code <= 32 || code === 127 || code === 64 || code === 47) return false;
  }
  return true;
}

/** Puts a request's head into the order of `Head`. `extended`: we announced extended CONNECT (RFC 8441). */
export function requestHead(head: Head, kinds: readonly number[], facts: HeadFacts, extended: boolean): void {
  clear(facts);
  let method: string | undefined;
  let scheme: string | undefined;
  let authority: string | undefined;
  let path: string | undefined;
  let protocol: string | undefined;
  let seen = 0;
  let inOrder = true;
  let first = 0;
  for (; first < head.length && isPseudo(kinds[first >>> 1]); first += 2) {
    const what = kinds[first >>> 1];
    const value = head[first + 1];
    const bit = 1 << what;
    if ((seen & bit) !== 0) facts.problem = `${head[first]} stands twice`;
    if (seen > bit) inOrder = false; // kinds are numbered in the order of `Head`
    seen |= bit;
    if (what === kind.method) method = value;
    else if (what === kind.scheme) scheme = value;
    else if (what === kind.authority) authority = value;
    else if (what === kind.path) path = value;
    else if (what === kind.protocol) protocol = value;
    else facts.problem = ':status in a request';
  }
  // Mostly it is the same string as the last one.
  if (method !== facts.method) {
    // RFC 9113 11.6: PRI is the preface's, and no server behind us should have to guess.
    if (method === undefined || method === 'PRI' || !isToken(method)) facts.problem = ':method is missing or no token';
    else facts.method = method;
  }
  facts.isConnect = method === 'CONNECT';
  facts.isHead = method === 'HEAD';
  const tunnel = facts.isConnect && protocol === undefined;
  if (tunnel) {
    if (scheme !== undefined || path !== undefined) facts.problem = 'CONNECT with :scheme or :path';
    if (!authority) facts.problem = 'CONNECT without :authority';
  } else {
    if (protocol !== undefined && (!facts.isConnect || !extended || !isToken(protocol))) {
      facts.problem = ':protocol is not for this request, or extended CONNECT was not announced';
    }
    if (scheme !== 'http' && scheme !== 'https') {
      // One spelling (RFC 3986 3.1): what looks at it must not be led around by `htTp` (CVE-2023-35944).
      scheme = scheme?.toLowerCase();
      inOrder = false;
      if (scheme !== 'http' && scheme !== 'https') facts.problem = ':scheme is not http or https';
    }
    // That it is visible characters is known since it was decoded.
    if (!path || (path.charCodeAt(0) !== 47 && !(path === '*' && method === 'OPTIONS'))) {
      facts.problem = ':path is missing or no path';
    }
  }
  const host = takeFields(head, kinds, first, facts);
  if (host !== undefined) {
    if (authority === undefined || authority === '') {
      authority = host;
      inOrder = false;
    } else if (host !== authority && host.toLowerCase() !== authority.toLowerCase()) {
      facts.problem = 'host and :authority name different hosts';
    }
  }
  if (authority !== undefined && authority !== facts.authority) {
    if (isAuthority(authority)) facts.authority = authority;
    else facts.problem = ':authority is no host and port';
  }
  if (tunnel) facts.contentLength = -1;
  if (inOrder && authority !== undefined) return;
  const pseudo = [':method', method ?? ''];
  if (!tunnel) pseudo.push(':scheme', scheme ?? '');
  pseudo.push(':authority', authority ?? '');
  if (!tunnel) pseudo.push(':path', path ?? '');
  if (protocol !== undefined) pseudo.push(':protocol', protocol);
  head.splice(0, first, ...pseudo);
}

/** Checks a response's head. */
export function responseHead(head: Head, kinds: readonly number[], facts: HeadFacts): void {
  clear(facts);
  const status = head.length > 0 && kinds[0] === kind.status ? head[1] : '';
  facts.status = status.length === 3 ? parseDigits(status) : -1;
  if (facts.status < 100 || facts.status === 101) {
    facts.problem = ':status is missing or wrong';
    return;
  }
  // Another pseudo-header is in the wrong place behind it.
  const host = takeFields(head, kinds, 2, facts);
  if (host !== undefined) head.push('host', host);
}

/** Checks trailers: fields only. */
export function trailerFields(fields: Head, kinds: readonly number[], facts: HeadFacts): void {
  clear(facts);
  const host = takeFields(fields, kinds, 0, facts);
  if (host !== undefined) fields.push('host', host);
}
