import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import { test } from 'node:test';
import { defaultWireLimits } from '@weft/wire';
import { dialTcp, plainConnector } from '../net/dial.ts';
import { Ticker, TimerWheel } from '../net/timers.ts';
import { defaultPoolSettings } from './http1-pool.ts';
import { Http2Pool } from './http2-pool.ts';

/** What a request that asks hears: the reason why there is no lane, or 'lane'. */
async function ask(server: net.Server, connectTimeoutMs: number): Promise<string> {
  server.listen(0, '127.63.4.1');
  await once(server, 'listening');
  const sockets = new Set<net.Socket>();
  server.on('connection', (socket: net.Socket) => sockets.add(socket));
  const { port } = server.address() as net.AddressInfo;
  const timers = new TimerWheel();
  const ticker = new Ticker();
  const deps = {
    timers,
    ticker,
    counters: { count() {} },
    nowMs: () => performance.now(),
    wireLimits: defaultWireLimits,
  };
  const pool = new Http2Pool(
    (timeoutMs, result) => dialTcp(plainConnector, '127.63.4.1', port, timeoutMs, timers, result, ticker),
    deps,
    { ...defaultPoolSettings, connectTimeoutMs },
  );
  try {
    return await new Promise((resolve) =>
      pool.ask({
        abandoned: false,
        onLane: () => resolve('lane'),
        onUnavailable: (reason, detail) => resolve(`${reason}: ${detail}`),
      }),
    );
  } finally {
    pool.close();
    for (const socket of sockets) socket.destroy();
    server.close();
    ticker.close();
    timers.close();
  }
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
