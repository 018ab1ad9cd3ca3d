/** Reference ids: what a plan carries in the place of positions, and the table that says where each one stands. */
import { create } from '@bufbuild/protobuf';
import type { Position } from '@weft/base';
import { type Reference, ReferenceSchema } from '@weft/plan';
import { perModel } from './lookup.ts';
import type { Model, Positions } from './types/model.ts';
import type { Resource } from './types/resource.ts';

/** `VirtualService/shop/payment#spec.http[0]`. Stable while lines move. */
export function refOf(resource: Pick<Resource, 'kind' | 'namespace' | 'name'>, field = ''): string {
  return `${resource.kind}/${resource.namespace}/${resource.name}${field ? `#${field}` : ''}`;
}

/** `VirtualService/shop/payment`: what a ref stands for without the field. */
export function resourceOfRef(of: Pick<Resource, 'kind' | 'namespace' | 'name'>): string {
  return refOf(of);
}

/** Takes a ref apart again; undefined where it is none. */
export function parseRef(ref: string): { kind: string; namespace: string; name: string; field: string } | undefined {
  const m = /^([^/#]+)\/([^/#]*)\/([^/#]+)(?:#(.*))?$/s.exec(ref);
  return m ? { kind: m[1], namespace: m[2], name: m[3], field: m[4] ?? '' } : undefined;
}

/** Where a field stands: one with no position of its own where the nearest field above it does. */
export function placeOf(positions: Positions, resource: Resource, field: string): Pick<Position, 'file' | 'line'> {
  const own = positions.get(resourceOfRef(resource));
  for (let path = field; own && path !== ''; ) {
    const at = own.get(path);
    if (at) return at;
    path = path.slice(0, Math.max(path.lastIndexOf('.'), path.lastIndexOf('['), 0));
  }
  return resource.source;
}

/** What refs of a model stand for: the same objects for all plans that use them. */
const made = perModel((): Map<string, Reference> => new Map());

/** Collects the refs that a plan uses. */
export class RefTable {
  readonly #model: Model;
  readonly #entries = new Map<string, Reference>();

  constructor(model: Model) {
    this.#model = model;
  }

  /** Notes the ref and gives it back. */
  use(resource: Resource, field = ''): string {
    const ref = refOf(resource, field);
    if (!this.#entries.has(ref)) {
      const model = this.#model;
      const known = made(model);
      let entry = known.get(ref);
      if (!entry) {
        const at = placeOf(model.positions, resource, field);
        const { kind, namespace, name } = resource;
        entry = create(ReferenceSchema, { ref, kind, namespace, name, file: at.file, line: at.line, field });
        known.set(ref, entry);
      }
      this.#entries.set(ref, entry);
    }
    return ref;
  }

  list(): Reference[] {
    return [...this.#entries.values()];
  }
}
