import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { type Change, fuzz, judge, mutate, seedsOf, split, targets } from './driver.ts';

// The same inputs each time, but for who asks for others (SEED=…).
fc.configureGlobal({ seed: Number(process.env.SEED ?? 20_261_122) });

const change: fc.Arbitrary<Change> = fc.tuple(fc.nat(4), fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(255));
const sizes = fc.array(fc.integer({ min: 1, max: 24 }), { minLength: 1, maxLength: 8 });

for (const target of targets) {
  const seeds = seedsOf(target);

  test(`${target.name}: every seed, byte by byte and in other pieces`, () => {
    assert.ok(seeds.length > 0);
    for (const seed of seeds) for (const n of [1, 2, 3, 7, 9, 10, 100]) judge(target, seed, split(seed, [n]));
  });

  test(`${target.name}: mutated inputs never throw and mean the same in any pieces`, (t) => {
    fc.assert(
      fc.property(fc.nat(seeds.length - 1), fc.array(change, { maxLength: 8 }), sizes, (which, changes, cuts) => {
        const bytes = mutate(seeds[which]!, changes);
        judge(target, bytes, split(bytes, cuts));
      }),
      { numRuns: 500 },
    );
    for (const seed of [1, 20_260_101, Number(process.env.SEED ?? 20_261_122)]) {
      t.diagnostic(`seed ${seed}`);
      fuzz(target, seed, 500);
    }
  });
}

/** Inputs of about this size; what one costs is told apart from what the process does beside it. */
const INPUT_BYTES = 128 * 1024;
const MOST_TIMES = 20;
/** What a session is without any input. */
const ALLOWANCE_BYTES = 1024 * 1024;

test('no input holds more than 20 times its size', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const held = (): number => {
    collect();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  for (const target of targets.filter((t) => !t.whole)) {
    for (const seed of seedsOf(target)) {
      // The seed with its second half, or its last bytes, again and again: bodies, fields, frames, names without an end.
      for (const tail of [seed.subarray(seed.length >> 1), seed.subarray(-1)]) {
        if (tail.length === 0) continue;
        const input = Buffer.concat([seed, ...new Array<Uint8Array>(Math.ceil(INPUT_BYTES / tail.length)).fill(tail)]);
        const before = held();
        const session = target.start();
        for (const piece of split(input, [1000])) session.push(piece);
        const cost = held() - before;
        session.end();
        assert.ok(
          cost < MOST_TIMES * input.length + ALLOWANCE_BYTES,
          `${target.name}: ${input.length} bytes hold ${cost}; ${JSON.stringify(seed.toString('latin1')).slice(0, 200)}`,
        );
      }
    }
  }
});
