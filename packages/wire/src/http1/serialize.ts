import type { Head } from '../stream.ts';
import { isFieldValue, isToken, parseDigits, VALUE_BYTES } from './chars.ts';
import { put, putBytes, putChecked } from './cork.ts';
import { type KnownLines, knownAt } from './known-lines.ts';
import { Refusal } from './refusal.ts';
import { SECRET } from './strings.ts';

const REASONS = new Map<string, string>(
  Object.entries({
    100: 'Continue',
    101: 'Switching Protocols',
    102: 'Processing',
    103: 'Early Hints',
    200: 'OK',
    201: 'Created',
    202: 'Accepted',
    203: 'Non-Authoritative Information',
    204: 'No Content',
    205: 'Reset Content',
    206: 'Partial Content',
    207: 'Multi-Status',
    300: 'Multiple Choices',
    301: 'Moved Permanently',
    302: 'Found',
    303: 'See Other',
    304: 'Not Modified',
    307: 'Temporary Redirect',
    308: 'Permanent Redirect',
    400: 'Bad Request',
    401: 'Unauthorized',
    403: 'Forbidden',
    404: 'Not Found',
    405: 'Method Not Allowed',
    406: 'Not Acceptable',
    408: 'Request Timeout',
    409: 'Conflict',
    410: 'Gone',
    411: 'Length Required',
    412: 'Precondition Failed',
    413: 'Content Too Large',
    414: 'URI Too Long',
    415: 'Unsupported Media Type',
    416: 'Range Not Satisfiable',
    417: 'Expectation Failed',
    421: 'Misdirected Request',
    422: 'Unprocessable Content',
    425: 'Too Early',
    426: 'Upgrade Required',
    428: 'Precondition Required',
    429: 'Too Many Requests',
    431: 'Request Header Fields Too Large',
    451: 'Unavailable For Legal Reasons',
    500: 'Internal Server Error',
    501: 'Not Implemented',
    502: 'Bad Gateway',
    503: 'Service Unavailable',
    504: 'Gateway Timeout',
    505: 'HTTP Version Not Supported',
  }),
);

const statusLines: string[] = [];
for (let code = 0; code < 1000; code++) {
  statusLines.push('HTTP/1.1 ' + code + ' ' + (REASONS.get(String(code)) ?? '') + '\r\n');
}

/** `HTTP/1.1 200 OK` and CRLF; from 100 to 999. */
export function statusLine(code: number): string {
  return statusLines[code];
}

/** What the codec itself has to write of a head's fields. */
export interface WrittenFields {
  /** -1: none was given. The line itself is not among those that were put. */
  length: number;
  /** The application asked to close by `connection: close`. */
  close: boolean;
  te: boolean;
  /** Trailers are announced (RFC 9110 6.6.2): the body needs a framing that has a place for them. */
  trailer: boolean;
}

const written: WrittenFields = { length: -1, close: false, te: false, trailer: false };

const PLAIN = 0;
/** As plain ones, but never remembered. */
const PRIVATE = 8;
const byCodec: Record<string, number> = {
  'content-length': 1,
  connection: 2,
  te: 3,
  cookie: 5,
  host: 6,
  'keep-alive': 6,
  'proxy-connection': 6,
  'transfer-encoding': 6,
  upgrade: 6,
  trailer: 7,
};
/** Names that were found to be tokens, and what is done with them. */
const names = new Map<string, number>();
for (const name of SECRET) names.set(name, PRIVATE);
for (const name in byCodec) names.set(name, byCodec[name]);
const KNOWN_NAMES = 2048;

function kindOf(name: string): number {
  const known = names.get(name);
  if (known !== undefined) return known;
  if (!isToken(name)) throw badField();
  if (names.size < KNOWN_NAMES) names.set(name, PLAIN);
  return PLAIN;
}

function badField(): Refusal {
  return new Refusal(500, 'bad_head', 'a header field that HTTP/1.1 cannot carry');
}

function line(name: string, value: string): void {
  put(name);
  put(': ');
  if (!putChecked(value, VALUE_BYTES)) throw badField();
  put('\r\n');
}

/**
 * Composes (cork.ts) the lines of the fields from index `from`. Hop-by-hop fields, Host and Content-Length are left to the
 * codec. Refuses whatever could end a line early, since heads also come from HTTP/2 peers. Cookie crumbs are joined
 * (RFC 9113 8.2.3). What it returns is valid until the next call.
 */
export function putFields(head: Head, from: number, places: KnownLines[]): WrittenFields {
  written.length = -1;
  written.close = false;
  written.te = false;
  written.trailer = false;
  let cookie: string | undefined;
  const known = knownAt(places, (head.length - from) >> 1);
  known.begin();
  const { count, starts, texts, learning } = known;
  /** The known lines from here up to `n` are to be put. */
  let run = -1;
  let fresh = 0;
  let n = 0;
  for (let i = from; i < head.length; i += 2, n++) {
    const name = head[i];
    const value = head[i + 1];
    const same = n < count && name === texts[2 * n];
    if (same && value === texts[2 * n + 1]) {
      if (run === -1) run = n;
      continue;
    }
    if (run !== -1) {
      putBytes(known.bytes, starts[run], starts[n]);
      run = -1;
    }
    const kind = same ? PLAIN : kindOf(name);
    if (kind === PLAIN) {
      fresh++;
      line(name, value);
      if (learning) known.add(name, value, false, Buffer.from(name + ': ' + value + '\r\n', 'latin1'));
      continue;
    }
    if (learning) known.skip();
    if (kind === PRIVATE) {
      line(name, value);
      continue;
    }
    if (!isFieldValue(value)) throw badField();
    switch (kind) {
      case 1: {
        const parsed = parseDigits(value);
        if (parsed < 0 || (written.length >= 0 && parsed !== written.length))
          throw new Refusal(500, 'bad_head', 'invalid content-length');
        written.length = parsed;
        break;
      }
      case 2:
        if (value.toLowerCase() === 'close') written.close = true;
        break;
      case 3:
        if (value.toLowerCase() === 'trailers') written.te = true;
        break;
      case 5:
        cookie = cookie === undefined ? value : cookie + '; ' + value;
        break;
      case 7:
        written.trailer = true;
        line(name, value);
    }
  }
  if (run !== -1) putBytes(known.bytes, starts[run], starts[n]);
  known.done(fresh);
  if (cookie !== undefined) line('cookie', cookie);
  return written;
}
