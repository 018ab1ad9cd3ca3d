/** Health checks between two proxies: as mesh traffic, with the workload's identity, under the policies of the one asked. */
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { AuthorizationAction, AuthorizationPolicySchema, type HealthCheckSchema, Protocol } from '@weft/plan';
import { type TestPair, testPair } from '../test-pair.ts';

const TIMES = { ref: 'check', intervalMs: 100, timeoutMs: 5000, unhealthyThreshold: 2, healthyThreshold: 1 };

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + 60_000; !(await holds()); ) {
    assert.ok(performance.now() < end, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function listening(t: TestContext, server: net.Server, host: string): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

function ask(pair: TestPair): Promise<number> {
  return new Promise((resolve, reject) => {
    http
      .get({ host: pair.frontAddress, port: 9000, agent: false }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode ?? 0));
      })
      .on('error', reject);
  });
}

const counted = (pair: TestPair, name: string): number => pair.frontSeen.counts.get(name) ?? 0;

test('HTTP: out while its status is another, then in again; the caller is who it is', async (t) => {
  let status = 204;
  const heard: http.IncomingHttpHeaders[] = [];
  const app = http.createServer((request, response) => {
    if (request.url !== '/healthz?deep') return void response.end('hello');
    heard.push(request.headers);
    // The body is of no interest, however long.
    response.writeHead(status).end(status === 204 ? undefined : Buffer.alloc(300_000));
  });
  const network = '127.7.121';
  const http2xx = { path: '/healthz?deep', statuses: [200, 204], headers: [{ name: 'x-why', value: 'check' }] };
  const healthCheck = { ...TIMES, check: { case: 'http' as const, value: http2xx } };
  const appPort = await listening(t, app, `${network}.3`);
  const pair = await testPair(t, {
    network,
    ports: [{ port: 9000, protocol: Protocol.HTTP, appHost: `${network}.3`, appPort, healthCheck }],
  });
  await until('a check', () => counted(pair, 'health_check_passed') > 0);
  assert.equal(heard[0]['x-why'], 'check');
  const record = pair.backSeen.requests[0];
  assert.match(record.path, /^\/healthz/);
  assert.equal(record.source?.workload, 'front');
  assert.equal(record.mtls, true);
  assert.equal(await ask(pair), 200);

  status = 200;
  const passed = counted(pair, 'health_check_passed');
  await until('a long answer that passes', () => counted(pair, 'health_check_passed') > passed);
  status = 500;
  await until('it is out', () => counted(pair, 'health_check_out') === 1);
  assert.ok(counted(pair, 'health_check_failed') >= 2);
  assert.equal(await ask(pair), 503);
  assert.equal(pair.frontSeen.requests.at(-1)?.flags, 'UH');
  status = 204;
  await until('it is in', () => counted(pair, 'health_check_in') === 1);
  assert.equal(await ask(pair), 200);
});

test('a policy that closes a path closes it for checks too', async (t) => {
  let checks = 0;
  const app = http.createServer((request, response) => {
    if (request.url === '/healthz') checks++;
    response.end('hello');
  });
  const network = '127.7.122';
  const healthCheck = { ...TIMES, check: { case: 'http' as const, value: { path: '/healthz', statuses: [200] } } };
  const policy = create(AuthorizationPolicySchema, {
    ...{ name: 'no', namespace: 'test', ref: 'no', action: AuthorizationAction.DENY },
    rules: [{ ref: 'no', to: [{ paths: ['/healthz'] }] }],
  });
  const appPort = await listening(t, app, `${network}.3`);
  const pair = await testPair(t, {
    network,
    ports: [{ port: 9000, protocol: Protocol.HTTP, appHost: `${network}.3`, appPort, healthCheck }],
    policies: [policy],
  });
  await until('it is out', () => counted(pair, 'health_check_out') === 1);
  assert.equal(checks, 0);
  assert.equal(pair.backSeen.requests.at(-1)?.status, 403);
});

test('TCP: a connection reaches the application; where nobody listens the endpoint is out', async (t) => {
  let connections = 0;
  const app = net.createServer((socket) => {
    connections++;
    socket.on('error', () => {}).resume();
  });
  const network = '127.7.123';
  const appPort = await listening(t, app, `${network}.3`);
  const healthCheck = { ...TIMES, check: { case: 'tcp' as const, value: {} } };
  const pair = await testPair(t, {
    network,
    ports: [{ port: 9000, protocol: Protocol.TCP, appHost: `${network}.3`, appPort, healthCheck }],
    deadToo: true,
  });
  await until('the one that is not there is out', () => counted(pair, 'health_check_out') === 1);
  await until('the other was asked', () => connections > 0 && counted(pair, 'health_check_passed') > 0);
  const [back, dead] = [...pair.front.core.snapshot!.clusters.values()][0].endpoints;
  assert.deepEqual([back.state.unhealthy, dead.state.unhealthy], [false, true]);
  app.close();
  await until('the application is gone', () => back.state.unhealthy);
});

test('gRPC: SERVING is well, everything else is not; checks past their number wait', async (t) => {
  let serving = 1;
  let asked = '';
  const app = http2.createServer();
  app.on('stream', (stream, headers) => {
    let body = Buffer.alloc(0);
    stream.on('error', () => {});
    stream.on('data', (chunk: Buffer) => (body = Buffer.concat([body, chunk])));
    stream.on('end', () => {
      asked = `${headers[':path']} ${headers['content-type']} ${body.subarray(7).toString()}`;
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(Buffer.from([0, 0, 0, 0, 2, 8, serving]));
    });
  });
  const network = '127.7.124';
  const appPort = await listening(t, app as unknown as net.Server, `${network}.3`);
  const healthCheck: MessageInitShape<typeof HealthCheckSchema> = {
    ...TIMES,
    check: { case: 'grpc', value: { service: 'shop.Pay' } },
  };
  const pair = await testPair(t, {
    network,
    ports: [{ port: 9000, protocol: Protocol.GRPC, appHost: `${network}.3`, appPort, healthCheck }],
    deadToo: true,
    limits: { maxHealthChecks: 1 },
  });
  await until('a check', () => counted(pair, 'health_check_passed') > 0);
  assert.equal(asked, '/grpc.health.v1.Health/Check application/grpc shop.Pay');
  await until('one waits for the other', () => counted(pair, 'health_check_delayed') > 0);
  const [back] = [...pair.front.core.snapshot!.clusters.values()][0].endpoints;
  assert.equal(back.state.unhealthy, false);
  serving = 2;
  await until('NOT_SERVING', () => back.state.unhealthy);
});
