import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createHttp2 } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import tls from 'node:tls';
import { create } from '@bufbuild/protobuf';
import {
  type Authority,
  assembleIdentity,
  clientTlsOptions,
  createAuthority,
  createKeyAndCsr,
  type Identity,
  serverTlsOptions,
  TrustBundle,
  withTrust,
} from '@weft/identity';
import {
  IstioCertificateResponseSchema,
  IstioCertificateService,
  SpiffeWorkloadAPI,
  X509SVIDResponseSchema,
} from '@weft/plan';
import { grpcHandler } from '@weft/xds';
import { openExternal } from './issuer.ts';

const CART = 'spiffe://cluster.local/ns/shop/sa/cart';
const PAYMENT = 'spiffe://cluster.local/ns/shop/sa/payment';
const TTL_MS = 3_600_000;

interface Place {
  dir: string;
  own: Authority;
  /** The CA behind the service. */
  theirs: Authority;
}

async function setUp(t: TestContext): Promise<Place> {
  const dir = mkdtempSync(join(tmpdir(), 'weft-external-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const theirs = await createAuthority({ dir: join(dir, 'theirs'), trustDomain: 'cluster.local' });
  const own = await createAuthority({ dir: join(dir, 'own'), trustDomain: 'cluster.local', openExternal });
  return { dir, own, theirs };
}

/** A folder as `weft ca rotate --from` takes it. */
function folder({ dir, theirs }: Place, external: object, tokenMode = 0o600): string {
  const from = join(dir, 'next');
  rmSync(from, { recursive: true, force: true });
  mkdirSync(from, { mode: 0o700 });
  writeFileSync(join(from, 'root-cert.pem'), theirs.rootPem);
  writeFileSync(join(from, 'external.json'), JSON.stringify(external));
  writeFileSync(join(dir, 'token'), 's.mesh\n');
  chmodSync(join(dir, 'token'), tokenMode);
  return from;
}

interface Asked {
  csr: string;
  uri_sans: string;
  ttl: string;
}

/** What Vault's documentation says of `pki/sign/:name`, and no more. `answer` may say something else. */
async function fakeVault(t: TestContext, { theirs }: Place) {
  const vault = { asked: 0, answer: undefined as ((body: Asked) => Promise<[number, unknown]>) | undefined, port: 0 };
  const sign = async ({ csr, uri_sans, ttl }: Asked): Promise<[number, unknown]> => {
    const signed = await theirs.sign(csr, { spiffeId: uri_sans, ttlMs: Number.parseInt(ttl, 10) * 1000 });
    const data = { certificate: signed.certPem.trim(), issuing_ca: theirs.rootPem, ca_chain: [theirs.rootPem] };
    return [200, { data: { ...data, serial_number: signed.serial } }];
  };
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    vault.asked++;
    const right = request.method === 'POST' && request.url === '/v1/mesh/pki/sign/weft';
    const [status, body] =
      request.headers['x-vault-token'] !== 's.mesh'
        ? [403, { errors: ['permission denied'] }]
        : right
          ? await (vault.answer ?? sign)(JSON.parse(text) as Asked)
          : [404, { errors: [] }];
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => void server.close());
  vault.port = (server.address() as AddressInfo).port;
  return vault;
}

async function identityOf(authority: Authority, spiffeId = CART): Promise<Identity> {
  const { keyPem, csrPem } = await createKeyAndCsr(spiffeId);
  const { chainPem, rootPem } = await authority.sign(csrPem, { spiffeId, ttlMs: TTL_MS });
  return assembleIdentity({ keyPem, chainPem, rootPem });
}

/** A handshake of two identities that both believe what the CA says now; rejects where either refuses. */
async function handshake(authority: Authority, client: Identity, server: Identity): Promise<void> {
  const { rootPem, issuer } = authority;
  const trust = { rootPem, issuer, bundle: new TrustBundle(new Map([['cluster.local', rootPem]])) };
  const listener = tls
    .createServer(serverTlsOptions(withTrust(server, trust)), (s) => s.end('in'))
    .listen(0, '127.0.0.1');
  listener.on('tlsClientError', () => {});
  await once(listener, 'listening');
  try {
    const { port } = listener.address() as AddressInfo;
    const socket = tls.connect({ host: '127.0.0.1', port, ...clientTlsOptions(withTrust(client, trust)) });
    await new Promise<void>((resolve, reject) => {
      socket.on('data', () => resolve());
      socket.on('error', reject);
      socket.on('close', () => reject(new Error('closed')));
    });
    socket.destroy();
  } finally {
    listener.close();
  }
}

test('from the own CA to Vault and back: both roots are believed between, and no handshake fails', async (t) => {
  const place = await setUp(t);
  const { own, dir } = place;
  const vault = await fakeVault(t, place);
  const address = `http://127.0.0.1:${vault.port}`;
  const from = folder(place, { kind: 'vault', address, mount: 'mesh/pki', role: 'weft', tokenFile: `${dir}/token` });
  const first = [await identityOf(own), await identityOf(own, PAYMENT)] as const;
  const all = async (...identities: Identity[]): Promise<void> => {
    for (const a of identities) for (const b of identities) await handshake(own, a, b);
  };
  await own.rotate('distribute', from);
  assert.equal(own.external, false);
  await all(...first);
  await own.rotate('issue');
  assert.equal(own.external, true);
  const second = [await identityOf(own), await identityOf(own, PAYMENT)] as const;
  assert.equal(vault.asked, 2);
  assert.ok(second[0].signers.includes(own.issuer) && !first[0].signers.includes(own.issuer));
  await all(...first, ...second);
  await own.rotate('retire');
  await all(...second);
  await assert.rejects(handshake(own, first[0], second[1]));
  // A restarted control plane goes on with it; only who need not ask it can do without the service.
  const again = await createAuthority({ dir: join(dir, 'own'), trustDomain: 'cluster.local', openExternal });
  assert.equal(again.issuer, own.issuer);
  const { rootPem } = await createAuthority({ dir: join(dir, 'own'), trustDomain: 'cluster.local' });
  assert.equal(rootPem, place.theirs.rootPem);
  await again.rotate('distribute');
  await again.rotate('issue');
  const third = await identityOf(again);
  await handshake(again, third, second[1]);
  await handshake(again, second[0], third);
});

test('what Vault answers is believed no further than it can be checked', async (t) => {
  const place = await setUp(t);
  const { own, dir, theirs } = place;
  const vault = await fakeVault(t, place);
  const external = {
    kind: 'vault',
    address: `http://127.0.0.1:${vault.port}`,
    mount: 'mesh/pki',
    role: 'weft',
    tokenFile: join(dir, 'token'),
  };
  await own.rotate('distribute', folder(place, external));
  await own.rotate('issue');
  const stranger = await createAuthority({ dir: join(dir, 'stranger'), trustDomain: 'cluster.local' });
  const { csrPem: otherCsr } = await createKeyAndCsr(CART);
  const by = async (authority: Authority, csr: string, spiffeId: string): Promise<[number, unknown]> => {
    const { certPem } = await authority.sign(csr, { spiffeId, ttlMs: TTL_MS });
    return [200, { data: { certificate: certPem, issuing_ca: authority.rootPem } }];
  };
  const answers: [RegExp, (body: Asked) => Promise<[number, unknown]>][] = [
    [/another key/, () => by(theirs, otherCsr, CART)],
    [/names .*payment/, ({ csr }) => by(theirs, csr, PAYMENT)],
    [/no chain leads/, ({ csr }) => by(stranger, csr, CART)],
    [/another key/, async () => [200, { data: { certificate: theirs.rootPem } }]],
    [/status 400: no such role/, async () => [400, { errors: ['no such role'] }]],
    [/no JSON/, async () => [200, '<html>']],
    [/no data.certificate/, async () => [200, { data: {} }]],
    [/no data.certificate/, async () => [200, 'null']],
    [/no certificate/, async () => [200, { data: { certificate: 'none' } }]],
    [/more than 262144 bytes/, async () => [200, { data: { certificate: 'x'.repeat(400_000) } }]],
  ];
  for (const [why, answer] of answers) {
    vault.answer = answer;
    await assert.rejects(identityOf(own), (error: Error) => why.test(error.message), String(why));
  }
  vault.answer = undefined;
  await identityOf(own);
  // A request for more than the caller is does not leave the house.
  const asked = vault.asked;
  const { csrPem } = await createKeyAndCsr(PAYMENT);
  await assert.rejects(own.sign(csrPem, { spiffeId: CART, ttlMs: TTL_MS }), { code: 'identity/bad-csr' });
  assert.equal(vault.asked, asked);
  writeFileSync(join(dir, 'token'), 's.other');
  await assert.rejects(identityOf(own), /status 403: permission denied/);
  chmodSync(join(dir, 'token'), 0o644);
  await assert.rejects(identityOf(own), { code: 'identity/exposed-secret' });
});

test('what external.json may say', async (t) => {
  const place = await setUp(t);
  const bad: [RegExp, object][] = [
    [/kind/, { kind: 'other', address: 'https://a' }],
    [/address/, { kind: 'istio', address: 'nowhere' }],
    [/https/, { kind: 'istio', address: 'http://192.0.2.1' }],
    [/unix/, { kind: 'spiffe', address: 'https://a' }],
    [/unix/, { kind: 'istio', address: 'unix:///a' }],
    [/role/, { kind: 'vault', address: 'https://a' }],
    [/mount/, { kind: 'vault', address: 'https://a', role: 'a', mount: '../sys' }],
    [/port is not known/, { kind: 'istio', address: 'https://a', port: '1' }],
  ];
  for (const [why, external] of bad)
    await assert.rejects(place.own.rotate('distribute', folder(place, external)), (e: Error) => why.test(e.message));
  assert.equal(place.own.phase, 'stable');
});

test('a Workload API that gives a CA makes the control plane an intermediate; any other certificate signs nothing', async (t) => {
  const place = await setUp(t);
  const { dir, own } = place;
  const ssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const ca = [
    '-addext',
    'basicConstraints=critical,CA:TRUE',
    '-addext',
    'keyUsage=critical,keyCertSign,digitalSignature',
  ];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  ssl('req', '-x509', ...key, '-keyout', 'r.key', '-out', 'r.pem', '-subj', '/O=Root', '-days', '9', ...ca.slice(2));
  const below = ['-CA', 'r.pem', '-CAkey', 'r.key', '-CAcreateserial', '-copy_extensions', 'copyall', '-days', '5'];
  const make = (name: string, extensions: string[]): { x509Svid: Buffer; x509SvidKey: Buffer } => {
    ssl('req', '-new', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/O=${name}`, ...extensions);
    ssl('x509', '-req', '-in', `${name}.csr`, ...below, '-out', `${name}.pem`);
    const read = (file: string) => readFileSync(join(dir, file));
    return {
      x509Svid: new X509Certificate(read(`${name}.pem`)).raw,
      x509SvidKey: createPrivateKey(read(`${name}.key`)).export({ type: 'pkcs8', format: 'der' }),
    };
  };
  const good = make('middle', ca);
  const leaf = make('leaf', ['-addext', 'basicConstraints=critical,CA:FALSE']);
  let svid = good;
  const server = createHttp2(
    grpcHandler({
      readMaxBytes: 65_536,
      routes: (router) =>
        router.service(SpiffeWorkloadAPI, {
          async *fetchX509SVID(_request, { requestHeader, signal }) {
            assert.equal(requestHeader.get('workload.spiffe.io'), 'true');
            const x509Svid = new Uint8Array(svid.x509Svid);
            yield create(X509SVIDResponseSchema, {
              svids: [{ spiffeId: 'spiffe://cluster.local', x509Svid, x509SvidKey: new Uint8Array(svid.x509SvidKey) }],
            });
            await new Promise((resolve) => signal.addEventListener('abort', resolve));
          },
        }),
    }),
  ).listen(join(dir, 'agent.sock'));
  await once(server, 'listening');
  const from = folder(place, { kind: 'spiffe', address: `unix://${dir}/agent.sock` });
  writeFileSync(join(from, 'root-cert.pem'), readFileSync(join(dir, 'r.pem')));
  const first = await identityOf(own);
  await own.rotate('distribute', from);
  await own.rotate('issue');
  const second = await identityOf(own);
  assert.equal(second.spiffeId, CART);
  await handshake(own, first, second);
  await handshake(own, second, first);
  svid = leaf;
  await assert.rejects(identityOf(own), /CA:FALSE/);
  svid = { ...good, x509SvidKey: leaf.x509SvidKey };
  await assert.rejects(identityOf(own), { code: 'control/external-ca' });
  svid = { ...good, x509Svid: good.x509Svid.subarray(0, 100) };
  await assert.rejects(identityOf(own), { code: 'control/external-ca' });
  server.close();
});

test("another IstioCertificateService is asked in the workload's name", async (t) => {
  const place = await setUp(t);
  const { own, dir, theirs } = place;
  const server = createHttp2(
    grpcHandler({
      readMaxBytes: 65_536,
      routes: (router) =>
        router.service(IstioCertificateService, {
          createCertificate: async ({ csr, validityDuration, metadata }, context) => {
            assert.equal(context.requestHeader.get('authorization'), 'Bearer s.mesh');
            const spiffeId = String(metadata?.ImpersonatedIdentity);
            const signed = await theirs.sign(csr, { spiffeId, ttlMs: Number(validityDuration) * 1000 });
            return create(IstioCertificateResponseSchema, { certChain: [signed.certPem, theirs.rootPem] });
          },
        }),
    }),
  ).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await own.rotate('distribute', folder(place, { kind: 'istio', address, tokenFile: join(dir, 'token') }));
  await own.rotate('issue');
  const cart = await identityOf(own);
  assert.equal(cart.spiffeId, CART);
  await handshake(own, cart, cart);
  server.close();
  await assert.rejects(identityOf(own), { code: 'control/external-ca' });
});
