import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { defaultWireLimits } from '@weft/wire';
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
