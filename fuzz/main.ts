/**
 * `npm run fuzz [-- SECONDS [SEED [TARGET]]]`: mutated inputs in arbitrary pieces, each target in turn, until the time is
 * over. The seed printed repeats a run. What fails is added to the target's seeds, which CI replays from then on.
 */
import { appendFileSync } from 'node:fs';
import { fuzz, seedFile, targets } from './driver.ts';

const seconds = Number(process.argv[2] ?? 60);
const first = Number(process.argv[3] ?? Date.now() % 0x7fffffff);
const only = process.argv[4];
if (!(seconds > 0) || !Number.isInteger(first)) {
  process.stderr.write('usage: npm run fuzz [-- SECONDS [SEED [TARGET]]]\n');
  process.exit(2);
}
const chosen = targets.filter((t) => only === undefined || t.name === only);
if (chosen.length === 0) {
  process.stderr.write(`fuzz: no target ${only}; there are ${targets.map((t) => t.name).join(', ')}\n`);
  process.exit(2);
}

const ROUND = 1000;
const end = performance.now() + seconds * 1000;
const broken = new Set<string>();
let seed = first;
console.log(`from seed ${first}, for ${seconds} s`);
for (let rounds = 1; performance.now() < end && broken.size < chosen.length; rounds++, seed++) {
  for (const target of chosen) {
    if (broken.has(target.name)) continue;
    try {
      fuzz(target, seed, ROUND, (bytes) => {
        appendFileSync(seedFile(target), `${JSON.stringify(bytes.toString('latin1'))}\n`);
      });
    } catch (error) {
      broken.add(target.name);
      console.error(`seed ${seed}: ${(error as Error).message}\nadded to ${seedFile(target)}`);
    }
  }
  if (performance.now() >= end) console.log(`${rounds * ROUND} inputs for each of ${chosen.length} targets`);
}
process.exitCode = broken.size > 0 ? 1 : 0;
