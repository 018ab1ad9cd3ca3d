/** Port 15012 as a host meets it: token, certificate, its own calls; and as a thief does. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { silentLogger } from '@weft/base';
import {
  assembleIdentity,
  controlTlsOptions,
  createKeyAndCsr,
  type Identity,
  localAuthorization,
} from '@weft/identity';
import { CertificateService } from '@weft/plan';
import { createChannel } from '@weft/xds';
import type { ControlConfig } from '../config.ts';
import { startControlPlane } from '../start.ts';

const dir = mkdtempSync(join(tmpdir(), 'weft-host-api-'));
const file = join(dir, 'mesh.yaml');
writeFileSync(
  file,
  `apiVersion: v1
kind: Service
metadata: { name: vm, namespace: shop }
spec: { selector: { app: vm }, ports: [{ name: http, port: 80, targetPort: http }] }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: vm, namespace: shop }
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: { name: vm, namespace: shop }
spec:
  metadata: { labels: { app: vm } }
  template: { ports: { http: 8080 }, serviceAccount: vm }
`,
);
const config: ControlConfig = {
  mesh: 'test',
  stateDir: join(dir, 'state'),
  files: [file],
  listen: { xds: { host: '127.7.231.1', port: 0 }, hosts: { host: '127.7.231.2', port: 15_012 } },
  entrance: { host: '127.7.231.2', port: 15_443 },
  socket: join(dir, 'api.sock'),
  capture: 'explicit',
};
const control = await startControlPlane(config, silentLogger);
after(async () => {
  await control.close();
  rmSync(dir, { recursive: true, force: true });
});

function local<T>(method: string, path: string, body?: unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: localAuthorization(config.socket) };
    const request = httpRequest(
      { socketPath: config.socket, method, path, headers, agent: false },
      async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        if (response.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(text));
      },
    );
    request.on('error', reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

const tls = (rootPem: string, identity?: Identity) =>
  controlTlsOptions({ rootPem, trustDomain: 'cluster.local', identity });

async function sign(rootPem: string, token: string, identity?: Identity): Promise<Identity> {
  const { keyPem, csrPem } = await createKeyAndCsr();
  const channel = createChannel({ host: '127.7.231.2', port: 15_012, tls: tls(rootPem, identity) });
  try {
    const made = await createClient(CertificateService, channel.transport).sign({ csrPem, token });
    return assembleIdentity({ keyPem, chainPem: made.chainPem, rootPem: made.rootPem });
  } finally {
    channel.close();
  }
}

/** One call on a connection of its own. */
function call(
  rootPem: string,
  identity: Identity | undefined,
  method: string,
  path: string,
  body: unknown = {},
): Promise<{ status: number; body: any }> {
  return new Promise((resolve, reject) => {
    const session = connect('https://127.7.231.2:15012', tls(rootPem, identity));
    session.on('error', reject);
    const stream = session.request({ ':method': method, ':path': path });
    let status = 0;
    let text = '';
    stream.on('response', (headers) => {
      status = Number(headers[':status']);
    });
    stream.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    stream.on('error', () => {}); // A body that is too long is cut off.
    stream.on('close', () => {
      session.close();
      resolve({ status, body: text === '' ? undefined : JSON.parse(text) });
    });
    stream.end(method === 'GET' ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
  });
}

test('a host by its token, once; what it may do, and what nobody else may', async () => {
  const group = { namespace: 'shop', group: 'vm' };
  const { token, rootPem } = await local<{ token: string; rootPem: string }>('POST', '/v1/host-tokens', {
    host: 'vm1',
    ...group,
  });
  await assert.rejects(sign(rootPem, `${token}x`), /the token is unknown/);
  const host = await sign(rootPem, token);
  assert.equal(host.spiffeId, 'spiffe://cluster.local/ns/weft-system/sa/host.vm1');
  await assert.rejects(sign(rootPem, token), /the token was used already, with another key/);

  const own = (method: string, path: string, body?: unknown) => call(rootPem, host, method, path, body);
  const entrance = { host: '127.7.231.3', port: 15_443 };
  assert.equal((await own('PUT', '/v1/host', { entrance, capture: 'explicit' })).status, 200);
  const put = { address: '127.99.0.2', ready: true };
  assert.equal((await own('PUT', '/v1/instances/vm1-0', put)).status, 200);
  assert.deepEqual((await own('GET', '/v1/host')).body.networks, { mesh: config.entrance, vm1: entrance });
  const given = (await own('POST', '/v1/tokens', { instance: 'vm1-0' })).body as { token: string; identity: string };
  assert.equal(given.identity, 'spiffe://cluster.local/ns/shop/sa/vm');
  const proxy = await sign(rootPem, given.token);

  // A certificate of a proxy, stolen or not, and none at all, register nothing and take nothing out.
  for (const [who, status] of [
    [proxy, 403],
    [undefined, 401],
  ] as const) {
    for (const [method, path] of [
      ['PUT', '/v1/instances/vm1-1'],
      ['DELETE', '/v1/instances/vm1-0'],
      ['POST', '/v1/tokens'],
      ['GET', '/v1/host'],
      ['GET', '/v1/ca'],
    ] as const)
      assert.equal((await call(rootPem, who, method, path, put)).status, status, `${method} ${path}`);
  }
  // A host's own is for its own alone, and what a supervisor may is not all for it.
  const cart = { ...put, workload: 'cart', namespace: 'shop', address: '127.98.0.2' };
  await local('PUT', '/v1/instances/cart-0', cart);
  for (const [method, path, body] of [
    ['PUT', '/v1/instances/cart-0', put],
    ['DELETE', '/v1/instances/cart-0', {}],
    ['POST', '/v1/drain/cart-0', {}],
    ['POST', '/v1/tokens', { instance: 'cart-0' }],
    ['PUT', '/v1/instances/other-0', put],
    ['POST', '/v1/host-tokens', { host: 'vm2', ...group }],
    ['POST', '/v1/ca-rotate', { step: 'distribute' }],
    ['GET', '/v1/plan/cart-0', {}],
    ['PUT', '/v1/instances/vm1-0', []],
    ['PUT', '/v1/instances/%zz', put],
    ['PUT', '/v1/instances/vm1-0', 'x'.repeat(100_000)],
  ] as const)
    assert.equal((await own(method, path, body)).status, 400, `${method} ${path}`);

  // Renewed by itself; by another token for the name, or revoked, it is out.
  const renewed = await sign(rootPem, '', host);
  assert.equal(renewed.spiffeId, host.spiffeId);
  const next = await local<{ token: string }>('POST', '/v1/host-tokens', { host: 'vm1', ...group });
  for (const before of [host, renewed]) assert.equal((await call(rootPem, before, 'GET', '/v1/root')).status, 403);
  await assert.rejects(sign(rootPem, '', renewed), /unauthenticated/);
  const again = await sign(rootPem, next.token);
  assert.equal((await call(rootPem, again, 'GET', '/v1/root')).body.rootPem, rootPem);
  await local('POST', '/v1/ca-revoke', { what: host.spiffeId });
  assert.equal((await call(rootPem, again, 'GET', '/v1/root').catch(() => ({ status: 401 }))).status, 401);
});
