import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { create, fromBinary } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { silentLogger } from '@weft/base';
import {
  assembleIdentity,
  controlTlsOptions,
  createKeyAndCsr,
  type Identity,
  localAuthorization,
} from '@weft/identity';
import {
  CertificateService,
  ENDPOINTS_TYPE,
  IstioCertificateService,
  PART_TYPE,
  PartSchema,
  REFERENCES_TYPE,
  ReferencesSchema,
  Reporter,
  TelemetryReportSchema,
  TelemetryService,
} from '@weft/plan';
import { AdsClient, type Change, createChannel } from '@weft/xds';
import type { ControlConfig } from './config.ts';
import { type ControlPlane, startControlPlane } from './start.ts';

const dir = mkdtempSync(join(tmpdir(), 'weft-control-'));
const file = join(dir, 'mesh.yaml');
const service = (name: string) => `---
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: shop}
spec: {selector: {app: ${name}}, ports: [{name: http, port: 8080}]}
`;
const namespace = `---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
`;
const account = (app: string) => `---
apiVersion: v1
kind: ServiceAccount
metadata: {name: ${app}, namespace: shop}
`;
const worker = (app: string, version: string) => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: ${app}-${version}, namespace: shop, labels: {app: ${app}, version: ${version}}}
spec: {command: ["true"], serviceAccountName: ${app}, ports: [{name: http, port: 8080}]}
`;
const weights = (v1: number, v2: number) => `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: payment, namespace: shop}
spec: {host: payment, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: payment, namespace: shop}
spec:
  hosts: [payment]
  http:
  - route:
    - {destination: {host: payment, subset: v1}, weight: ${v1}}
    - {destination: {host: payment, subset: v2}, weight: ${v2}}
