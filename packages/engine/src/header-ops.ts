/** Changes of headers, as a route says them. */
import type { Header, HeaderOperations } from '@weft/plan';

/** Header changes of one direction, names in lower case. Removals come first, then `set`, then `add`. */
export interface HeaderOps {
  readonly remove: readonly string[];
  /** Names and values in turn. */
  readonly set: readonly string[];
  readonly add: readonly string[];
}

/** One for all that change nothing: what is looked at with each request stays close by. */
export const NO_OPS: readonly HeaderOps[] = [];

/** What several rules say of requests, in their order. */
export function requestOps(...rules: readonly (HeaderOperations | undefined)[]): readonly HeaderOps[] {
  return some(rules.map((h) => h && compileOps(h.requestRemove, h.requestSet, h.requestAdd)));
}

export function responseOps(...rules: readonly (HeaderOperations | undefined)[]): readonly HeaderOps[] {
  return some(rules.map((h) => h && compileOps(h.responseRemove, h.responseSet, h.responseAdd)));
}

function some(ops: readonly (HeaderOps | undefined)[]): readonly HeaderOps[] {
  const said = ops.filter((op) => op !== undefined);
  return said.length > 0 ? said : NO_OPS;
}

function compileOps(remove: readonly string[], set: readonly Header[], add: readonly Header[]): HeaderOps | undefined {
  const ops = {
    remove: remove.map((name) => name.toLowerCase()).filter((name) => !name.startsWith(':') && name !== 'host'),
    set: flatten(set),
    add: flatten(add),
  };
  return ops.remove.length + ops.set.length + ops.add.length > 0 ? ops : undefined;
}

/** Of the pseudo-headers only the authority may be changed, and `host` is it. */
function flatten(headers: readonly Header[]): string[] {
  return headers.flatMap((h) => {
    const name = h.name.toLowerCase();
    if (name === 'host' || name === ':authority') return [':authority', h.value];
    return name.startsWith(':') ? [] : [name, h.value];
  });
}

/** Changes a head in place. What is set keeps the place of the first field of that name; other fields of it go. */
export function applyHeaderOps(head: string[], ops: readonly HeaderOps[]): void {
  for (let o = 0; o < ops.length; o++) {
    const op = ops[o];
    for (let i = 0; i < op.remove.length; i++) removeField(head, op.remove[i], 0);
    for (let i = 0; i < op.set.length; i += 2) setField(head, op.set[i], op.set[i + 1]);
    for (let i = 0; i < op.add.length; i += 2) {
      if (op.add[i] === ':authority') setField(head, ':authority', op.add[i + 1]);
      else head.push(op.add[i], op.add[i + 1]);
    }
  }
}

function setField(head: string[], name: string, value: string): void {
  for (let i = 0; i < head.length; i += 2) {
    if (head[i] === name) {
      head[i + 1] = value;
      removeField(head, name, i + 2);
      return;
    }
  }
  // A response has no authority to change, and pseudo-headers stand first.
  if (!name.startsWith(':')) head.push(name, value);
}

function removeField(head: string[], name: string, from: number): void {
  let to = from;
  for (let i = from; i < head.length; i += 2) {
    if (head[i] === name) continue;
    head[to] = head[i];
    head[to + 1] = head[i + 1];
    to += 2;
  }
  if (to !== head.length) head.length = to;
}
