/** A small schema language: strict about fields, with the place of every mistake. */
import { nearest } from './problems.ts';
import type { Tree } from './yaml.ts';

export type Schema =
  | { readonly t: 'string'; readonly enum?: readonly string[]; readonly check?: (value: string) => string | undefined }
  | { readonly t: 'int' | 'number'; readonly min?: number; readonly max?: number }
  | { readonly t: 'bool' }
  /** Go style (`1m30s`); the result is milliseconds. */
  | { readonly t: 'duration'; readonly minMs?: number }
  | { readonly t: 'intOrString' }
  | { readonly t: 'list'; readonly of: Schema; readonly min?: number; readonly max?: number }
  | { readonly t: 'map'; readonly of: Schema; readonly checkKey?: (key: string) => string | undefined }
  | ObjectSchema
  /** Accepted and not looked at. */
  | { readonly t: 'any' }
  /** Any value, as plain data; maps come back without a prototype. */
  | { readonly t: 'json' }
  /** The first whose outer shape (map, list, scalar) fits. */
  | { readonly t: 'either'; readonly list: Schema; readonly map?: Schema; readonly scalar?: Schema };

export interface ObjectSchema {
  readonly t: 'object';
  readonly fields: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  /** Fields of the API that are real but do nothing here yet: refused by name, never ignored. */
  readonly unsupported?: readonly string[];
  /** Fields that the API has given up, and what is written in their place. */
  readonly replaced?: Readonly<Record<string, string>>;
  /** At most one of each group. */
  readonly oneOf?: readonly (readonly string[])[];
}

export type Report = (code: string, message: string, field: string, line: number) => void;

const FIELD = 'WEFT-FIELD';
const VALUE = 'WEFT-VALUE';

/** Objects come back without a prototype; `undefined` where a mistake was reported. */
export function readSchema(schema: Schema, tree: Tree, path: string, report: Report, line = tree.line): unknown {
  const bad = (message: string): undefined => {
    report(VALUE, message, path, line);
    return undefined;
  };
  switch (schema.t) {
    case 'any':
      return null;
    case 'json':
      return plainOf(tree);
    case 'object':
      return readObject(schema, tree, path, report, line);
    case 'either':
      return readSchema(schema[tree.kind] ?? schema.map ?? schema.list, tree, path, report, line);
    case 'list': {
      if (tree.kind !== 'list') return bad(`must be a list, not ${shown(tree)}`);
      if (schema.min !== undefined && tree.items.length < schema.min)
        return bad(`needs at least ${schema.min} entries`);
      if (schema.max !== undefined && tree.items.length > schema.max) return bad(`has more than ${schema.max} entries`);
      const out: unknown[] = [];
      for (const [i, item] of tree.items.entries()) out.push(readSchema(schema.of, item, `${path}[${i}]`, report));
      return out;
    }
    case 'map': {
      if (tree.kind !== 'map') return bad(`must be a mapping of names to values, not ${shown(tree)}`);
      const out: Record<string, unknown> = Object.create(null);
      for (const [key, entry] of tree.entries) {
        const field = `${path}.${key}`;
        const wrong = schema.checkKey?.(key);
        if (wrong) report(VALUE, `the name "${clip(key)}" ${wrong}`, field, entry.line);
        else out[key] = readSchema(schema.of, entry.value, field, report, entry.line);
      }
      return out;
    }
    default:
      break;
  }
  if (tree.kind !== 'scalar') return bad(`must be ${SHAPES[schema.t]}, not ${shown(tree)}`);
  const value = tree.value;
  switch (schema.t) {
    case 'string': {
      if (typeof value !== 'string') {
        return bad(`must be a string, not ${shown(tree)}${value === null ? '' : `: write it in quotes, "${value}"`}`);
      }
      if (schema.enum && !schema.enum.includes(value)) {
        return bad(`is "${clip(value)}"; it may be ${schema.enum.join(', ')}`);
      }
      const wrong = schema.check?.(value);
      return wrong ? bad(`is "${clip(value)}": ${wrong}`) : value;
    }
    case 'bool':
      return typeof value === 'boolean' ? value : bad(`must be true or false, not ${shown(tree)}`);
    case 'int':
    case 'number': {
      if (typeof value !== 'number' || !Number.isFinite(value)) return bad(`must be a number, not ${shown(tree)}`);
      if (schema.t === 'int' && !Number.isSafeInteger(value)) return bad(`must be a whole number, not ${value}`);
      if (schema.min !== undefined && value < schema.min) return bad(`is ${value}, but the least is ${schema.min}`);
      if (schema.max !== undefined && value > schema.max) return bad(`is ${value}, but the most is ${schema.max}`);
      return value;
    }
    case 'intOrString':
      if (typeof value === 'string' || (typeof value === 'number' && Number.isSafeInteger(value))) return value;
      return bad(`must be a whole number or a name, not ${shown(tree)}`);
    case 'duration': {
      const ms = typeof value === 'string' ? parseDuration(value) : undefined;
      if (ms === undefined) return bad(`must be a duration such as 5s, 100ms or 1m30s, not ${shown(tree)}`);
      if (schema.minMs !== undefined && ms < schema.minMs) return bad(`must be at least ${schema.minMs}ms`);
      return ms;
    }
  }
}

