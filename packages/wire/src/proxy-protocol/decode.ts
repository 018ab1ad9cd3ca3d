/**
 * The PROXY protocol (haproxy.org, "The PROXY protocol", versions 1 and 2): a header before the first byte of a connection
 * in which a balancer says who its client is. Read without I/O and without trust: a header that is not exactly right is
 * 'bad', since one that is read in two ways lets a client choose its own address.
 */

/** Both ends of the connection as the balancer saw it. Addresses without brackets, IPv6 in full groups. */
export interface ProxyAddresses {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

export interface ProxyHeader {
  /** Bytes that the header takes; the rest is the connection's own. */
  readonly size: number;
  readonly version: 1 | 2;
  /** Undefined: the balancer's own connection (LOCAL, as in its health checks), or a kind of address that is not TCP. */
  readonly addresses: ProxyAddresses | undefined;
}

const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
/** Of version 1, CRLF included. */
const V1_BYTES = 107;
/** What follows the 16 fixed bytes of version 2: addresses and TLVs. The specification allows 65,535. */
const V2_BYTES = 4096;

/** The most bytes that a header may take; with as many there is an answer other than 'more'. */
export const PROXY_HEADER_BYTES = 16 + V2_BYTES;

/** `bytes`: all of a connection so far. 'more': cannot be judged yet. 'bad': no header, or not a correct one. */
export function readProxyHeader(bytes: Buffer): ProxyHeader | 'more' | 'bad' {
  if (bytes.length === 0) return 'more';
  if (bytes[0] === SIGNATURE[0]) return readV2(bytes);
  return readV1(bytes);
}

function readV1(bytes: Buffer): ProxyHeader | 'more' | 'bad' {
  const prefix = 'PROXY ';
  const start = bytes.toString('latin1', 0, Math.min(bytes.length, prefix.length));
  if (!prefix.startsWith(start)) return 'bad';
  const end = bytes.subarray(0, V1_BYTES).indexOf('\r\n', 0, 'latin1');
  if (end < 0) return bytes.length >= V1_BYTES ? 'bad' : 'more';
  const line = bytes.toString('latin1', 0, end);
  const size = end + 2;
  // Whatever else stands on the line of an unknown protocol is to be skipped.
  if (line === 'PROXY UNKNOWN' || line.startsWith('PROXY UNKNOWN ')) return { size, version: 1, addresses: undefined };
  const parts = line.split(' ');
  if (parts.length !== 6) return 'bad';
  const [, family, source, destination, from, to] = parts;
  const valid = family === 'TCP4' ? isV4 : family === 'TCP6' ? isV6 : undefined;
  if (!valid?.(source) || !valid(destination) || !isPortText(from) || !isPortText(to)) return 'bad';
  const addresses = { source, sourcePort: Number(from), destination, destinationPort: Number(to) };
  return { size, version: 1, addresses };
}

function readV2(bytes: Buffer): ProxyHeader | 'more' | 'bad' {
  const given = Math.min(bytes.length, SIGNATURE.length);
  if (SIGNATURE.compare(bytes, 0, given, 0, given) !== 0) return 'bad';
  if (bytes.length < 16) return 'more';
  const version = bytes[12] >> 4;
  const command = bytes[12] & 15;
  const family = bytes[13] >> 4;
  const transport = bytes[13] & 15;
  const length = bytes.readUInt16BE(14);
  if (version !== 2 || command > 1 || family > 3 || transport > 2 || length > V2_BYTES) return 'bad';
  const size = 16 + length;
  if (bytes.length < size) return 'more';
  const tcp = transport === 1 && (family === 1 || family === 2);
  const addressBytes = family === 1 ? 12 : family === 2 ? 36 : family === 3 ? 216 : 0;
  // LOCAL: the receiver must take the connection as it is and skip what follows, whatever its family says.
  if (command === 0) return { size, version: 2, addresses: undefined };
  if (length < addressBytes) return 'bad';
  // Nothing is said of what follows an unspecified family.
  if (family !== 0 && !areTlvs(bytes.subarray(16 + addressBytes, size))) return 'bad';
  if (!tcp) return { size, version: 2, addresses: undefined };
  const each = family === 1 ? 4 : 16;
  const text = family === 1 ? v4Text : v6Text;
  const ports = 16 + 2 * each;
  const addresses = {
    source: text(bytes, 16),
    sourcePort: bytes.readUInt16BE(ports),
    destination: text(bytes, 16 + each),
    destinationPort: bytes.readUInt16BE(ports + 2),
  };
  return { size, version: 2, addresses };
}

/** Type, length of two bytes, value: to the last byte. */
function areTlvs(bytes: Buffer): boolean {
  let at = 0;
  while (at < bytes.length) {
    if (at + 3 > bytes.length) return false;
    at += 3 + bytes.readUInt16BE(at + 1);
  }
  return at === bytes.length;
}

function v4Text(bytes: Buffer, at: number): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
}

function v6Text(bytes: Buffer, at: number): string {
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(bytes.readUInt16BE(at + i).toString(16));
  const text = groups.join(':');
  // A dual-stack balancer's view of IPv4.
  return text.startsWith('0:0:0:0:0:ffff:') ? v4Text(bytes, at + 12) : text;
}

function isPortText(text: string): boolean {
  return /^(0|[1-9][0-9]{0,4})$/.test(text) && Number(text) <= 65_535;
}

function isV4(text: string): boolean {
  const parts = text.split('.');
  return parts.length === 4 && parts.every((p) => /^(0|[1-9][0-9]{0,2})$/.test(p) && Number(p) <= 255);
}

function isV6(text: string): boolean {
  const halves = text.split('::');
  if (halves.length > 2) return false;
  let groups = 0;
  for (let h = 0; h < halves.length; h++) {
    if (halves[h] === '') continue;
    const parts = halves[h].split(':');
    for (let i = 0; i < parts.length; i++) {
      if (h === halves.length - 1 && i === parts.length - 1 && isV4(parts[i])) groups += 2;
      else if (/^[0-9a-fA-F]{1,4}$/.test(parts[i])) groups++;
      else return false;
    }
  }
  return halves.length === 2 ? groups < 8 : groups === 8;
}
