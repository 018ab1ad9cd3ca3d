import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EdgeLine, renderEdges } from './live-table.ts';

const edge = (over: Partial<EdgeLine> = {}): EdgeLine => ({
  source: 'cart',
  destination: 'payment.shop.svc.cluster.local',
  version: 'v1',
  requestsPerSecond: 12.34,
  successRate: 0.99996,
  p50Ms: 1.26,
  p90Ms: 120.4,
  p99Ms: 12_345,
  inFlight: 3,
  mtls: true,
  ...over,
});

test('the table, as it is seen', () => {
  const edges = [edge(), edge({ source: 'unknown', version: '', requestsPerSecond: 250, successRate: 1, mtls: false })];
  assert.equal(
    renderEdges(edges, { columns: 100, color: false }),
    [
      'FROM     TO            VERSION  REQ/S  SUCCESS    P50    P90    P99  IN FLIGHT  MTLS',
      'cart     payment.shop  v1        12.3   99.99%  1.3ms  120ms  12.3s          3  yes',
      'unknown  payment.shop  -          250     100%  1.3ms  120ms  12.3s          3  no',
    ].join('\n'),
  );
});

test('no line is wider than the terminal, colours not counted', () => {
  const long = 'a-workload-with-a-very-long-name-'.repeat(3);
  for (const columns of [80, 100, 200]) {
    for (const color of [true, false]) {
      const text = renderEdges([edge({ source: long, destination: long, version: long })], { columns, color });
      for (const line of text.replace(/\u001b\[\d+m/g, '').split('\n')) assert.ok(line.length <= columns, line);
    }
  }
});

test('empty, unknown values, many edges, and names that would move the cursor', () => {
  assert.match(renderEdges([], { columns: 80, color: false }), /no traffic yet/);
  const none = renderEdges([edge({ successRate: null, p50Ms: null, p90Ms: Number.NaN, p99Ms: null })], {
    columns: 90,
    color: false,
  });
  assert.match(none, / - {4,}-/);
  const many = Array.from({ length: 30 }, (_, i) => edge({ source: `s${i}`, requestsPerSecond: i }));
  const cut = renderEdges(many, { columns: 90, color: false, maxRows: 5 }).split('\n');
  assert.equal(cut.length, 7);
  assert.ok(cut[1].startsWith('s25') && cut[6] === '… and 25 more');
  assert.doesNotMatch(
    renderEdges([edge({ source: '\u001b[2J\u009b' })], { columns: 90, color: false }),
    /[\u001b\u009b]/,
  );
  const red = renderEdges([edge({ successRate: 0.5 })], { columns: 90, color: true });
  assert.match(red, /\u001b\[31m *50\.00%/);
});
