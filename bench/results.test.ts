import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lines, type RowResult, text, verdict } from './results.ts';
import { atMost, timesPeer } from './rows/row.ts';

const figure = { key: 'cpu', unit: 'µs', digits: 1, target: timesPeer({ haproxy: 1, envoy: 0.5 }) };

function result(samples: Record<string, (number | undefined)[]>): RowResult {
  return {
    row: {
      name: 'r',
      what: 'a row',
      kind: 'http',
      peers: [],
      figures: [figure],
      measure: () => Promise.reject(new Error('not measured here')),
    },
    samples: new Map(Object.entries(samples).map(([peer, all]) => [peer, all.map((cpu) => ({ cpu }))])),
  };
}

test('lines: medians of the rounds, the ratio to each peer, nothing for a peer without the figure', () => {
  const r = result({ weft: [30, 90, 33], haproxy: [30, 29, 31], direct: [undefined], idle: [0] });
  assert.deepEqual(lines(r), [
    { row: 'r', peer: 'haproxy', weft: 33, peerValue: 30, ratio: 1.1, unit: 'µs' },
    { row: 'r', peer: 'idle', weft: 33, peerValue: 0, ratio: null, unit: 'µs' },
  ]);
});

test('a target is met only where every peer it names was measured and is matched', () => {
  const says = (samples: Record<string, number[]>): string => verdict(result(samples), figure).split(': ')[1]!;
  assert.equal(says({ weft: [40], haproxy: [40], envoy: [80] }), 'met');
  assert.equal(says({ weft: [40], haproxy: [40], envoy: [79] }), 'missed');
  assert.equal(says({ weft: [41], haproxy: [40] }), 'missed');
  assert.equal(says({ weft: [40], haproxy: [40] }), 'not measured');
  const atLeast = { ...figure, target: timesPeer({ envoy: 0.6 }, true) };
  assert.match(verdict(result({ weft: [60], envoy: [100] }), atLeast), /met$/);
  assert.match(verdict(result({ weft: [59], envoy: [100] }), atLeast), /missed$/);
  const fixed = { ...figure, target: atMost(0.3, 'at most 0.3 ms') };
  assert.equal(verdict(result({ weft: [0.31] }), fixed), 'at most 0.3 ms: missed');
});

test('the printed row: columns of peers, Weft with its smallest and largest round', () => {
  const lines = text(result({ weft: [30, 90, 33], haproxy: [30] }), ['weft', 'haproxy', 'envoy']).split('\n');
  assert.match(lines[0]!, /^row +figure +weft +haproxy +envoy +target$/);
  assert.match(lines[1]!, /^r +µs +33\.0 \[30\.0–90\.0\] +30\.0 \(1\.10×\)/);
});
