/** Randomness as an input. `next()` is uniform in [0, 1). */
export interface Random {
  next(): number;
  /**
   * Only of one that explores instead of drawing: it is told the weights (0 or more) of what is drawn and gives an index
   * whose weight is not 0. Whoever draws asks for it first and leaves `next` alone then.
   */
  choose?(weights: readonly number[]): number;
}

export const systemRandom: Random = { next: Math.random };

/** A small seeded generator (mulberry32) for tests and replay; not for secrets. */
export function seededRandom(seed: number): Random {
  let a = seed >>> 0;
  return {
    next() {
      a = (a + 0x6d2b79f5) >>> 0;
      let t = a;
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    },
  };
}
