/** Faults behind the retry layer: what the mesh does about failures acts on them as on real ones. And Retry-After. */
import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { type HttpRouteSchema, Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

const APP = '127.7.63.3';

const fine: http.RequestListener = (request, response) => void request.resume().on('end', () => response.end('fine'));

async function asking(t: TestContext, network: string, route: MessageInitShape<typeof HttpRouteSchema>, serve = fine) {
  const app = http.createServer(serve);
  await new Promise<void>((resolve) => app.listen(0, APP, resolve));
  t.after(() => app.close());
  const { port } = app.address() as AddressInfo;
  const pair = await testPair(t, {
    network,
    ports: [{ port: 9000, protocol: Protocol.HTTP, appHost: APP, appPort: port, route }],
  });
  const ask = (method = 'GET'): Promise<string> =>
    new Promise((resolve, reject) => {
      const request = http.request({ host: pair.frontAddress, port: 9000, method, agent: false }, (response) => {
        let text = `${response.statusCode} `;
        response.on('data', (bytes) => (text += bytes)).on('end', () => resolve(text));
      });
      request.on('error', reject);
      request.end(method === 'POST' ? 'body' : undefined);
    });
  return { pair, ask };
}

const retry = { attempts: 4, retryOn: ['503'], backoffBaseMs: 1, backoffMaxMs: 1 };

test('an abort that always strikes: before the retries it is the answer, behind them it is tried again', async (t) => {
  const fault = { ref: 'fault', abortPercent: 100, abortStatus: 503 };
  const before = await asking(t, '127.7.63', { fault, retry });
  assert.equal(await before.ask(), '503 fault filter abort');
  assert.equal(before.pair.frontSeen.requests.at(-1)?.attempts, 0);

  const behind = await asking(t, '127.7.64', { fault: { ...fault, behindRetry: true }, retry });
  for (const method of ['GET', 'POST']) assert.equal(await behind.ask(method), '503 fault filter abort');
  for (const record of behind.pair.frontSeen.requests) {
    assert.equal(record.attempts, 5);
    assert.deepEqual(record.flags.split(',').sort(), ['FI', 'URX']);
  }
  assert.equal(behind.pair.frontSeen.counts.get('upstream_retry'), 8);
  assert.equal(behind.pair.backSeen.requests.length, 0, 'an aborted try never reaches the destination');
});

test('an abort that strikes half of the tries: retries carry requests past it', async (t) => {
  const fault = { ref: 'fault', abortPercent: 50, abortStatus: 503, behindRetry: true };
  const { pair, ask } = await asking(t, '127.7.65', { fault, retry: { ...retry, attempts: 40 } });
  for (let i = 0; i < 40; i++) assert.equal(await ask('POST'), '200 fine');
  assert.ok((pair.frontSeen.counts.get('upstream_retry') ?? 0) > 0);
  assert.ok(pair.frontSeen.requests.some((r) => r.status === 200 && r.flags === 'FI' && r.attempts > 1));
});

test('a delay is cut by the timeout of a try and by that of the request', async (t) => {
  const fault = { ref: 'fault', delayPercent: 100, delayMs: 60_000, behindRetry: true };
  const tries = { attempts: 1, retryOn: ['gateway-error'], perTryTimeoutMs: 50, backoffBaseMs: 1, backoffMaxMs: 1 };
  const each = await asking(t, '127.7.66', { fault, retry: tries });
  assert.equal(await each.ask(), '504 upstream request timeout');
  const record = each.pair.frontSeen.requests.at(-1)!;
  assert.deepEqual([record.attempts, record.flags], [2, 'DI,URX,UT']);
  const whole = await asking(t, '127.7.67', { fault, timeoutMs: 50 });
  assert.equal(await whole.ask(), '504 upstream request timeout');
  assert.equal(whole.pair.frontSeen.requests.at(-1)?.flags, 'DI,UT');
});

test('a short delay passes', async (t) => {
  const fault = { ref: 'fault', delayPercent: 100, delayMs: 30, behindRetry: true };
  const { pair, ask } = await asking(t, '127.7.68', { fault });
  assert.equal(await ask(), '200 fine');
  assert.ok(pair.frontSeen.requests[0].durationMs >= 29);
});

test('Retry-After: the next try waits for it', async (t) => {
  const times: number[] = [];
  const busy: http.RequestListener = (_request, response) => {
    times.push(performance.now());
    if (times.length === 1) response.writeHead(503, { 'retry-after': '1' });
    response.end('fine');
  };
  const { ask } = await asking(t, '127.7.69', { retry: { ...retry, retryAfterMaxMs: 2000 } }, busy);
  assert.equal(await ask(), '200 fine');
  assert.ok(times[1] - times[0] >= 990, `${times[1] - times[0]} ms`);
});

test('x-envoy-ratelimited: tried again only by those who ask for that', async (t) => {
  let asked = 0;
  const limited: http.RequestListener = (_request, response) => {
    if (++asked % 2 === 1) response.writeHead(503, { 'x-envoy-ratelimited': 'true' });
    response.end('fine');
  };
  const plain = await asking(t, '127.7.47', { retry: { ...retry, retryOn: ['5xx', 'gateway-error'] } }, limited);
  assert.equal(await plain.ask(), '503 fine');
  assert.equal(plain.pair.frontSeen.requests.at(-1)?.attempts, 1);
  asked = 0;
  const again = await asking(t, '127.7.48', { retry: { ...retry, retryOn: ['envoy-ratelimited'] } }, limited);
  assert.equal(await again.ask(), '200 fine');
});
