import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { VirtualClock } from '@weft/base';
import { parseCertificates } from './bundle.ts';
import { createAuthority } from './ca.ts';
import { createKeyAndCsr } from './request.ts';
import { spiffeIdFromCertificate } from './spiffe.ts';
import { assembleIdentity } from './store.ts';
import { cacerts, EC } from './test-cacerts.ts';
import { crypto, EC_P256, x509 } from './x509.ts';

const dir = mkdtempSync(join(tmpdir(), 'weft-ca-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const trustDomain = 'cluster.local';
const CART = 'spiffe://cluster.local/ns/shop/sa/cart';
const DAY_MS = 86_400_000;

/** A request that asks for more than its sender may have. */
async function csrWith(wants: { name?: string; extensions?: InstanceType<typeof x509.Extension>[] }): Promise<string> {
  const keys = await crypto.subtle.generateKey(EC_P256, true, ['sign', 'verify']);
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    ...wants,
    keys: keys as never,
    signingAlgorithm: EC_P256,
  });
  return csr.toString('pem');
}

const url = (value: string) => ({ type: 'url' as const, value });

test('whatever a request asks for, the certificate says who the caller is and no more', async () => {
  const authority = await createAuthority({ dir: join(dir, 'abuse'), trustDomain });
  const years = new x509.Extension('2.5.29.16', false, new Uint8Array([0x30, 0x00])); // private key usage period
  const table: Record<string, Parameters<typeof csrWith>[0]> = {
    'another SAN': { extensions: [new x509.SubjectAlternativeNameExtension([url(`${CART}-admin`)])] },
    'extra SANs': {
      extensions: [
        new x509.SubjectAlternativeNameExtension([
          url(CART),
          url('spiffe://cluster.local/ns/weft-system/sa/control-plane'),
          { type: 'dns', value: 'payment.shop.svc' },
          { type: 'ip', value: '10.0.0.1' },
        ]),
      ],
    },
    'a common name': { name: 'CN=spiffe://cluster.local/ns/shop/sa/admin, O=system:masters' },
    'to be a CA': {
      extensions: [
        new x509.BasicConstraintsExtension(true, 3, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      ],
    },
    'other uses': { extensions: [new x509.ExtendedKeyUsageExtension(['1.3.6.1.5.5.7.3.3', '2.5.29.37.0'])] },
    'a time of its own': { extensions: [years] },
  };
  for (const [what, wants] of Object.entries(table)) {
    const signed = await authority.sign(await csrWith(wants), { spiffeId: CART, ttlMs: 60_000 });
    const certificate = new X509Certificate(signed.certPem);
    assert.equal(certificate.subjectAltName, `URI:${CART}`, what);
    assert.equal(certificate.subject, undefined, what);
    assert.equal(certificate.ca, false, what);
    assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'], what);
    const parsed = new x509.X509Certificate(signed.certPem);
    const asked = Array.from(parsed.extensions, (e) => e.type).sort();
    assert.deepEqual(asked, ['2.5.29.15', '2.5.29.17', '2.5.29.19', '2.5.29.35', '2.5.29.37'], what);
    const usage = parsed.getExtension(x509.KeyUsagesExtension)?.usages ?? 0;
    assert.equal(usage & (x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign), 0, what);
    assert.ok(signed.notAfterMs - Date.now() <= 60_000, what);
    assert.ok('spiffeId' in spiffeIdFromCertificate(certificate.raw), what);
  }
});

test('requests with weak keys, without a signature of their own, too large or with too long a life are refused', async () => {
  const authority = await createAuthority({ dir: join(dir, 'weak'), trustDomain });
  const sign = (csrPem: string, ttlMs = 60_000) => authority.sign(csrPem, { spiffeId: CART, ttlMs });
  for (const bits of [1024, 8192]) {
    const key = join(dir, `rsa${bits}.pem`);
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: bits === 8192 ? 4224 : bits });
    writeFileSync(key, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    const csr = execFileSync('openssl', ['req', '-new', '-key', key, '-subj', '/CN=x'], { encoding: 'utf8' });
    await assert.rejects(sign(csr), { code: 'identity/bad-csr' }, `RSA ${bits}`);
  }
  const { csrPem } = await createKeyAndCsr();
  await assert.rejects(sign('x'.repeat(20_000)), { code: 'identity/bad-csr' });
  await assert.rejects(sign(csrPem.replaceAll('CERTIFICATE REQUEST', 'CERTIFICATE').slice(0, 90)), {
    code: 'identity/bad-csr',
  });
  for (const ttlMs of [0, 9999, 90 * DAY_MS + 1, 10 * 365 * DAY_MS, Number.NaN, Number.POSITIVE_INFINITY])
    await assert.rejects(sign(csrPem, ttlMs), { code: 'identity/bad-ttl' }, String(ttlMs));
  for (const ttlMs of [10_000, 90 * DAY_MS]) {
    const { notAfterMs } = await sign(csrPem, ttlMs);
    assert.ok(Math.abs(notAfterMs - Date.now() - ttlMs) < 30_000, String(ttlMs));
  }
});

