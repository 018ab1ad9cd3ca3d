import { WeftError } from '@weft/base';

/** Record types that the resolver answers or names (RFC 1035, 3596, 2782). */
export const DnsType = Object.freeze({
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  ANY: 255,
});
export const DnsRcode = Object.freeze({
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
});

export interface DnsQuery {
  id: number;
  opcode: number;
  recursionDesired: boolean;
  checkingDisabled: boolean;
  /** Lower case, without the last dot; '' is the root. Dots and unprintable bytes inside a label are escaped (`\.`, `\ddd`). */
  name: string;
  type: number;
  class: number;
  /** The question as it came: answers repeat it byte for byte, since clients compare its letter case (0x20). */
  question: Uint8Array;
  /** Present when the query had an OPT record. */
  edns?: { udpBytes: number; version: number; dnssecOk: boolean };
}

export type DnsAnswer =
  | { name: string; type: 1 | 28; ttl: number; data: string } // an address
  | { name: string; type: 5 | 12 | 2; ttl: number; data: string } // a name
  | { name: string; type: 33; ttl: number; data: { priority: number; weight: number; port: number; target: string } }
  | { name: string; type: number; ttl: number; data: Uint8Array }; // anything else, as bytes

export interface DnsResponse {
  rcode: number;
  answers: readonly DnsAnswer[];
  authoritative?: boolean;
}

const HEADER_BYTES = 12;
const PLAIN_UDP_BYTES = 512;
const MAX_UDP_BYTES = 4096;
const MAX_TCP_BYTES = 65_535;

/** Reads a query with one question. 'invalid': not a query that can be answered (drop it). Never throws. */
export function parseQuery(bytes: Uint8Array): DnsQuery | 'invalid' {
  if (bytes.length < HEADER_BYTES + 5) return 'invalid';
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint16(2);
  if ((flags & 0x8000) !== 0 || view.getUint16(4) !== 1) return 'invalid';
  let at = HEADER_BYTES;
  let name = '';
  for (;;) {
    if (at >= bytes.length) return 'invalid';
    const size = bytes[at++];
    if (size === 0) break;
    // No compression: in a question there is nothing to point to.
    if (size > 63 || at + size >= bytes.length || at + size - HEADER_BYTES > 254) return 'invalid';
    name += (name === '' ? '' : '.') + labelText(bytes.subarray(at, at + size));
    at += size;
  }
  if (at + 4 > bytes.length) return 'invalid';
  const query: DnsQuery = {
    id: view.getUint16(0),
    opcode: (flags >> 11) & 15,
    recursionDesired: (flags & 0x0100) !== 0,
    checkingDisabled: (flags & 0x0010) !== 0,
    name,
    type: view.getUint16(at),
    class: view.getUint16(at + 2),
    question: bytes.slice(HEADER_BYTES, at + 4),
  };
  at += 4;
  // Only a query's additional section is looked at, and only for OPT, whose name is the root.
  const records = view.getUint16(6) + view.getUint16(8) + view.getUint16(10);
  for (let i = 0; i < records && at + 11 <= bytes.length && bytes[at] === 0; i++) {
    const size = view.getUint16(at + 9);
    if (at + 11 + size > bytes.length) break;
    if (view.getUint16(at + 1) === DnsType.OPT) {
      query.edns = {
        udpBytes: Math.max(PLAIN_UDP_BYTES, view.getUint16(at + 3)),
        version: bytes[at + 6],
        dnssecOk: (bytes[at + 7] & 0x80) !== 0,
      };
      break;
    }
    at += 11 + size;
  }
  return query;
}

function labelText(label: Uint8Array): string {
  let text = '';
  for (const code of label) {
    if (code === 46 || code === 92) text += '\\' + String.fromCharCode(code);
    else if (code <= 32 || code >= 127) text += '\\' + String(code).padStart(3, '0');
    else text += String.fromCharCode(code >= 65 && code <= 90 ? code + 32 : code);
  }
  return text;
}

/**
 * Writes the response to `query`. Over UDP it stays within 512 bytes or what the client's EDNS allows (at most 4096): answers
 * that do not fit are left out and the truncation flag is set, so that the client asks again over TCP.
 * Throws WeftError `dns_record` for an answer that cannot be written (the caller's data, never the client's).
 */
