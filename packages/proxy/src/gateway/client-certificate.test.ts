/** x-forwarded-client-cert from a visitor's certificate, through a gateway and the mesh, to the application. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import tls from 'node:tls';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import {
  ClientCertificate,
  EndpointsSchema,
  ForwardClientCert,
  MtlsMode,
  outboundClusterName,
  type Part,
  PartSchema,
  Protocol,
} from '@weft/plan';
import { DataPlane } from '../data-plane.ts';
import { altNames, hasName } from '../net/alt-names.ts';
import { loopbackConnector } from '../net/dial.ts';
import { testIdentities } from '../test-identity.ts';
import { Watched } from '../test-pair.ts';
import { certificateElement } from './client-certificate.ts';

const EDGE = '127.9.53.1';
const BACK = '127.9.53.2';
const HOST = 'app.test.svc.cluster.local';
const PORT = 9443;
const PLAIN = 9080;
const EDGE_ID = 'spiffe://cluster.local/ns/test/sa/edge';
const dir = mkdtempSync(join(tmpdir(), 'weft-client-certificate-'));
const at = (name: string): string => join(dir, name);

interface Pair {
  cert: string;
  key: string;
}

/** Signed by itself, or by `ca`. */
function certificate(stem: string, subject: string, san: string, ca?: string, more: string[] = []): Pair {
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', at(`${stem}.key`)];
  const by = ca ? ['-CA', at(`${ca}.crt`), '-CAkey', at(`${ca}.key`), '-addext', 'basicConstraints=CA:FALSE'] : [];
  const names = san === '' ? [] : ['-addext', `subjectAltName=${san}`];
  const what = ['-utf8', '-multivalue-rdn', '-subj', subject, ...names, '-days', '2', ...by, ...made, ...more];
  execFileSync('openssl', ['req', '-x509', ...what, '-out', at(`${stem}.crt`)], { stdio: 'pipe' });
  return { cert: readFileSync(at(`${stem}.crt`), 'utf8'), key: readFileSync(at(`${stem}.key`), 'utf8') };
}

const server = certificate('server', '/CN=server', 'DNS:a.test');
const { cert: caPem } = certificate('ca', '/CN=ca', 'DNS:ca');
const visitor = certificate('visitor', '/O=Shop/CN=me', 'URI:spiffe://shop/me,DNS:me.test,DNS:more.test', 'ca');
const stranger = certificate('stranger', '/CN=stranger', 'DNS:me.test');
const hashOf = ({ cert }: Pair): string => createHash('sha256').update(new X509Certificate(cert).raw).digest('hex');
const TOLD = `Hash=${hashOf(visitor)};Subject="CN=me,O=Shop";URI=spiffe://shop/me;DNS=me.test;DNS=more.test`;
const VIA_EDGE =
  /By=spiffe:\/\/cluster\.local\/ns\/test\/sa\/back;Hash=[0-9a-f]{64};Subject="";URI=spiffe:\/\/cluster\.local\/ns\/test\/sa\/edge$/;

const part = (kind: object): Part => create(PartSchema, { kind: kind as Part['kind'] });
const cluster = outboundClusterName(8080, '', HOST);
const seen = new Watched();
let edge: DataPlane;
let back: DataPlane;
let app: http.Server;
let epoch = 0n;

