import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { seededRandom, silentLogger, VirtualClock } from '@weft/base';
import { TrustBundle } from './bundle.ts';
import { createAuthority } from './ca.ts';
import { IdentityClient } from './client.ts';
import { createKeyAndCsr } from './request.ts';
import { Revocations } from './revocations.ts';
import { parseSpiffeId, spiffeIdFromCertificate } from './spiffe.ts';
import { readIdentity } from './store.ts';
import { crypto, EC_P256, x509 } from './x509.ts';

const dir = mkdtempSync(join(tmpdir(), 'weft-identity-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const CART = 'spiffe://cluster.local/ns/shop/sa/cart';

test('the root survives a restart, and an exposed or foreign one is refused', async () => {
  const options = { dir: join(dir, 'ca'), trustDomain: 'cluster.local' };
  const first = await createAuthority(options);
  assert.equal((await createAuthority(options)).rootPem, first.rootPem);
  const key = join(options.dir, 'root-key.pem');
  assert.equal(statSync(key).mode & 0o777, 0o600);
  await assert.rejects(createAuthority({ ...options, trustDomain: 'other.local' }), {
    code: 'identity/wrong-trust-domain',
  });
  chmodSync(key, 0o640);
  await assert.rejects(createAuthority(options), { code: 'identity/exposed-secret' });
  chmodSync(key, 0o600);
  const other = await createAuthority({ dir: join(dir, 'ca2'), trustDomain: 'cluster.local' });
  writeFileSync(join(options.dir, 'root-cert.pem'), other.rootPem);
  await assert.rejects(createAuthority(options), { code: 'identity/root-mismatch' });
});

test('a certificate names only the authenticated caller, whatever the request says', async () => {
  const authority = await createAuthority({ dir: join(dir, 'ca3'), trustDomain: 'cluster.local' });
  const keys = await crypto.subtle.generateKey(EC_P256, true, ['sign', 'verify']);
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'CN=root',
    keys: keys as never,
    signingAlgorithm: EC_P256,
    extensions: [
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://cluster.local/ns/shop/sa/admin' }]),
      new x509.BasicConstraintsExtension(true),
    ],
  });
  const signed = await authority.sign(csr.toString('pem'), { spiffeId: CART, ttlMs: 20_000 });
  const certificate = new x509.X509Certificate(signed.certPem);
  assert.deepEqual(spiffeIdFromCertificate(new Uint8Array(certificate.rawData)), {
    spiffeId: CART,
    id: { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'cart' },
  });
  assert.equal(certificate.subject, '');
  assert.equal(certificate.getExtension(x509.BasicConstraintsExtension)?.ca, false);
  assert.ok(Math.abs(signed.notAfterMs - signed.notBeforeMs - 140_000) <= 1000);

  const bytes = Buffer.from(csr.rawData);
  bytes[bytes.length - 3] ^= 1;
  const forged = x509.PemConverter.encode(bytes, 'CERTIFICATE REQUEST');
  await assert.rejects(authority.sign(forged, { spiffeId: CART, ttlMs: 20_000 }), { code: 'identity/bad-csr' });
  await assert.rejects(authority.sign('junk', { spiffeId: CART, ttlMs: 20_000 }), { code: 'identity/bad-csr' });
  const { csrPem } = await createKeyAndCsr();
  await assert.rejects(authority.sign(csrPem, { spiffeId: CART, ttlMs: 91 * 86_400_000 }), {
    code: 'identity/bad-ttl',
  });
  const foreign = 'spiffe://other.local/ns/shop/sa/cart';
  await assert.rejects(authority.sign(csrPem, { spiffeId: foreign, ttlMs: 20_000 }), {
    code: 'identity/bad-spiffe-id',
  });
});

test('SPIFFE ids are parsed strictly', () => {
  assert.deepEqual(parseSpiffeId(CART), { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'cart' });
  for (const bad of [
    'spiffe://cluster.local',
    'spiffe://cluster.local/ns/shop/sa/',
    'spiffe://cluster.local/ns/../sa/cart',
    'spiffe://cluster.local/ns/shop/sa/cart/x',
    'spiffe://Cluster.local/ns/shop/sa/cart',
    'spiffe://cluster.local/ns/shop/sa/cart?x',
    'https://cluster.local/ns/shop/sa/cart',
  ]) {
    assert.equal(parseSpiffeId(bad), undefined, bad);
  }
});

