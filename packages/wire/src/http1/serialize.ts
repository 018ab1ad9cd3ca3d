import type { Head, Output } from '../stream.ts';
import { isFieldValue, isTarget, isToken, parseLength } from './chars.ts';
import { Refusal } from './head.ts';

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

/** `HTTP/1.1 200 OK` and CRLF. */
export function statusLine(status: string): string {
  return 'HTTP/1.1 ' + status + ' ' + (REASONS.get(status) ?? '') + '\r\n';
}

/** A head's fields as text, and what the codec itself has to write. */
export interface WrittenFields {
  text: string;
  /** -1: none was given. The line itself is not in `text`. */
  length: number;
  /** The application asked to close by `connection: close`. */
  close: boolean;
  te: boolean;
  host: string | undefined;
}

/**
 * Writes fields from index `from`. Hop-by-hop fields, Host and Content-Length are left to the codec. Refuses whatever
 * could end a line early, since heads also come from HTTP/2 peers. Cookie crumbs are joined (RFC 9113 8.2.3).
 */
export function writeFields(head: Head, from: number): WrittenFields {
  let text = '';
  let length = -1;
  let close = false;
  let te = false;
  let host: string | undefined;
  let cookie: string | undefined;
  for (let i = from; i < head.length; i += 2) {
    const name = head[i];
    const value = head[i + 1];
    if (!isToken(name) || value === undefined || !isFieldValue(value)) {
      throw new Refusal(500, 'bad_head', 'a header field that HTTP/1.1 cannot carry');
    }
    switch (name) {
      case 'content-length': {
        const parsed = parseLength(value);
        if (parsed < 0 || (length >= 0 && parsed !== length))
          throw new Refusal(500, 'bad_head', 'invalid content-length');
        length = parsed;
        break;
      }
      case 'connection':
        if (value.toLowerCase() === 'close') close = true;
        break;
      case 'te':
        if (value.toLowerCase() === 'trailers') te = true;
        break;
      case 'host':
        host ??= value;
        break;
      case 'cookie':
        cookie = cookie === undefined ? value : cookie + '; ' + value;
        break;
      case 'keep-alive':
      case 'proxy-connection':
      case 'transfer-encoding':
      case 'upgrade':
        break;
      default:
        text += name + ': ' + value + '\r\n';
    }
  }
  if (cookie !== undefined) text += 'cookie: ' + cookie + '\r\n';
  return { text, length, close, te, host };
}

/** Trailer lines; what may not be a trailer is dropped by `writeFields`. */
export function writeTrailers(fields: Head): string {
  return '0\r\n' + writeFields(fields, 0).text + '\r\n';
}

/** Throws Refusal for a method or target that cannot stand in a request line. */
export function requestLine(method: string, target: string): string {
  if (!isToken(method) || !isTarget(target))
    throw new Refusal(500, 'bad_head', 'a method or path HTTP/1.1 cannot carry');
  return method + ' ' + target + ' HTTP/1.1\r\n';
}

const DIRECT_BYTES = 32 * 1024;
const FLUSH_BYTES = 64 * 1024;

/**
 * Gathers what one turn writes, so that a head, its first data and the answers to pipelined requests leave in one write.
 * At most 64 KiB are held; beyond, and for large chunks, bytes go out at once and uncopied.
 */
export class Cork {
  /** False after a write that returned false, until `drained`. */
  writable = true;
  private parts: (string | Uint8Array)[] = [];
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
    this.add(text, text.length);
  }

  bytes(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (bytes.length > DIRECT_BYTES) {
      this.flush();
      this.write(bytes);
    } else this.add(bytes, bytes.length);
  }

  flush(): void {
    if (this.size === 0) return;
    const parts = this.parts;
    const size = this.size;
    this.parts = [];
    this.size = 0;
    if (parts.length === 1) {
      const only = parts[0];
      this.write(typeof only === 'string' ? Buffer.from(only, 'latin1') : only);
      return;
    }
    const joined = Buffer.allocUnsafe(size);
    let at = 0;
    for (const part of parts) {
      if (typeof part === 'string') at += joined.write(part, at, 'latin1');
      else {
        joined.set(part, at);
        at += part.length;
      }
    }
    this.write(joined);
  }

  private add(part: string | Uint8Array, size: number): void {
    this.parts.push(part);
    this.size += size;
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
