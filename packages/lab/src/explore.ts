/** Every way in which draws can fall, each with its exact probability. */
import { type Random, WeftError } from '@weft/base';

export interface Leaf<T> {
  readonly probability: number;
  readonly value: T;
  /** Numbers in [0, 1) that lead an ordinary Random's reader here: the middle of each draw's interval. */
  readonly draws: readonly number[];
}

/** More leaves than this are refused: nobody reads them, and the number grows with the product of all draws. */
export const MAX_LEAVES = 100_000;

interface Choice {
  readonly weights: readonly number[];
  index: number;
}

class Explorer implements Random {
  readonly path: Choice[];
  #at = 0;

  constructor(path: Choice[]) {
    this.path = path;
  }

  next(): number {
    throw new WeftError('lab.draw', 'a decision drew a number where it should have asked for a choice');
  }

  choose(weights: readonly number[]): number {
    const at = this.#at++;
    if (at < this.path.length) return this.path[at].index;
    const index = after(weights, -1);
    if (index < 0) throw new WeftError('lab.draw', 'a decision drew among nothing');
    this.path.push({ weights, index });
    return index;
  }
}

function after(weights: readonly number[], index: number): number {
  for (let i = index + 1; i < weights.length; i++) if (weights[i] > 0) return i;
  return -1;
}

/** Runs `decide` once for each combination of draws. It must be a pure function of its Random, or undo what it changes. */
export function explore<T>(decide: (random: Random) => T): Leaf<T>[] {
  const leaves: Leaf<T>[] = [];
  let path: Choice[] = [];
  for (;;) {
    const explorer = new Explorer(path);
    const value = decide(explorer);
    let probability = 1;
    const draws: number[] = [];
    for (const { weights, index } of explorer.path) {
      let before = 0;
      let total = 0;
      for (let i = 0; i < weights.length; i++) {
        if (i < index) before += weights[i];
        total += weights[i];
      }
      probability *= weights[index] / total;
      draws.push((before + weights[index] / 2) / total);
    }
    leaves.push({ probability, value, draws });
    if (leaves.length > MAX_LEAVES)
      throw new WeftError('lab.leaves', `the request can go in more than ${MAX_LEAVES} ways: too many to list`);
    path = explorer.path;
    for (;;) {
      const last = path.at(-1);
      if (!last) return leaves;
      last.index = after(last.weights, last.index);
      if (last.index >= 0) break;
      path.pop();
    }
  }
}
