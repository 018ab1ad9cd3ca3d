import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import { test } from 'node:test';
import { defaultWireLimits, type StreamHandler } from '@weft/wire';
import { dialTcp, plainConnector } from '../net/dial.ts';
import { Ticker, TimerWheel } from '../net/timers.ts';
import { defaultPoolSettings, type PoolSettings } from './http1-pool.ts';
import { Http2Pool } from './http2-pool.ts';

const ADDRESS = '127.63.4.1';

/** A clock of the pool that stands still: nothing may wait for its next tick. */
class StillTicker extends Ticker {
  override add(): void {}
}

/** Runs with a pool to a server that listens; closes all of it. */
async function withPool(
  server: net.Server,
  settings: Partial<PoolSettings>,
  run: (pool: Http2Pool) => Promise<void>,
): Promise<void> {
  server.listen(0, ADDRESS);
  await once(server, 'listening');
  const sockets = new Set<net.Socket>();
  server.on('connection', (socket: net.Socket) => sockets.add(socket));
  const { port } = server.address() as net.AddressInfo;
  const timers = new TimerWheel();
  const ticker = new StillTicker();
  const deps = {
    timers,
    ticker,
    counters: { count() {} },
    nowMs: () => performance.now(),
    wireLimits: defaultWireLimits,
  };
  const pool = new Http2Pool(
    (timeoutMs, result) => dialTcp(plainConnector, ADDRESS, port, timeoutMs, timers, result, ticker),
    deps,
    { ...defaultPoolSettings, ...settings },
  );
  try {
    await run(pool);
  } finally {
    pool.close();
    for (const socket of sockets) socket.destroy();
    server.close();
    timers.close();
  }
}

/** What a request that asks hears: the reason why there is no lane, or 'lane'. */
async function ask(server: net.Server, connectTimeoutMs: number): Promise<string> {
  let heard = '';
  await withPool(server, { connectTimeoutMs }, async (pool) => {
    heard = await new Promise((resolve) =>
      pool.ask({
        abandoned: false,
        onLane: () => resolve('lane'),
        onUnavailable: (reason, detail) => resolve(`${reason}: ${detail}`),
      }),
    );
  });
  return heard;
}

/** A GET through the pool; gives the status, or why there is none. */
function get(pool: Http2Pool): Promise<string> {
  return new Promise((resolve) => {
    let status = '';
    const handler: StreamHandler = {
      onHead: (_stream, head) => {
        status = head[1] as string;
      },
      onData() {},
      onTrailers() {},
      onReset: (_stream, code) => resolve(code),
      onDrain() {},
      onClose: () => resolve(status),
    };
    pool.ask({
      abandoned: false,
      onLane: (lane) =>
        void lane.request([':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', '/'], true, handler),
      onUnavailable: (reason) => resolve(reason),
    });
  });
}

test('a lane opens with the SETTINGS of the application, and not before', async () => {
  assert.equal(await ask(http2.createServer() as unknown as net.Server, 20_000), 'lane');
  const silent = net.createServer((socket) => void socket.on('error', () => {}));
  assert.equal(await ask(silent, 200), 'timeout: no SETTINGS in time');
  const one = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
  });
  // The words of the codec: it is told when it has read them, not when the connection is closed.
  assert.match(await ask(one, 20_000), /^connect: (?!closed here)/);
});

test('an application that takes few streams a connection: as many connections as that calls for', async () => {
  // Answers nobody before ten are there.
  const waiting: http2.Http2ServerResponse[] = [];
  const server = http2.createServer({ settings: { maxConcurrentStreams: 2 } }, (_request, response) => {
    waiting.push(response);
    if (waiting.length === 10) for (const one of waiting) one.end('ok');
  });
  let connections = 0;
  server.on('session', () => connections++);
  await withPool(server as unknown as net.Server, {}, async (pool) => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => get(pool)));
    assert.deepEqual(answers, new Array(10).fill('200'));
  });
  assert.ok(connections >= 5 && connections <= 10, `${connections} connections`);
});

test('where no further connection may be made, a stream that ends makes room at once', async () => {
  const server = http2.createServer({ settings: { maxConcurrentStreams: 1 } }, (_request, response) => {
    setImmediate(() => response.end('ok'));
  });
  await withPool(server as unknown as net.Server, { maxConnections: 1 }, async (pool) => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => get(pool)));
    assert.deepEqual(answers, new Array(20).fill('200'));
    assert.equal(pool.open, 1);
  });
});

test('a connection that has carried its requests is replaced, and none fails', async () => {
  const server = http2.createServer((_request, response) => response.end('ok'));
  let connections = 0;
  server.on('session', () => connections++);
  await withPool(server as unknown as net.Server, { maxRequestsPerConnection: 5 }, async (pool) => {
    for (let i = 0; i < 20; i++) assert.equal(await get(pool), '200');
  });
  assert.equal(connections, 4);
});

test('one that has grown old too; at no time more streams on one than the rule allows', async () => {
  let most = 0;
  const server = http2.createServer();
  let connections = 0;
  server.on('session', (session) => {
    connections++;
    let open = 0;
    session.on('stream', (stream) => {
      most = Math.max(most, ++open);
      stream.on('close', () => open--);
      setImmediate(() => {
        stream.respond();
        stream.end();
      });
    });
  });
  await withPool(server as unknown as net.Server, { maxDurationMs: 1, maxStreams: 3 }, async (pool) => {
    for (let i = 0; i < 5; i++) {
      assert.equal(await get(pool), '200');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.equal(connections, 5);
    const answers = await Promise.all(Array.from({ length: 12 }, () => get(pool)));
    assert.deepEqual(answers, new Array(12).fill('200'));
  });
  assert.ok(most <= 3, `${most} streams`);
});

test('a connection that does not answer when it is asked is given up; one that does is kept', async () => {
  const answering = http2.createServer((_request, response) => response.end('ok'));
  await withPool(answering as unknown as net.Server, { pingEveryMs: 1, pingTimeoutMs: 60_000 }, async (pool) => {
    let pinged = 0;
    answering.on('session', (session) => session.on('ping', () => pinged++));
    assert.equal(await get(pool), '200');
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      pool.tick();
    }
    assert.equal(pool.open, 1);
    assert.ok(pinged > 0);
  });
  // Says SETTINGS, and then nothing at all.
  const deaf = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  });
  await withPool(deaf, { pingEveryMs: 1, pingTimeoutMs: 20 }, async (pool) => {
    const answer = get(pool);
    let ticks = 0;
    const beat = setInterval(() => {
      pool.tick();
      ticks++;
    }, 5);
    assert.equal(await answer, 'connection');
    clearInterval(beat);
    assert.ok(ticks > 1);
    assert.equal(pool.open, 0);
  });
});
