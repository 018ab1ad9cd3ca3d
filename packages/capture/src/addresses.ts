/** Names and address ranges derived from a mesh's name, so that the same mesh gets the same ones again. */

import { createHash } from 'node:crypto';
import { canonicalIp, WeftError } from '@weft/base';

/** A 32-bit number that depends on nothing but the text. */
export function stableHash(text: string): number {
  return createHash('sha256').update(text).digest().readUInt32BE(0);
}

/** Four hex digits: what fits into an interface name of 15 characters beside a prefix and a counter. */
export function shortHash(text: string): string {
  return (stableHash(text) & 0xffff).toString(16).padStart(4, '0');
}

/** Mesh names are DNS labels: they become parts of namespace names, paths and URLs. */
export function assertMeshName(mesh: string): void {
  if (!/^[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?$/.test(mesh)) {
    throw new WeftError(
      'mesh-name',
      `mesh name "${mesh}" is not usable: use 1 to 30 lower-case letters, digits and "-", starting and ending with a letter or digit`,
    );
  }
}

/** Dotted quad to number; undefined where it is not one. */
export function parseIpv4(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const p of parts) {
    if (!/^\d{1,3}$/.test(p) || Number(p) > 255) return undefined;
    value = value * 256 + Number(p);
  }
  return value;
}

/** `10.1.0.0/16` (or a single address) as first and last number; undefined where it is not IPv4. */
export function parseCidr(text: string): { first: number; last: number } | undefined {
  const [address, bits] = text.split('/');
  const base = parseIpv4(address ?? '');
  if (base === undefined) return undefined;
  const prefix = bits === undefined ? 32 : Number(bits);
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > 32) return undefined;
  const size = 2 ** (32 - prefix);
  const first = Math.floor(base / size) * size;
  return { first, last: first + size - 1 };
}

/**
 * The second octet of a free 10.h.0.0/16, starting at one that depends on the mesh's name.
 * `taken` are the ranges already routed on this machine, and single addresses (name servers) that must stay reachable.
 */
export function chooseSubnet(mesh: string, taken: readonly string[]): number {
  const ranges = taken.map(parseCidr).filter((r) => r !== undefined);
  const start = stableHash(`subnet ${mesh}`) % 256;
  for (let i = 0; i < 256; i++) {
    const h = (start + i) % 256;
    const mine = parseCidr(`10.${h}.0.0/16`)!;
    if (!ranges.some((r) => r.first <= mine.last && mine.first <= r.last)) return h;
  }
  throw new WeftError('no-subnet', 'every 10.x.0.0/16 is routed on this machine already: run with --capture explicit');
}

/** The first 64 bits of the mesh's IPv6 range, of those that are nobody's but one's own (RFC 4193). Ends in a colon. */
export function uniqueLocalPrefix(mesh: string): string {
  const hash = createHash('sha256').update(`prefix6 ${mesh}`).digest('hex');
  return canonicalIp(`fd${hash.slice(0, 2)}:${hash.slice(2, 6)}:${hash.slice(6, 10)}:1::`).replace(/::$/, ':');
}
