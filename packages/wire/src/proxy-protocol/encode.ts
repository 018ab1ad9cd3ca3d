import type { ProxyAddresses } from './decode.ts';

/**
 * The header of a connection that is made for a client, to be sent before anything else. Undefined addresses, or ones of
 * two families: version 1 says UNKNOWN, version 2 an unspecified family.
 */
export function proxyHeader(version: 1 | 2, addresses: ProxyAddresses | undefined): Buffer {
  const source = addresses && binary(addresses.source);
  const destination = addresses && binary(addresses.destination);
  const known = addresses && source && destination && source.length === destination.length;
  if (version === 1) {
    if (!known) return Buffer.from('PROXY UNKNOWN\r\n', 'latin1');
    const { sourcePort, destinationPort } = addresses;
    const family = source.length === 4 ? 'TCP4' : 'TCP6';
    const ends = `${addresses.source} ${addresses.destination} ${sourcePort} ${destinationPort}`;
    return Buffer.from(`PROXY ${family} ${ends}\r\n`, 'latin1');
  }
  const size = known ? 2 * source.length + 4 : 0;
  const out = Buffer.alloc(16 + size);
  out.write('\r\n\r\n\0\r\nQUIT\n', 'latin1');
  out[12] = 0x21;
  out[13] = !known ? 0 : source.length === 4 ? 0x11 : 0x21;
  out.writeUInt16BE(size, 14);
  if (known) {
    out.set(source, 16);
    out.set(destination, 16 + source.length);
    out.writeUInt16BE(addresses.sourcePort, 16 + 2 * source.length);
    out.writeUInt16BE(addresses.destinationPort, 18 + 2 * source.length);
  }
  return out;
}

/** 4 or 16 bytes of an address in text form; undefined where it is none. */
function binary(text: string): Uint8Array | undefined {
  if (!text.includes(':')) return v4(text);
  const [left, right, more] = text.split('::');
  if (more !== undefined) return undefined;
  const head = left === '' ? [] : groups(left);
  const tail = right === undefined || right === '' ? [] : groups(right);
  if (!head || !tail) return undefined;
  const missing = 8 - head.length - tail.length;
  if (right === undefined ? missing !== 0 : missing < 1) return undefined;
  const all = [...head, ...new Array<number>(missing).fill(0), ...tail];
  return Uint8Array.from(all.flatMap((g) => [g >> 8, g & 255]));
}

function v4(text: string): Uint8Array | undefined {
  const parts = text.split('.').map((p) => (/^[0-9]{1,3}$/.test(p) ? Number(p) : 256));
  return parts.length === 4 && parts.every((p) => p <= 255) ? Uint8Array.from(parts) : undefined;
}

function groups(text: string): number[] | undefined {
  const out: number[] = [];
  const parts = text.split(':');
  for (let i = 0; i < parts.length; i++) {
    const embedded = i === parts.length - 1 && parts[i].includes('.') ? v4(parts[i]) : undefined;
    if (embedded) out.push((embedded[0] << 8) | embedded[1], (embedded[2] << 8) | embedded[3]);
    else if (/^[0-9a-fA-F]{1,4}$/.test(parts[i])) out.push(Number.parseInt(parts[i], 16));
    else return undefined;
  }
  return out;
}
