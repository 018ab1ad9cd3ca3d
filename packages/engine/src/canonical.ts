/**
 * The one canonical form of path and host. Routing, authorization and forwarding all see what comes out of here, so that
 * what was authorized is what is sent.
 */
import { formatIp, parseIp } from '@weft/base';

/**
 * What to do with `%2F` and `%5C`: `reject` (400), `keep` (opaque to us), `decode` (they become slashes), `redirect`
 * (307 to the decoded form; for gateways).
 */
export type EncodedSlash = 'reject' | 'keep' | 'decode' | 'redirect';

/** Why a request is not taken, and the answer to give. */
export interface PathProblem {
  readonly status: 400 | 307;
  readonly code: 'path' | 'fragment' | 'null' | 'escape' | 'encoded-slash' | 'character' | 'authority';
  /** Response code details for the access log. */
  readonly details: string;
  /** Where to go instead; with status 307 only. */
  readonly location?: string;
}

function problem(code: PathProblem['code'], details: string): PathProblem {
  return Object.freeze({ status: 400, code, details });
}

const NOT_ABSOLUTE = problem('path', 'path_not_absolute');
const FRAGMENT = problem('fragment', 'path_with_fragment');
const NULL_BYTE = problem('null', 'path_with_null_byte');
const BAD_ESCAPE = problem('escape', 'path_with_invalid_escape');
const ENCODED_SLASH = problem('encoded-slash', 'path_with_escaped_slash');
const BAD_CHARACTER = problem('character', 'path_with_invalid_character');
const BAD_AUTHORITY = problem('authority', 'authority_malformed');

const SLASH = 0x2f;
const BACKSLASH = 0x5c;
const DOT = 0x2e;
const PERCENT = 0x25;
const QUERY = 0x3f;
const HASH = 0x23;

function hex(c: number): number {
  if (c >= 0x30 && c <= 0x39) return c - 0x30;
  if (c >= 0x41 && c <= 0x46) return c - 0x37;
  if (c >= 0x61 && c <= 0x66) return c - 0x57;
  return -1;
}

function unreserved(c: number): boolean {
  return (
    (c >= 0x61 && c <= 0x7a) ||
    (c >= 0x41 && c <= 0x5a) ||
    (c >= 0x30 && c <= 0x39) ||
    c === 0x2d ||
    c === DOT ||
    c === 0x5f ||
    c === 0x7e
  );
}

const HEX = '0123456789ABCDEF';

/**
 * Decodes unreserved characters and writes other escapes in capitals (RFC 3986 6.2.2), turns `\` into `/`, removes
 * dot segments (5.2.4), merges slashes. `;` is not touched, neither is the query. Rejects: what does not start with `/`
 * (except `*` of OPTIONS), fragments, `%00`, escapes that are none (they could become one by decoding), bytes that are
 * not visible ASCII. The result is a fixed point of this function, except that `decode` may uncover nothing new.
 */
export function canonicalPath(
  raw: string,
  encodedSlash: EncodedSlash = 'reject',
  method = 'GET',
): string | PathProblem {
  if (raw.charCodeAt(0) !== SLASH) {
    if (raw === '*' && method === 'OPTIONS') return raw;
    return NOT_ABSOLUTE;
  }
  // One look at each character; most paths need no work.
  let end = raw.length;
  let escapes = false;
  let segments = false;
  let previous = 0;
  for (let i = 0; i < raw.length; i++) {
    const c = raw.charCodeAt(i);
    if (c <= 0x20 || c >= 0x7f) return c === 0 ? NULL_BYTE : BAD_CHARACTER;
    if (c === HASH) return FRAGMENT;
    if (i >= end) continue;
    if (c === QUERY) end = i;
    else if (c === PERCENT) escapes = true;
    else if (c === BACKSLASH || ((c === SLASH || c === DOT) && previous === SLASH)) segments = true;
    previous = c;
  }
  if (!escapes && !segments) return raw;

  const query = raw.slice(end);
  let path = raw.slice(0, end);
  let moved = false;
  if (escapes) {
    let out = '';
    let from = 0;
    for (let i = path.indexOf('%'); i >= 0; i = path.indexOf('%', i + 3)) {
      const high = hex(path.charCodeAt(i + 1));
      const low = hex(path.charCodeAt(i + 2));
      if (high < 0 || low < 0) return BAD_ESCAPE; // charCodeAt past the end is NaN: -1
      const c = high * 16 + low;
      if (c === 0) return NULL_BYTE;
      out += path.slice(from, i);
      from = i + 3;
      if (c === SLASH || c === BACKSLASH) {
        if (encodedSlash === 'reject') return ENCODED_SLASH;
        if (encodedSlash === 'keep') out += c === SLASH ? '%2F' : '%5C';
        else {
          out += '/';
          moved = true;
        }
      } else out += unreserved(c) ? String.fromCharCode(c) : `%${HEX[high]}${HEX[low]}`;
    }
    path = out + path.slice(from);
  }
  path = mergeSlashes(removeDotSegments(path.replaceAll('\\', '/')));
  if (moved && encodedSlash === 'redirect') {
    return { status: 307, code: 'encoded-slash', details: 'path_normalized_redirect', location: path + query };
  }
  return path + query;
}

