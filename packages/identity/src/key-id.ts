/** Names of keys. */
import { createHash, type KeyObject } from 'node:crypto';

/** Names the key that signed a certificate: SHA-256 of its public key's SPKI, in hexadecimal. Names of CAs repeat, keys do not. */
export function keyIdOf(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex');
}

/** Names a root as the one above a CA of somebody else's, whatever key of that CA signs. */
export function rootIdOf(key: KeyObject): string {
  return `root:${keyIdOf(key)}`;
}
