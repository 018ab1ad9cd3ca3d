/** How much a workload's port takes at once (Sidecar inboundConnectionPool), at the called side's proxy. */
import assert from 'node:assert/strict';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

test('requests beyond the limit are answered at once, and places are given back', async (t) => {
  const waiting: http.ServerResponse[] = [];
  const app = http.createServer((_request, response) => void waiting.push(response));
  await new Promise<void>((resolve) => app.listen(0, '127.7.52.3', resolve));
  t.after(() => {
    app.close();
    app.closeAllConnections();
  });
  const { port } = app.address() as AddressInfo;
  const retry = { attempts: 0 };
  const pair = await testPair(t, {
    network: '127.7.52',
    ports: [
      {
        ...{ port: 9000, protocol: Protocol.HTTP, appHost: '127.7.52.3', appPort: port },
        ...{ route: { retry }, inboundPool: { maxRequests: 2 } },
      },
    ],
  });
  const ask = (): Promise<http.IncomingMessage> =>
    new Promise((resolve, reject) => {
      http
        .get({ host: pair.frontAddress, port: 9000, agent: false }, (response) => resolve(response.resume()))
        .on('error', reject);
    });
  for (let round = 0; round < 2; round++) {
    const held = [ask(), ask()];
    while (waiting.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    const refused = await ask();
    assert.deepEqual([refused.statusCode, refused.headers['x-envoy-overloaded']], [503, 'true']);
    assert.equal(pair.backSeen.requests.at(-1)?.flags, 'UO');
    for (const response of waiting.splice(0)) response.end('fine');
    for (const answer of await Promise.all(held)) assert.equal(answer.statusCode, 200);
  }
  assert.equal(pair.backSeen.counts.get('inbound_overflow'), 2);
});

test('opaque connections too', async (t) => {
  const app = net.createServer((socket) => void socket.on('error', () => {}).write('hello'));
  await new Promise<void>((resolve) => app.listen(0, '127.7.53.3', resolve));
  t.after(() => app.close());
  const { port } = app.address() as AddressInfo;
  const inboundPool = { maxConnections: 1 };
  const pair = await testPair(t, {
    network: '127.7.53',
    ports: [{ port: 9001, protocol: Protocol.TCP, appHost: '127.7.53.3', appPort: port, inboundPool }],
  });
  const open = (): Promise<{ socket: net.Socket; heard: string }> =>
    new Promise((resolve) => {
      const socket = net.connect(9001, pair.frontAddress);
      socket.once('data', (bytes) => resolve({ socket, heard: String(bytes) }));
      socket.on('error', () => {});
      socket.once('close', () => resolve({ socket, heard: 'closed' }));
    });
  const first = await open();
  assert.equal(first.heard, 'hello');
  assert.equal((await open()).heard, 'closed');
  assert.ok((pair.backSeen.counts.get('inbound_overflow') ?? 0) >= 1);
  first.socket.destroy();
  while (pair.backSeen.tcp.every((r) => r.flags === 'UO')) await new Promise((resolve) => setTimeout(resolve, 5));
  const again = await open();
  assert.equal(again.heard, 'hello');
  again.socket.destroy();
});
