import type { References } from '@weft/plan';

/** Where the rules of a plan stand in files: reference id → `file:line`, looked up for every line of the access log. */
export class ReferenceIndex {
  #places = new Map<string, string>();
  #of: References | undefined;

  /** Takes over a new table; cheap where it is the one held already. */
  update(references: References | undefined): void {
    if (references === this.#of) return;
    this.#of = references;
    const places = new Map<string, string>();
    for (const r of references?.entries ?? []) {
      const name = [r.kind, r.namespace, r.name].filter((part) => part !== '').join('/');
      places.set(r.ref, r.file !== '' ? `${r.file}:${r.line}` : r.field !== '' ? `${name}#${r.field}` : name);
    }
    this.#places = places;
  }

  /** `file:line`, or `kind/namespace/name#field` where the source has no files; undefined for an unknown reference. */
  where(ref: string): string | undefined {
    return ref === '' ? undefined : this.#places.get(ref);
  }
}
