import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { ConnectError } from '@connectrpc/connect';
import { VirtualClock } from '@weft/base';
import { GrpcCall } from './grpc-call.ts';

const PINGS = { everyMs: 5000, timeoutMs: 10_000 };

async function listening(t: TestContext, server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

function callOf(t: TestContext, port: number, clock: VirtualClock) {
  const got = { messages: 0, closed: [] as (ConnectError | undefined)[] };
  const call = new GrpcCall(
    { host: '127.0.0.1', port },
    '/x',
    100,
    clock,
    { onMessage: () => got.messages++, onClose: (error) => got.closed.push(error) },
    PINGS,
  );
  t.after(() => call.close());
  return got;
}

async function until(what: string, done: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !done(); await new Promise((r) => setTimeout(r, 5)))
    assert.ok(Date.now() < end, what);
}

test('a peer whose kernel alone answers is given up after its time, and not before', async (t) => {
  const sockets: net.Socket[] = [];
  let bytes = 0;
  const silent = net.createServer((socket) => {
    sockets.push(socket.on('error', () => {}));
    socket.on('data', (d) => {
      bytes += d.length;
    });
  });
  const clock = new VirtualClock();
  const got = callOf(t, await listening(t, silent), clock);
  t.after(() => {
    for (const s of sockets) s.destroy();
  });
  await until('it is connected', () => bytes > 0);
  const before = bytes;
  clock.advance(4999);
  assert.equal(bytes, before);
  clock.advance(1);
  await until('it was asked', () => bytes > before);
  clock.advance(9999);
  assert.equal(got.closed.length, 0);
  clock.advance(1);
  assert.equal(got.closed.length, 1);
  assert.match(String(got.closed[0]), /did not answer a ping within 10000 ms/);
});

test('a peer that answers stays, however long it has nothing to say; what it says spares it the question', async (t) => {
  const server = http2.createServer();
  let pings = 0;
  const streams: http2.ServerHttp2Stream[] = [];
  server.on('session', (s) => {
    s.on('ping', () => pings++);
    t.after(() => s.destroy());
  });
  server.on('stream', (s) => {
    s.on('error', () => {});
    s.respond({ ':status': 200, 'content-type': 'application/grpc+proto' });
    streams.push(s);
  });
  const clock = new VirtualClock();
  const got = callOf(t, await listening(t, server), clock);
  await until('the call is there', () => streams.length > 0);
  let said = 0;
  const say = (): Promise<void> => {
    streams[0].write(Buffer.alloc(5));
    said++;
    return until('it was heard', () => got.messages === said);
  };
  for (let n = 1; n <= 3; n++) {
    clock.advance(5000);
    await until('it was asked', () => pings === n);
    // When its answer is read nobody sees from here; a message behind it tells.
    await say();
    clock.advance(4000);
    await say();
    assert.deepEqual([got.closed.length, pings], [0, n]);
  }
});
