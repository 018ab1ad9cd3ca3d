import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VirtualClock } from '@weft/base';
import { Turns } from './turns.ts';

test('so many a second, in their order, the first at once, each once', () => {
  const clock = new VirtualClock();
  const served: number[] = [];
  const turns = new Turns<number>(clock, 300, (n) => void served.push(n));
  turns.begin();
  assert.equal(clock.pending, 0, 'nobody waits: nothing runs');
  for (let n = 0; n < 10; n++) turns.add(n);
  turns.begin();
  assert.deepEqual(served, [0, 1, 2]);
  turns.add(5); // keeps its place
  turns.add(0); // again: behind the others
  turns.delete(4);
  turns.begin();
  assert.deepEqual([served.length, turns.size, turns.has(4), turns.has(0)], [3, 7, false, true], 'one turn in 10 ms');
  clock.advance(9);
  assert.equal(served.length, 3);
  clock.advance(1);
  assert.deepEqual(served.splice(0), [0, 1, 2, 3, 5, 6]);
  clock.advance(20);
  assert.deepEqual([served.splice(0), turns.size], [[7, 8, 9, 0], 0]);
  clock.advance(100);
  assert.equal(clock.pending, 0);
  for (let n = 0; n < 10; n++) turns.add(n);
  turns.begin();
  turns.finish();
  assert.deepEqual([served.splice(0).length, turns.size], [10, 0]);
  turns.add(1);
  turns.stop();
  clock.advance(100);
  assert.deepEqual([served, clock.pending], [[], 0]);
});

test('a thousand come within the time that their number says, however often they are added again', () => {
  const clock = new VirtualClock();
  let served = 0;
  const turns = new Turns<number>(clock, 2000, () => void served++);
  for (let ms = 0; ms < 500; ms += 5) {
    for (let n = 0; n < 1000; n++) turns.add(n);
    turns.begin();
    clock.advance(5);
  }
  // 50 turns, and the one that began at once.
  assert.ok(served >= 1000 && served <= 1020, `${served}`);
});
