/** How much of a request's body is kept for another try: 64 KiB, and what is larger is sent once. */
import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

test('a body that fits is sent again whole; one that does not has one try', async (t) => {
  const seen: number[] = [];
  const app = http.createServer((request, response) => {
    let bytes = 0;
    request.on('data', (chunk: Buffer) => (bytes += chunk.length));
    request.on('end', () => {
      seen.push(bytes);
      response.writeHead(seen.length % 2 === 1 ? 503 : 200).end();
    });
  });
  await new Promise<void>((resolve) => app.listen(0, '127.7.51.3', resolve));
  t.after(() => {
    app.close();
    app.closeAllConnections();
  });
  const { port } = app.address() as AddressInfo;
  const retry = { attempts: 3, retryOn: ['503'], backoffBaseMs: 1, backoffMaxMs: 1 };
  const pair = await testPair(t, {
    network: '127.7.51',
    ports: [{ port: 9000, protocol: Protocol.HTTP, appHost: '127.7.51.3', appPort: port, route: { retry } }],
  });
  const ask = (bytes: number): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      const options = { host: pair.frontAddress, port: 9000, method: 'POST', agent: false as const };
      const request = http.request(options, (response) => resolve(response.resume().statusCode));
      request.on('error', reject);
      request.end(Buffer.alloc(bytes, 'x'));
    });
  const kept = 64 * 1024;
  assert.equal(await ask(kept), 200);
  assert.deepEqual(seen, [kept, kept]);
  assert.equal(await ask(kept + 1), 503);
  assert.deepEqual(seen, [kept, kept, kept + 1]);
  assert.equal(pair.frontSeen.requests.at(-1)?.attempts, 1);
});
