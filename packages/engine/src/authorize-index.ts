/**
 * Finds the first rule of many that matches, without trying them all: each rule stands under the values that one of its
 * fields asks for, the field whose values the fewest rules share. Rules that no field narrows are tried one by one.
 */
import type { AuthorizationRule } from '@weft/plan';
import type { Subject } from './authorize.ts';
import type { RuleTest } from './authorize-rule.ts';
import { canonicalHostPattern, canonicalPattern } from './canonical.ts';

/** A rule can only match a subject whose value is one of these, or begins with one of them. */
interface Keys {
  readonly exact: readonly string[];
  readonly prefixes: readonly string[];
}

interface Dimension {
  readonly http: boolean;
  /** Patterns of a rule, or undefined where the rule does not restrict the field. */
  patterns(rule: AuthorizationRule): readonly string[] | undefined;
  /** The subject's values. */
  read(subject: Subject): string | undefined;
  /** A second value that counts as well (a host with its port). */
  also?(subject: Subject): string | undefined;
}

/** The patterns of a field of all alternatives; undefined where one of them does not restrict it. */
function allOf<T>(alternatives: readonly T[], read: (a: T) => readonly string[]): readonly string[] | undefined {
  if (alternatives.length === 0 || alternatives.some((a) => read(a).length === 0)) return undefined;
  return alternatives.flatMap(read);
}

function when(rule: AuthorizationRule, key: string): readonly string[] | undefined {
  return rule.when.find((c) => c.key === key && c.values.length > 0)?.values;
}

/** As a connection has it: its text is the same for all its requests, and so is the text's hash. */
const withScheme = (p: string): string => (p.startsWith('spiffe://') ? p : `spiffe://${p}`);
/** A pattern that has no beginning narrows nothing down, also with a scheme before it. */
const principalPattern = (p: string): string => (/^(spiffe:\/\/)?\*/.test(p) ? '*' : withScheme(p));

const DIMENSIONS: readonly Dimension[] = [
  {
    http: true,
    patterns: (r) => allOf(r.to, (o) => o.paths)?.map(canonicalPattern),
    read: (s) => s.path,
  },
  {
    http: true,
    patterns: (r) => allOf(r.to, (o) => o.hosts)?.map(canonicalHostPattern),
    read: (s) => s.host,
    also: (s) => s.authority,
  },
  {
    http: false,
    patterns: (r) => (allOf(r.from, (f) => f.principals) ?? when(r, 'source.principal'))?.map(principalPattern),
    read: (s) => s.spiffeId,
  },
  { http: false, patterns: (r) => allOf(r.from, (f) => f.serviceAccounts), read: (s) => s.serviceAccount },
  {
    http: false,
    patterns: (r) => allOf(r.from, (f) => f.namespaces) ?? when(r, 'source.namespace'),
    read: (s) => s.namespace,
  },
  {
    http: false,
    // "080" is no way to write a port, but is read as one.
    patterns: (r) => (allOf(r.to, (o) => o.ports) ?? when(r, 'destination.port'))?.map((p) => String(Number(p))),
    read: (s) => String(s.request.destPort),
  },
];

/** Undefined where a pattern narrows nothing down (`*`, `*suffix`, `{**}`). */
function keysOf(patterns: readonly string[]): Keys | undefined {
  const exact: string[] = [];
  const prefixes: string[] = [];
  for (const pattern of patterns) {
    const brace = pattern.search(/\{\*\*?\}/);
    if (brace > 0) prefixes.push(pattern.slice(0, brace));
    else if (brace === 0 || pattern.startsWith('*')) return undefined;
    else if (pattern.endsWith('*')) prefixes.push(pattern.slice(0, -1));
    else exact.push(pattern);
  }
  return { exact, prefixes };
}

/** A rule as it was written, its test for HTTP or TCP, and what it says when it matches. */
export interface IndexedRule<R> {
  readonly source: AuthorizationRule;
  readonly test: RuleTest;
  readonly result: R;
}

/** Up to so many are simply tried in order. */
const FEW = 8;

/**
 * A piece of prefixes, the positions of the rules whose prefix ends with it, and how they go on: at their first character's
 * code less `low`.
 */
interface Branch {
  readonly label: string;
  readonly positions: readonly number[] | undefined;
  readonly low: number;
  readonly next: readonly (Branch | undefined)[];
  /** In the place of `next` where codes are far from each other. */
  readonly sparse: ReadonlyMap<number, Branch> | undefined;
}

/** Codes of ASCII, of which most prefixes are; what has others is looked up in a map. */
const DENSE = 128;

/** `keys` are in order, and share their first `depth` characters, the last of which are `label`. */
function branch(keys: readonly string[], depth: number, label: string, lists: ReadonlyMap<string, number[]>): Branch {
  const next = new Map<number, Branch>();
  let from = keys[0].length === depth ? 1 : 0;
  while (from < keys.length) {
    const first = keys[from];
    let to = from + 1;
    while (to < keys.length && keys[to][depth] === first[depth]) to++;
    // In order: what the first and the last share, all between them share.
    const last = keys[to - 1];
    let end = depth + 1;
    while (end < first.length && first[end] === last[end]) end++;
    next.set(first.charCodeAt(depth), branch(keys.slice(from, to), end, first.slice(depth, end), lists));
    from = to;
  }
  const positions = keys[0].length === depth ? lists.get(keys[0]) : undefined;
  const codes = [...next.keys()];
  const low = codes[0] ?? 0;
  const span = codes.length === 0 ? 0 : codes[codes.length - 1] - low + 1;
  const dense = span > DENSE ? [] : Array.from({ length: span }, (_, i) => next.get(low + i));
  return { label, positions, low, next: dense, sparse: span > DENSE ? next : undefined };
}

