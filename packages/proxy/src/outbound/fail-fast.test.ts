/** A destination that takes connections and says nothing: one request waits, others are refused at once. */
import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { test } from 'node:test';
import { Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

test('after a wait in vain requests are refused at once, but for a trial now and then', async (t) => {
  const pool = { failFastMs: 300, connectTimeoutMs: 60_000 };
  const pair = await testPair(t, {
    network: '127.7.49',
    back: false,
    ports: [{ port: 9000, protocol: Protocol.HTTP, appHost: '', appPort: 0, pool, route: { retry: { attempts: 0 } } }],
  });
  // In the place of the called proxy: takes connections, and never begins TLS.
  const sockets = new Set<net.Socket>();
  const deaf = net.createServer((socket) => void sockets.add(socket.on('error', () => {}).resume()));
  await new Promise<void>((resolve) => deaf.listen(15008, pair.backAddress, resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    deaf.close();
  });
  const ask = (): Promise<string> =>
    new Promise((resolve, reject) => {
      http
        .get({ host: pair.frontAddress, port: 9000, agent: false }, (response) => {
          let text = '';
          response.on('data', (bytes) => (text += bytes)).on('end', () => resolve(`${response.statusCode} ${text}`));
        })
        .on('error', reject);
    });
  const records = pair.frontSeen.requests;
  assert.match(await ask(), /^503 upstream connect error/);
  assert.deepEqual([records[0].flags, records[0].attempts], ['UF', 1]);
  assert.ok(records[0].durationMs >= 299, String(records[0].durationMs));
  assert.match(await ask(), /^503 fail-fast/);
  assert.deepEqual([records[1].flags, records[1].details, records[1].attempts], ['UF', 'fail_fast', 0]);
  assert.equal(pair.frontSeen.counts.get('fail_fast'), 1);
  // A trial is made again: a request that waits.
  const deadline = performance.now() + 60_000;
  while (records.filter((r) => r.attempts === 1).length < 2) {
    assert.ok(performance.now() < deadline);
    await ask();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});
