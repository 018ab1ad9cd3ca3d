/** Every draw of the engine, so that a Random that explores (`choose`) meets each outcome with its exact weight. */
import type { Random } from '@weft/base';

/** True in `percent` of 100 cases. */
export function drawPercent(random: Random, percent: number): boolean {
  if (random.choose) return random.choose([Math.min(percent, 100), Math.max(100 - percent, 0)]) === 0;
  return random.next() * 100 < percent;
}

/** One of `count` equal ones, by index. */
export function drawEven(random: Random, count: number): number {
  if (random.choose) return random.choose(new Array<number>(count).fill(1));
  return Math.floor(random.next() * count);
}

/** An index by running sums of weights, the last of which is `total`. */
export function drawCumulative(random: Random, cumulative: readonly number[], total: number): number {
  if (random.choose) return random.choose(cumulative.map((sum, i) => (i === 0 ? sum : sum - cumulative[i - 1])));
  const x = random.next() * total;
  for (let i = 0; i < cumulative.length; i++) if (x < cumulative[i]) return i;
  return cumulative.length - 1;
}
