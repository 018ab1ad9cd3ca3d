import type { DnsAnswer } from '@weft/wire';

/** What the resolver needs of a DNS codec: `{ parseQuery, encodeResponse }` of `@weft/wire`. */

export interface DnsQuestion {
  /** As it stands in the message, labels joined by dots. */
  readonly name: string;
  /** Numbers of RFC 1035 and 3596: 1 A, 28 AAAA, ... */
  readonly type: number;
}

export interface DnsCodec<Q extends DnsQuestion = DnsQuestion> {
  /** Anything but an object: not a query with one question. Must not throw. */
  parseQuery(message: Uint8Array): Q | string | undefined;
  /** Over UDP an answer that is too long for the client is cut, with TC set. */
  encodeResponse(query: Q, response: { rcode: number; answers: DnsAnswer[] }, transport: 'udp' | 'tcp'): Uint8Array;
}

export const rcode = { ok: 0, format: 1, serverFailure: 2, noSuchName: 3, notImplemented: 4, refused: 5 } as const;

/** A header alone, for messages that cannot be read. Undefined for what is too short or is an answer itself. */
export function formatError(message: Uint8Array): Uint8Array | undefined {
  if (message.length < 12 || (message[2] & 0x80) !== 0) return undefined;
  const out = new Uint8Array(12);
  out[0] = message[0];
  out[1] = message[1];
  out[2] = 0x80 | (message[2] & 0x79);
  out[3] = rcode.format;
  return out;
}

/** The end of the first question of a message, or -1 where there is none or it is compressed or cut. */
export function questionEnd(message: Uint8Array): number {
  if (message.length < 17 || message[4] !== 0 || message[5] !== 1) return -1;
  let at = 12;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > 63) return -1;
    at += length + 1;
    if (length === 0) break;
  }
  return at + 4 <= message.length ? at + 4 : -1;
}

/** Whether `answer` is one to `query`: the id, the response bit, and the same question (RFC 5452 section 9.1). */
export function answers(query: Uint8Array, answer: Uint8Array): boolean {
  if (answer.length < 12 || (answer[2] & 0x80) === 0) return false;
  if (answer[0] !== query[0] || answer[1] !== query[1]) return false;
  const end = questionEnd(query);
  if (end < 0 || questionEnd(answer) !== end) return false;
  for (let i = 12; i < end; i++) if (lower(answer[i]) !== lower(query[i])) return false;
  return true;
}

function lower(byte: number): number {
  return byte >= 65 && byte <= 90 ? byte + 32 : byte;
}