export function encodeResponse(query: DnsQuery, response: DnsResponse, transport: 'udp' | 'tcp' = 'udp'): Buffer {
  const edns = query.edns;
  const limit = transport === 'tcp' ? MAX_TCP_BYTES : Math.min(edns?.udpBytes ?? PLAIN_UDP_BYTES, MAX_UDP_BYTES);
  const optBytes = edns === undefined ? 0 : 11;
  // EDNS versions above 0 do not exist; RFC 6891 6.1.3 wants BADVERS.
  const rcode = edns !== undefined && edns.version > 0 ? DnsRcode.BADVERS : response.rcode;
  const parts: Uint8Array[] = [];
  let size = HEADER_BYTES + query.question.length + optBytes;
  let count = 0;
  let truncated = false;
  for (const answer of rcode === DnsRcode.BADVERS ? [] : response.answers) {
    const record = encodeRecord(query, answer);
    if (size + record.length > limit) {
      truncated = true;
      break;
    }
    parts.push(record);
    size += record.length;
    count++;
  }
  const out = Buffer.alloc(size);
  let flags = 0x8000 | (query.opcode << 11) | 0x0080 | (rcode & 15);
  if (response.authoritative) flags |= 0x0400;
  if (truncated) flags |= 0x0200;
  if (query.recursionDesired) flags |= 0x0100;
  if (query.checkingDisabled) flags |= 0x0010;
  out.writeUInt16BE(query.id, 0);
  out.writeUInt16BE(flags, 2);
  out.writeUInt16BE(1, 4);
  out.writeUInt16BE(count, 6);
  out.writeUInt16BE(edns === undefined ? 0 : 1, 10);
  out.set(query.question, HEADER_BYTES);
  let at = HEADER_BYTES + query.question.length;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  if (edns !== undefined) {
    out.writeUInt16BE(DnsType.OPT, at + 1);
    out.writeUInt16BE(MAX_UDP_BYTES, at + 3);
    out[at + 5] = rcode >> 4;
    out[at + 7] = edns.dnssecOk ? 0x80 : 0;
  }
  return out;
}

function encodeRecord(query: DnsQuery, answer: DnsAnswer): Buffer {
  const data = encodeData(answer);
  const lower = answer.name.toLowerCase();
  // The name that was asked for is at offset 12.
  const same = lower === query.name || lower === query.name + '.';
  const name = same ? Buffer.from([0xc0, HEADER_BYTES]) : encodeName(answer.name);
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(answer.type, 0);
  fixed.writeUInt16BE(1, 2);
  fixed.writeUInt32BE(Math.min(Math.max(0, Math.floor(answer.ttl)), 0x7fffffff), 4);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([name, fixed, data]);
}

function encodeData(answer: DnsAnswer): Uint8Array {
  const data = answer.data;
  if (data instanceof Uint8Array) {
    if (data.length > 65_535) throw badRecord(answer, 'its data is longer than 65535 bytes');
    return data;
  }
  if (typeof data !== 'string') {
    const fixed = Buffer.alloc(6);
    fixed.writeUInt16BE(data.priority & 0xffff, 0);
    fixed.writeUInt16BE(data.weight & 0xffff, 2);
    fixed.writeUInt16BE(data.port & 0xffff, 4);
    return Buffer.concat([fixed, encodeName(data.target)]);
  }
  if (answer.type === DnsType.A) return encodeIpv4(data) ?? fail(answer);
  if (answer.type === DnsType.AAAA) return encodeIpv6(data) ?? fail(answer);
  return encodeName(data);
}

function fail(answer: DnsAnswer): never {
  throw badRecord(answer, `${String(answer.data)} is not an address of its type`);
}

function badRecord(answer: DnsAnswer, why: string): WeftError {
  return new WeftError('dns_record', `DNS answer ${answer.name} cannot be written: ${why}`);
}

/** Uncompressed wire form of a name; undoes the escapes of `DnsQuery.name`. Throws WeftError for labels over 63 bytes. */
export function encodeName(name: string): Buffer {
  const out: number[] = [];
  let label: number[] = [];
  const endLabel = () => {
    if (label.length === 0 || label.length > 63) {
      throw new WeftError('dns_record', `DNS name ${name} has an empty label or one over 63 bytes; correct the name`);
    }
    out.push(label.length, ...label);
    label = [];
  };
  const text = name.endsWith('.') && !name.endsWith('\\.') ? name.slice(0, -1) : name;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 92) {
      const digits = text.slice(i + 1, i + 4);
      if (digits.length === 3 && [...digits].every((d) => d >= '0' && d <= '9')) {
        label.push(Number(digits) & 255);
        i += 3;
      } else label.push(text.charCodeAt(++i) & 255);
    } else if (code === 46) endLabel();
    else label.push(code & 255);
  }
  if (text !== '') endLabel();
  if (out.length > 254)
    throw new WeftError('dns_record', `DNS name ${name} is longer than 255 bytes; shorten the name`);
  out.push(0);
  return Buffer.from(out);
}

function encodeIpv4(text: string): Buffer | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  const bytes = parts.map((part) => (/^(0|[1-9]\d{0,2})$/.test(part) ? Number(part) : 256));
  return bytes.some((byte) => byte > 255) ? undefined : Buffer.from(bytes);
}

function encodeIpv6(text: string): Buffer | undefined {
  let source = text;
  const lastColon = source.lastIndexOf(':');
  if (source.includes('.')) {
    const v4 = encodeIpv4(source.slice(lastColon + 1));
    if (v4 === undefined) return undefined;
    source = `${source.slice(0, lastColon + 1)}${v4.readUInt16BE(0).toString(16)}:${v4.readUInt16BE(2).toString(16)}`;
  }
  const halves = source.split('::');
  if (halves.length > 2) return undefined;
  const left = halves[0] === '' ? [] : halves[0].split(':');
  const right = halves.length === 1 || halves[1] === '' ? [] : halves[1].split(':');
  const missing = 8 - left.length - right.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...left, ...new Array<string>(missing).fill('0'), ...right];
  if (!groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return undefined;
  const out = Buffer.alloc(16);
  groups.forEach((group, i) => {
    out.writeUInt16BE(Number.parseInt(group, 16), i * 2);
  });
  return out;
}