function applyEdge(forwardClientCert: ForwardClientCert, clientCertificate = ClientCertificate.OPTIONAL): void {
  const virtualHosts = [{ host: '*', http: [{ ref: 'main', clusters: [{ ref: 'to', cluster, weight: 1 }] }] }];
  const ends = { secret: 'server', clientCertificate };
  const who = { mesh: 'test', instance: 'edge-0', workload: 'edge', namespace: 'test', serviceAccount: 'edge' };
  const pair = { name: 'server', ref: 'server', certificatePem: server.cert, keyPem: server.key, caPem };
  const parts = [
    part({ case: 'self', value: { ...who, trustDomain: 'cluster.local', drainMs: 50, forwardClientCert } }),
    part({ case: 'cluster', value: { name: cluster, host: HOST, port: 8080 } }),
    part({ case: 'secret', value: pair }),
    part({
      case: 'gateway',
      value: { port: PORT, servers: [{ ref: 'own', hosts: ['*'], tls: ends, virtualHosts }] },
    }),
    part({ case: 'gateway', value: { port: PLAIN, servers: [{ ref: 'plain', hosts: ['*'], virtualHosts }] } }),
  ];
  const endpoint = {
    ...{ instance: 'back-0', address: BACK, port: 8080, meshPort: 15008 },
    ...{ identity: 'spiffe://cluster.local/ns/test/sa/back', workload: 'back', namespace: 'test' },
  };
  const endpoints = create(EndpointsSchema, { host: HOST, port: 8080, endpoints: [endpoint] });
  edge.apply(buildSnapshot(parts, [endpoints]), ++epoch);
}

function applyBack(certificateTellers: string[]): void {
  const who = { mesh: 'test', instance: 'back-0', workload: 'back', namespace: 'test', serviceAccount: 'back' };
  const dial = { dialAddress: BACK, dialPort: (app.address() as AddressInfo).port };
  const parts = [
    part({
      case: 'self',
      value: { ...who, trustDomain: 'cluster.local', address: BACK, services: [HOST], certificateTellers },
    }),
    part({
      case: 'inbound',
      value: { port: 8080, protocol: Protocol.HTTP, mtls: MtlsMode.STRICT, serviceHost: HOST, ...dial },
    }),
  ];
  back.apply(buildSnapshot(parts, []), ++epoch);
}

before(async () => {
  app = http.createServer((q, r) => r.end(JSON.stringify(q.headersDistinct['x-forwarded-client-cert'] ?? [])));
  app.listen(0, BACK);
  await once(app, 'listening');
  const identity = await testIdentities(dir, 'test');
  const usual = { capture: 'explicit', observer: seen.observer, logger: silentLogger } as const;
  back = new DataPlane({
    ...usual,
    address: BACK,
    bind: { outbound: { host: BACK, port: 15001 }, mesh: { host: BACK, port: 15008 } },
  });
  back.setIdentity(await identity('back'));
  applyBack([EDGE_ID]);
  await back.listen();
  const connector = loopbackConnector(EDGE);
  edge = new DataPlane({ ...usual, address: EDGE, bind: {}, gateway: { host: EDGE }, connector });
  edge.setIdentity(await identity('edge'));
  applyEdge(ForwardClientCert.SANITIZE_SET);
  await edge.listen();
});
after(() => {
  edge?.close();
  back?.close();
  app?.close();
  app?.closeAllConnections();
  rmSync(dir, { recursive: true, force: true });
});

/** The fields that the application gets; '' where the connection is closed. `who` undefined: no certificate. */
async function told(who: Pair | undefined, came: string[] = [], plain = false): Promise<string> {
  const createConnection = (): tls.TLSSocket =>
    tls.connect({ host: EDGE, port: PORT, servername: 'a.test', rejectUnauthorized: false, ...who });
  const headers = { host: 'a.test', ...(came.length > 0 && { 'x-forwarded-client-cert': came }) };
  const target = plain ? { host: EDGE, port: PLAIN, agent: false as const } : { createConnection };
  return new Promise((resolve, reject) => {
    const q = http.get({ ...target, headers }, (r) => {
      let text = '';
      r.on('data', (d) => (text += d));
      r.on('end', () => resolve(r.statusCode === 200 ? (JSON.parse(text) as string[]).join(' | ') : text));
      r.on('error', reject);
    });
    q.on('error', () => resolve(''));
  });
}

/** What stands before what the application's own proxy says of the gateway. */
async function ofVisitor(who: Pair | undefined, came: string[] = [], plain = false): Promise<string> {
  const text = await told(who, came, plain);
  assert.match(text, VIA_EDGE);
  return text.replace(VIA_EDGE, '').replace(/,$/, '');
}

