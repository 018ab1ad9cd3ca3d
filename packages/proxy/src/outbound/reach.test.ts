/** What is kept with an endpoint from request to request holds only as long as the links it leads to. */
import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

test('links that were left for good are replaced by others at the next request', async (t) => {
  const app = http.createServer((_request, response) => void response.end('ok'));
  await new Promise<void>((resolve) => app.listen(0, '127.7.144.3', resolve));
  t.after(() => app.close());
  const appPort = (app.address() as AddressInfo).port;
  const pair = await testPair(t, {
    network: '127.7.144',
    ports: [{ port: 9000, protocol: Protocol.HTTP, appHost: '127.7.144.3', appPort }],
  });
  const ask = (): Promise<number> =>
    new Promise((resolve, reject) => {
      http
        .get({ host: pair.frontAddress, port: 9000, agent: false }, (response) => {
          response.resume().on('end', () => resolve(response.statusCode ?? 0));
        })
        .on('error', reject);
    });
  const { links } = pair.front.core;
  assert.deepEqual([await ask(), await ask(), links.counts().links], [200, 200, 1]);
  links.destroy();
  assert.equal(links.counts().links, 0);
  assert.deepEqual([await ask(), links.counts().links], [200, 1]);
  const records = pair.frontSeen.requests;
  assert.deepEqual(
    records.map((r) => [r.upstreamHost, r.attempts]),
    records.map(() => [`${pair.backAddress}:9000`, 1]),
  );
  assert.equal(records[0].destination, records[2].destination, 'one object for one endpoint');
});
