import type { Head, Output } from '../stream.ts';
import { isFieldValue, isTarget, isToken, parseLength } from './chars.ts';
import { Refusal } from './refusal.ts';

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

const lines = new Map<string, string>();
for (const [status, reason] of REASONS) lines.set(status, 'HTTP/1.1 ' + status + ' ' + reason + '\r\n');

/** `HTTP/1.1 200 OK` and CRLF. */
export function statusLine(status: string): string {
  return lines.get(status) ?? 'HTTP/1.1 ' + status + ' \r\n';
}

/** What the codec itself has to write of a head's fields; the others stand in a buffer that `Cork.fields` empties. */
export interface WrittenFields {
  /** -1: none was given. The line itself is not among the fields. */
  length: number;
  /** The application asked to close by `connection: close`. */
  close: boolean;
  te: boolean;
  /** Trailers are announced (RFC 9110 6.6.2): the body needs a framing that has a place for them. */
  trailer: boolean;
  host: string | undefined;
}

const written: WrittenFields = { length: -1, close: false, te: false, trailer: false, host: undefined };
/** The fields that were written last. */
let fieldBytes = Buffer.allocUnsafeSlow(8192);
let fieldEnd = 0;

interface Latin1 {
  latin1Write(text: string, at: number): number;
}

/** Shorter texts are copied by a loop, which is quicker than a call out of JavaScript. */
const LOOP_LENGTH = 20;

/** Writes latin1 `text`, for which there must be room; returns the position behind it. */
function put(target: Buffer, at: number, text: string): number {
  const { length } = text;
  if (length > LOOP_LENGTH) return at + (target as unknown as Latin1).latin1Write(text, at);
  for (let i = 0; i < length; i++) target[at++] = text.charCodeAt(i);
  return at;
}

const plain = 0;
const byCodec: Record<string, number> = {
  'content-length': 1,
  connection: 2,
  te: 3,
  host: 4,
  cookie: 5,
  'keep-alive': 6,
  'proxy-connection': 6,
  'transfer-encoding': 6,
  upgrade: 6,
  trailer: 7,
};
/** Names that were found to be tokens, and what is done with them. */
const names = new Map<string, number>(Object.entries(byCodec));
const KNOWN_NAMES = 2048;

function kindOf(name: string): number {
  const known = names.get(name);
  if (known !== undefined) return known;
  if (!isToken(name)) throw new Refusal(500, 'bad_head', 'a header field that HTTP/1.1 cannot carry');
  if (names.size < KNOWN_NAMES) names.set(name, plain);
  return plain;
}

/** The last long value that was found to be one: a peer sends the same each time. */
let goodValue = '';

function line(name: string, value: string): void {
  const size = name.length + value.length + 4;
  if (fieldEnd + size > fieldBytes.length) {
    const grown = Buffer.allocUnsafeSlow((fieldEnd + size) * 2);
    fieldBytes.copy(grown, 0, 0, fieldEnd);
    fieldBytes = grown;
  }
  const target = fieldBytes;
  let at = put(target, fieldEnd, name);
  target[at++] = 58;
  target[at++] = 32;
  at = put(target, at, value);
  target[at++] = 13;
  target[at++] = 10;
  fieldEnd = at;
}

/**
 * Writes fields from index `from`. Hop-by-hop fields, Host and Content-Length are left to the codec. Refuses whatever
 * could end a line early, since heads also come from HTTP/2 peers. Cookie crumbs are joined (RFC 9113 8.2.3). What it
 * returns is valid until the next call.
 */
