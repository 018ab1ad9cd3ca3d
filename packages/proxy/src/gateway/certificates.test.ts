/** Several certificates of one gateway server, its curves, and certificates of clients and of servers that were revoked. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, createPublicKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import tls from 'node:tls';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot, type Snapshot } from '@weft/engine';
import {
  ClientCertificate,
  EndpointsSchema,
  type GatewayTlsSchema,
  outboundClusterName,
  type Part,
  PartSchema,
  SecretSchema,
  TlsOriginationSchema,
  type TlsSettings,
  TlsSettingsSchema,
  TlsVersion,
} from '@weft/plan';
import { DataPlane } from '../data-plane.ts';
import { Originator } from '../net/originate.ts';
import { Watched } from '../test-pair.ts';

const EDGE = '127.9.50.1';
const APP = '127.9.50.2';
const HOST = 'app.test.svc.cluster.local';
const PORT = 9443;
const dir = mkdtempSync(join(tmpdir(), 'weft-certificates-'));
const at = (name: string): string => join(dir, name);
const openssl = (...words: string[]): void => void execFileSync('openssl', words, { stdio: 'pipe' });
const EC = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];

interface Pair {
  certificatePem: string;
  keyPem: string;
}

/** Signed by itself, or by `ca`. */
function certificate(stem: string, san: string, algorithm = EC, ca?: string): Pair {
  const made = ['-newkey', ...algorithm, '-nodes', '-keyout', at(`${stem}.key`), '-out', at(`${stem}.crt`)];
  const by = ca ? ['-CA', at(`${ca}.crt`), '-CAkey', at(`${ca}.key`), '-addext', 'basicConstraints=CA:FALSE'] : [];
  openssl('req', '-x509', '-subj', `/CN=${stem}`, '-addext', `subjectAltName=${san}`, '-days', '2', ...by, ...made);
  return { certificatePem: readFileSync(at(`${stem}.crt`), 'utf8'), keyPem: readFileSync(at(`${stem}.key`), 'utf8') };
}

const ecdsa = certificate('ecdsa', 'DNS:a.test');
const rsa = certificate('rsa', 'DNS:a.test', ['rsa:2048']);
const more = certificate('more', 'DNS:*.b.test');
const caPem = certificate('ca', 'DNS:ca').certificatePem;
const good = certificate('good', 'DNS:me', EC, 'ca');
const bad = certificate('bad', 'DNS:me', EC, 'ca');

/** What the CA has revoked. */
function revocations(...stems: string[]): string {
  writeFileSync(at('index'), '');
  writeFileSync(at('crlnumber'), '01\n');
  const settings = `database=${at('index')}\ncrlnumber=${at('crlnumber')}\ndefault_md=sha256\ndefault_crl_days=2`;
  writeFileSync(at('ca.cnf'), `[ca]\ndefault_ca=own\n[own]\n${settings}\n`);
  const ca = ['ca', '-config', at('ca.cnf'), '-cert', at('ca.crt'), '-keyfile', at('ca.key')];
  for (const stem of stems) openssl(...ca, '-revoke', at(`${stem}.crt`));
  openssl(...ca, '-gencrl', '-out', at('ca.crl'));
  return readFileSync(at('ca.crl'), 'utf8');
}

const part = (kind: object): Part => create(PartSchema, { kind: kind as Part['kind'] });
const cluster = outboundClusterName(8080, '', HOST);
const secrets = new Map<string, MessageInitShape<typeof SecretSchema>>(
  Object.entries({ ecdsa, rsa, more }).map(([name, pair]) => [name, { name, ref: name, ...pair }]),
);

let snapshot: Snapshot | undefined;
let epoch = 0n;
function apply(ends: MessageInitShape<typeof GatewayTlsSchema>): void {
  const http = [{ ref: 'main', clusters: [{ ref: 'to', cluster, weight: 1 }] }];
  const servers = [{ ref: 'own', hosts: ['*'], tls: ends, virtualHosts: [{ host: '*', http }] }];
  const parts = [
    part({
      case: 'self',
      value: { mesh: 'test', instance: 'edge-0', workload: 'edge', namespace: 'test', drainMs: 50 },
    }),
    part({ case: 'cluster', value: { name: cluster, host: HOST, port: 8080 } }),
    ...[...secrets.values()].map((value) => part({ case: 'secret', value })),
    part({ case: 'gateway', value: { port: PORT, servers } }),
  ];
  const endpoints = create(EndpointsSchema, {
    host: HOST,
    port: 8080,
    endpoints: [{ instance: 'app-0', address: APP, port: 8080 }],
  });
  snapshot = buildSnapshot(parts, [endpoints], snapshot);
  edge.apply(snapshot, ++epoch);
}

