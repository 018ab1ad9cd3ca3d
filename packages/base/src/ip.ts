/** IP addresses and CIDR blocks as numbers. */

export interface Ip {
  readonly family: 4 | 6;
  /** 32-bit words, unsigned; IPv4 uses the last only. */
  readonly words: readonly [number, number, number, number];
}

export interface IpBlock extends Ip {
  /** Prefix length inside the family. */
  readonly bits: number;
}

function parseV4(text: string): number | undefined {
  let value = 0;
  let parts = 0;
  let digits = 0;
  let part = 0;
  for (let i = 0; i <= text.length; i++) {
    const c = i < text.length ? text.charCodeAt(i) : 0x2e;
    if (c === 0x2e) {
      if (digits === 0 || part > 255 || ++parts > 4) return undefined;
      value = value * 256 + part;
      part = 0;
      digits = 0;
    } else if (c >= 0x30 && c <= 0x39 && digits < 3 && !(digits > 0 && part === 0)) {
      part = part * 10 + (c - 0x30);
      digits++;
    } else return undefined;
  }
  return parts === 4 ? value : undefined;
}

function parseGroups(text: string): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i];
    if (i === parts.length - 1 && part.includes('.')) {
      const v4 = parseV4(part);
      if (v4 === undefined) return undefined;
      groups.push(v4 >>> 16, v4 & 0xffff);
    } else {
      if (!/^[0-9a-f]{1,4}$/i.test(part)) return undefined;
      groups.push(Number.parseInt(part, 16));
    }
  }
  return groups;
}

/**
 * Reads `10.0.0.1`, `2001:db8::1`, `[::1]` or `fe80::1%eth0` (the zone is dropped). An IPv4 address mapped into IPv6 is
 * the IPv4 address, since a dual-stack socket shows it so. Undefined for anything else.
 */
export function parseIp(raw: string): Ip | undefined {
  let text = raw;
  if (!text.includes(':')) {
    const v4 = parseV4(text);
    return v4 === undefined ? undefined : { family: 4, words: [0, 0, 0, v4] };
  }
  if (text.length > 80) return undefined;
  if (text.startsWith('[') && text.endsWith(']')) text = text.slice(1, -1);
  const zone = text.indexOf('%');
  if (zone >= 0) text = text.slice(0, zone);
  const gap = text.indexOf('::');
  let groups: number[] | undefined;
  if (gap >= 0) {
    if (text.indexOf('::', gap + 1) >= 0) return undefined;
    const left = parseGroups(text.slice(0, gap));
    const right = parseGroups(text.slice(gap + 2));
    if (!left || !right || left.length + right.length > 7 || text.slice(0, gap).includes('.')) return undefined;
    groups = [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
  } else {
    groups = parseGroups(text);
  }
  if (groups?.length !== 8) return undefined;
  const word = (i: number): number => ((groups[i] << 16) | groups[i + 1]) >>> 0;
  const words: [number, number, number, number] = [word(0), word(2), word(4), word(6)];
  if (words[0] === 0 && words[1] === 0 && words[2] === 0xffff) return { family: 4, words: [0, 0, 0, words[3]] };
  return { family: 6, words };
}

/** Reads an address or `address/bits`. Undefined for anything else. */
export function parseIpBlock(text: string): IpBlock | undefined {
  const slash = text.indexOf('/');
  const ip = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (!ip) return undefined;
  const whole = ip.family === 4 ? 32 : 128;
  if (slash < 0) return { ...ip, bits: whole };
  const digits = text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(digits)) return undefined;
  let bits = Number(digits);
  // ::ffff:10.0.0.0/104 is 10.0.0.0/8.
  if (ip.family === 4 && text.slice(0, slash).includes(':')) bits -= 96;
  return bits < 0 || bits > whole ? undefined : { ...ip, bits };
}

/** Whether an address lies in a block of its own family. */
export function inBlock(ip: Ip, block: IpBlock): boolean {
  if (ip.family !== block.family) return false;
  let bits = block.bits;
  for (let i = ip.family === 4 ? 3 : 0; i < 4 && bits > 0; i++) {
    const mask = bits >= 32 ? 0xffffffff : (0xffffffff << (32 - bits)) >>> 0;
    if ((ip.words[i] & mask) >>> 0 !== (block.words[i] & mask) >>> 0) return false;
    bits -= 32;
  }
  return true;
}

/**
 * The one way to write an address (RFC 5952), so that two texts of the same address are equal. What is no address comes
 * back as it is.
 */
export function canonicalIp(text: string): string {
  if (!text.includes(':')) return text;
  const ip = parseIp(text);
  return ip ? formatIp(ip) : text;
}

/** Dotted quad, or IPv6 by RFC 5952: lower case, no leading zeros, the first of the longest runs of zeros as `::`. */
export function formatIp(ip: Ip): string {
  const [a, b, c, d] = ip.words;
  if (ip.family === 4) return `${d >>> 24}.${(d >>> 16) & 255}.${(d >>> 8) & 255}.${d & 255}`;
  const groups = [a, b, c, d].flatMap((word) => [word >>> 16, word & 0xffff]);
  let start = -1;
  let longest = 1;
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && groups[i + n] === 0) n++;
    if (n > longest) {
      start = i;
      longest = n;
    }
    i += n;
  }
  const hex = (part: number[]): string => part.map((g) => g.toString(16)).join(':');
  return start < 0 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + longest))}`;
}

/** `address:port` as people write it: an IPv6 address in brackets. */
export function hostPort(host: string, port: number): string {
  return host.includes(':') && host.charCodeAt(0) !== 0x5b ? `[${host}]:${port}` : `${host}:${port}`;
}
