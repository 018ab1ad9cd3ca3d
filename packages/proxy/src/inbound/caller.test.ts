import assert from 'node:assert/strict';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

test('without mTLS a caller of the mesh is known by its address, in records alone; others are unknown', async (t) => {
  const app = '127.7.50.3';
  const web = http.createServer((req, res) => res.end(req.headers['x-forwarded-client-cert'] ?? 'nobody'));
  const tcp = net.createServer((s) => {
    s.on('error', () => {});
    s.end('hello\n');
  });
  const ports: number[] = [];
  for (const server of [web, tcp]) {
    await new Promise<void>((resolve) => server.listen(0, app, resolve));
    t.after(() => server.close());
    ports.push((server.address() as AddressInfo).port);
  }
  t.after(() => web.closeAllConnections());
  const pair = await testPair(t, {
    network: '127.7.50',
    plaintext: true,
    ports: [
      { port: 8080, protocol: Protocol.HTTP, appHost: app, appPort: ports[0]! },
      { port: 7000, protocol: Protocol.TCP, appHost: app, appPort: ports[1]! },
    ],
  });
  const ask = (host: string, localAddress?: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const req = http.get({ host, port: 8080, agent: false, ...(localAddress && { localAddress }) }, (res) => {
        let text = '';
        res.on('data', (d) => (text += d));
        res.on('end', () => resolve(text));
      });
      req.on('error', reject);
    });
  // No identity is made of it: the application hears of none.
  assert.equal(await ask(pair.frontAddress), 'nobody');
  const record = pair.backSeen.requests.at(-1)!;
  assert.deepEqual([record.mtls, record.source?.workload, record.source?.namespace], [false, 'front', 'test']);
  assert.equal(record.source?.principal, '');

  await new Promise<void>((resolve, reject) => {
    const s = net.connect(7000, pair.frontAddress);
    s.on('error', reject);
    s.on('close', () => resolve());
    s.resume();
  });
  const end = performance.now() + 60_000;
  while (pair.backSeen.tcp.length === 0 && performance.now() < end) await new Promise((r) => setTimeout(r, 10));
  assert.equal(pair.backSeen.tcp.at(-1)?.source?.workload, 'front');

  assert.equal(await ask(pair.backAddress, '127.7.50.9'), 'nobody');
  assert.equal(pair.backSeen.requests.at(-1)!.source, undefined);
});
