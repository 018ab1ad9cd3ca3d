/** How long one try may last, whatever moves in it (Envoy's max_stream_duration). */
import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Protocol } from '@weft/plan';
import { type TestPort, testPair } from '../test-pair.ts';

const APP = '127.7.58.3';

async function pairTo(t: TestContext, network: string, serve: http.RequestListener, more: Partial<TestPort>) {
  const app = http.createServer(serve);
  await new Promise<void>((resolve) => app.listen(0, APP, resolve));
  t.after(() => {
    app.close();
    app.closeAllConnections();
  });
  const { port } = app.address() as AddressInfo;
  const ports = [{ port: 9000, protocol: Protocol.HTTP, appHost: APP, appPort: port, ...more }];
  const pair = await testPair(t, { network, ports });
  const ask = (): Promise<string> =>
    new Promise((resolve) => {
      const request = http.request({ host: pair.frontAddress, port: 9000, agent: false }, (response) => {
        let text = `${response.statusCode} `;
        response.on('data', (bytes) => (text += bytes)).on('end', () => resolve(text));
        response.on('error', () => resolve(`${text}cut`));
      });
      request.on('error', () => resolve('no answer'));
      request.end();
    });
  return { pair, ask, port };
}

test('a try without an answer in time: 408 and UMSDR, or the next try', async (t) => {
  const silent: http.RequestListener = () => {};
  const none = { attempts: 0 };
  const { pair, ask } = await pairTo(t, '127.7.58', silent, {
    pool: { maxStreamDurationMs: 60 },
    route: { retry: none },
  });
  assert.equal(await ask(), '408 upstream max stream duration reached');
  const record = pair.frontSeen.requests.at(-1)!;
  assert.deepEqual([record.flags, record.details], ['UMSDR', 'upstream_max_stream_duration_reached']);
  assert.equal(pair.frontSeen.counts.get('max_stream_duration'), 1);

  const retry = { attempts: 1, retryOn: ['reset'], backoffBaseMs: 1, backoffMaxMs: 1 };
  let asked = 0;
  const slow: http.RequestListener = (_request, response) => {
    if (++asked > 1) response.end('fine');
  };
  const again = await pairTo(t, '127.7.59', slow, { pool: { maxStreamDurationMs: 1500 }, route: { retry } });
  assert.equal(await again.ask(), '200 fine');
  assert.deepEqual([again.pair.frontSeen.requests.at(-1)?.attempts, asked], [2, 2]);
});

test('a response that goes on for too long is cut, though it moves; others end as they like', async (t) => {
  const drip: http.RequestListener = (_request, response) => {
    response.write('a');
    const timer = setInterval(() => response.write('b'), 10);
    response.on('close', () => clearInterval(timer));
  };
  const { pair, ask } = await pairTo(t, '127.7.57', drip, { pool: { maxStreamDurationMs: 1000 } });
  assert.match(await ask(), /^200 ab*cut$/);
  const record = pair.frontSeen.requests.at(-1)!;
  assert.deepEqual([record.flags, record.status], ['UMSDR', 200]);
  const quick: http.RequestListener = (_request, response) => void response.end('fine');
  const other = await pairTo(t, '127.7.56', quick, { pool: { maxStreamDurationMs: 60_000 } });
  for (let i = 0; i < 3; i++) assert.equal(await other.ask(), '200 fine');
  assert.equal(other.pair.frontSeen.counts.get('max_stream_duration'), undefined);
});
