/** Character classes of RFC 9110/9112 as tables: one load per byte, no regular expression on the data path. */

function table(test: (code: number) => boolean): Uint8Array {
  const result = new Uint8Array(256);
  for (let code = 0; code < 256; code++) if (test(code)) result[code] = 1;
  return result;
}

const isAlnum = (c: number) => (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122);

/** tchar: method and field names. */
const TOKEN = table((c) => isAlnum(c) || "!#$%&'*+-.^_`|~".includes(String.fromCharCode(c)));
/** Field values: HTAB, SP, VCHAR and obs-text; every other control byte is refused, not only CR, LF and NUL. */
const VALUE = table((c) => c === 9 || (c >= 32 && c !== 127));
/** Request targets: VCHAR without '#', which is never sent (a fragment seen by authorization and lost when forwarded). */
const TARGET = table((c) => c > 32 && c < 127 && c !== 35);
/** uri-host and port: no userinfo ('@'), no path, no spaces. */
const HOST = table((c) => isAlnum(c) || "-._~%!$&'()*+,;=:[]".includes(String.fromCharCode(c)));

function all(text: string, allowed: Uint8Array): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 255 || allowed[code] === 0) return false;
  }
  return true;
}

/** A non-empty RFC 9110 token. */
export function isToken(text: string): boolean {
  return text.length > 0 && all(text, TOKEN);
}

/** A field value with nothing in it that could end a line or hide one. */
export function isFieldValue(text: string): boolean {
  return all(text, VALUE);
}

/** A request target that a serializer may write: visible ASCII without a fragment. */
export function isTarget(text: string): boolean {
  return text.length > 0 && all(text, TARGET);
}

/**
 * `host`, `host:port`, `[v6]` or `[v6]:port`. An empty host is accepted only with `allowEmpty` (RFC 9110 7.2 wants an empty
 * Host field where the target has no authority).
 */
export function isAuthority(text: string, allowEmpty: boolean): boolean {
  if (text.length === 0) return allowEmpty;
  if (!all(text, HOST)) return false;
  let rest: number;
  if (text.charCodeAt(0) === 91) {
    const close = text.indexOf(']');
    if (close < 3) return false;
    for (let i = 1; i < close; i++) {
      const c = text.charCodeAt(i);
      const hex = (c >= 48 && c <= 57) || (c >= 65 && c <= 70) || (c >= 97 && c <= 102);
      if (!hex && c !== 58 && c !== 46) return false;
    }
    rest = close + 1;
  } else {
    if (text.includes('[') || text.includes(']')) return false;
    const colon = text.indexOf(':');
    rest = colon === -1 ? text.length : colon;
    if (rest === 0) return false;
  }
  if (rest === text.length) return true;
  if (text.charCodeAt(rest) !== 58) return false;
  return rest + 1 === text.length || isPort(text.slice(rest + 1));
}

/** Decimal digits, 0 to 65535. */
export function isPort(text: string): boolean {
  if (text.length === 0 || text.length > 5) return false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 48 || c > 57) return false;
  }
  return Number(text) <= 65_535;
}

/** A number in digits alone, as Content-Length and statuses are, at most 15 of them (below 2^53). -1 when it is anything else. */
export function parseDigits(text: string): number {
  if (text.length === 0 || text.length > 15) return -1;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 48 || c > 57) return -1;
    value = value * 10 + (c - 48);
  }
  return value;
}

/** By byte: of a field name the lower-case letter, 0 where none may stand; of values and targets 1 where one may. */
export const NAME_BYTES: Uint8Array = TOKEN.map((allowed, code) =>
  allowed === 0 ? 0 : code >= 65 && code <= 90 ? code + 32 : code,
);
export const VALUE_BYTES: Uint8Array = VALUE;
export const TARGET_BYTES: Uint8Array = TARGET;