/** Lets the real cryptography finish between steps of the virtual clock. */
async function until(condition: () => boolean, step = () => {}): Promise<void> {
  for (let i = 0; i < 2000 && !condition(); i++) {
    step();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.ok(condition(), 'the awaited state was not reached');
}

test('renews at half of the life, keeps the old while the CA is away, and starts from the stored one', async () => {
  const clock = new VirtualClock(Date.now());
  const authority = await createAuthority({ dir: join(dir, 'ca4'), trustDomain: 'cluster.local', clock });
  let away = false;
  let calls = 0;
  const signCsr = async (csrPem: string) => {
    calls++;
    if (away) throw new Error('away');
    return authority.sign(csrPem, { spiffeId: CART, ttlMs: 3_600_000 });
  };
  const rotations: string[] = [];
  const options = { signCsr, dir: join(dir, 'workload'), spiffeId: CART, clock, random: seededRandom(7) };
  const client = new IdentityClient({ ...options, onRotate: (identity) => rotations.push(identity.serial) });
  await client.start();
  const first = client.current()!;
  const half = client.renewAtMs - clock.wall();
  assert.ok(half >= 0.449 * 3_600_000 && half <= 0.551 * 3_600_000, `${half}`);
  clock.advance(half - 2000);
  assert.equal(calls, 1);

  away = true;
  await until(
    () => calls >= 4,
    () => clock.advance(1000),
  );
  assert.equal(client.current(), first);
  away = false;
  await until(
    () => client.current() !== first,
    () => clock.advance(1000),
  );
  assert.deepEqual(rotations, [first.serial, client.current()!.serial]);
  assert.notEqual(client.current()!.keyPem, first.keyPem);
  client.stop();

  away = true;
  const restarted = new IdentityClient(options);
  await restarted.start();
  assert.equal(restarted.current()?.serial, rotations[1]);
  restarted.stop();
  assert.equal(statSync(join(dir, 'workload', 'identity.json')).mode & 0o777, 0o600);
  assert.match(readFileSync(join(dir, 'workload', 'identity.json'), 'utf8'), /PRIVATE KEY/);

  // Another workload's folder is not taken over.
  away = false;
  const other = new IdentityClient({ ...options, spiffeId: 'spiffe://cluster.local/ns/shop/sa/user' });
  const before = calls;
  const started = other.start();
  await until(() => calls > before);
  assert.equal(other.current(), undefined);
  other.stop();
  await started;
});

test('new roots are believed at once and kept; a certificate by the former issuer is renewed soon', async () => {
  const clock = new VirtualClock(Date.now());
  const authority = await createAuthority({ dir: join(dir, 'ca5'), trustDomain: 'cluster.local', clock });
  const client = new IdentityClient({
    signCsr: (csrPem) => authority.sign(csrPem, { spiffeId: CART, ttlMs: 3_600_000 }),
    dir: join(dir, 'trusting'),
    clock,
    random: seededRandom(3),
  });
  await client.start();
  const first = client.current()!;
  const told: string[] = [];
  client.onRotate((identity) => told.push(identity.serial));
  const trust = () => {
    const { rootPem, issuer } = authority;
    return { rootPem, issuer, bundle: new TrustBundle(new Map([['cluster.local', rootPem]])) };
  };
  await authority.rotate('distribute');
  client.setTrust(trust());
  assert.equal(client.current()!.serial, first.serial);
  assert.equal(client.current()!.bundle.rootsOf('cluster.local').length, 2);
  assert.deepEqual(told, [first.serial]);
  assert.equal(readIdentity(join(dir, 'trusting'))?.bundle.rootsOf('cluster.local').length, 2);
  clock.advance(10_000);
  assert.equal(client.current()!.serial, first.serial, 'nothing to renew while the same key signs');

  await authority.rotate('issue');
  client.setTrust(trust());
  await until(
    () => client.current()!.serial !== first.serial,
    () => clock.advance(1000),
  );
  assert.equal(client.current()!.issuer, authority.issuer);
  assert.equal(client.current()!.bundle.rootsOf('cluster.local').length, 2);

  // A revoked certificate is not what a restarted proxy would begin with.
  const { issuer, serial } = client.current()!;
  assert.equal(readIdentity(join(dir, 'trusting'))?.serial, serial);
  const roots = new Map([['cluster.local', authority.rootPem]]);
  client.setTrust({ ...trust(), bundle: new TrustBundle(roots, new Revocations([{ issuer, serial }], [])) });
  assert.equal(readIdentity(join(dir, 'trusting')), undefined);
  client.stop();
});

test('a certificate that could not be kept is asked for again with the same key', async () => {
  const clock = new VirtualClock(Date.now());
  const authority = await createAuthority({ dir: join(dir, 'ca9'), trustDomain: 'cluster.local', clock });
  const place = join(dir, 'not-yet-a-folder');
  writeFileSync(place, '');
  const requests: string[] = [];
  let failures = 0;
  const client = new IdentityClient({
    logger: { ...silentLogger, warn: () => failures++ },
    dir: place,
    clock,
    random: seededRandom(1),
    signCsr: async (csr) => {
      requests.push(csr);
      return authority.sign(csr, { spiffeId: CART, ttlMs: 60_000 });
    },
  });
  const started = client.start();
  while (failures === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(client.current(), undefined);
  rmSync(place);
  while (!client.valid) {
    clock.advance(500);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await started;
  assert.ok(requests.length > 1);
  assert.equal(new Set(requests).size, 1);
  // The next certificate is for another key.
  const { keyPem } = client.current() as { keyPem: string };
  while (client.current()?.keyPem === keyPem) {
    clock.advance(500);
    await new Promise((resolve) => setImmediate(resolve));
  }
  client.stop();
  assert.equal(new Set(requests).size, 2);
});

test('a stored certificate by a root that is no longer one is not used, where the roots of now are known', async () => {
  const place = join(dir, 'retired');
  const old = await createAuthority({ dir: join(dir, 'ca10'), trustDomain: 'cluster.local' });
  const now = await createAuthority({ dir: join(dir, 'ca11'), trustDomain: 'cluster.local' });
  let authority = old;
  const start = async (rootPem?: string): Promise<string> => {
    const client = new IdentityClient({
      dir: place,
      rootPem,
      signCsr: (csr) => authority.sign(csr, { spiffeId: CART, ttlMs: 60_000 }),
    });
    await client.start();
    client.stop();
    return client.current()!.serial;
  };
  const first = await start(old.rootPem);
  assert.equal(await start(old.rootPem), first);
  authority = now;
  assert.equal(await start(), first);
  assert.equal(await start(old.rootPem + now.rootPem), first);
  assert.notEqual(await start(now.rootPem), first);
});

test("where a Workload API gives certificates it is asked, its roots are believed beside the CA's, and the CA stands in", async () => {
  const clock = new VirtualClock(Date.now());
  const lifeMs = 3_600_000;
  const authority = await createAuthority({ dir: join(dir, 'ca12'), trustDomain: 'cluster.local', clock });
  const agent = await createAuthority({ dir: join(dir, 'ca13'), trustDomain: 'cluster.local', clock });
  let away = false;
  let refused = 0;
  const client = new IdentityClient({
    signCsr: (csrPem) => authority.sign(csrPem, { spiffeId: CART, ttlMs: lifeMs }),
    askWorkloadApi: async (socket, spiffeId) => {
      assert.deepEqual([socket, spiffeId], ['/agent.sock', CART]);
      if (away) {
        refused++;
        throw new Error('no agent');
      }
      const { keyPem, csrPem } = await createKeyAndCsr(spiffeId);
      return { keyPem, ...(await agent.sign(csrPem, { spiffeId, ttlMs: lifeMs })) };
    },
    clock,
    random: seededRandom(5),
  });
  const trust = (workloadApi: string) => {
    const rootPem = authority.rootPem + agent.rootPem;
    const bundle = new TrustBundle(new Map([['cluster.local', rootPem]]));
    return { rootPem, issuer: authority.issuer, bundle, workloadApi };
  };
  const by = async (issuer: string): Promise<void> => {
    await until(
      () => client.current()?.issuer === issuer && client.valid,
      () => clock.advance(1000),
    );
    assert.equal(client.current()!.spiffeId, CART);
  };
  await client.start();
  assert.equal(client.current()!.issuer, authority.issuer);
  client.setTrust(trust('/agent.sock'));
  await by(agent.issuer);
  const { serial } = client.current()!;

  // Away for less than what it gave lasts: that goes on.
  away = true;
  await until(
    () => refused > 2,
    () => clock.advance(60_000),
  );
  assert.equal(client.current()!.serial, serial);
  // Before it ends the CA stands in, and the agent is asked again from then on.
  await until(
    () => client.current()!.issuer === authority.issuer,
    () => {
      clock.advance(10_000);
      assert.ok(client.valid);
    },
  );
  const before = refused;
  await until(
    () => refused > before,
    () => clock.advance(1000),
  );
  away = false;
  await by(agent.issuer);
  client.setTrust(trust(''));
  await by(authority.issuer);
  client.stop();
});
