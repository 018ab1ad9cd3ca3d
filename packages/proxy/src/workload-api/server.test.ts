import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Client, Code, type ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { silentLogger, VirtualClock } from '@weft/base';
import { createAuthority, JwtKeys, Revocations, type Trust, TrustBundle } from '@weft/identity';
import { SpiffeWorkloadAPI, type X509SVIDResponse } from '@weft/plan';
import { SignJWT } from 'jose';
import { ApplicationIdentity } from './application.ts';
import { startWorkloadApi } from './server.ts';
import { workloadRoutes } from './service.ts';

const CART = 'spiffe://cluster.local/ns/shop/sa/cart';
const headers = { 'workload.spiffe.io': 'true' };
const METHOD = '/SpiffeWorkloadAPI/ValidateJWTSVID';
const linux = process.platform === 'linux' ? false : 'needs Linux: who calls is asked of the kernel';
const codeOf = (code: Code) => (error: ConnectError) => error.code === code;

async function setUp(t: TestContext, uids = [process.getuid?.() ?? 0]) {
  const dir = mkdtempSync(join(tmpdir(), 'weft-wapi-'));
  const authority = await createAuthority({ dir: join(dir, 'ca'), trustDomain: 'cluster.local' });
  const jwtKeys = await JwtKeys.open(join(dir, 'ca'));
  const trust = (revocations = Revocations.none): Trust => ({
    rootPem: authority.rootPem,
    issuer: authority.issuer,
    bundle: new TrustBundle(
      new Map([['cluster.local', authority.rootPem]]),
      revocations,
      new Map([['cluster.local', jwtKeys.jwks]]),
    ),
  });
  const identity = new ApplicationIdentity({
    dir: join(dir, 'application'),
    spiffeId: () => CART,
    signCsr: (csr) => authority.sign(csr, { spiffeId: CART, ttlMs: 3_600_000 }),
    logger: silentLogger,
  });
  identity.setTrust(trust());
  const counted = new Map<string, number>();
  const count = (name: string): void => void counted.set(name, (counted.get(name) ?? 0) + 1);
  const socket = join(dir, 's.sock');
  const api = await startWorkloadApi({
    bind: { socket, uids, ownNetwork: true },
    maxConnections: 3,
    routes: workloadRoutes({
      identity,
      spiffeId: () => CART,
      signJwt: (audience) => jwtKeys.sign(CART, audience),
      count,
    }),
    count,
    logger: silentLogger,
  });
  const managers: Http2SessionManager[] = [];
  const client = (): Client<typeof SpiffeWorkloadAPI> => {
    const baseUrl = 'http://localhost';
    const sessionManager = new Http2SessionManager(baseUrl, undefined, { createConnection: () => connect(socket) });
    managers.push(sessionManager);
    return createClient(SpiffeWorkloadAPI, createGrpcTransport({ baseUrl, sessionManager }));
  };
  t.after(async () => {
    for (const m of managers) m.abort();
    identity.stop();
    await api.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return { authority, jwtKeys, trust, identity, counted, client, socket, dir };
}

const serialOf = (r: X509SVIDResponse): string => new X509Certificate(r.svids[0].x509Svid).serialNumber;

test('an application gets its certificate, and another with each change', { skip: linux }, async (t) => {
  const { authority, trust, identity, client } = await setUp(t);
  const stream = client().fetchX509SVID({}, { headers })[Symbol.asyncIterator]();
  const next = async (): Promise<X509SVIDResponse> => (await stream.next()).value as X509SVIDResponse;
  const first = await next();
  assert.equal(first.svids.length, 1);
  assert.equal(first.svids[0].spiffeId, CART);
  assert.ok(new X509Certificate(first.svids[0].x509Svid).verify(new X509Certificate(first.svids[0].bundle).publicKey));
  // A second root is believed: the certificate stays, the bundle has two.
  await authority.rotate('distribute');
  identity.setTrust(trust());
  const second = await next();
  assert.equal(serialOf(second), serialOf(first));
  assert.ok(second.svids[0].bundle.length > 1.5 * first.svids[0].bundle.length);
  // Its number is revoked: it is another's at once.
  const serial = serialOf(second).toLowerCase();
  identity.setTrust(trust(new Revocations([{ issuer: '', serial }], [])));
  let third = await next();
  for (let n = 0; n < 3 && serialOf(third) === serialOf(first); n++) third = await next();
  assert.notEqual(serialOf(third), serialOf(first));
  // The workload is revoked: the stream ends.
  identity.setTrust(trust(new Revocations([], [CART])));
  await assert.rejects(async () => {
    for (;;) await next();
  }, codeOf(Code.PermissionDenied));
});

test('tokens are good for their audience, their time and their trust domain alone', { skip: linux }, async (t) => {
  const { client, trust, identity, jwtKeys, dir } = await setUp(t);
  const api = client();
  const fetched = await api.fetchJWTSVID({ audience: ['payment', 'other'] }, { headers });
  const { svid } = fetched.svids[0];
  const valid = await api.validateJWTSVID({ audience: 'payment', svid }, { headers });
  assert.equal(valid.spiffeId, CART);
  assert.deepEqual(valid.claims?.aud, ['payment', 'other']);
  const refused = async (token: string, audience = 'payment') =>
    assert.rejects(api.validateJWTSVID({ audience, svid: token }, { headers }), codeOf(Code.InvalidArgument));
  await refused(svid, 'somebody');
  await refused(`${svid.slice(0, -4)}AAAA`);
  await refused('no token');
  const [head, body] = svid.split('.');
  const none = Buffer.from(JSON.stringify({ alg: 'none' })).toString('base64url');
  await refused(`${none}.${body}.`);
  // The public key as a shared secret.
  const { keys } = JSON.parse(jwtKeys.jwks) as { keys: { kid: string }[] };
  const forged = new SignJWT({ aud: 'payment' }).setProtectedHeader({ alg: 'HS256', kid: keys[0].kid });
  await refused(await forged.setSubject(CART).setExpirationTime('1h').sign(Buffer.from(jwtKeys.jwks)));
  const elsewhere = Buffer.from(JSON.stringify({ sub: 'spiffe://other.example/ns/a/sa/b', aud: 'payment', exp: 9e9 }));
  await refused(`${head}.${elsewhere.toString('base64url')}.${svid.split('.')[2]}`);
  const old = new VirtualClock(Date.now() - 3_600_000);
  const stale = await JwtKeys.open(join(dir, 'old'), old);
  await refused(await stale.sign(CART, ['payment']));
  const bad = { audience: [] };
  await assert.rejects(api.fetchJWTSVID(bad, { headers }), codeOf(Code.InvalidArgument));
  const another = { audience: ['payment'], spiffeId: 'spiffe://cluster.local/ns/shop/sa/admin' };
  await assert.rejects(api.fetchJWTSVID(another, { headers }), codeOf(Code.PermissionDenied));
  identity.setTrust(trust(new Revocations([], [CART])));
  await refused(svid);
  await assert.rejects(api.fetchJWTSVID({ audience: ['payment'] }, { headers }), codeOf(Code.PermissionDenied));
});

test('nobody else is answered, and connections are bounded', { skip: linux }, async (t) => {
  const { client, counted, socket } = await setUp(t);
  const audience = ['payment'];
  const api = client();
  await assert.rejects(api.fetchJWTSVID({ audience }), codeOf(Code.InvalidArgument));
  const stranger = await setUp(t, [4_000_000]);
  await assert.rejects(stranger.client().fetchJWTSVID({ audience }, { headers }), codeOf(Code.PermissionDenied));
  assert.equal(stranger.counted.get('workload_api_refused'), 1);
  const held = [1, 2].map(() => connect(socket).on('error', () => {}));
  await Promise.all(held.map((s) => new Promise((done) => s.on('connect', done))));
  await api.fetchJWTSVID({ audience }, { headers });
  const more = connect(socket)
    .on('error', () => {})
    .resume();
  await new Promise((done) => more.on('close', done));
  assert.equal(counted.get('workload_api_overflow'), 1);
  for (const s of held) s.destroy();
});

test('an authority that is no host name', { skip: linux }, async (t) => {
  const { socket } = await setUp(t);
  // As gRPC names a Unix socket; made into a URL it would throw.
  const odd = connectHttp2('http://x', { createConnection: () => connect(socket) });
  const request = odd.request({ ':authority': 'run%2Fs.sock', ':path': '//:x', ':method': 'POST' });
  const [answer] = (await once(request, 'response')) as [{ ':status': number }];
  assert.equal(answer[':status'], 404);
  const named = odd.request({ ':authority': 'run%2Fs.sock', ':path': METHOD, ':method': 'POST', ...headers });
  const [good] = (await once(named.end(), 'response')) as [{ ':status': number }];
  assert.equal(good[':status'], 415);
  odd.destroy();
});
