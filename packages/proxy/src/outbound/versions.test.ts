/** Which HTTP an application without a proxy hears, and how long a connection may live (connectionPool of a rule). */
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { type ConnectionPoolSchema, Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

/** The version that the application heard when asked by HTTP/1.1 and by HTTP/2. */
async function heard(t: TestContext, network: string, pool: MessageInitShape<typeof ConnectionPoolSchema>) {
  const versions: string[] = [];
  const answer = (request: { httpVersion: string }, response: { end(text: string): void }): void => {
    versions.push(request.httpVersion);
    response.end('fine');
  };
  const one = http.createServer(answer);
  const two = http2.createServer(answer);
  for (const server of [one, two]) await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // The first bytes say which of the two serves a connection.
  const app = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (bytes) => {
      const server = bytes.subarray(0, 3).toString() === 'PRI' ? two : one;
      const inner = net.connect((server.address() as AddressInfo).port, '127.0.0.1');
      inner.on('error', () => {});
      t.after(() => inner.destroy());
      inner.write(bytes);
      socket.pipe(inner).pipe(socket);
    });
  });
  t.after(() => {
    app.close();
    one.close();
    one.closeAllConnections();
    two.close();
  });
  const pair = await testPair(t, {
    network,
    ports: [{ port: 9000, protocol: Protocol.HTTP, appHost: '', appPort: 0, pool }],
    ...{ back: false, plaintext: true },
  });
  await new Promise<void>((resolve) => app.listen(9000, pair.backAddress, resolve));
  await new Promise<void>((resolve, reject) => {
    http
      .get({ host: pair.frontAddress, port: 9000, agent: false }, (r) => r.resume().on('end', resolve))
      .on('error', reject);
  });
  const client = http2.connect(`http://${pair.frontAddress}:9000`);
  t.after(() => client.destroy());
  await new Promise((resolve, reject) => client.request().on('error', reject).on('end', resolve).resume());
  return versions;
}

test('h2UpgradePolicy and useClientProtocol', async (t) => {
  assert.deepEqual(await heard(t, '127.7.81', {}), ['1.1', '1.1']);
  assert.deepEqual(await heard(t, '127.7.82', { h2Upgrade: true }), ['2.0', '2.0']);
  assert.deepEqual(await heard(t, '127.7.83', { useClientProtocol: true }), ['1.1', '2.0']);
});

test('an opaque connection ends at its maxConnectionDuration though it is busy', async (t) => {
  const app = net.createServer((socket) => socket.on('error', () => {}).pipe(socket));
  await new Promise<void>((resolve) => app.listen(0, '127.7.84.3', resolve));
  t.after(() => app.close());
  const { port } = app.address() as AddressInfo;
  const pair = await testPair(t, {
    network: '127.7.84',
    ports: [
      {
        ...{ port: 9001, protocol: Protocol.TCP, appHost: '127.7.84.3', appPort: port },
        pool: { maxConnectionDurationMs: 500 },
      },
    ],
  });
  const socket = net.connect(9001, pair.frontAddress);
  socket.on('error', () => {});
  const busy = setInterval(() => socket.write('x'), 20);
  t.after(() => clearInterval(busy));
  let echoed = 0;
  socket.on('data', (bytes) => (echoed += bytes.length));
  await new Promise((resolve) => socket.once('close', resolve));
  assert.ok(echoed > 0);
  const record = pair.frontSeen.tcp.at(-1)!;
  assert.deepEqual([record.flags, record.details], ['DT', 'max_connection_duration']);
  assert.equal(pair.frontSeen.counts.get('tcp_max_duration'), 1);
});