for (const [kind, key] of [
  ['EC', EC],
  ['RSA', ['-newkey', 'rsa:2048']],
] as const) {
  test(`an intermediate from files signs, and its chain leads to the root (${kind})`, async () => {
    const folder = cacerts(dir, `cacerts-${kind}`, [...key]);
    const authority = await createAuthority({ dir: folder, trustDomain });
    const { keyPem, csrPem } = await createKeyAndCsr();
    const signed = await authority.sign(csrPem, { spiffeId: CART, ttlMs: 60 * DAY_MS });
    const chain = parseCertificates(signed.chainPem);
    assert.equal(chain.length, 3);
    for (const [i, certificate] of chain.entries()) {
      const up = chain[i + 1] ?? new X509Certificate(signed.rootPem);
      assert.ok(certificate.checkIssued(up) && certificate.verify(up.publicKey), `link ${i}`);
    }
    // No leaf outlives what signed it, though 60 days were asked for.
    assert.equal(signed.notAfterMs, Math.min(...chain.slice(1).map((c) => c.validToDate.getTime())));
    assert.equal(assembleIdentity({ keyPem, ...signed }).issuer, authority.issuer);
  });
}

test('an intermediate that is exposed, incomplete or not signed by its root is refused', async () => {
  const folder = cacerts(dir, 'broken', EC);
  const open = () => createAuthority({ dir: folder, trustDomain });
  chmodSync(join(folder, 'ca-key.pem'), 0o644);
  await assert.rejects(open(), { code: 'identity/exposed-secret' });
  chmodSync(join(folder, 'ca-key.pem'), 0o600);
  rmSync(join(folder, 'cert-chain.pem'));
  await assert.rejects(open(), { code: 'identity/broken-chain' });
  rmSync(join(folder, 'root-cert.pem'));
  await assert.rejects(open(), { code: 'identity/incomplete-ca' });
});

test('a root is replaced step by step, each step holds over a restart and can be undone', async () => {
  const folder = join(dir, 'rotating');
  const open = () => createAuthority({ dir: folder, trustDomain });
  let authority = await open();
  const oldRoot = authority.rootPem;
  const old = authority.issuer;
  const chainBy = async () => {
    const { csrPem } = await createKeyAndCsr();
    const { chainPem, rootPem } = await authority.sign(csrPem, { spiffeId: CART, ttlMs: 60_000 });
    const leaf = new X509Certificate(chainPem);
    const by = parseCertificates(rootPem).findIndex((root) => leaf.verify(root.publicKey));
    return { by, roots: parseCertificates(rootPem).length };
  };
  await assert.rejects(authority.rotate('issue'), { code: 'identity/rotation' });
  await assert.rejects(authority.rotate('back'), { code: 'identity/rotation' });
  await authority.rotate('distribute');
  authority = await open();
  assert.deepEqual([authority.phase, await chainBy()], ['distribute', { by: 0, roots: 2 }]);
  assert.ok(authority.rootPem.startsWith(oldRoot));
  await authority.rotate('back');
  assert.equal(authority.rootPem, oldRoot);
  await authority.rotate('distribute');
  await assert.rejects(authority.rotate('retire'), { code: 'identity/rotation' });
  await authority.rotate('issue');
  authority = await open();
  assert.deepEqual([authority.phase, await chainBy()], ['issue', { by: 1, roots: 2 }]);
  assert.notEqual(authority.issuer, old);
  await authority.rotate('retire');
  authority = await open();
  assert.deepEqual([authority.phase, await chainBy()], ['stable', { by: 0, roots: 1 }]);
  assert.notEqual(authority.rootPem, oldRoot);
  // Retiring is undone too: both are trusted again, then the old one signs, then it is alone.
  for (const phase of ['issue', 'distribute', 'stable']) {
    await authority.rotate('back');
    authority = await open();
    assert.equal(authority.phase, phase);
  }
  assert.equal(authority.rootPem, oldRoot);
  assert.equal(authority.issuer, old);
});

test('the next CA may be an intermediate from files, and an exposed or empty folder changes nothing', async () => {
  const folder = join(dir, 'to-files');
  const authority = await createAuthority({ dir: folder, trustDomain });
  const brought = cacerts(dir, 'brought', EC);
  chmodSync(join(brought, 'ca-key.pem'), 0o640);
  await assert.rejects(authority.rotate('distribute', brought), { code: 'identity/exposed-secret' });
  const empty = join(dir, 'empty');
  mkdirSync(empty, { mode: 0o700 });
  await assert.rejects(authority.rotate('distribute', empty), { code: 'identity/rotation' });
  assert.deepEqual(readdirSync(empty), []);
  assert.equal(authority.phase, 'stable');
  chmodSync(join(brought, 'ca-key.pem'), 0o600);
  await authority.rotate('distribute', brought);
  await authority.rotate('issue');
  const { csrPem } = await createKeyAndCsr();
  const { chainPem } = await authority.sign(csrPem, { spiffeId: CART, ttlMs: 60_000 });
  assert.equal(parseCertificates(chainPem).length, 3);
});

test('a CA whose certificate ended says so instead of signing what nobody would accept', async () => {
  const clock = new VirtualClock(Date.now());
  const authority = await createAuthority({ dir: join(dir, 'ended'), trustDomain, clock });
  clock.advance(3650 * DAY_MS + 1000);
  const { csrPem } = await createKeyAndCsr();
  await assert.rejects(authority.sign(csrPem, { spiffeId: CART, ttlMs: 60_000 }), { code: 'identity/ca-expired' });
});