/** RFC 3986 5.2.4; `..` above the root stays at the root. */
function removeDotSegments(path: string): string {
  if (!path.includes('/.')) return path;
  const out: string[] = [];
  const parts = path.split('/');
  for (let i = 1; i < parts.length; i++) {
    const part = parts[i];
    const last = i === parts.length - 1;
    if (part === '..') {
      out.pop();
      if (last) out.push('');
    } else if (part === '.') {
      if (last) out.push('');
    } else out.push(part);
  }
  return `/${out.join('/')}`;
}

function mergeSlashes(path: string): string {
  return path.includes('//') ? path.replace(/\/{2,}/g, '/') : path;
}

/**
 * Brings a path pattern of a rule into the form of canonical paths, where it differs in spelling only: non-ASCII
 * characters and spaces are escaped, unreserved ones decoded, escapes in capitals.
 */
export function canonicalPattern(pattern: string): string {
  let out = '';
  for (const ch of pattern) {
    const c = ch.codePointAt(0)!;
    out += c <= 0x20 || c >= 0x7f ? escapeUtf8(ch) : ch;
  }
  return out.replace(/%([0-9a-fA-F]{2})/g, (all, digits: string) => {
    const c = Number.parseInt(digits, 16);
    return unreserved(c) ? String.fromCharCode(c) : all.toUpperCase();
  });
}

function escapeUtf8(ch: string): string {
  try {
    return encodeURIComponent(ch);
  } catch {
    return ch; // half of a surrogate pair: no request can hold it
  }
}

/** A host and, where it was written, a port. */
export interface Authority {
  /** Lower case, no trailing dot; IPv6 in brackets. */
  readonly host: string;
  /** 0: none was written. */
  readonly port: number;
}

/**
 * Reads an authority. Undefined for what is none: empty, user information, spaces or control characters, a port that is
 * no number from 1 to 65535, anything a host cannot hold.
 */
export function canonicalAuthority(raw: string): Authority | undefined {
  let host = raw;
  let port = 0;
  const colon = raw.lastIndexOf(':');
  const bracket = raw.lastIndexOf(']');
  if (colon > bracket) {
    const digits = raw.slice(colon + 1);
    if (!/^[0-9]{1,5}$/.test(digits)) return undefined;
    port = Number(digits);
    if (port < 1 || port > 65535) return undefined;
    host = raw.slice(0, colon);
  }
  if (host.charCodeAt(0) === 0x5b) {
    const ip = /^\[[0-9a-fA-F:.]{2,45}\]$/.test(host) ? parseIp(host) : undefined;
    if (!ip) return undefined;
    // One spelling of an address (RFC 5952); one of IPv4 in IPv6 stays one.
    host = ip.family === 6 ? `[${formatIp(ip)}]` : `[::ffff:${formatIp(ip)}]`;
  } else {
    if (host.endsWith('.')) host = host.slice(0, -1);
    if (host.length > 255 || !/^[0-9A-Za-z_~-]+(\.[0-9A-Za-z_~-]+)*$/.test(host)) return undefined;
  }
  return { host: host.toLowerCase(), port };
}

/** A host of a rule, perhaps with a port or a `*`, in the spelling that requests have. */
export function canonicalHostPattern(pattern: string): string {
  const authority = pattern.includes('*') ? undefined : canonicalAuthority(pattern);
  return authority ? formatAuthority(authority) : pattern.toLowerCase();
}

/** `host` or `host:port`, as it is forwarded. */
export function formatAuthority(authority: Authority): string {
  return authority.port === 0 ? authority.host : `${authority.host}:${authority.port}`;
}

/** The host part of an authority that is canonical already. */
export function hostOf(authority: string): string {
  const colon = authority.lastIndexOf(':');
  return colon > authority.lastIndexOf(']') ? authority.slice(0, colon) : authority;
}

/** The authority and the path that were seen last and their canonical forms: many requests in a row name the same. */
let lastAuthority = '';
let lastCanonical = '';
let lastPath = '/';
let lastEncodedSlash: EncodedSlash = 'reject';
let lastCanonicalPath = '/';

/**
 * Puts `:authority` and `:path` of a request head into canonical form, in place, before anything reads them. An empty
 * authority passes (HTTP/1.0 has none). Undefined: done; otherwise answer with what comes back.
 */
export function canonicalHead(head: string[], encodedSlash: EncodedSlash = 'reject'): PathProblem | undefined {
  let method = '';
  for (let i = 0; i < head.length && head[i].charCodeAt(0) === 0x3a; i += 2) {
    const value = head[i + 1];
    if (head[i] === ':method') method = value;
    else if (head[i] === ':authority') {
      if (value === '') continue;
      if (value !== lastAuthority) {
        const authority = canonicalAuthority(value);
        if (!authority) return BAD_AUTHORITY;
        lastCanonical = formatAuthority(authority);
        lastAuthority = value;
      }
      head[i + 1] = lastCanonical;
    } else if (head[i] === ':path') {
      if (value !== lastPath || encodedSlash !== lastEncodedSlash) {
        const path = canonicalPath(value, encodedSlash, method);
        if (typeof path !== 'string') return path;
        head[i + 1] = path;
        // Whether it may be asked for hangs on the method.
        if (path === '*') continue;
        lastPath = value;
        lastEncodedSlash = encodedSlash;
        lastCanonicalPath = path;
      }
      head[i + 1] = lastCanonicalPath;
    }
  }
  return undefined;
}