const seen = new Watched();
let edge: DataPlane;
let app: http.Server;

before(async () => {
  app = http.createServer((_q, r) => r.end('in'));
  app.listen(8080, APP);
  await once(app, 'listening');
  edge = new DataPlane({
    ...{ address: EDGE, capture: 'explicit', bind: {}, gateway: { host: EDGE } },
    ...{ observer: seen.observer, logger: silentLogger },
  });
  apply({ secret: 'ecdsa' });
  await edge.listen();
});
after(() => {
  edge?.close();
  app?.close();
  app?.closeAllConnections();
  rmSync(dir, { recursive: true, force: true });
});

function connect(servername: string, options: tls.ConnectionOptions = {}): tls.TLSSocket {
  const socket = tls.connect({ host: EDGE, port: PORT, servername, rejectUnauthorized: false, ...options });
  socket.on('error', () => {});
  return socket;
}

/** The name of the certificate that a client gets. */
async function shown(servername: string, options: tls.ConnectionOptions = {}): Promise<string> {
  const socket = connect(servername, options);
  await once(socket, 'secureConnect');
  const { CN } = socket.getPeerCertificate().subject;
  socket.destroy();
  return String(CN);
}

/** What comes of a request on a connection; '' where it is closed before. */
function asked(socket: net.Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    socket.on('data', (d) => {
      text += d.toString();
    });
    socket.on('close', () => resolve(text.split('\r\n')[0]));
    socket.write('GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n');
  });
}

test('several certificates: the algorithms of the client and the name that it asks for choose', async () => {
  apply({ secret: 'ecdsa', moreSecrets: ['rsa', 'more'] });
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const onlyRsa = { sigalgs: 'rsa_pss_rsae_sha256:RSA+SHA256', maxVersion };
    const onlyEcdsa = { sigalgs: 'ECDSA+SHA256', maxVersion };
    assert.equal(await shown('a.test', onlyEcdsa), 'ecdsa');
    assert.equal(await shown('a.test', onlyRsa), 'rsa');
    assert.equal(await shown('x.b.test', { maxVersion }), 'more');
    // Of what the client can judge, nothing is for the name.
    await assert.rejects(shown('x.b.test', onlyRsa), /handshake failure/);
    assert.equal(await shown('nobody.test', onlyEcdsa), 'ecdsa', 'no certificate has the name: the first');
    assert.equal(await shown('', onlyEcdsa), 'ecdsa', 'no name');
  }
  assert.equal(await asked(connect('x.b.test')), 'HTTP/1.1 200 OK');
  // Another one for handshakes from now on; the connections that are there stay.
  const open = connect('a.test');
  await once(open, 'secureConnect');
  apply({ secret: 'rsa' });
  assert.equal(await shown('a.test'), 'rsa');
  assert.equal(await asked(open), 'HTTP/1.1 200 OK');
  // One that cannot be used changes nothing.
  const refused = seen.counts.get('gateway_certificate_refused') ?? 0;
  secrets.set('more', { ...secrets.get('more'), keyPem: ecdsa.keyPem });
  apply({ secret: 'ecdsa', moreSecrets: ['more'] });
  assert.equal(seen.counts.get('gateway_certificate_refused'), refused + 1);
  assert.equal(await shown('a.test'), 'rsa');
  secrets.set('more', { name: 'more', ref: 'more', ...more });
  // Nor does one that is not here yet.
  apply({ secret: 'ecdsa', moreSecrets: ['late'] });
  assert.equal(await shown('a.test'), 'rsa');
});

test('clients are judged by the authority of the plan, and by what it has revoked', async () => {
  const as = (pair: Pair, servername = 'a.test') =>
    connect(servername, { cert: pair.certificatePem, key: pair.keyPem });
  const ends = {
    ...{ secret: 'ecdsa', moreSecrets: ['more'], authority: 'judge' },
    clientCertificate: ClientCertificate.REQUIRED,
  };
  const judge = (crlPem: string): void => {
    secrets.set('judge', { name: 'judge', ref: 'judge', caPem, crlPem });
    apply(ends);
  };
  judge('');
  assert.equal(await asked(as(good)), 'HTTP/1.1 200 OK');
  assert.equal(await asked(as(bad)), 'HTTP/1.1 200 OK');
  assert.equal(await asked(as(ecdsa)), '', 'signed by itself');
  judge(revocations());
  assert.equal(await asked(as(bad)), 'HTTP/1.1 200 OK', 'nothing is revoked');
  const open = as(bad);
  await once(open, 'secureConnect');
  const over = once(open, 'close');
  judge(revocations('bad'));
  await over;
  assert.equal(await asked(as(bad)), '');
  assert.equal(await asked(as(bad, 'x.b.test')), '', 'nor where another certificate is shown');
  assert.equal(await asked(as(good)), 'HTTP/1.1 200 OK');
});