const SHAPES: Record<string, string> = {
  string: 'a string',
  bool: 'true or false',
  int: 'a whole number',
  number: 'a number',
  duration: 'a duration such as 5s',
  intOrString: 'a whole number or a name',
};

function readObject(schema: ObjectSchema, tree: Tree, path: string, report: Report, line: number): unknown {
  if (tree.kind === 'scalar' && tree.value === null) {
    // `spec:` with nothing under it is an empty object, as Kubernetes reads it.
    tree = { kind: 'map', line: tree.line, entries: new Map() };
  }
  if (tree.kind !== 'map') {
    report(VALUE, `must be a mapping with fields, not ${shown(tree)}`, path, line);
    return undefined;
  }
  const out: Record<string, unknown> = Object.create(null);
  const known = Object.keys(schema.fields);
  for (const [key, entry] of tree.entries) {
    const field = path ? `${path}.${key}` : key;
    if (Object.hasOwn(schema.fields, key)) {
      if (entry.value.kind === 'scalar' && entry.value.value === null && schema.fields[key].t !== 'object') continue;
      out[key] = readSchema(schema.fields[key], entry.value, field, report, entry.line);
    } else if (schema.replaced && Object.hasOwn(schema.replaced, key)) {
      report('WEFT-UNSUPPORTED', `"${key}" is no longer of the API: write ${schema.replaced[key]}`, field, entry.line);
    } else if (schema.unsupported?.includes(key)) {
      report(
        'WEFT-UNSUPPORTED',
        `"${key}" is not supported yet: remove it; it would have no effect`,
        field,
        entry.line,
      );
    } else {
      const near = nearest(key, known);
      const hint = near.length > 0 ? `did you mean ${near.join(', ')}?` : `known fields: ${known.sort().join(', ')}`;
      report(FIELD, `unknown field "${clip(key)}"; ${hint}`, field, entry.line);
    }
  }
  for (const key of schema.required ?? []) {
    if (!Object.hasOwn(out, key) && !isNamed(tree, key)) {
      report(FIELD, `the field "${key}" is missing`, path ? `${path}.${key}` : key, line);
    }
  }
  for (const group of schema.oneOf ?? []) {
    const there = group.filter((key) => Object.hasOwn(out, key));
    if (there.length > 1) report(VALUE, `only one of ${there.join(', ')} may be there`, path, line);
  }
  return out;
}

function plainOf(tree: Tree): unknown {
  if (tree.kind === 'scalar') return tree.value;
  if (tree.kind === 'list') return tree.items.map(plainOf);
  const out: Record<string, unknown> = Object.create(null);
  for (const [name, { value }] of tree.entries) out[name] = plainOf(value);
  return out;
}

function isNamed(tree: Tree, key: string): boolean {
  if (tree.kind !== 'map') return false;
  const value = tree.entries.get(key)?.value;
  return value !== undefined && !(value.kind === 'scalar' && value.value === null);
}

function shown(tree: Tree): string {
  if (tree.kind === 'map') return 'a mapping';
  if (tree.kind === 'list') return 'a list';
  if (tree.value === null) return 'nothing';
  return typeof tree.value === 'string' ? `"${clip(tree.value)}"` : String(tree.value);
}

function clip(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

const UNITS = new Map([
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
  ['us', 0.001],
  ['µs', 0.001],
  ['ns', 0.000_001],
]);
/** 24 days: the most that a 32-bit timer holds. */
const MAX_DURATION_MS = 2_147_483_647;

/** Go's durations: `1h30m`, `1.5s`, `100ms`, `0`. Milliseconds, rounded up so that what is not zero never becomes it. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0;
  if (text.length > 40 || !/^(\d+(\.\d+)?(h|ms|m|s|us|µs|ns))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, n, , unit] of text.matchAll(/(\d+(\.\d+)?)(h|ms|m|s|us|µs|ns)/g))
    ms += Number(n) * (UNITS.get(unit) ?? 0);
  const rounded = Math.max(0, Math.ceil(ms - 1e-9));
  return rounded <= MAX_DURATION_MS ? rounded : undefined;
}