export function writeFields(head: Head, from: number): WrittenFields {
  fieldEnd = 0;
  written.length = -1;
  written.close = false;
  written.te = false;
  written.trailer = false;
  written.host = undefined;
  let cookie: string | undefined;
  for (let i = from; i < head.length; i += 2) {
    const name = head[i];
    const value = head[i + 1];
    const kind = kindOf(name);
    if (value !== goodValue) {
      if (value === undefined || !isFieldValue(value)) {
        throw new Refusal(500, 'bad_head', 'a header field that HTTP/1.1 cannot carry');
      }
      if (value.length > 64) goodValue = value;
    }
    switch (kind) {
      case 0:
        line(name, value);
        break;
      case 1: {
        const parsed = parseLength(value);
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
      case 4:
        written.host ??= value;
        break;
      case 5:
        cookie = cookie === undefined ? value : cookie + '; ' + value;
        break;
      case 7:
        written.trailer = true;
        line(name, value);
    }
  }
  if (cookie !== undefined) line('cookie', cookie);
  return written;
}

/** Throws Refusal for a method or target that cannot stand in a request line. */
export function checkRequestLine(method: string, target: string): void {
  if (!isToken(method) || !isTarget(target))
    throw new Refusal(500, 'bad_head', 'a method or path HTTP/1.1 cannot carry');
}

const FLUSH_BYTES = 64 * 1024;
/** Larger chunks go out uncopied. */
const DIRECT_BYTES = 4 * 1024;
const SLAB_BYTES = 16 * 1024;

/** What connections write goes one behind the other here; bytes once written are never touched again. */
let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let slabAt = 0;

/**
 * Gathers what one turn writes, so that a head, its first data and the answers to pipelined requests leave in one write.
 * At most 64 KiB are held; beyond, and for large chunks, bytes go out at once and uncopied.
 */
export class Cork {
  /** False after a write that returned false, until `drained`. */
  writable = true;
  /** Parts of earlier slabs, then `current[start..end]`. */
  private parts: Uint8Array[] | undefined;
  private current: Buffer | undefined;
  private start = 0;
  private end = 0;
  private size = 0;
  private scheduled = false;
  private readonly output: Output;
  private readonly deferred = () => {
    this.scheduled = false;
    this.flush();
  };

  constructor(output: Output) {
    this.output = output;
  }

  /** `text` is latin1. */
  text(text: string): void {
    const target = this.room(text.length);
    slabAt = this.end = put(target, slabAt, text);
    this.added(text.length);
  }

  /** The fields of the last `writeFields`. */
  fields(): void {
    const target = this.room(fieldEnd);
    fieldBytes.copy(target, slabAt, 0, fieldEnd);
    this.end = slabAt += fieldEnd;
    this.added(fieldEnd);
  }

  bytes(bytes: Uint8Array): void {
    const { length } = bytes;
    if (length === 0) return;
    if (length > DIRECT_BYTES) {
      this.flush();
      this.write(bytes);
      return;
    }
    const target = this.room(length);
    target.set(bytes, slabAt);
    this.end = slabAt += length;
    this.added(length);
  }

  flush(): void {
    if (this.size === 0) return;
    const { parts } = this;
    const last = (this.current as Buffer).subarray(this.start, this.end);
    this.parts = undefined;
    this.current = undefined;
    this.size = 0;
    if (parts !== undefined) for (const part of parts) this.write(part);
    this.write(last);
  }

  /** The slab, with room for `bytes` at `slabAt`, right behind what this connection wrote into it last. */
  private room(bytes: number): Buffer {
    const fits = slabAt + bytes <= slab.length;
    if (fits && this.current === slab && this.end === slabAt) return slab;
    if (this.current !== undefined && this.end > this.start) {
      const part = this.current.subarray(this.start, this.end);
      if (this.parts === undefined) this.parts = [part];
      else this.parts.push(part);
    }
    if (!fits) {
      slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, bytes));
      slabAt = 0;
    }
    this.current = slab;
    this.start = this.end = slabAt;
    return slab;
  }

  private added(bytes: number): void {
    this.size += bytes;
    if (this.size > FLUSH_BYTES) this.flush();
    else if (!this.scheduled) {
      this.scheduled = true;
      this.output.defer(this.deferred);
    }
  }

  private write(bytes: Uint8Array): void {
    if (!this.output.write(bytes)) this.writable = false;
  }
}
