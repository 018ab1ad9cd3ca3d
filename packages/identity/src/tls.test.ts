import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import tls from 'node:tls';
import { VirtualClock } from '@weft/base';
import { TrustBundle } from './bundle.ts';
import { type Authority, createAuthority } from './ca.ts';
import { createKeyAndCsr } from './request.ts';
import { Revocations } from './revocations.ts';
import { assembleIdentity, type Identity } from './store.ts';
import { checkPeer, clientTlsOptions, type PeerRules, serverTlsOptions } from './tls.ts';

const dir = mkdtempSync(join(tmpdir(), 'weft-tls-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const idOf = (name: string, domain = 'cluster.local') => `spiffe://${domain}/ns/shop/sa/${name}`;

async function issue(authority: Authority, spiffeId: string): Promise<Identity> {
  const { keyPem, csrPem } = await createKeyAndCsr();
  const { chainPem, rootPem } = await authority.sign(csrPem, { spiffeId, ttlMs: 60_000 });
  return assembleIdentity({ keyPem, chainPem, rootPem });
}

/** Who was let in. */
const known = (verdict: ReturnType<typeof checkPeer> | 'refused'): string | undefined =>
  verdict !== 'refused' && 'spiffeId' in verdict ? verdict.spiffeId : undefined;

/** What each side of one handshake says: the server's verdict and the client's, 'refused' where it never had one. */
async function handshake(
  server: Identity,
  client: tls.ConnectionOptions,
  rules: Partial<PeerRules> = {},
  ca?: TrustBundle,
) {
  const options = serverTlsOptions(server);
  const listener = tls.createServer({ ...options, ca: ca ? [...ca.pool] : options.ca });
  let verdict: ReturnType<typeof checkPeer> | 'refused' = 'refused';
  let resumed = false;
  listener.on('secureConnection', (socket) => {
    verdict = checkPeer(socket, { bundle: ca ?? server.bundle, ...rules });
    resumed = socket.isSessionReused();
    socket.on('error', () => {});
    socket.end('x');
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const socket = tls.connect({ port: (listener.address() as AddressInfo).port, host: '127.0.0.1', ...client });
  let error: Error | undefined;
  socket.on('error', (e) => {
    error = e;
  });
  socket.resume();
  await once(socket, 'close').catch(() => {});
  listener.close();
  await once(listener, 'close');
  return {
    verdict: verdict as ReturnType<typeof checkPeer> | 'refused',
    error,
    resumed,
    protocol: socket.getProtocol(),
  };
}

const mesh = await createAuthority({ dir: join(dir, 'mesh'), trustDomain: 'cluster.local' });
const stranger = await createAuthority({ dir: join(dir, 'stranger'), trustDomain: 'cluster.local' });
const neighbour = await createAuthority({ dir: join(dir, 'neighbour'), trustDomain: 'other.local' });
const payment = await issue(mesh, idOf('payment'));
const cart = await issue(mesh, idOf('cart'));

test('both sides of the mesh know each other', async () => {
  const result = await handshake(payment, clientTlsOptions(cart, new Set([payment.spiffeId])));
  assert.equal(result.error, undefined);
  assert.equal(known(result.verdict), idOf('cart'));
});

test('a server of another identity is refused by the client', async () => {
  const result = await handshake(payment, clientTlsOptions(cart, new Set([idOf('user')])));
  assert.match(String(result.error), /not expected/);
});

test('a client of another identity is refused by the server', async () => {
  const result = await handshake(payment, clientTlsOptions(cart), { expected: new Set([idOf('user')]) });
  assert.match(JSON.stringify(result.verdict), /not expected/);
});

test('no certificate, an untrusted one and an expired one are refused', async () => {
  const nobody = await handshake(payment, {
    ca: [...cart.bundle.pool],
    checkServerIdentity: () => undefined,
    ALPNProtocols: ['h2'],
  });
  assert.equal(nobody.verdict, 'refused');
  assert.ok(nobody.error);

  const forged = await issue(stranger, idOf('cart'));
  const untrusted = await handshake(payment, { ...clientTlsOptions(forged), rejectUnauthorized: false });
  assert.equal(untrusted.verdict, 'refused');
  const untrustedServer = await handshake(forged, clientTlsOptions(payment));
  assert.ok(untrustedServer.error);

  const past = new VirtualClock(Date.now() - 3_600_000);
  const old = await createAuthority({ dir: join(dir, 'mesh'), trustDomain: 'cluster.local', clock: past });
  const expired = await issue(old, idOf('cart'));
  assert.equal((await handshake(payment, clientTlsOptions(expired))).verdict, 'refused');
  assert.ok((await handshake(expired, clientTlsOptions(payment))).error);
});

test('a root of one trust domain cannot vouch for an identity of another', async () => {
  const both = new TrustBundle(
    new Map([
      ['cluster.local', mesh.rootPem],
      ['other.local', neighbour.rootPem],
    ]),
  );
  const guest = await issue(neighbour, idOf('cart', 'other.local'));
  const options = { ...clientTlsOptions(guest), rejectUnauthorized: false };
  const good = await handshake(payment, options, {}, both);
  assert.equal(known(good.verdict), idOf('cart', 'other.local'));
  const swapped = new TrustBundle(
    new Map([
      ['cluster.local', neighbour.rootPem],
      ['other.local', mesh.rootPem],
    ]),
  );
  const bad = await handshake(payment, options, { bundle: swapped }, both);
  assert.match(JSON.stringify(bad.verdict), /not signed by a root of trust domain other.local/);
});

test('an alias is the same trust domain by another name, and what has roots of its own has those alone', async () => {
  const guest = await issue(neighbour, idOf('cart', 'other.local'));
  const options = { ...clientTlsOptions(guest), rejectUnauthorized: false };
  const aliases = new Map([['other.local', 'cluster.local']]);
  const believing = (roots: [string, string][], revocations = Revocations.none) =>
    new TrustBundle(new Map(roots), revocations, new Map(), aliases);
  const renamed = believing([['cluster.local', neighbour.rootPem]]);
  const judge = async (bundle: TrustBundle, expected?: ReadonlySet<string>) =>
    JSON.stringify((await handshake(payment, options, { bundle, expected }, bundle)).verdict);
  assert.match(await judge(renamed), /^."spiffeId":"spiffe:..other.local.ns.shop.sa.cart"/);
  assert.match(await judge(renamed, new Set([idOf('cart')])), /"spiffeId"/);
  assert.match(await judge(renamed, new Set([idOf('payment')])), /not expected/);
  const revoked = believing([['cluster.local', neighbour.rootPem]], new Revocations([], [idOf('cart')]));
  assert.match(await judge(revoked), /is revoked/);
  const both = believing([
    ['cluster.local', neighbour.rootPem],
    ['other.local', mesh.rootPem],
  ]);
  assert.match(await judge(both), /not signed by a root of trust domain other.local/);
});

test('TLS 1.2 is refused, and the time is checked again after the handshake', async () => {
  const low = await handshake(payment, {
    key: cart.keyPem,
    cert: cart.chainPem,
    ca: [...cart.bundle.pool],
    maxVersion: 'TLSv1.2',
    checkServerIdentity: () => undefined,
  });
  assert.equal(low.verdict, 'refused');
  const late = await handshake(payment, clientTlsOptions(cart), { clock: new VirtualClock(Date.now() + 3_600_000) });
  assert.match(JSON.stringify(late.verdict), /expired/);
});

test('a revoked certificate or identity is refused by both sides, and another CA\u2019s same number is not', async () => {
  const believing = (revocations: Revocations) =>
    new TrustBundle(new Map([['cluster.local', mesh.rootPem]]), revocations);
  const serial = cart.serial.toUpperCase().replace(/(..)(?=.)/g, '$1:');
  const byNumber = believing(new Revocations([{ issuer: mesh.issuer, serial }], []));
  const byId = believing(new Revocations([], [cart.spiffeId]));
  for (const bundle of [byNumber, byId]) {
    const served = await handshake(payment, clientTlsOptions(cart), { bundle });
    assert.match(JSON.stringify(served.verdict), /revoked/);
    const asked = await handshake(cart, clientTlsOptions({ ...payment, bundle }));
    assert.match(String(asked.error), /revoked/);
    const other = await handshake(cart, clientTlsOptions(payment), { bundle });
    assert.equal(known(other.verdict), payment.spiffeId);
  }
  const elsewhere = believing(new Revocations([{ issuer: stranger.issuer, serial: cart.serial }], []));
  const good = await handshake(payment, clientTlsOptions(cart), { bundle: elsewhere });
  assert.equal(known(good.verdict), cart.spiffeId);
  assert.throws(() => new Revocations([{ issuer: '', serial: 'x' }], []), { code: 'identity/bad-serial' });
  assert.throws(() => new Revocations([], ['cart']), { code: 'identity/bad-spiffe-id' });
});