`;
const workloads = [worker('cart', 'v1'), worker('payment', 'v1'), worker('payment', 'v2')].join('');
const base = [namespace, account('cart'), account('payment'), service('cart'), service('payment'), workloads].join('');
const mesh = (v1: number, v2: number) => base + weights(v1, v2);
writeFileSync(file, mesh(95, 5));

const config: ControlConfig = {
  mesh: 'test',
  stateDir: join(dir, 'state'),
  files: [file],
  listen: { xds: { host: '127.0.0.1', port: 0 }, metrics: { host: '127.0.0.1', port: 0 } },
  socket: join(dir, 'api.sock'),
  capture: 'transparent',
  maxAnonymousConnections: 20,
};
let control: ControlPlane = await startControlPlane(config, silentLogger);
const clients: AdsClient[] = [];
after(async () => {
  for (const client of clients) client.stop();
  await control.close();
  rmSync(dir, { recursive: true, force: true });
});

function api<T = Record<string, unknown>>(
  method: string,
  path: string,
  body?: unknown,
  more: Record<string, string> = {},
): Promise<{ status: number; body: T }> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: localAuthorization(config.socket), ...more };
    const request = httpRequest(
      { socketPath: config.socket, method, path, headers, agent: false },
      async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) });
      },
    );
    request.on('error', reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function until(condition: () => boolean | Promise<boolean>, withinMs = 60_000): Promise<number> {
  const start = Date.now();
  while (!(await condition())) {
    assert.ok(Date.now() - start < withinMs, `the awaited state was not reached within ${withinMs} ms`);
    await new Promise((r) => setTimeout(r, 5));
  }
  return Date.now() - start;
}

const instance = (app: string, n: number, version = 'v1') => ({
  workload: `${app}-${version}`,
  namespace: 'shop',
  serviceAccount: app,
  labels: { app, version },
  address: `10.9.0.${n}`,
  ports: [{ number: 8080, name: 'http' }],
  ready: true,
});

async function enroll(name: string): Promise<{ identity: Identity; rootPem: string; token: string }> {
  const { body } = await api<{ token: string; rootPem: string; trustDomain: string }>('POST', '/v1/tokens', {
    instance: name,
  });
  return { identity: await sign(body.rootPem, body.token), rootPem: body.rootPem, token: body.token };
}

function address(rootPem: string, identity?: Identity) {
  return {
    host: '127.0.0.1',
    port: control.ports.xds,
    tls: controlTlsOptions({ rootPem, trustDomain: 'cluster.local', identity }),
  };
}

const channel = (rootPem: string, identity?: Identity) => createChannel(address(rootPem, identity));

async function sign(rootPem: string, token: string, identity?: Identity): Promise<Identity> {
  const { keyPem, csrPem } = await createKeyAndCsr();
  const c = channel(rootPem, identity);
  try {
    const response = await createClient(CertificateService, c.transport).sign({ csrPem, token });
    return assembleIdentity({ keyPem, chainPem: response.chainPem, rootPem: response.rootPem });
  } finally {
    c.close();
  }
}

function proxy(id: string, identity: Identity, rootPem: string, refuse: { why: string } = { why: '' }) {
  const held = new Map<string, Uint8Array>();
  const changes: { type: string; change: Change }[] = [];
  const details: string[] = [];
  const client = new AdsClient({
    connect: () => address(rootPem, identity),
    node: { id, cluster: '' },
    types: [REFERENCES_TYPE, PART_TYPE, ENDPOINTS_TYPE],
    onUpdate(type, change) {
      if (refuse.why && type === PART_TYPE) throw new Error(refuse.why);
      changes.push({ type, change });
      for (const u of change.updated) held.set(u.name, u.bytes);
      for (const name of change.removed) held.delete(name);
    },
    onState: (_state, detail) => detail && details.push(detail),
  });
  clients.push(client);
  client.start();
  const split = () => {
    const bytes = held.get('service/payment.shop.svc.cluster.local');
    const part = bytes && fromBinary(PartSchema, bytes);
    return part?.kind.case === 'service'
      ? part.kind.value.ports[0]?.http[0]?.clusters.map((c) => c.weight).join('/')
      : undefined;
  };
  const epoch = () => {
    const bytes = held.get('own');
    return bytes ? Number(fromBinary(ReferencesSchema, bytes).epoch) : 0;
  };
  return { client, held, changes, details, split, epoch };
}

async function statusOf(name: string) {
  const { body } = await api<{ proxies: { instance: string; status: string; epoch: number; error: string }[] }>(
    'GET',
    '/v1/status',
  );
  return body.proxies.find((p) => p.instance === name);
}

test('token → certificate → plan → edit → epoch → NACK → restart', async () => {
  assert.equal(statSync(config.socket).mode & 0o777, 0o600);
  assert.equal((await api('PUT', '/v1/instances/cart-0', { ...instance('cart', 1) })).status, 200);
  await api('PUT', '/v1/instances/payment-v1-0', instance('payment', 2));
  assert.equal((await api('PUT', '/v1/instances/bad', { workload: 'x' })).status, 400);

  const { identity, rootPem, token } = await enroll('cart-0');
  assert.equal(identity.spiffeId, 'spiffe://cluster.local/ns/shop/sa/cart');
  await assert.rejects(sign(rootPem, token), /used already/);
  // One key may ask again, where its answer was lost; a request that cannot be used spends nothing.
  const { body: second } = await api<{ token: string }>('POST', '/v1/tokens', { instance: 'cart-0' });
  const c = channel(rootPem);
  const ca = createClient(CertificateService, c.transport);
  const { csrPem } = await createKeyAndCsr();
  await assert.rejects(ca.sign({ csrPem: 'nothing', token: second.token }), /PKCS #10/);
  for (let n = 0; n < 2; n++) assert.match((await ca.sign({ csrPem, token: second.token })).chainPem, /CERTIFICATE/);
  c.close();
  await assert.rejects(sign(rootPem, second.token), /used already/);
  const renewed = await sign(rootPem, '', identity);
  assert.equal(renewed.spiffeId, identity.spiffeId);
  await assert.rejects(sign(rootPem, ''), /unauthenticated/);

  assert.equal((await statusOf('cart-0'))?.status, 'DISCONNECTED');
  const refuse = { why: '' };
  const cart = proxy('cart-0', identity, rootPem, refuse);
  await until(() => cart.held.has('endpoints/payment.shop.svc.cluster.local:8080'));
  assert.deepEqual([cart.split(), cart.epoch()], ['95/5', 1]);
  assert.ok(cart.held.has('self') && cart.held.has('inbound/8080'));
  await until(async () => (await statusOf('cart-0'))?.status === 'SYNCED');

  // An edit brings only what it changed.
  const before = cart.changes.length;
  writeFileSync(file, mesh(50, 50));
  await until(() => cart.split() === '50/50');
  const parts = cart.changes.slice(before).filter((c) => c.type === PART_TYPE);
  assert.deepEqual(
    parts.flatMap((c) => c.change.updated.map((u) => u.name)),
    ['service/payment.shop.svc.cluster.local'],
  );
  await until(async () => (await statusOf('cart-0'))?.epoch === 2);

  // Endpoints travel alone, and a drain has arrived when it is answered.
  const drained = await api<{ settled: boolean }>('POST', '/v1/drain/payment-v1-0');
  assert.deepEqual(drained.body, { settled: true });
  assert.equal(cart.changes.at(-1)?.type, ENDPOINTS_TYPE);
  assert.equal(cart.epoch(), 2);

  // A broken file changes nothing but the list of problems.
  const count = cart.changes.length;
  writeFileSync(file, mesh(10, 90).replace('host: payment, subset: v2', 'host: nowhere'));
  await until(async () => (await api<{ refused: boolean }>('GET', '/v1/problems')).body.refused);
  const { body } = await api<{ epoch: number; problems: { file: string; line: number }[] }>('GET', '/v1/problems');
  assert.equal(body.epoch, 2);
  assert.ok(body.problems.some((p) => p.file === file && p.line > 0));
  assert.equal(cart.changes.length, count);

  // A refused plan is an error with its reason; the next good one heals it.
  refuse.why = 'cannot listen on 8080';
  writeFileSync(file, mesh(20, 80));
  await until(async () => (await statusOf('cart-0'))?.status === 'ERROR');
  const status = await statusOf('cart-0');
  assert.deepEqual([status?.error, status?.epoch], ['cannot listen on 8080', 2]);
  refuse.why = '';
  writeFileSync(file, mesh(30, 70));
  await until(async () => (await statusOf('cart-0'))?.status === 'SYNCED');
  assert.deepEqual([cart.split(), cart.epoch()], ['30/70', 4]);

  // It comes back with the same epoch, addresses, root and instances, also when the files broke meanwhile.
  const vips = (await api('GET', '/v1/vips')).body;
  assert.match(JSON.stringify(vips), /"payment.shop.svc.cluster.local":\["240\.240\./);
  const port = control.ports.xds;
  await control.close();
  await until(async () => cart.client.state !== 'connected');
  writeFileSync(file, 'kind: [');
  const seen = cart.changes.length;
  control = await startControlPlane(
    { ...config, listen: { ...config.listen, xds: { host: '127.0.0.1', port } } },
    silentLogger,
  );
  await until(async () => (await statusOf('cart-0'))?.status === 'SYNCED');
  assert.deepEqual((await api('GET', '/v1/vips')).body, vips);
  assert.deepEqual((await api<{ epoch: number; refused: boolean }>('GET', '/v1/epoch')).body.epoch, 4);
  for (const c of cart.changes.slice(seen)) assert.deepEqual(c.change.updated, []);
  writeFileSync(file, mesh(30, 70));
  await until(async () => !(await api<{ refused: boolean }>('GET', '/v1/problems')).body.refused);
});

test("another identity's plan and reports are refused, and nothing but Sign answers without a certificate", async () => {
  await api('PUT', '/v1/instances/payment-v1-1', instance('payment', 3));
  const { identity, rootPem } = await enroll('payment-v1-1');
  const thief = proxy('cart-0', identity, rootPem);
  await until(() => thief.details.some((d) => /may not have the plan of cart-0/.test(d)));
  thief.client.stop();
  assert.equal(thief.held.size, 0);
  const nobody = channel(rootPem);
  await assert.rejects(
    createClient(TelemetryService, nobody.transport).push({ instance: 'cart-0' }),
    /verified certificate/,
  );
  nobody.close();

  const own = channel(rootPem, identity);
  const telemetry = createClient(TelemetryService, own.transport);
  await assert.rejects(telemetry.push({ instance: 'cart-0', sequence: 1n }), /may not report/);
  const edge = {
    sourceWorkload: 'somebody',
    destinationService: 'cart.shop.svc.cluster.local',
    destinationVersion: 'v1',
    responseCode: 200,
    grpcStatus: -1,
    mtls: true,
  };
  const plain = { ...edge, reporter: Reporter.DESTINATION, mtls: false, sourceNamespace: 'shop' };
  const report = create(TelemetryReportSchema, {
    instance: 'payment-v1-1',
    sequence: 1n,
    startMs: 7n,
    edges: [
      { ...edge, reporter: Reporter.SOURCE, requests: 5n, buckets: [3, 5] },
      { ...edge, reporter: Reporter.DESTINATION, requests: 9n },
      // In plaintext the destination's word counts where the caller's own proxy says nothing of it.
      { ...edge, reporter: Reporter.SOURCE, mtls: false, destinationService: 'a', requests: 3n },
      { ...plain, sourceWorkload: 'payment-v1', destinationService: 'a', destinationVersion: '', requests: 3n },
      { ...plain, sourceWorkload: 'cart', destinationService: 'b', requests: 4n },
      { ...plain, sourceWorkload: 'unknown', sourceNamespace: 'unknown', destinationService: 'b', requests: 2n },
    ],
  });
  await telemetry.push(report);
  await telemetry.push(report); // its answer was lost: not counted again
  own.close();
  const { body } = await api<{ edges: { source: string; destination: string; requests: number }[] }>(
    'GET',
    '/v1/edges?window=all',
  );
  assert.deepEqual(
    body.edges.map((e) => [e.source, e.destination, e.requests]),
    [
      ['cart', 'b', 4],
      ['payment-v1', 'a', 3],
      ['payment-v1', 'cart.shop.svc.cluster.local', 5],
      ['unknown', 'b', 2],
    ],
  );
});

test("clients of Istio's CA get the same certificates by the same proofs", async () => {
  await api('PUT', '/v1/instances/cart-9', instance('cart', 9));
  const { body } = await api<{ token: string; rootPem: string }>('POST', '/v1/tokens', { instance: 'cart-9' });
  const ask = async (headers: Record<string, string>, validityDuration = 0n, identity?: Identity) => {
    const { keyPem, csrPem } = await createKeyAndCsr();
    const c = channel(body.rootPem, identity);
    try {
      const { certChain } = await createClient(IstioCertificateService, c.transport).createCertificate(
        { csr: csrPem, validityDuration },
        { headers },
      );
      const rootPem = certChain.at(-1) as string;
      return assembleIdentity({ keyPem, chainPem: certChain.slice(0, -1).join(''), rootPem });
    } finally {
      c.close();
    }
  };
  const bearer = { authorization: `Bearer ${body.token}` };
  const identity = await ask(bearer, 3600n);
  assert.equal(identity.spiffeId, 'spiffe://cluster.local/ns/shop/sa/cart');
  assert.ok(Math.abs(identity.notAfterMs - Date.now() - 3_600_000) < 60_000);
  await assert.rejects(ask(bearer), /used already/);
  await assert.rejects(ask({}), /unauthenticated/);
  assert.equal((await ask({}, 0n, identity)).spiffeId, identity.spiffeId);
  // More than this mesh gives is cut to it; years are refused.
  const longest = await ask({}, 30n * 86_400n, identity);
  assert.ok(longest.notAfterMs - Date.now() < 25 * 3_600_000);
  await assert.rejects(ask({}, 10n * 365n * 86_400n, identity), /10 s to 90 days/);
});

test('what was revoked gets no certificate, by token or by certificate, and its connection ends', async () => {
  const identityOf = 'spiffe://cluster.local/ns/shop/sa/cart';
  await api('PUT', '/v1/instances/cart-8', instance('cart', 8));
  const { identity, rootPem } = await enroll('cart-8');
  const cart = proxy('cart-8', identity, rootPem);
  await until(() => cart.held.has('trust'));
  const next = await api<{ token: string }>('POST', '/v1/tokens', { instance: 'cart-8' });
  assert.equal((await api('POST', '/v1/ca-revoke', { what: identityOf })).status, 200);
  await assert.rejects(sign(rootPem, next.body.token), /is revoked/);
  await assert.rejects(sign(rootPem, '', identity), /revoked/);
  await until(() => cart.client.state !== 'connected');
  const trust = fromBinary(PartSchema, cart.held.get('trust') as Uint8Array).kind;
  assert.deepEqual(trust.case === 'trust' && trust.value.revokedIds, [identityOf], 'it was told before it was cut off');
  assert.equal((await api('POST', '/v1/ca-restore', { what: identityOf })).status, 200);
  await until(() => cart.client.state === 'connected', 30_000);
  cart.client.stop();
});

test('a second control plane on the same socket is refused', async () => {
  const second = { ...config, stateDir: join(dir, 'state2') };
  await assert.rejects(startControlPlane(second, silentLogger), { code: 'control/already-running' });
});

test('an authority that is no host name ends nothing', async () => {
  const { body } = await api<{ rootPem: string }>('GET', '/v1/root');
  const tls = controlTlsOptions({ rootPem: body.rootPem, trustDomain: 'cluster.local' });
  const session = connectHttp2(`https://127.0.0.1:${control.ports.xds}`, { ...tls, ALPNProtocols: ['h2'] });
  const ask = async (path: string): Promise<number> => {
    const stream = session.request({ ':method': 'POST', ':path': path, ':authority': 'a%2Fb', 'content-type': 'x' });
    const [head] = (await once(stream.end(), 'response')) as [{ ':status': number }];
    return head[':status'];
  };
  assert.equal(await ask('/weft.control.v1.CertificateService/Sign'), 415);
  const tunnel = session.request({ ':method': 'CONNECT', ':authority': 'a%2Fb' });
  tunnel.on('error', () => {});
  const [refusal] = (await once(tunnel, 'response')) as [{ ':status': number }];
  assert.ok(refusal[':status'] >= 200);
  tunnel.close();
  assert.equal(await ask('//:x'), 200); // gRPC's own refusal: no certificate was shown
  session.destroy();
  assert.equal((await api('GET', '/v1/epoch')).status, 200);
});

