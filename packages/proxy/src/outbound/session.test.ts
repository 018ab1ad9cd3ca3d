/** A route with sessions, through two proxies: who comes back goes where it was, and past an endpoint that is dead. */
import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

test('the cookie of an answer leads to the endpoint that answered, at the first try', async (t) => {
  const app = http.createServer((_request, response) => response.end('fine'));
  await new Promise<void>((resolve) => app.listen(0, '127.7.54.3', resolve));
  t.after(() => {
    app.close();
    app.closeAllConnections();
  });
  const { port } = app.address() as AddressInfo;
  const route = {
    session: { ref: 'session', name: 'sid' },
    retry: { attempts: 2, retryOn: ['connect-failure'], ignorePreviousHosts: true },
  };
  const pair = await testPair(t, {
    network: '127.7.54',
    ports: [{ port: 9000, protocol: Protocol.HTTP, appHost: '127.7.54.3', appPort: port, route }],
    deadToo: true,
  });
  const ask = (cookie?: string): Promise<{ status: number | undefined; cookies: string[] | undefined }> =>
    new Promise((resolve, reject) => {
      const headers = cookie ? { cookie } : {};
      const request = http.get({ host: pair.frontAddress, port: 9000, agent: false, headers }, (response) => {
        const answer = { status: response.statusCode, cookies: response.headers['set-cookie'] };
        response.resume().on('end', () => resolve(answer));
      });
      request.on('error', reject);
    });
  const first = await ask();
  assert.equal(first.status, 200);
  assert.equal(first.cookies?.length, 1, 'of the try that answered alone');
  const cookie = first.cookies![0].split(';')[0];
  const before = pair.frontSeen.requests.length;
  for (let i = 0; i < 20; i++) assert.deepEqual(await ask(cookie), { status: 200, cookies: undefined });
  const records = pair.frontSeen.requests.slice(before);
  assert.equal(records.length, 20);
  assert.ok(records.every((r) => r.attempts === 1 && r.upstreamHost === `${pair.backAddress}:9000`));
});
