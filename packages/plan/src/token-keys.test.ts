import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { keyProblem } from './token-keys.ts';

const publicJwk = (type: string, options: object): Record<string, unknown> =>
  generateKeyPairSync(type as 'rsa', options as { modulusLength: number }).publicKey.export({ format: 'jwk' }) as never;
const base64url = (n: bigint): string => {
  const hex = n.toString(16);
  return Buffer.from(hex.length % 2 ? `0${hex}` : hex, 'hex').toString('base64url');
};

test('keys that may verify tokens, and those that may not', () => {
  const rsa = publicJwk('rsa', { modulusLength: 2048 });
  for (const good of [
    rsa,
    publicJwk('ec', { namedCurve: 'P-256' }),
    publicJwk('ec', { namedCurve: 'P-521' }),
    publicJwk('ed25519', {}),
    publicJwk('rsa', { modulusLength: 2048, publicExponent: 3 }),
  ])
    assert.equal(keyProblem(good), undefined);
  const bad: [unknown, RegExp][] = [
    [null, /object/],
    [{}, /kty/],
    [{ kty: 'oct', k: 'AA' }, /shared secret/],
    [{ ...rsa, d: 'AA' }, /private/],
    [{ ...rsa, e: 'AQ' }, /exponent/],
    [{ ...rsa, e: 'AQAA' }, /exponent/],
    [{ ...rsa, n: '!' }, /base64url/],
    [{ kty: 'RSA' }, /base64url/],
    [publicJwk('rsa', { modulusLength: 1024 }), /2048 bits/],
    [publicJwk('ec', { namedCurve: 'secp256k1' }), /curve/],
    [publicJwk('x25519', {}), /curve/],
    [{ kty: '__proto__' }, /not known/],
    // A number that has what betrays such keys: a power of 65537 modulo everything.
    [{ ...rsa, n: base64url(65537n ** 150n) }, /ROCA/],
  ];
  for (const [key, why] of bad) assert.match(keyProblem(key) ?? 'good', why);
});
