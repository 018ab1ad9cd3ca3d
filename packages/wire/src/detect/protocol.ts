/** What the first bytes of a connection are. 'more': not decidable yet; 'tcp': none of the protocols we read. */
export type Detected = 'tls' | 'http1' | 'http2' | 'tcp' | 'more';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const MAX_METHOD_BYTES = 32;
/** Longer first lines are HTTP when they begin so: the codec answers them with 414. */
const MAX_LINE_BYTES = 8 * 1024;
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH']);

/**
 * Names the protocol by its first bytes (all bytes so far, not only the last read). The caller bounds the wait for more
 * (10 s by default) and treats silence as a protocol where the server speaks first.
 * A standard method with a plausible target is HTTP/1 whatever follows, so that a malformed request is refused by the
 * codec rather than passed as opaque TCP around HTTP policies; other methods need `HTTP/1.` at the end of the line.
 */
export function detectProtocol(bytes: Uint8Array): Detected {
  if (bytes.length === 0) return 'more';
  if (bytes[0] === 0x16) {
    if (bytes.length < 3) return bytes.length === 2 && bytes[1] !== 3 ? 'tcp' : 'more';
    return bytes[1] === 3 && bytes[2] <= 4 ? 'tls' : 'tcp';
  }
  const preface = Math.min(bytes.length, PREFACE.length);
  let same = 0;
  while (same < preface && bytes[same] === PREFACE.charCodeAt(same)) same++;
  if (same === PREFACE.length) return 'http2';
  if (same === bytes.length) return 'more';
  return detectHttp1(bytes);
}

function detectHttp1(bytes: Uint8Array): Detected {
  let at = 0;
  // RFC 9112 2.2: an empty line may come before a request line.
  if (bytes[0] === 13) {
    if (bytes.length < 3) return bytes.length === 2 && bytes[1] !== 10 ? 'tcp' : 'more';
    if (bytes[1] !== 10) return 'tcp';
    at = 2;
  }
  const start = at;
  while (at < bytes.length && at - start <= MAX_METHOD_BYTES && isMethodByte(bytes[at])) at++;
  if (at - start > MAX_METHOD_BYTES) return 'tcp';
  if (at === bytes.length) return 'more';
  if (at === start || bytes[at] !== 32) return 'tcp';
  let method = '';
  for (let i = start; i < at; i++) method += String.fromCharCode(bytes[i]);
  const target = at + 1;
  if (METHODS.has(method)) {
    const seen = plausibleTarget(method, bytes, target);
    if (seen !== 'tcp') return seen;
  }
  for (at = target; at < bytes.length && at < MAX_LINE_BYTES; at++) {
    if (bytes[at] === 10) return endsWithVersion(bytes, target, at) ? 'http1' : 'tcp';
    // Visible bytes and obs-text only: a binary protocol shows itself soon.
    if (bytes[at] < 32 && bytes[at] !== 13) return 'tcp';
  }
  return at < MAX_LINE_BYTES ? 'more' : 'tcp';
}

/** Letters, digits and '-', which is all that registered methods use. */
function isMethodByte(code: number): boolean {
  return (
    (code >= 65 && code <= 90) ||
    (code >= 97 && code <= 122) ||
    (code >= 48 && code <= 57) ||
    code === 45 ||
    code === 95
  );
}

function plausibleTarget(method: string, bytes: Uint8Array, at: number): 'http1' | 'more' | 'tcp' {
  if (at === bytes.length) return 'more';
  const first = bytes[at];
  if (first === 47) return 'http1';
  if (first === 42) return method === 'OPTIONS' ? 'http1' : 'tcp';
  if (method === 'CONNECT') return first > 32 && first < 127 ? 'http1' : 'tcp';
  for (const scheme of ['http://', 'https://']) {
    let i = 0;
    while (i < scheme.length && at + i < bytes.length && (bytes[at + i] | 32) === (scheme.charCodeAt(i) | 32)) i++;
    if (i === scheme.length) return 'http1';
    if (at + i === bytes.length) return 'more';
  }
  return 'tcp';
}

function endsWithVersion(bytes: Uint8Array, from: number, lf: number): boolean {
  const end = bytes[lf - 1] === 13 ? lf - 1 : lf;
  const version = ' HTTP/1.';
  const at = end - version.length - 1;
  if (at < from) return false;
  for (let i = 0; i < version.length; i++) if (bytes[at + i] !== version.charCodeAt(i)) return false;
  return true;
}
