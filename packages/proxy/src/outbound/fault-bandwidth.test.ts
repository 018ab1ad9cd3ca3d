/** weft.dev/fault-bandwidth: bodies of responses that are slow, whole, and held up by flow control. */
import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Protocol } from '@weft/plan';
import { PacedBody } from '../http/paced-body.ts';
import type { TimerOwner, TimerWheel } from '../net/timers.ts';
import { testPair } from '../test-pair.ts';

async function pairFor(t: TestContext, network: string, app: http.Server, rate: number, behindRetry = false) {
  await new Promise<void>((resolve) => app.listen(0, `${network}.3`, resolve));
  t.after(() => {
    app.closeAllConnections();
    app.close();
  });
  const { port } = app.address() as AddressInfo;
  const fault = { ref: 'slow', bandwidthPercent: 100, bandwidthBytesPerSecond: rate, behindRetry };
  const route = { fault, retry: { attempts: 1, retryOn: ['5xx'] } };
  return testPair(t, {
    network,
    ports: [{ port: 9000, protocol: Protocol.HTTP, appHost: `${network}.3`, appPort: port, timeoutMs: 60_000, route }],
  });
}

const BYTES = Buffer.from(Array.from({ length: 16_000 }, (_, i) => i % 251));

for (const behindRetry of [false, true]) {
  test(`a body is slow, whole and in order${behindRetry ? '; behind a retry the one that is passed on' : ''}`, async (t) => {
    let asked = 0;
    const app = http.createServer((_request, response) => {
      if (++asked === 1) response.writeHead(503);
      response.end(BYTES);
    });
    const rate = 40_000;
    const pair = await pairFor(t, behindRetry ? '127.7.126' : '127.7.125', app, rate, behindRetry);
    const start = performance.now();
    const heard: Buffer[] = [];
    const status = await new Promise<number | undefined>((resolve, reject) => {
      http
        .get({ host: pair.frontAddress, port: 9000, agent: false }, (response) => {
          response.on('data', (chunk: Buffer) => heard.push(chunk)).on('end', () => resolve(response.statusCode));
        })
        .on('error', reject);
    });
    const tookMs = performance.now() - start;
    assert.deepEqual([status, asked], [200, 2]);
    assert.deepEqual(Buffer.concat(heard), BYTES);
    // The last part is not waited for.
    const least = ((BYTES.length - rate * 0.05) / rate) * 1000;
    assert.ok(tookMs >= least, `${tookMs} instead of ${least} ms`);
    const record = pair.frontSeen.requests.at(-1);
    assert.deepEqual([record?.flags, record?.bytesOut, record?.decisions.fault], ['', BYTES.length, 'slow']);
  });
}

test('the application is held up, not the proxy filled; who goes away ends it', async (t) => {
  let written = 0;
  let closed = false;
  const app = http.createServer((_request, response) => {
    const chunk = Buffer.alloc(64 * 1024);
    const more = (): void => {
      while (!closed && written < 400 * 1024 * 1024) {
        written += chunk.length;
        if (!response.write(chunk)) return void response.once('drain', more);
      }
    };
    response.on('close', () => (closed = true));
    more();
  });
  const pair = await pairFor(t, '127.7.127', app, 100_000);
  const request = http.get({ host: pair.frontAddress, port: 9000, agent: false });
  request.on('error', () => {});
  const response = await new Promise<http.IncomingMessage>((resolve) => request.on('response', resolve));
  let heard = 0;
  response.on('data', (chunk: Buffer) => (heard += chunk.length)).on('error', () => {});
  const until = async (holds: () => boolean): Promise<void> => {
    for (const end = performance.now() + 60_000; !holds(); ) {
      assert.ok(performance.now() < end, `heard ${heard}, written ${written}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await until(() => heard >= 200_000);
  // A stream's window is at most 4 MiB; the rest is in buffers of sockets.
  assert.ok(written < 40 * 1024 * 1024, String(written));
  const held = [...pair.front.core.exchanges].map((e) => e.heldBytes);
  assert.ok(held.length === 1 && held[0] > 0 && held[0] < 8 * 1024 * 1024, String(held));
  request.destroy();
  await until(() => closed && pair.front.core.exchanges.size === 0);
});

test('trailers come last; a client without room is waited for', () => {
  const seen: string[] = [];
  const state = { full: false, now: 0 };
  const waiting: { atMs: number; owner: TimerOwner }[] = [];
  const timers = {
    add: (ms: number, owner: TimerOwner) => {
      waiting.push({ atMs: state.now + ms, owner });
      return { cancel: () => void waiting.splice(0) };
    },
  } as unknown as TimerWheel;
  const target = {
    get full() {
      return state.full;
    },
    part: (chunk: Uint8Array, end: boolean) => void seen.push(`${chunk.length}${end ? ' end' : ''}`),
    trailers: (fields: string[]) => void seen.push(fields.join('=')),
    hold: () => void seen.push('hold'),
    more: () => void seen.push('more'),
  };
  const body = new PacedBody(target, 1000, timers, () => state.now);
  const next = (): void => {
    const { atMs, owner } = waiting.shift()!;
    state.now = atMs;
    owner.onTimer(0);
  };
  body.data(Buffer.alloc(120), false);
  assert.deepEqual(seen.splice(0), ['50', 'hold']);
  next();
  assert.deepEqual([state.now, seen.splice(0)], [50, ['50']]);
  state.full = true;
  next();
  next();
  assert.deepEqual([seen.splice(0), body.heldBytes], [[], 20]);
  state.full = false;
  next();
  assert.deepEqual(seen.splice(0), ['20', 'more']);
  body.data(Buffer.alloc(30), false);
  body.end(['grpc-status', '0']);
  assert.deepEqual(seen.splice(0), ['hold']);
  next();
  assert.deepEqual(seen.splice(0), ['30', 'grpc-status=0']);
  assert.equal(waiting.length, 0);
  // Without a body behind it the end comes at once.
  const empty = new PacedBody(target, 1000, timers, () => state.now);
  empty.data(Buffer.alloc(0), true);
  assert.deepEqual(seen.splice(0), ['0 end']);
});
