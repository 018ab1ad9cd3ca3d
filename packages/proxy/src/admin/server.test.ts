import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import type { Identity } from '@weft/identity';
import { EndpointsSchema, type Part, PartSchema, ReferencesSchema } from '@weft/plan';
import { Registry } from '@weft/telemetry';
import { Outcome } from '../net/outcomes.ts';
import { testIdentities } from '../test-identity.ts';
import { isLoopbackHost } from './http.ts';
import { type Admin, startAdmin } from './server.ts';
import type { AdminState } from './state.ts';

interface Answer {
  status: number;
  body: string;
}

function get(
  port: number,
  path: string,
  options: { host?: string; method?: string; origin?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { host = 'localhost', origin } = options;
    const headers = { host, ...(origin ? { origin } : {}) };
    const r = request(
      { host: '127.0.0.1', port, path, method: options.method ?? 'GET', headers, agent: false },
      (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (c) => (body += c));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      },
    );
    r.on('error', reject);
    r.end();
  });
}

let appStatus = 200;
const app = createServer((req, res) => {
  if (req.url === '/hang') return;
  res.statusCode = appStatus;
  res.end(req.url === '/metrics' ? 'app_metric 1\n' : 'ok');
});
const tcpApp = createTcpServer((socket) => socket.end());
let ready = false;
let draining = false;
let admin: Admin;
const metrics = new Registry();
let own: Identity | undefined;

async function identity(): Promise<Identity> {
  const dir = mkdtempSync(join(tmpdir(), 'weft-admin-'));
  after(() => rmSync(dir, { recursive: true, force: true }));
  return (await testIdentities(dir, 'shop'))('cart');
}

before(async () => {
  await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve));
  await new Promise<void>((resolve) => tcpApp.listen(0, '127.0.0.1', resolve));
  const appPort = (app.address() as AddressInfo).port;
  const tcpPort = (tcpApp.address() as AddressInfo).port;
  const parts = new Map<string, Part>([
    [
      'inbound/8080',
      create(PartSchema, {
        kind: { case: 'inbound', value: { port: 8080, dialAddress: '127.0.0.1', dialPort: appPort, mtlsRef: 'pa' } },
      }),
    ],
    [
      'service/payment',
      create(PartSchema, { kind: { case: 'service', value: { host: 'payment', addresses: ['240.0.0.1'] } } }),
    ],
    ['cluster/c', create(PartSchema, { kind: { case: 'cluster', value: { name: 'outbound|80||payment' } } })],
  ]);
  const endpoint = { instance: 'payment-0', address: '10.0.0.2', port: 8080 };
  const state: AdminState = {
    bootstrap: {
      mesh: 'shop',
      instance: 'cart-0',
      trustDomain: 'cluster.local',
      capture: 'explicit',
      address: '127.0.0.1',
      probes: {
        readyz: { httpGet: { path: '/ready', port: 8080 } },
        liveness: { tcpSocket: { port: tcpPort } },
        startup: { httpGet: { path: '/hang', port: 8080 }, timeoutMs: 50 },
      },
    },
    get ready() {
      return ready;
    },
    get draining() {
      return draining;
    },
    epoch: 5n,
    parts,
    endpoints: new Map([
      [
        'endpoints/payment:80',
        create(EndpointsSchema, {
          host: 'payment',
          port: 80,
          endpoints: [endpoint, { ...endpoint, instance: 'payment-1' }],
        }),
      ],
    ]),
    references: new Map([['own', create(ReferencesSchema, { epoch: 5n })]]),
    get certificate() {
      return own;
    },
    detected: () => [Object.assign(new Outcome('inbound', '', 8080), { http1: 3, last: 'http1' })],
    wallMs: () => Date.now(),
    probe: async (host, port) => {
      await new Promise((resolve) => setTimeout(resolve, 100));
      return host === 'pay' ? { instance: 'cart-0', host, port, tls: 'auto', tlsRef: '', endpoints: [] } : undefined;
    },
    counts: () => ({ downstream: 1, links: 2, linkStreams: 3, upstream: 4, inbound: 0 }),
    endpointStatus: () => [
      {
        host: 'payment',
        port: 80,
        instance: 'payment-1',
        address: '10.0.0.2:8080',
        ejected: true,
        unhealthy: false,
        draining: false,
        activeRequests: 2,
      },
    ],
  };
  const any = { host: '127.0.0.1', port: 0 };
  admin = await startAdmin({
    bind: { admin: any, metrics: any, health: any, probes: any },
    state,
    metrics,
    logger: silentLogger,
    appMetrics: { port: appPort, path: '/metrics' },
  });
});

after(async () => {
  await admin.close();
  app.closeAllConnections();
  app.close();
  tcpApp.close();
});