test('each setting: what the application hears of a visitor with and without a certificate', async () => {
  const { UNSPECIFIED, FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET, ALWAYS_FORWARD_ONLY } = ForwardClientCert;
  const came = ['URI=spiffe://a', 'URI=spiffe://b'];
  const all = came.join();
  const table: [ForwardClientCert, string, string][] = [
    [UNSPECIFIED, '', ''],
    [FORWARD_ONLY, all, ''],
    [APPEND_FORWARD, `${all},${TOLD}`, ''],
    [SANITIZE_SET, TOLD, ''],
    [ALWAYS_FORWARD_ONLY, all, all],
  ];
  for (const [how, shown, none] of table) {
    applyEdge(how);
    assert.equal(await ofVisitor(visitor, came), shown, ForwardClientCert[how]);
    assert.equal(await ofVisitor(undefined, came), none, `${ForwardClientCert[how]}, no certificate`);
    assert.equal(await ofVisitor(undefined, came, true), none, `${ForwardClientCert[how]}, in plaintext`);
  }
  // Certificates that are not asked for are nobody's.
  applyEdge(SANITIZE_SET, ClientCertificate.UNSPECIFIED);
  assert.equal(await ofVisitor(visitor, came), '');
  applyEdge(SANITIZE_SET, ClientCertificate.REQUIRED);
  assert.equal(await ofVisitor(visitor, came), TOLD);
  assert.equal(await told(stranger, came), '', 'of another CA: closed');
  assert.equal(await told(undefined, came), '', 'none: closed');
});

test('a workload passes on what gateways of its plan say, and of nobody else', async () => {
  applyEdge(ForwardClientCert.SANITIZE_SET);
  assert.equal(await ofVisitor(visitor), TOLD);
  for (const tellers of [[], ['spiffe://cluster.local/ns/test/sa/other'], [`${EDGE_ID}2`]]) {
    applyBack(tellers);
    assert.equal(await ofVisitor(visitor), '');
  }
  applyBack([EDGE_ID]);
  assert.equal(await ofVisitor(visitor), TOLD);
  assert.equal(seen.counts.get('internal_error') ?? 0, 0);
});

test('names in certificates say no more than they are', () => {
  const raw = (pair: Pair): Buffer => new X509Certificate(pair.cert).raw;
  const element = (pair: Pair): string => certificateElement(raw(pair)).replace(/^Hash=[0-9a-f]{64};/, '');
  const none = certificate('none', '/CN=alone', '');
  assert.equal(element(none), 'Subject="CN=alone";URI=');
  const hard = certificate('hard', '/O=Böse, "Leute"+OU=x/CN=a\\;URI=spiffe:\\/\\/admin', 'URI:spiffe://a;URI=b');
  assert.equal(
    element(hard),
    'Subject="CN=a\\;URI=spiffe://admin,O=B\\C3\\B6se\\, \\"Leute\\"+OU=x";URI="spiffe://a;URI=b"',
  );
  const printed = execFileSync('openssl', ['x509', '-in', at('hard.crt'), '-noout', '-subject', '-nameopt', 'RFC2253']);
  assert.equal(element(hard).split('";URI="')[0], `Subject="${String(printed).trim().slice('subject='.length)}`);
  // One name that reads as two, as far as a printed list goes.
  const section =
    '[req]\ndistinguished_name=dn\n[dn]\n[own]\nsubjectAltName=@names\n[names]\nDNS.1="a, URI:spiffe://admin, b"\n';
  writeFileSync(at('list.cnf'), section);
  const list = certificate('list', '/CN=list', '', undefined, ['-config', at('list.cnf'), '-extensions', 'own']);
  const read = new X509Certificate(list.cert);
  assert.deepEqual(altNames(read, 'URI'), []);
  assert.deepEqual(altNames(read, 'DNS'), ['a, URI:spiffe://admin, b']);
  assert.equal(hasName(read, 'spiffe://admin'), false);
  assert.equal(element(list), 'Subject="CN=list";URI=;DNS="a, URI:spiffe://admin, b"');
  assert.equal(certificateElement(Buffer.from('nothing')), '');
});
