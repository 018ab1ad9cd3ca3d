import assert from 'node:assert/strict';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Protocol } from '@weft/plan';
import { type TestPair, testPair } from '../test-pair.ts';

const APP = '127.7.207.3';

interface Outcome {
  head: http2.IncomingHttpHeaders;
  trailers: http2.IncomingHttpHeaders;
  body: string;
}

/** An application that never ends what it is asked for; `/S/Drip` begins. Tells how its streams ended. */
async function slowApplication(t: TestContext): Promise<{ port: number; ended: Promise<number>; seen: string[] }> {
  const app = http2.createServer();
  const seen: string[] = [];
  let told: (code: number) => void = () => {};
  const ended = new Promise<number>((resolve) => (told = resolve));
  app.on('stream', (s, head) => {
    seen.push(String(head['grpc-timeout']));
    s.on('error', () => {});
    s.on('close', () => told(s.rstCode));
    if (head[':path'] !== '/S/Drip') return;
    s.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    s.write('first');
  });
  app.on('session', (session) => t.after(() => session.destroy()));
  await new Promise<void>((resolve) => app.listen(0, APP, resolve));
  t.after(() => app.close());
  return { port: (app.address() as AddressInfo).port, ended, seen };
}

async function call(t: TestContext, pair: TestPair, path: string, headers: Record<string, string>): Promise<Outcome> {
  const client = http2.connect(`http://${pair.frontAddress}:9000`);
  t.after(() => client.destroy());
  return new Promise((resolve, reject) => {
    const s = client.request({
      ...{ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
      ...headers,
    });
    const got: Outcome = { head: {}, trailers: {}, body: '' };
    s.on('response', (h) => (got.head = h));
    s.on('trailers', (h) => (got.trailers = h));
    s.on('data', (d) => (got.body += d));
    s.on('end', () => resolve(got));
    s.on('error', reject);
    // The request stays open: a stream both ways.
    s.write('message');
  });
}

const port = (appPort: number) => ({ port: 9000, protocol: Protocol.GRPC, appHost: APP, appPort });

test('grpc-timeout: a call without an answer ends as DEADLINE_EXCEEDED, and the application hears it', async (t) => {
  const app = await slowApplication(t);
  const pair = await testPair(t, { network: '127.7.207', ports: [port(app.port)] });
  const got = await call(t, pair, '/S/Silent', { 'grpc-timeout': '300m' });
  assert.equal(got.head['grpc-status'], '4');
  assert.equal(await app.ended, http2.constants.NGHTTP2_CANCEL);
  assert.deepEqual(app.seen, ['300m']);
  const record = pair.frontSeen.requests.at(-1)!;
  assert.deepEqual([record.flags, record.details, record.grpcStatus], ['DT', 'max_duration_timeout', 4]);
});

test('grpc-timeout: a stream that has begun ends with the status in its trailers', async (t) => {
  const app = await slowApplication(t);
  const pair = await testPair(t, { network: '127.7.208', ports: [port(app.port)] });
  const got = await call(t, pair, '/S/Drip', { 'grpc-timeout': '300000u' });
  assert.equal(got.head['grpc-status'], undefined);
  assert.equal(got.body, 'first');
  assert.equal(got.trailers['grpc-status'], '4');
  assert.equal(await app.ended, http2.constants.NGHTTP2_CANCEL);
});

test('a cancelled call is cancelled at the application, through both proxies', async (t) => {
  const app = await slowApplication(t);
  const pair = await testPair(t, { network: '127.7.22', ports: [port(app.port)] });
  const client = http2.connect(`http://${pair.frontAddress}:9000`);
  t.after(() => client.destroy());
  const s = client.request({ ':method': 'POST', ':path': '/S/Drip', 'content-type': 'application/grpc' });
  s.on('error', () => {});
  await new Promise((resolve) => s.on('data', resolve));
  s.close(http2.constants.NGHTTP2_CANCEL);
  assert.equal(await app.ended, http2.constants.NGHTTP2_CANCEL);
});
