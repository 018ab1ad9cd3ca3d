import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { VirtualClock } from '@weft/base';
import { TrustBundle } from './bundle.ts';
import { createAuthority } from './ca.ts';
import { readSpiffeBundle, verifyJwtSvid } from './jwt.ts';
import { JwtKeys } from './jwt-keys.ts';
import { Revocations } from './revocations.ts';

const CART = 'spiffe://cluster.local/ns/shop/sa/cart';
const DAY_MS = 86_400_000;
const kids = (keys: JwtKeys): string[] => (JSON.parse(keys.jwks) as { keys: { kid: string }[] }).keys.map((k) => k.kid);
const signer = (token: string): string =>
  (JSON.parse(Buffer.from(token.split('.')[0] as string, 'base64url').toString()) as { kid: string }).kid;

test('keys of tokens are published before they sign, outlive their tokens, and go with the root', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'weft-jwt-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const clock = new VirtualClock(Date.now());
  const ca = join(dir, 'ca');
  const { rootPem } = await createAuthority({ dir: ca, trustDomain: 'cluster.local', clock });
  let keys = await JwtKeys.open(ca, clock);
  const sign = () => keys.sign(CART, ['payment']);
  const good = async (token: string) =>
    'spiffeId' in
    (await verifyJwtSvid(
      token,
      'payment',
      new TrustBundle(new Map([['cluster.local', rootPem]]), Revocations.none, new Map([['cluster.local', keys.jwks]])),
      clock,
    ));
  const [first] = kids(keys);
  assert.equal(signer(await sign()), first);
  assert.doesNotMatch(keys.jwks, /"d"/);

  clock.advance(7 * DAY_MS);
  let changes = 0;
  keys.onChange(() => changes++);
  const last = await sign();
  assert.equal(signer(last), first);
  const [, second] = kids(keys);
  assert.ok(second && changes === 1);
  clock.advance(3_600_000);
  assert.equal(signer(await sign()), second);
  clock.advance(299_000);
  keys = await JwtKeys.open(ca, clock);
  assert.deepEqual(kids(keys), [first, second]);
  clock.advance(2 * 3_600_000);
  await keys.renew();
  assert.deepEqual(kids(keys), [second]);
  assert.equal(await good(last), false);

  await keys.follow('distribute');
  const [, next] = kids(keys);
  assert.equal(signer(await sign()), second);
  await keys.follow('issue');
  const token = await sign();
  assert.equal(signer(token), next);
  await keys.follow('distribute');
  assert.equal(signer(await sign()), second);
  assert.equal(await good(token), true);
  await keys.follow('issue');
  keys = await JwtKeys.open(ca, clock);
  await keys.follow('stable');
  assert.deepEqual(kids(keys), [next]);
  assert.equal(signer(await sign()), next);
  await keys.follow('distribute');
  await keys.follow('stable');
  assert.deepEqual(kids(keys), [next]);

  chmodSync(join(ca, 'jwt-keys.json'), 0o644);
  await assert.rejects(JwtKeys.open(ca, clock), { code: 'identity/exposed-secret' });
});

test('a SPIFFE bundle gives roots and keys of tokens, and nothing secret', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'weft-jwt-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const { rootPem } = await createAuthority({ dir, trustDomain: 'partner.example' });
  const x5c = [rootPem.replaceAll(/-----[^-]+-----|\s/g, '')];
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = { ...privateKey.export({ format: 'jwk' }), use: 'jwt-svid', kid: 'a' };
  const bundle = { spiffe_sequence: 1, keys: [{ use: 'x509-svid', kty: 'EC', x5c }, jwk, { kty: 'EC' }] };
  const read = readSpiffeBundle(JSON.stringify(bundle));
  assert.equal(read.rootPem, rootPem);
  const { keys } = JSON.parse(read.jwtKeys) as { keys: Record<string, unknown>[] };
  assert.equal(keys.length, 1);
  assert.equal(keys[0]?.d, undefined);
  assert.throws(() => readSpiffeBundle('{}'), { code: 'identity/bad-jwks' });
  assert.throws(() => readSpiffeBundle('{"keys":[{"use":"x509-svid","x5c":["AAAA"]}]}'), {
    code: 'identity/bad-bundle',
  });
});
