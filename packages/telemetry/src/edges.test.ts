import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EdgeAggregator, EdgeTable, isFailure } from './edges.ts';

const key = {
  reporter: 'source' as const,
  source: 'cart',
  sourceNamespace: 'shop',
  destination: 'payment',
  version: 'v1',
  mtls: true,
};

test('deltas are taken once; what is running is told until it ends', () => {
  const edges = new EdgeAggregator();
  const edge = edges.edge(key);
  assert.equal(edges.edge({ ...key }), edge);
  assert.notEqual(edges.edge({ ...key, mtls: false }), edge);
  assert.notEqual(edges.edge({ ...key, reporter: 'destination' }), edge);
  edge.inFlight += 2;
  for (let i = 0; i < 10; i++) edge.record(200, -1, '', 5);
  edge.record(503, -1, 'UF', 1);
  const report = JSON.parse(JSON.stringify(edges.takeDeltas()));
  assert.deepEqual(
    report.deltas.map((d: { code: number; requests: number }) => [d.code, d.requests]),
    [
      [200, 10],
      [503, 1],
    ],
  );
  assert.deepEqual(report.inFlight, [{ ...key, inFlight: 2 }]);
  edge.inFlight -= 2;
  assert.deepEqual(edges.takeDeltas(), { deltas: [], inFlight: [{ ...key, inFlight: 0 }] });
  assert.deepEqual(edges.takeDeltas(), { deltas: [], inFlight: [] });
});

test('the table adds proxies up: rate, success, quantiles of the window, and totals', () => {
  const table = new EdgeTable();
  const now = 100_000;
  for (const proxy of ['a', 'b']) {
    const edges = new EdgeAggregator();
    const edge = edges.edge(key);
    edge.inFlight = 3;
    for (let i = 0; i < 90; i++) edge.record(200, -1, '', 4);
    for (let i = 0; i < 10; i++) edge.record(503, -1, 'UH', 400);
    table.add(proxy, edges.takeDeltas(), now);
  }
  const [s] = table.summaries(now + 1000);
  assert.equal(s.requests, 200);
  assert.equal(s.failures, 20);
  assert.equal(s.requestsPerSecond, 20);
  assert.equal(s.successRate, 0.9);
  assert.equal(s.inFlight, 6);
  assert.ok(s.p50Ms > 3 && s.p50Ms < 5, String(s.p50Ms));
  assert.ok(s.p99Ms > 320 && s.p99Ms < 500, String(s.p99Ms));
  table.forget('a');
  const [later] = table.summaries(now + 30_000);
  assert.equal(later.inFlight, 3);
  assert.equal(later.requestsPerSecond, 0);
  assert.ok(Number.isNaN(later.successRate) && Number.isNaN(later.p50Ms));
  const [all] = table.summaries(now + 30_000, 'all');
  assert.equal(all.successRate, 0.9);
  assert.equal(all.p50Ms, s.p50Ms);
  // A slot of the ring is used again a minute later and must not count the old second.
  table.add('a', { deltas: [], inFlight: [] }, now + 60_000);
  assert.equal(table.summaries(now + 61_000)[0].requestsPerSecond, 0);
});

test('an edge on which a request was only tried is no row', () => {
  const table = new EdgeTable();
  table.add('a', { deltas: [], inFlight: [{ ...key, inFlight: 1 }] }, 1000);
  assert.equal(table.summaries(2000).length, 1, 'it runs');
  table.add('a', { deltas: [], inFlight: [{ ...key, inFlight: 0 }] }, 3000);
  assert.deepEqual(table.summaries(4000), []);
});

test('edges and outcomes are bounded, and nothing that was counted is lost', () => {
  const folded: string[] = [];
  const edges = new EdgeAggregator({ maxEdges: 5, count: (name) => folded.push(name) });
  for (let i = 0; i < 100; i++) edges.edge({ ...key, destination: `d${i}` }).record(200, -1, '', 1);
  for (let code = 100; code < 1000; code++)
    edges.edge({ ...key, destination: 'd1' }).record(code, code % 17, `f${code}`, 1);
  const { deltas } = edges.takeDeltas();
  assert.equal(folded[0], 'telemetry_edges_folded');
  assert.equal(folded.length, 95);
  assert.ok(deltas.length < 120, String(deltas.length));
  assert.equal(
    deltas.reduce((sum, d) => sum + d.requests, 0),
    1000,
  );
});

test('what counts as a failure', () => {
  assert.deepEqual(
    [isFailure(200, -1), isFailure(404, -1), isFailure(500, -1), isFailure(0, -1), isFailure(-1, -1)],
    [false, false, true, true, false],
  );
  assert.deepEqual([isFailure(200, 0), isFailure(200, 5), isFailure(200, 14)], [false, false, true]);
});
