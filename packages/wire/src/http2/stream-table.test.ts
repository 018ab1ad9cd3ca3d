import assert from 'node:assert/strict';
import test from 'node:test';
import { seededRandom } from '@weft/base';
import { StreamTable } from './stream-table.ts';

test('it holds what a Map would, however streams come and go', () => {
  const random = seededRandom(7);
  const table = new StreamTable<{ id: number }>();
  const map = new Map<number, { id: number }>();
  // Ids that meet in one place among them.
  const ids = Array.from({ length: 400 }, (_, i) => (i < 200 ? 2 * i + 1 : 2048 * (i - 199) + 1));
  for (let step = 0; step < 20_000; step++) {
    const id = ids[Math.floor(random.next() * ids.length)]!;
    // Mostly filling, mostly emptying, in turn.
    if (random.next() < (step % 4000 < 2000 ? 0.7 : 0.3)) {
      const stream = { id };
      table.add(stream);
      map.set(id, stream);
    } else {
      table.delete(id);
      map.delete(id);
    }
    assert.equal(table.size, map.size);
    if (step % 50 !== 0) continue;
    for (const one of ids) assert.equal(table.get(one), map.get(one));
    assert.deepEqual(
      table.all().sort((a, b) => a.id - b.id),
      [...map.values()].sort((a, b) => a.id - b.id),
    );
  }
  table.clear();
  assert.deepEqual([table.size, table.all(), table.get(1)], [0, [], undefined]);
});
