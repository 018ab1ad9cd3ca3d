/** What changes from one state of resources to another: found once, however many streams take the same step. */
export interface Resource {
  /** Changes exactly when the bytes do. */
  version: string;
  bytes: Uint8Array;
}

export type Resources = ReadonlyMap<string, Resource>;

/** The same object for every stream that takes the same step, so that it is written out once (encode.ts). */
export interface Diff {
  readonly updated: readonly Named[];
  readonly removed: readonly string[];
}

export interface Named {
  readonly name: string;
  readonly resource: Resource;
}

export const NO_RESOURCES: Resources = new Map();
const NONE: Diff = Object.freeze({ updated: [], removed: [] });
/** to → from. States are never changed once they were given to a session, and belong to one type each. */
const known = new WeakMap<Resources, WeakMap<Resources, Diff>>();

export function diff(from: Resources, to: Resources): Diff {
  if (from === to) return NONE;
  let byFrom = known.get(to);
  if (!byFrom) known.set(to, (byFrom = new WeakMap()));
  let found = byFrom.get(from);
  if (!found) byFrom.set(from, (found = compare(from, to)));
  return found;
}

function compare(from: Resources, to: Resources): Diff {
  const updated: Named[] = [];
  const removed: string[] = [];
  for (const [name, resource] of to) {
    if (from.get(name)?.version !== resource.version) updated.push({ name, resource });
  }
  for (const name of from.keys()) if (!to.has(name)) removed.push(name);
  return updated.length + removed.length === 0 ? NONE : { updated, removed };
}
