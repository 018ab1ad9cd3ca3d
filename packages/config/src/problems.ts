/** What is wrong with the files: all of it at once, each with its place. */

export interface Problem {
  readonly severity: 'error' | 'warning';
  /** Stable, e.g. WEFT-NO-PROVIDER. */
  readonly code: string;
  readonly message: string;
  /** `VirtualService/payment`; empty where the document could not be read as a resource. */
  readonly resource: string;
  readonly namespace: string;
  readonly file: string;
  readonly line: number; // 1-based
  readonly field: string;
}

/** A broken file can have a mistake a line; past this many the rest adds nothing. */
const MAX_PROBLEMS = 1000;

export class Problems {
  readonly list: Problem[] = [];
  #errors = 0;
  #count = 0;

  /** With those past the limit. */
  get count(): number {
    return this.#count;
  }

  get errors(): number {
    return this.#errors;
  }

  add(p: Problem): void {
    this.#count++;
    if (p.severity === 'error') this.#errors++;
    if (this.list.length < MAX_PROBLEMS) this.list.push(p);
  }
}

/** The known names nearest to what was written, best first; none where nothing is near. */
export function nearest(word: string, known: readonly string[], most = 3): string[] {
  const lower = word.toLowerCase().slice(0, 64);
  const limit = Math.max(2, Math.floor(lower.length / 3));
  return known
    .map((name) => ({ name, d: distance(lower, name.toLowerCase().slice(0, 64)) }))
    .filter((x) => x.d <= limit)
    .sort((a, b) => a.d - b.d || (a.name < b.name ? -1 : 1))
    .slice(0, most)
    .map((x) => x.name);
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
