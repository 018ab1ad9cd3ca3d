import { test } from 'node:test';
import { fuzz, targets } from './driver.ts';

for (const target of targets) {
  test(`${target.name}: mutated inputs never throw and mean the same in any pieces`, (t) => {
    for (const seed of [1, 2, 20_260_101, Date.now() % 0x7fffffff]) {
      t.diagnostic(`seed ${seed}`);
      fuzz(target, seed, 1500);
    }
  });
}
