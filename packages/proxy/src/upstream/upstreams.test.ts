import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { defaultWireLimits, type StreamHandler } from '@weft/wire';
import { plainConnector } from '../net/dial.ts';
import { Ticker, TimerWheel } from '../net/timers.ts';
import type { Lane } from './lane.ts';
import { type PoolLimits, Upstreams } from './upstreams.ts';

const HOST = '127.7.70.1';
const limits = (maxConnections: number): PoolLimits => ({
  ...{ maxConnections, maxPending: 1, connectTimeoutMs: 0, idleTimeoutMs: 0, maxRequestsPerConnection: 0 },
});

test('destinations that are not asked for any more are forgotten; new limits hold for pools that are there', async (t) => {
  const app = http.createServer((_req, res) => res.end('ok'));
  await new Promise<void>((resolve) => app.listen(0, HOST, resolve));
  const { port } = app.address() as AddressInfo;
  const timers = new TimerWheel();
  const ticker = new Ticker();
  const upstreams = new Upstreams({
    ...{ connector: plainConnector, timers, ticker, nowMs: () => performance.now(), wireLimits: defaultWireLimits },
    counters: { count: () => {} },
  });
  t.after(() => {
    upstreams.close();
    ticker.close();
    timers.close();
    app.close();
    app.closeAllConnections();
  });
  const ask = (given: PoolLimits): Promise<Lane | string> =>
    new Promise((resolve) => {
      const onUnavailable = (reason: string): void => resolve(reason);
      upstreams.pool(HOST, port, false, given).ask({ abandoned: false, onLane: resolve, onUnavailable });
    });
  const one = limits(1);
  assert.notEqual(typeof (await ask(one)), 'string');
  const waiting = ask(one);
  assert.equal(await ask(one), 'overflow');
  // The same pool, after the plan allowed a second connection.
  assert.notEqual(typeof (await ask(limits(3))), 'string');
  assert.notEqual(typeof (await waiting), 'string');

  for (let p = 1; p <= 50; p++) upstreams.pool(HOST, p, p % 2 === 0, undefined);
  assert.equal(upstreams.size, 51);
  const start = performance.now();
  upstreams.tick(start + 100_000);
  assert.equal(upstreams.size, 51);
  upstreams.tick(start + 110_000);
  assert.equal(upstreams.size, 51);
  upstreams.tick(start + 200_000);
  // What holds connections stays.
  assert.equal(upstreams.size, 1);
});

test('a connection of HTTP/1.1 older than the rule allows takes no further request', async (t) => {
  const app = http.createServer((_req, res) => res.end('ok'));
  let connections = 0;
  app.on('connection', () => connections++);
  await new Promise<void>((resolve) => app.listen(0, HOST, resolve));
  const { port } = app.address() as AddressInfo;
  const timers = new TimerWheel();
  const ticker = new Ticker();
  let nowMs = 0;
  const upstreams = new Upstreams({
    ...{ connector: plainConnector, timers, ticker, nowMs: () => nowMs, wireLimits: defaultWireLimits },
    counters: { count: () => {} },
  });
  t.after(() => {
    upstreams.close();
    ticker.close();
    timers.close();
    app.close();
    app.closeAllConnections();
  });
  const given = { ...limits(0), maxPending: 0, idleTimeoutMs: 3_600_000, maxConnectionDurationMs: 60_000 };
  const get = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const handler: StreamHandler = {
        ...{ onHead() {}, onData() {}, onTrailers() {}, onDrain() {}, onClose: () => resolve() },
        onReset: (_stream, code) => reject(new Error(code)),
      };
      upstreams.pool(HOST, port, false, given).ask({
        abandoned: false,
        onLane: (lane) =>
          void lane.request([':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', '/'], true, handler),
        onUnavailable: reject,
      });
    });
  const after: number[] = [];
  for (const at of [0, 1000, 59_999, 60_000, 61_000, 120_001]) {
    nowMs = at;
    await get();
    await new Promise((resolve) => setImmediate(resolve));
    after.push(connections);
  }
  assert.deepEqual(after, [1, 1, 1, 2, 2, 3]);
});
