/** The static table of HPACK (RFC 7541 appendix A), and what a field's name means to HTTP/2. */

import { sharedText } from '../latin1.ts';

const rows =
  ':authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204|' +
  ':status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate|' +
  'accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|' +
  'content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|' +
  'cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|' +
  'last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|' +
  'server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate';

/** Entries by index; index 0 is not used. */
export const staticNames: string[] = [''];
export const staticValues: string[] = [''];
for (const row of rows.split('|')) {
  const at = row.indexOf('=');
  staticNames.push(sharedText(at < 0 ? row : row.slice(0, at)));
  staticValues.push(at < 0 ? '' : sharedText(row.slice(at + 1)));
}
export const staticCount = 61;

/** What a field is to the head checks (heads.ts). Kinds 1..6 are the pseudo-headers. */
export const kind = Object.freeze({
  plain: 0,
  method: 1,
  scheme: 2,
  authority: 3,
  path: 4,
  protocol: 5,
  status: 6,
  lastPseudo: 6,
  /** Connection-specific: makes the message malformed (RFC 9113 8.2.2). */
  forbidden: 7,
  te: 8,
  host: 9,
  cookie: 10,
  contentLength: 11,
  /** Name or value with bytes that may not be there, or an unknown pseudo-header. */
  bad: 12,
});

export function isPseudo(what: number): boolean {
  return what !== kind.plain && what <= kind.lastPseudo;
}

const kinds = new Map<string, number>([
  [':method', kind.method],
  [':scheme', kind.scheme],
  [':authority', kind.authority],
  [':path', kind.path],
  [':protocol', kind.protocol],
  [':status', kind.status],
  ['connection', kind.forbidden],
  ['keep-alive', kind.forbidden],
  ['proxy-connection', kind.forbidden],
  ['transfer-encoding', kind.forbidden],
  ['upgrade', kind.forbidden],
  ['te', kind.te],
  ['host', kind.host],
  ['cookie', kind.cookie],
  ['content-length', kind.contentLength],
]);

/** Bytes of a field name: token characters without upper case (RFC 9110 5.1, RFC 9113 8.2.1). */
const nameBytes = new Uint8Array(256);
for (const c of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") nameBytes[c.charCodeAt(0)] = 1;

/** The kind of a name; `kind.bad` when it is no valid lower-case name. */
export function kindOfName(name: string): number {
  const known = kinds.get(name);
  if (known !== undefined) return known;
  if (name.length === 0) return kind.bad;
  for (let i = 0; i < name.length; i++) if (nameBytes[name.charCodeAt(i) & 0xff] === 0) return kind.bad;
  return kind.plain;
}

export const staticKinds = new Uint8Array(staticCount + 1);
for (let i = 1; i <= staticCount; i++) staticKinds[i] = kindOfName(staticNames[i]);

/** What the bytes of a value are. */
export const valueKinds = Object.freeze({
  /** No field value: a control character that is no tab, or a blank at either end (RFC 9113 8.2.1, RFC 9110 5.5). */
  bad: 0,
  /** There are blanks or tabs in it. */
  blanks: 1,
  /** Visible characters alone: a blank would end a request's target in HTTP/1. */
  visible: 2,
});

export function valueKind(bytes: Uint8Array, start: number, end: number): number {
  let found: number = valueKinds.visible;
  for (let i = start; i < end; i++) {
    const byte = bytes[i];
    if (byte > 32 && byte !== 127) continue;
    if ((byte !== 32 && byte !== 9) || i === start || i === end - 1) return valueKinds.bad;
    found = valueKinds.blanks;
  }
  return found;
}
