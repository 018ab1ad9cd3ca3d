import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PlaintextCallers, type PlaintextKey } from './plaintext.ts';

const from = (address: string, more: Partial<PlaintextKey> = {}): PlaintextKey => ({
  ...{ source: '', sourceNamespace: '', address, port: 80, refused: false, ref: '' },
  ...more,
});

test('plaintext callers add up by address, port and fate; an open connection keeps its caller seen', () => {
  const callers = new PlaintextCallers({ wallMs: () => 7 });
  for (let i = 0; i < 3; i++) callers.add(from('10.0.0.1'));
  callers.add(from('10.0.0.1', { refused: true, ref: 'pa' }));
  const close = callers.open(from('10.0.0.2', { source: 'legacy', sourceNamespace: 'shop' }));
  const told = () => callers.takeDeltas().map((d) => [d.address, d.source, d.refused, d.ref, d.requests]);
  assert.deepEqual(told(), [
    ['10.0.0.1', '', false, '', 3],
    ['10.0.0.1', '', true, 'pa', 1],
    ['10.0.0.2', 'legacy', false, '', 1],
  ]);
  assert.deepEqual(told(), [['10.0.0.2', 'legacy', false, '', 0]]);
  close();
  assert.deepEqual(told(), []);
  assert.deepEqual(
    callers.list().map((c) => [c.address, c.refused, c.total, c.lastMs]),
    [
      ['10.0.0.1', false, 3, 7],
      ['10.0.0.1', true, 1, 7],
      ['10.0.0.2', false, 1, 7],
    ],
    'told or not',
  );
});

test('past the limit callers are dropped and counted, and there is room again after the next report', () => {
  const heard: string[] = [];
  const callers = new PlaintextCallers({ max: 2, count: (name) => heard.push(name) });
  const close = callers.open(from('10.0.0.1'));
  for (const n of [2, 3, 4]) callers.add(from(`10.0.0.${n}`));
  assert.deepEqual(heard, ['telemetry_plaintext_dropped', 'telemetry_plaintext_dropped']);
  assert.equal(callers.takeDeltas().length, 2);
  callers.add(from('10.0.0.3'));
  assert.deepEqual(
    callers.takeDeltas().map((d) => d.address),
    ['10.0.0.1', '10.0.0.3'],
  );
  close();
});
