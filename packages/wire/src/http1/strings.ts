/**
 * Strings of bytes that come again and again, without making them again: names and values of fields. What two requests
 * have in common is the same string then, which is also found faster by whoever looks it up. Tables of fixed size, one
 * place per hash: an attacker can make them miss, never make them grow or be wrong.
 */
import { latin1, sharedText } from '../latin1.ts';
import { NAME_BYTES } from './chars.ts';

export interface FieldName {
  /** In lower case. */
  readonly text: string;
  /** The codec reads it itself. */
  readonly special: boolean;
  /** Its values are not kept. */
  readonly secret: boolean;
}

const NAMES = 512;
const VALUES = 2048;
/** Longer values are rarely the same. */
const LONGEST_VALUE = 64;

const SPECIAL = new Set(
  'host content-length transfer-encoding connection upgrade te keep-alive proxy-connection expect'.split(' '),
);
/** Names whose values are not kept. */
export const SECRET: ReadonlySet<string> = new Set(
  'authorization proxy-authorization cookie set-cookie x-api-key x-auth-token x-csrf-token x-amz-security-token'.split(
    ' ',
  ),
);

const names: (FieldName | undefined)[] = new Array(NAMES).fill(undefined);
const values: string[] = new Array(VALUES).fill('');

/** The name in `bytes[start..end]`, which are token characters; `hash` is over their lower-case form. */
export function nameOf(bytes: Buffer, start: number, end: number, hash: number): FieldName {
  const place = (hash ^ (hash >>> 15)) & (NAMES - 1);
  const known = names[place];
  if (known !== undefined && known.text.length === end - start) {
    const { text } = known;
    let i = 0;
    while (i < text.length && NAME_BYTES[bytes[start + i]] === text.charCodeAt(i)) i++;
    if (i === text.length) return known;
  }
  const text = sharedText(latin1(bytes, start, end).toLowerCase());
  const name: FieldName = { text, special: SPECIAL.has(text), secret: SECRET.has(text) };
  if (text.length <= LONGEST_VALUE) names[place] = name;
  return name;
}

/** The latin1 string of `bytes[start..end]`; `hash` is over the bytes. */
export function textOf(bytes: Buffer, start: number, end: number, hash: number): string {
  const length = end - start;
  if (length > LONGEST_VALUE) return latin1(bytes, start, end);
  const place = (hash ^ (hash >>> 15)) & (VALUES - 1);
  const known = values[place];
  if (known.length === length) {
    let i = 0;
    while (i < length && bytes[start + i] === known.charCodeAt(i)) i++;
    if (i === length) return known;
  }
  return (values[place] = latin1(bytes, start, end));
}

const statuses: string[] = Array.from({ length: 1000 }, (_, i) => String(i));

/** Three digits as text; from 100 to 999. */
export function statusText(status: number): string {
  return statuses[status];
}