test('of good certificates those are taken whose hash or whose key is asked for', async () => {
  const as = (pair: Pair) => connect('a.test', { cert: pair.certificatePem, key: pair.keyPem });
  const raw = (pair: Pair): Buffer => new X509Certificate(pair.certificatePem).raw;
  const key = (pair: Pair): Buffer =>
    createPublicKey(pair.certificatePem).export({ type: 'spki', format: 'der' }) as Buffer;
  const of = (bytes: Buffer, encoding: 'hex' | 'base64'): string => createHash('sha256').update(bytes).digest(encoding);
  const again = certificate('again', 'DNS:me', EC, 'ca');
  secrets.set('judge', { name: 'judge', ref: 'judge', caPem });
  const asking = (hashes: MessageInitShape<typeof GatewayTlsSchema>, who = ClientCertificate.REQUIRED): void =>
    apply({ secret: 'ecdsa', authority: 'judge', clientCertificate: who, ...hashes });
  const answers = async (): Promise<boolean[]> => {
    const all = [good, bad, again, ecdsa].map(async (pair) => (await asked(as(pair))) === 'HTTP/1.1 200 OK');
    return Promise.all(all);
  };
  asking({});
  assert.deepEqual(await answers(), [true, true, true, false]);
  asking({ certificateHashes: [of(raw(good), 'hex')] });
  assert.deepEqual(await answers(), [true, false, false, false]);
  asking({ keyHashes: [of(key(bad), 'base64')] });
  assert.deepEqual(await answers(), [false, true, false, false]);
  asking({ certificateHashes: [of(raw(good), 'hex')], keyHashes: [of(key(bad), 'base64')] });
  assert.deepEqual(await answers(), [true, true, false, false], 'one of either');
  // A hash does not make good what the CA did not sign, nor does it do for a name.
  asking({ certificateHashes: [of(raw(ecdsa), 'hex')] });
  assert.deepEqual(await answers(), [false, false, false, false]);
  asking({ certificateHashes: [of(raw(good), 'hex')], subjectAltNames: ['you'] });
  assert.deepEqual(await answers(), [false, false, false, false]);
  const refused = seen.counts.get('gateway_client_certificate_refused') ?? 0;
  // Optional: none is let in, one that is shown must fit.
  asking({ certificateHashes: [of(raw(good), 'hex')] }, ClientCertificate.OPTIONAL);
  assert.deepEqual(await answers(), [true, false, false, false]);
  assert.equal(await asked(connect('a.test')), 'HTTP/1.1 200 OK');
  assert.equal(seen.counts.get('gateway_client_certificate_refused'), refused + 3);
  // Who is not asked for any more is let go.
  const open = as(good);
  await once(open, 'secureConnect');
  const over = once(open, 'close');
  asking({ certificateHashes: [of(raw(bad), 'hex')] }, ClientCertificate.OPTIONAL);
  await over;
});

test('no server outside is believed whose certificate was revoked', async (t) => {
  const server = tls.createServer({ cert: bad.certificatePem, key: bad.keyPem }, (socket) => void socket.end());
  t.after(() => server.close());
  server.on('tlsClientError', () => {});
  server.listen(0, APP);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const reached = async (crlPem: string, files: boolean): Promise<string> => {
    const secret = create(SecretSchema, { name: 'out', caPem, crlPem });
    const from = files ? { caCertificates: at('ca.crt'), caCrl: at('ca.crl') } : { credential: 'out' };
    const settings = create(TlsOriginationSchema, { ...from, sni: 'me' });
    const originator = new Originator(
      settings,
      'me',
      () => 0,
      () => ({ secrets: new Map([['out', secret]]) }),
    );
    const dial = (host: string, to: number): net.Socket => net.connect({ host, port: to });
    const socket = originator.connector(dial, undefined)(APP, port);
    t.after(() => socket.destroy());
    const failed = (error: NodeJS.ErrnoException): string => error.code ?? '';
    return once(socket, 'secureConnect').then(() => 'reached', failed);
  };
  for (const files of [false, true]) {
    assert.equal(await reached(revocations(), files), 'reached');
    assert.equal(await reached(revocations('bad'), files), 'CERT_REVOKED');
  }
});

