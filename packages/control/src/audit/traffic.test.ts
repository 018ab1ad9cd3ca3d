import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { silentLogger, VirtualClock } from '@weft/base';
import { Traffic } from './traffic.ts';

const DAY_MS = 86_400_000;
const edge = {
  ...{ reporter: 'source' as const, source: 'cart', sourceNamespace: 'shop', destination: 'pay', mtls: true },
  ...{ requests: 2, bytes: 10 },
};
const call = {
  ...{ principal: 'cluster.local/ns/shop/sa/cart', source: 'cart', sourceNamespace: 'shop', port: 8080 },
  ...{
    method: 'GET',
    path: '/charge',
    denied: false,
    policy: 'none',
    ref: '',
    shadowPolicy: '',
    shadowRef: '',
    audit: '',
  },
  requests: 3,
};
const plain = {
  source: '',
  sourceNamespace: '',
  address: '10.0.0.9',
  port: 8080,
  refused: false,
  ref: '',
  requests: 1,
};
const to = { workload: 'pay', namespace: 'shop' };

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'weft-traffic-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test('sums survive a restart and a change of the day, and end with their retention', (t) => {
  const dir = folder(t);
  const clock = new VirtualClock(Date.UTC(2026, 0, 10, 12));
  let traffic = new Traffic(dir, clock, silentLogger, { days: 3 });
  traffic.addEdge(edge);
  traffic.addCall(to, call);
  traffic.stop();
  traffic = new Traffic(dir, clock, silentLogger, { days: 3 });
  traffic.addEdge(edge);
  traffic.addCall(to, call);
  traffic.addCall(to, { ...call, denied: true, policy: 'shop/p' });
  traffic.addPlaintext(to, plain);
  clock.advance(DAY_MS);
  traffic.addEdge(edge);
  traffic.addCall(to, call);
  for (const more of [{}, { requests: 0 }, { refused: true, ref: 'r' }])
    traffic.addPlaintext(to, { ...plain, ...more });
  const all = traffic.since(0);
  assert.deepEqual(
    all.plaintext.map((p) => [p.workload, p.address, p.refused, p.requests, p.lastMs - p.firstMs]),
    [
      ['pay', '10.0.0.9', false, 2, DAY_MS],
      ['pay', '10.0.0.9', true, 1, 0],
    ],
  );
  assert.deepEqual(
    all.edges.map((e) => [e.requests, e.bytes, e.lastMs - e.firstMs]),
    [[6, 30, DAY_MS]],
  );
  assert.deepEqual(
    all.calls.map((c) => [c.workload, c.denied, c.requests]),
    [
      ['pay', false, 9],
      ['pay', true, 3],
    ],
  );
  const today = traffic.since(clock.wall() - 1000);
  assert.deepEqual([today.edges[0].requests, today.calls.map((c) => c.requests)], [2, [3]]);
  clock.advance(60_000);
  assert.deepEqual(readdirSync(dir).sort(), ['traffic-2026-01-10.json', 'traffic-2026-01-11.json']);
  clock.advance(3 * DAY_MS);
  traffic.addEdge(edge);
  traffic.stop();
  assert.deepEqual(readdirSync(dir).sort(), ['traffic-2026-01-11.json', 'traffic-2026-01-14.json']);
});

test('rows and paths are bounded; what is past the bound is counted', (t) => {
  const traffic = new Traffic(folder(t), new VirtualClock(), silentLogger, { edges: 2, calls: 5, paths: 2 });
  t.after(() => traffic.stop());
  for (let i = 0; i < 10; i++) traffic.addEdge({ ...edge, source: `s${i}` });
  for (const letter of 'abcdefgh') traffic.addCall(to, { ...call, path: `/${letter}/x` });
  for (let i = 0; i < 4; i++) traffic.addCall(to, { ...call, principal: `p${i}` });
  const { edges, calls, dropped } = traffic.since(0);
  assert.equal(edges.length, 2);
  assert.deepEqual(
    calls.map((c) => c.path),
    ['/a/x', '/b/x', '/c/{**}', '/d/{**}', '/{**}'],
  );
  assert.equal(dropped, 8 * 2 + 4 * 3);
});
