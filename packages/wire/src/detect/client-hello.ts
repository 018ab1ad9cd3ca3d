/** What routing needs of a TLS ClientHello (RFC 8446 section 4.1.2). */
export interface ClientHello {
  /** server_name, lower case, printable ASCII; absent when the client sent none. */
  sni?: string;
  /** ALPN protocol names in the client's order, latin1. */
  alpn: string[];
  /** Offered protocol versions, e.g. 0x0304 for TLS 1.3; GREASE values left out. */
  versions: number[];
}

const MAX_HELLO_BYTES = 64 * 1024;
const MAX_RECORD_BYTES = 16 * 1024 + 256;

/**
 * Reads the ClientHello at the beginning of a connection; it may be spread over several TLS records.
 * 'more': not complete yet; 'invalid': it never will be one. Never throws.
 */
export function parseClientHello(bytes: Uint8Array): ClientHello | 'more' | 'invalid' {
  const message = joinRecords(bytes);
  if (typeof message === 'string') return message;
  const reader = new Reader(message);
  const legacyVersion = reader.uint(2);
  reader.skip(32);
  reader.skip(reader.uint(1));
  const suites = reader.uint(2);
  if (suites === 0 || suites % 2 !== 0) return 'invalid';
  reader.skip(suites);
  const compressions = reader.uint(1);
  if (compressions === 0) return 'invalid';
  reader.skip(compressions);
  if (reader.failed) return 'invalid';
  const hello: ClientHello = { alpn: [], versions: [] };
  if (reader.left > 0) {
    const extensions = reader.sub(reader.uint(2));
    if (reader.failed || reader.left > 0 || !readExtensions(extensions, hello)) return 'invalid';
  }
  if (hello.versions.length === 0) hello.versions.push(legacyVersion);
  return hello;
}

function joinRecords(bytes: Uint8Array): Uint8Array | 'more' | 'invalid' {
  const parts: Uint8Array[] = [];
  let have = 0;
  let at = 0;
  let firstBytes = '';
  for (;;) {
    const left = bytes.length - at;
    if (left > 0 && bytes[at] !== 0x16) return 'invalid';
    if (left > 1 && bytes[at + 1] !== 3) return 'invalid';
    if (left < 5) return 'more';
    const size = bytes[at + 3] * 256 + bytes[at + 4];
    if (size === 0 || size > MAX_RECORD_BYTES) return 'invalid';
    const part = bytes.subarray(at + 5, Math.min(at + 5 + size, bytes.length));
    parts.push(part);
    have += part.length;
    for (let i = 0; i < part.length && firstBytes.length < 4; i++) firstBytes += String.fromCharCode(part[i]);
    if (firstBytes.length > 0 && firstBytes.charCodeAt(0) !== 1) return 'invalid';
    if (firstBytes.length === 4) {
      const length = firstBytes.charCodeAt(1) * 65_536 + firstBytes.charCodeAt(2) * 256 + firstBytes.charCodeAt(3);
      if (length > MAX_HELLO_BYTES) return 'invalid';
      if (have >= 4 + length) {
        // TLS 1.3 lets nothing follow a ClientHello in its record, but 0-RTT has records of its own.
        return have === 4 + length ? Buffer.concat(parts).subarray(4) : 'invalid';
      }
    }
    if (part.length < size) return 'more';
    at += 5 + size;
  }
}

function readExtensions(reader: Reader, hello: ClientHello): boolean {
  const seen = new Set<number>();
  while (reader.left > 0 && !reader.failed) {
    const type = reader.uint(2);
    const body = reader.sub(reader.uint(2));
    if (reader.failed || seen.has(type)) return false;
    seen.add(type);
    if (type === 0 && !readServerName(body, hello)) return false;
    if (type === 16 && !readAlpn(body, hello)) return false;
    if (type === 43 && !readVersions(body, hello)) return false;
  }
  return !reader.failed;
}

function readServerName(body: Reader, hello: ClientHello): boolean {
  const list = body.sub(body.uint(2));
  while (list.left > 0 && !list.failed) {
    const type = list.uint(1);
    const name = list.text(list.uint(2));
    if (list.failed) return false;
    if (type !== 0) continue;
    // One name only, and nothing in it that a log line or a host match could trip over.
    if (hello.sni !== undefined || name.length === 0 || name.length > 255) return false;
    for (let i = 0; i < name.length; i++) if (name.charCodeAt(i) <= 32 || name.charCodeAt(i) >= 127) return false;
    hello.sni = name.toLowerCase();
  }
  return !body.failed && body.left === 0 && !list.failed;
}

function readAlpn(body: Reader, hello: ClientHello): boolean {
  const list = body.sub(body.uint(2));
  while (list.left > 0 && !list.failed) {
    const name = list.text(list.uint(1));
    if (name.length === 0) return false;
    hello.alpn.push(name);
  }
  return !body.failed && body.left === 0 && !list.failed;
}

function readVersions(body: Reader, hello: ClientHello): boolean {
  const list = body.sub(body.uint(1));
  while (list.left > 0 && !list.failed) {
    const version = list.uint(2);
    // GREASE (RFC 8701): both bytes equal, low nibble 0xa.
    if ((version & 0x0f0f) !== 0x0a0a) hello.versions.push(version);
  }
  return !body.failed && body.left === 0 && !list.failed;
}

/** Bounds are checked here once: reading past the end gives zeros and sets `failed`. */
class Reader {
  failed = false;
  private at = 0;
  private readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  uint(size: number): number {
    if (!this.has(size)) return 0;
    let value = 0;
    for (let i = 0; i < size; i++) value = value * 256 + this.bytes[this.at++];
    return value;
  }

  skip(size: number): void {
    if (this.has(size)) this.at += size;
  }

  sub(size: number): Reader {
    if (!this.has(size)) {
      const empty = new Reader(new Uint8Array(0));
      empty.failed = true;
      return empty;
    }
    this.at += size;
    return new Reader(this.bytes.subarray(this.at - size, this.at));
  }

  text(size: number): string {
    if (!this.has(size)) return '';
    let text = '';
    for (let i = 0; i < size; i++) text += String.fromCharCode(this.bytes[this.at++]);
    return text;
  }

  private has(size: number): boolean {
    if (size > this.left) this.failed = true;
    return !this.failed;
  }
}
