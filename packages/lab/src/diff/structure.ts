/** What differs between two parts of plans, field by field, whatever they are. Where a rule stands in a file is no difference. */
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';

/** `undefined`: there is none. */
export interface FieldChange {
  /** `ports[0].http[1].clusters[0].weight`; indices are those of the new state, of what is gone those of the old. */
  readonly field: string;
  readonly before: JsonValue | undefined;
  readonly after: JsonValue | undefined;
  /** Refs of the rules that said so and that say so; empty where no rule does. */
  readonly refBefore: string;
  readonly refAfter: string;
}

/** Longer lists of rules that differ in their middle are compared by place, since the work grows with the product. */
const MAX_TABLE = 4_000_000;

/** `before` or `after` may be missing as a whole. */
export function changesOf(before: JsonValue | undefined, after: JsonValue | undefined): FieldChange[] {
  const out: FieldChange[] = [];
  walk(before, after, '', '', '', out);
  return out;
}

/** The same without references to rules: what two states are compared by. */
export function bare(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(bare);
  if (!isObject(value)) return value;
  const out: JsonObject = Object.create(null);
  // Maps of protobuf have no order.
  for (const key of Object.keys(value).sort()) if (!isRef(key)) out[key] = bare(value[key]);
  return out;
}

function isRef(key: string): boolean {
  return key === 'ref' || /[a-z]Ref$/.test(key);
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isRules(value: JsonValue): boolean {
  return Array.isArray(value) && value.every(isObject);
}

const text = (value: JsonValue): string => JSON.stringify(bare(value));

function walk(
  before: JsonValue | undefined,
  after: JsonValue | undefined,
  field: string,
  above: string,
  aboveAfter: string,
  out: FieldChange[],
): void {
  const refBefore = ownRef(before) || above;
  const refAfter = ownRef(after) || aboveAfter;
  if (before !== undefined && after !== undefined) {
    if (text(before) === text(after)) return;
    if (isObject(before) && isObject(after)) {
      for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
        if (isRef(key)) continue;
        const at = (o: JsonObject, ref: string): string => (o[`${key}Ref`] as string | undefined) || ref;
        const inner = field === '' ? key : `${field}.${key}`;
        walk(before[key], after[key], inner, at(before, refBefore), at(after, refAfter), out);
      }
      return;
    }
  }
  // A list that is empty is left out of JSON.
  if (isRules(before ?? []) && isRules(after ?? []) && (before ?? after) !== undefined) {
    lists((before ?? []) as JsonObject[], (after ?? []) as JsonObject[], field, refBefore, refAfter, out);
    return;
  }
  out.push({ field, before, after, refBefore, refAfter });
}

function ownRef(value: JsonValue | undefined): string {
  return isObject(value) && typeof value.ref === 'string' ? value.ref : '';
}

/** Rules that are equal and in the same order stay; the others came, went, or are changed ones of the same place. */
function lists(
  before: readonly JsonObject[],
  after: readonly JsonObject[],
  field: string,
  above: string,
  aboveAfter: string,
  out: FieldChange[],
): void {
  const kept = common(before.map(text), after.map(text));
  let i = 0;
  let j = 0;
  for (const [keptBefore, keptAfter] of [...kept, [before.length, after.length] as const]) {
    const went = before.slice(i, keptBefore).map((value, k) => ({ value, at: i + k, paired: false }));
    for (let k = j; k < keptAfter; k++) {
      const same = went.find((w) => !w.paired && alike(w.value, after[k]));
      if (same) same.paired = true;
      walk(same?.value, after[k], `${field}[${k}]`, above, aboveAfter, out);
    }
    for (const { value, at, paired } of went)
      if (!paired) walk(value, undefined, `${field}[${at}]`, above, aboveAfter, out);
    i = keptBefore + 1;
    j = keptAfter + 1;
  }
}

const NAMES = ['name', 'host', 'port', 'cluster', 'issuer', 'instance', 'subject'] as const;

/** The same thing in two states: it has the same name, or asks for the same, or is written at the same place. */
function alike(a: JsonObject, b: JsonObject): boolean {
  for (const key of NAMES) if (a[key] !== undefined || b[key] !== undefined) return a[key] === b[key];
  for (const key of ['match', 'hosts', 'sniHosts'])
    if (a[key] !== undefined && b[key] !== undefined && text(a[key]) === text(b[key])) return true;
  return ownRef(a) !== '' && ownRef(a) === ownRef(b);
}

/** The longest common subsequence, as pairs of indices. */
function common(a: readonly string[], b: readonly string[]): [number, number][] {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const pairs: [number, number][] = Array.from({ length: start }, (_, i) => [i, i]);
  const n = a.length - start - end;
  const m = b.length - start - end;
  if (n * m <= MAX_TABLE) {
    const width = m + 1;
    const longest = new Uint32Array((n + 1) * width);
    for (let i = n - 1; i >= 0; i--) {
      for (let j = m - 1; j >= 0; j--) {
        const same = a[start + i] === b[start + j];
        const skip = Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
        longest[i * width + j] = same ? longest[(i + 1) * width + j + 1] + 1 : skip;
      }
    }
    for (let i = 0, j = 0; i < n && j < m; ) {
      if (a[start + i] === b[start + j]) pairs.push([start + i++, start + j++]);
      else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i++;
      else j++;
    }
  }
  for (let k = end; k > 0; k--) pairs.push([a.length - k, b.length - k]);
  return pairs;
}
