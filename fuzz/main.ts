// node fuzz/main.ts [count] [seed] [target]: mutated inputs in arbitrary pieces; the seed printed repeats a run.
import { fuzz, targets } from './driver.ts';

const count = Number(process.argv[2] ?? 100_000);
const seed = Number(process.argv[3] ?? Date.now() % 0x7fffffff);
const only = process.argv[4];
console.log(`seed ${seed}, ${count} inputs each`);
for (const target of targets) {
  if (only !== undefined && target.name !== only) continue;
  fuzz(target, seed, count);
  console.log(`${target.name}: no problem`);
}