test('curves and versions of a gateway server: handshakes by others are refused, and settings may be taken back', async () => {
  const protocol = async (options: tls.ConnectionOptions): Promise<string> => {
    const socket = connect('a.test', options);
    const done = once(socket, 'secureConnect').then(
      () => socket.getProtocol() ?? '',
      (error: NodeJS.ErrnoException) => error.code ?? '',
    );
    return done.finally(() => socket.destroy());
  };
  const by = (ecdhCurve: string, maxVersion: tls.SecureVersion = 'TLSv1.3') => protocol({ ecdhCurve, maxVersion });
  const REFUSED = 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE';
  for (const curve of ['P-384', 'P-521', 'X25519', 'X25519MLKEM768']) {
    apply({ secret: 'rsa', curves: [curve] });
    assert.equal(await by(curve), 'TLSv1.3', curve);
    assert.equal(await by('P-256'), REFUSED, curve);
  }
  apply({ secret: 'rsa', curves: ['P-384', 'P-256'] });
  assert.deepEqual(await Promise.all([by('P-256'), by('P-384'), by('X25519')]), ['TLSv1.3', 'TLSv1.3', REFUSED]);
  assert.deepEqual(await Promise.all([by('P-256', 'TLSv1.2'), by('X25519', 'TLSv1.2')]), ['TLSv1.2', REFUSED]);
  // Other certificates of the server are no way around it.
  apply({ secret: 'ecdsa', moreSecrets: ['more'], curves: ['P-384'] });
  const named = connect('x.b.test', { ecdhCurve: 'X25519' });
  const [error] = (await once(named, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, REFUSED);
  apply({ secret: 'rsa' });
  assert.deepEqual(await Promise.all([by('P-256'), by('X25519')]), ['TLSv1.3', 'TLSv1.3']);
});

test('TLS that a proxy begins: by the curves, suites and versions of the settings, from the next connection on', async (t) => {
  const material = { cert: good.certificatePem, key: good.keyPem };
  const server = tls.createServer({ ...material, ecdhCurve: 'P-384' }, (socket) => void socket.end());
  t.after(() => server.close());
  server.on('tlsClientError', () => {});
  server.listen(0, APP);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const secret = create(SecretSchema, { name: 'out', caPem });
  for (const from of [{ credential: 'out' }, { caCertificates: at('ca.crt') }]) {
    let told: TlsSettings | undefined;
    const originator = new Originator(
      create(TlsOriginationSchema, { ...from, sni: 'me' }),
      'me',
      () => 0,
      () => ({ secrets: new Map([['out', secret]]), tls: told }),
    );
    const dial = (host: string, to: number): net.Socket => net.connect({ host, port: to });
    const reached = async (settings?: MessageInitShape<typeof TlsSettingsSchema>): Promise<string> => {
      told = settings && create(TlsSettingsSchema, settings);
      const socket = originator.connector(dial, undefined)(APP, port) as tls.TLSSocket;
      t.after(() => socket.destroy());
      const got = (): string => `${socket.getProtocol()} ${socket.getCipher().standardName}`;
      return once(socket, 'secureConnect').then(got, (error: NodeJS.ErrnoException) => error.code ?? '');
    };
    const usual = await reached();
    assert.match(usual, /^TLSv1\.3 /);
    assert.equal(await reached({ curves: ['X25519'] }), 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE');
    assert.equal(await reached({ curves: ['X25519', 'P-384'] }), usual);
    server.setSecureContext({ ...material, maxVersion: 'TLSv1.2' });
    const suite = 'ECDHE-ECDSA-CHACHA20-POLY1305';
    assert.equal(await reached({ cipherSuites: [suite] }), 'TLSv1.2 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256');
    assert.match(await reached({ cipherSuites: ['ECDHE-RSA-AES128-GCM-SHA256'] }), /ALERT_HANDSHAKE_FAILURE/);
    assert.match(await reached({ minVersion: TlsVersion.TLSV1_3 }), /PROTOCOL_VERSION/);
    assert.match(await reached(), /^TLSv1\.2 /);
    server.setSecureContext({ ...material, ecdhCurve: 'P-384' });
  }
});
