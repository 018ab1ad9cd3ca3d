/** The route's timeout: short ones have a timer from the beginning, long ones from the tick that finds their end near. */
import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

test('an answer that does not come ends as 504 when the timeout is over, not before; one that comes ends as it is', async (t) => {
  const app = http.createServer((request, response) => {
    if (request.url === '/soon') response.end('ok');
    // A length makes the timeout go on after the head: this one begins in time and never ends.
    if (request.url === '/half') response.writeHead(200, { 'content-length': '10' }).write('12345');
  });
  await new Promise<void>((resolve) => app.listen(0, '127.7.145.3', resolve));
  t.after(() => {
    app.closeAllConnections();
    app.close();
  });
  const to = { protocol: Protocol.HTTP, appHost: '127.7.145.3', appPort: (app.address() as AddressInfo).port };
  const retry = { attempts: 0 };
  const pair = await testPair(t, {
    network: '127.7.145',
    ports: [
      { ...to, port: 9000, timeoutMs: 400, route: { retry } },
      { ...to, port: 9001, timeoutMs: 4200, route: { retry } },
    ],
  });
  const ask = (port: number, path: string): Promise<string> =>
    new Promise((resolve, reject) => {
      http
        .get({ host: pair.frontAddress, port, path, agent: false }, (response) => {
          response.on('error', () => resolve(`${response.statusCode} broken`));
          response.resume().on('end', () => resolve(String(response.statusCode)));
        })
        .on('error', reject);
    });
  const asked = await Promise.all([
    ...[ask(9000, '/soon'), ask(9000, '/never'), ask(9000, '/half')],
    ...[ask(9001, '/soon'), ask(9001, '/never'), ask(9001, '/half')],
  ]);
  assert.deepEqual(asked, ['200', '504', '200 broken', '200', '504', '200 broken']);
  const timedOut = pair.frontSeen.requests.filter((r) => r.flags === 'UT').map((r) => r.durationMs);
  timedOut.sort((a, b) => a - b);
  assert.equal(timedOut.length, 4);
  const [short1, short2, long1, long2] = timedOut;
  assert.ok(short1 >= 399 && short2 >= 399 && short2 < long1 && long1 >= 4199 && long2 >= 4199, String(timedOut));
  assert.equal([...pair.front.core.exchanges].length, 0);
});
