import assert from 'node:assert/strict';
import net, { type AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Protocol, type TcpFaultSchema } from '@weft/plan';
import { testPair } from '../test-pair.ts';

async function faulty(t: TestContext, network: string, tcpFault: MessageInitShape<typeof TcpFaultSchema>) {
  let connections = 0;
  const app = net.createServer((socket) => {
    connections++;
    socket.on('error', () => {}).pipe(socket);
  });
  await new Promise<void>((resolve) => app.listen(0, `${network}.3`, resolve));
  t.after(() => app.close());
  const { port } = app.address() as AddressInfo;
  const pair = await testPair(t, {
    network,
    ports: [{ port: 9001, protocol: Protocol.TCP, appHost: `${network}.3`, appPort: port, tcpFault }],
    limits: { tcpIdleTimeoutMs: 500 },
  });
  const start = performance.now();
  const socket = net.connect(9001, pair.frontAddress);
  let heard = '';
  let error = '';
  socket.on('error', (e: NodeJS.ErrnoException) => (error = e.code ?? ''));
  socket.on('data', (bytes) => {
    heard += bytes;
    socket.end();
  });
  socket.write('hello');
  await new Promise((resolve) => socket.once('close', resolve));
  const record = pair.frontSeen.tcp.at(-1);
  return { heard, error, tookMs: performance.now() - start, connections, record, counts: pair.frontSeen.counts };
}

test('reset: broken before the destination is reached', async (t) => {
  const { heard, error, connections, record, counts } = await faulty(t, '127.7.91', { ref: 'f', resetPercent: 100 });
  assert.deepEqual([heard, error, connections], ['', 'ECONNRESET', 0]);
  assert.deepEqual([record?.flags, record?.details, record?.routeRef], ['FI', 'tcp_fault_reset', 'f']);
  assert.equal(counts.get('tcp_fault'), 1);
});

test('blackhole: open and silent, but not for ever', async (t) => {
  const { heard, tookMs, connections, record } = await faulty(t, '127.7.92', { ref: 'f', blackholePercent: 100 });
  assert.deepEqual([heard, connections, record?.flags, record?.details], ['', 0, 'FI', 'tcp_fault_blackhole']);
  assert.ok(tookMs >= 490, String(tookMs));
});

test('latency: late, and then as it is', async (t) => {
  const { heard, tookMs, connections } = await faulty(t, '127.7.93', { ref: 'f', delayPercent: 100, delayMs: 200 });
  assert.deepEqual([heard, connections], ['hello', 1]);
  assert.ok(tookMs >= 195, String(tookMs));
});