test('the local API answers who holds its token, and no page of a browser', async () => {
  const token = join(dir, 'api-token');
  assert.equal(statSync(token).mode & 0o777, 0o600);
  const status = async (headers: Record<string, string>) => (await api('GET', '/v1/epoch', undefined, headers)).status;
  assert.equal(await status({}), 200);
  assert.equal(await status({ authorization: '' }), 401);
  assert.equal(await status({ authorization: 'Bearer x' }), 401);
  assert.equal(await status({ host: 'mesh.attacker.example' }), 403);
  assert.equal(await status({ host: 'localhost:15014' }), 200);
  assert.equal(await status({ origin: 'https://attacker.example' }), 403);
  assert.equal(await status({ origin: 'null' }), 403);
});

test('strangers are bounded before anything of theirs is read', async () => {
  const { body } = await api<{ rootPem: string }>('GET', '/v1/root');
  const tls = { ...controlTlsOptions({ rootPem: body.rootPem, trustDomain: 'cluster.local' }), ALPNProtocols: ['h2'] };
  const open = () =>
    connectHttp2(`https://127.0.0.1:${control.ports.xds}`, tls).on('error', () => {}) as ClientHttp2Session;
  const session = open();
  /** The status of gRPC that a message of so many bytes gets; `begun` of them are sent. */
  const ask = async (path: string, bytes: number, begun: number): Promise<string> => {
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const head = Buffer.alloc(5);
    head.writeUInt32BE(bytes, 1);
    stream.write(head);
    if (begun > 0) stream.write(Buffer.alloc(begun));
    let status = '';
    const take = (headers: Record<string, unknown>): void => {
      status ||= String(headers['grpc-status'] ?? '');
    };
    stream.on('response', take);
    stream.on('trailers', take);
    stream.on('error', () => {});
    stream.resume();
    while (status === '') await new Promise((r) => setTimeout(r, 5));
    stream.close();
    return status;
  };
  // Nobody's report is waited for.
  assert.equal(await ask('/weft.control.v1.TelemetryService/Push', 4_000_000, 0), '16');
  assert.equal(
    await ask('/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources', 100, 0),
    '16',
  );
  // A request for a certificate is small.
  assert.equal(await ask('/weft.control.v1.CertificateService/Sign', 80_000, 0), '8');
  const crowd = Array.from({ length: 30 }, open);
  await until(() => crowd.filter((s) => s.destroyed).length >= 10);
  const text = await (await fetch(`http://127.0.0.1:${control.ports.metrics}/metrics`)).text();
  assert.match(text, /^weft_anonymous_refused 1\d$/m);
  // Names and meanings that people's alerts for certificates know from istiod.
  const metric = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
  const years = metric('citadel_server_root_cert_expiry_seconds') / (365 * 86_400);
  assert.ok(years > 9.9 && years <= 10.1, `${years} years`);
  const issued = metric('citadel_server_success_cert_issuance_count');
  assert.ok(issued > 0 && metric('citadel_server_csr_count') >= issued);
  assert.ok(metric('citadel_server_authentication_failure_count') > 0);
  assert.ok(metric('citadel_server_csr_parsing_err_count') >= 0);
  for (const s of [session, ...crowd]) s.destroy();
});
