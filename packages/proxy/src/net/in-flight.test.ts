import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InFlightList } from './in-flight.ts';

test('what runs: added once, taken out in any order, also while it is looked at', () => {
  const list = new InFlightList<{ place: number; name: string }>();
  const items = ['a', 'b', 'c', 'd'].map((name) => ({ place: -1, name }));
  for (const item of [...items, items[0]]) list.add(item);
  assert.equal(list.size, 4);
  const seen: string[] = [];
  for (const item of list) {
    seen.push(item.name);
    if (item.name === 'b') {
      list.delete(item);
      list.delete(items[2]);
      list.delete(item);
    }
  }
  assert.deepEqual(seen, ['a', 'b', 'd']);
  assert.deepEqual([...list].map((i) => i.name).sort(), ['a', 'd']);
  list.add(items[2]);
  for (const item of items) list.delete(item);
  assert.equal(list.size, 0);
});