function follow(at: Branch, code: number): Branch | undefined {
  const i = code - at.low;
  if (i >= 0 && i < at.next.length) return at.next[i];
  return at.sparse?.get(code);
}

/** Whether a label goes on in the value as it began there: quicker than startsWith for labels this short. */
function stands(label: string, value: string, depth: number): boolean {
  for (let i = 1; i < label.length; i++) if (value.charCodeAt(depth + i) !== label.charCodeAt(i)) return false;
  return true;
}

/** Positions of rules, ascending, by the values of one field. */
class Table {
  readonly dimension: Dimension;
  readonly #exact = new Map<string, number[]>();
  readonly #prefixes = new Map<string, number[]>();
  #root: Branch | undefined;

  constructor(dimension: Dimension) {
    this.dimension = dimension;
  }

  add(keys: Keys, position: number): void {
    for (const key of new Set(keys.exact)) push(this.#exact, key, position);
    for (const key of new Set(keys.prefixes)) push(this.#prefixes, key, position);
  }

  /** To be called when all is added; false where nothing was. */
  close(): boolean {
    const prefixes = [...this.#prefixes.keys()].sort();
    if (prefixes.length > 0) this.#root = branch(prefixes, 0, '', this.#prefixes);
    return this.#exact.size + prefixes.length > 0;
  }

  /** The first matching rule before `best`, else `best`. */
  first<R>(value: string, subject: Subject, rules: readonly IndexedRule<R>[], best: number): number {
    let found = this.#exact.size === 0 ? best : firstOf(this.#exact.get(value), subject, rules, best);
    let at = this.#root;
    let depth = 0;
    while (at) {
      if (at.positions) found = firstOf(at.positions, subject, rules, found);
      at = depth < value.length ? follow(at, value.charCodeAt(depth)) : undefined;
      if (!at) break;
      if (!stands(at.label, value, depth)) break;
      depth += at.label.length;
    }
    return found;
  }
}

function push(map: Map<string, number[]>, key: string, position: number): void {
  const list = map.get(key);
  if (list) list.push(position);
  else map.set(key, [position]);
}

function firstOf<R>(
  positions: readonly number[] | undefined,
  subject: Subject,
  rules: readonly IndexedRule<R>[],
  best: number,
): number {
  if (positions) {
    for (const position of positions) {
      if (position >= best) break;
      if (rules[position].test(subject)) return position;
    }
  }
  return best;
}

/** Rules in order, of which the first that matches counts. */
export class RuleIndex<R> {
  readonly #rules: readonly IndexedRule<R>[];
  readonly #tables: readonly Table[] = [];
  /** Rules that stand in no table. */
  readonly #rest: number[] = [];

  /** `http`: subjects have a head; without, fields that only HTTP has narrow nothing down. */
  constructor(rules: readonly IndexedRule<R>[], http: boolean) {
    this.#rules = rules;
    if (rules.length <= FEW) {
      this.#rest = [...rules.keys()];
      return;
    }
    const tables = DIMENSIONS.filter((d) => http || !d.http).map((d) => new Table(d));
    const keys = rules.map((r) =>
      tables.map((t) => {
        const patterns = t.dimension.patterns(r.source);
        return patterns && keysOf(patterns);
      }),
    );
    const shared = tables.map((_, t) => countShared(keys.map((k) => k[t])));
    for (const [position, own] of keys.entries()) {
      let chosen = -1;
      let fewest = Number.POSITIVE_INFINITY;
      for (const [t, k] of own.entries()) {
        const others = k ? sharedBy(k, shared[t]) : Number.POSITIVE_INFINITY;
        if (others < fewest) {
          fewest = others;
          chosen = t;
        }
      }
      if (chosen < 0) this.#rest.push(position);
      else tables[chosen].add(own[chosen] as Keys, position);
    }
    this.#tables = tables.filter((table) => table.close());
  }

  find(subject: Subject): R | undefined {
    const rules = this.#rules;
    let best = firstOf(this.#rest, subject, rules, rules.length);
    for (const table of this.#tables) {
      const value = table.dimension.read(subject);
      if (value !== undefined) best = table.first(value, subject, rules, best);
      const more = table.dimension.also?.(subject);
      if (more !== undefined && more !== value) best = table.first(more, subject, rules, best);
    }
    return best < rules.length ? rules[best].result : undefined;
  }
}

/** How many rules ask for each value. */
function countShared(keys: readonly (Keys | undefined)[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const k of keys) {
    for (const value of new Set([...(k?.exact ?? []), ...(k?.prefixes ?? [])])) {
      counts.set(value, (counts.get(value) ?? 0) + 1);
    }
  }
  return counts;
}

/** The longest list that the rule would be found in. */
function sharedBy(keys: Keys, counts: ReadonlyMap<string, number>): number {
  let most = 0;
  for (const value of [...keys.exact, ...keys.prefixes]) most = Math.max(most, counts.get(value) ?? 0);
  return most;
}
