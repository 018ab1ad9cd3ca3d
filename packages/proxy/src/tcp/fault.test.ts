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
    limits: { tcpIdleTimeoutMs: 1500 },
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
  assert.ok(tookMs >= 1490, String(tookMs));
});

test('latency: late, and then as it is', async (t) => {
  const { heard, tookMs, connections } = await faulty(t, '127.7.93', { ref: 'f', delayPercent: 100, delayMs: 200 });
  assert.deepEqual([heard, connections], ['hello', 1]);
  assert.ok(tookMs >= 195, String(tookMs));
});

test('bandwidth: what comes back is slow, whole and in order, and its end too', async (t) => {
  const rate = 40_000;
  const bytes = Buffer.from(Array.from({ length: 16_000 }, (_, i) => i % 251));
  const app = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {}).on('data', () => {});
    socket.on('end', () => socket.end(bytes));
  });
  await new Promise<void>((resolve) => app.listen(0, '127.7.90.3', resolve));
  t.after(() => app.close());
  const { port } = app.address() as AddressInfo;
  const tcpFault = { ref: 'f', bandwidthPercent: 100, bandwidthBytesPerSecond: rate };
  const pair = await testPair(t, {
    network: '127.7.90',
    ports: [{ port: 9001, protocol: Protocol.TCP, appHost: '127.7.90.3', appPort: port, tcpFault }],
  });
  const start = performance.now();
  const socket = net.connect({ port: 9001, host: pair.frontAddress, allowHalfOpen: true });
  const heard: Buffer[] = [];
  socket.on('data', (chunk) => void heard.push(chunk));
  socket.end(Buffer.alloc(8000, 1));
  await new Promise((resolve) => socket.once('close', resolve));
  const tookMs = performance.now() - start;
  assert.deepEqual(Buffer.concat(heard), bytes);
  // The last part of each way is not waited for.
  const least = ((8000 + 16_000 - 2 * rate * 0.05) / rate) * 1000;
  assert.ok(tookMs >= least, `${tookMs} instead of ${least} ms`);
  const record = pair.frontSeen.tcp.at(-1);
  assert.deepEqual([record?.flags, record?.bytesIn, record?.bytesOut, record?.routeRef], ['', 8000, 16_000, 'f']);
});
