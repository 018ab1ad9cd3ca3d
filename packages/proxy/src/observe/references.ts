import type { References } from '@weft/plan';

/** Where the rules of a plan stand in files: reference id → `file:line`, looked up for every line of the access log. */
export class ReferenceIndex {
  #tables: ReadonlyMap<string, References> = new Map();
  /** Made when a line first needs it: most changes of the tables come while nothing is logged of them. */
  #places: Map<string, string> | undefined;

  /** Takes over new tables. */
  update(tables: ReadonlyMap<string, References>): void {
    this.#tables = tables;
    this.#places = undefined;
  }

  /** `file:line`, or `kind/namespace/name#field` where the source has no files; undefined for an unknown reference. */
  where(ref: string): string | undefined {
    if (ref === '') return undefined;
    this.#places ??= this.#index();
    return this.#places.get(ref);
  }

  #index(): Map<string, string> {
    const places = new Map<string, string>();
    for (const { entries } of this.#tables.values()) {
      for (const r of entries) {
        const name = [r.kind, r.namespace, r.name].filter((part) => part !== '').join('/');
        places.set(r.ref, r.file !== '' ? `${r.file}:${r.line}` : r.field !== '' ? `${name}#${r.field}` : name);
      }
    }
    return places;
  }
}