test('admin: read-only, loopback names only, shows the plan and never a key', async () => {
  const port = admin.ports.admin!;
  const clusters = JSON.parse((await get(port, '/clusters')).body);
  assert.equal(clusters.clusters[0].name, 'outbound|80||payment');
  const endpoints = JSON.parse((await get(port, '/endpoints?format=json')).body);
  const states = endpoints.services[0].endpoints.map((e: { state: { health: string } }) => e.state.health);
  assert.deepEqual(states, ['HEALTHY', 'EJECTED']);
  assert.equal(JSON.parse((await get(port, '/plan')).body).epoch, '5');
  const [found] = JSON.parse((await get(port, '/detected')).body);
  assert.deepEqual([found.direction, found.port, found.http1, found.last], ['inbound', 8080, 3, 'http1']);
  assert.equal(JSON.parse((await get(port, '/listeners')).body).inbound[0].mtlsRef, 'pa');
  assert.equal(JSON.parse((await get(port, '/routes')).body).services[0].host, 'payment');
  assert.doesNotMatch((await get(port, '/config_dump')).body, /PRIVATE|token|secret/i);
  assert.equal((await get(port, '/clusters', { method: 'POST' })).status, 405);
  assert.equal((await get(port, '/clusters', { host: 'evil.example' })).status, 403);
  assert.equal((await get(port, '/clusters', { host: '127.0.0.1.evil.example' })).status, 403);
  assert.equal((await get(port, '/clusters', { origin: 'https://evil.example' })).status, 403);
  assert.equal((await get(port, '/quitquitquit')).status, 404);
  assert.equal(JSON.parse((await get(port, '/mtls?service=pay:80')).body).host, 'pay');
  assert.equal((await get(port, '/mtls?service=other:80')).status, 404);
  assert.equal((await get(port, '/mtls')).status, 400);
  const both = await Promise.all([get(port, '/mtls?service=pay:80'), get(port, '/mtls?service=pay:80')]);
  assert.deepEqual(both.map((b) => b.status).sort(), [200, 503], 'one at a time');
  assert.equal(JSON.parse((await get(port, '/limits')).body).admin_probe_busy, 1);
  assert.equal(JSON.parse((await get(port, '/limits')).body).admin_host_refused, 3);
  await assert.rejects(
    startAdmin({
      bind: { admin: { host: '0.0.0.0', port: 0 } },
      state: {} as AdminState,
      metrics,
      logger: silentLogger,
    }),
    {
      code: 'admin-not-loopback',
    },
  );
});

test('certificates: the chain with its state, and whom it is judged by; never a key', async () => {
  const port = admin.ports.admin!;
  const before = JSON.parse((await get(port, '/certs')).body);
  assert.deepEqual(before.certificates, [{ resource: 'default', type: 'Cert Chain', state: 'WARMING', valid: false }]);
  assert.deepEqual(before.trustBundle, []);
  own = await identity();
  const { body } = await get(port, '/certs');
  const { certificates, trustBundle } = JSON.parse(body);
  const { serial, spiffeId, chainPem } = own;
  const notAfter = new Date(own.notAfterMs).toISOString();
  const notBefore = new Date(own.notBeforeMs).toISOString();
  const words = { resource: 'default', type: 'Cert Chain', state: 'ACTIVE', valid: true };
  assert.deepEqual(certificates, [{ ...words, spiffeId, serial, notBefore, notAfter, chainPem }]);
  assert.equal(trustBundle.length, 1);
  assert.deepEqual(
    [trustBundle[0].type, trustBundle[0].trustDomain, trustBundle[0].valid],
    ['CA', 'cluster.local', true],
  );
  assert.equal(trustBundle[0].pem.trim(), own.rootPem.trim());
  assert.doesNotMatch(body, /PRIVATE/);
  const key = own.keyPem.split('\n')[1]!;
  assert.ok(key.length > 20 && !body.includes(key));
});

test('health follows the first plan and the drain', async () => {
  const port = admin.ports.health!;
  assert.equal((await get(port, '/healthz/ready')).status, 503);
  ready = true;
  assert.equal((await get(port, '/healthz/ready', { host: '10.0.0.1:15021' })).status, 200);
  draining = true;
  assert.equal((await get(port, '/healthz/ready')).status, 503);
  draining = false;
});

test('metrics alone on 15090, merged with the application on 15020', async () => {
  const own = await get(admin.ports.metrics!, '/stats/prometheus');
  assert.match(own.body, /^weft_proxy_links 2$/m);
  assert.doesNotMatch(own.body, /app_metric/);
  const merged = await get(admin.ports.probes!, '/stats/prometheus');
  assert.match(merged.body, /^weft_proxy_epoch 5$/m);
  assert.match(merged.body, /^app_metric 1$/m);
});

test('probes are asked of the application in the place of the prober', async () => {
  const port = admin.ports.probes!;
  assert.equal((await get(port, '/app-health/cart-0/readyz')).status, 200);
  appStatus = 500;
  assert.deepEqual(await get(port, '/app-health/cart-0/readyz'), { status: 503, body: 'HTTP 500\n' });
  appStatus = 200;
  assert.equal((await get(port, '/app-health/cart-0/livez')).status, 200);
  assert.match((await get(port, '/app-health/cart-0/startupz')).body, /no answer within 50 ms/);
  assert.equal((await get(port, '/app-health/other/readyz')).status, 404);
  assert.equal((await get(port, '/app-health/cart-0/__proto__')).status, 404);
});

test('what is a loopback name', () => {
  for (const ok of ['localhost', 'LOCALHOST:15000', '127.0.0.1', '127.9.8.7:1', '[::1]:15000'])
    assert.ok(isLoopbackHost(ok), ok);
  for (const bad of [
    undefined,
    '',
    'localhost.evil',
    '127.0.0.1.evil',
    '10.0.0.1',
    '[::2]',
    '127.0.0.256',
    'x@localhost',
  ]) {
    assert.ok(!isLoopbackHost(bad), bad);
  }
});
