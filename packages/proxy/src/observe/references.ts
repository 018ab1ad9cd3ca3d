import type { References } from '@weft/plan';
import { type Decisions, noDecisions } from './types.ts';

/** Where the rules of a plan stand in files: reference id → `file:line`, looked up for every line of the access log. */
export class ReferenceIndex {
  #tables: ReadonlyMap<string, References> = new Map();
  /** Made when a line first needs it: most changes of the tables come while nothing is logged of them. */
  #places: Map<string, string> | undefined;
  /** Reference id → `["rule","file:line"]`, of those that were asked for. */
  #pairs = new Map<string, string>();
  /** The text that was made last for what decided, by the most telling of its references: most requests are like one before. */
  #texts = new Map<string, { readonly of: Decisions; readonly text: string }>();

  /** Takes over new tables. */
  update(tables: ReadonlyMap<string, References>): void {
    this.#tables = tables;
    this.#places = undefined;
    this.#pairs = new Map();
    this.#texts = new Map();
  }

  /** `file:line`, or `kind/namespace/name#field` where the source has no files; undefined for an unknown reference. */
  where(ref: string): string | undefined {
    if (ref === '') return undefined;
    this.#places ??= this.#index();
    return this.#places.get(ref);
  }

  /**
   * All that decided as JSON in ASCII: an object of `[rule, file:line]` by kind; what is empty is left out, and so is a
   * match or cluster that is the route itself. '' for nothing.
   */
  decisions(d: Decisions): string {
    const key = d.destination || d.route || d.authorization || d.authentication;
    const known = this.#texts.get(key);
    if (known !== undefined && same(known.of, d)) return known.text;
    const text = this.#textOf(d);
    this.#texts.set(key, { of: { ...d }, text });
    return text;
  }

  /** The same as names and values of a span's tags: `weft.decision.route`, `rule file:line`. */
  addTags(d: Decisions, tags: string[]): void {
    for (const kind of KINDS) {
      const ref = d[kind];
      if (ref === '' || isRoute(kind, d)) continue;
      const where = this.where(ref);
      tags.push(`weft.decision.${kind}`, where === undefined ? ref : `${ref} ${where}`);
    }
  }

  #textOf(d: Decisions): string {
    let out = '';
    for (const kind of KINDS) if (d[kind] !== '' && !isRoute(kind, d)) out += `,"${kind}":${this.#pair(d[kind])}`;
    return out === '' ? '' : '{' + out.slice(1) + '}';
  }

  #pair(ref: string): string {
    let pair = this.#pairs.get(ref);
    if (pair === undefined) {
      pair = ascii(JSON.stringify([ref, this.where(ref) ?? '']));
      this.#pairs.set(ref, pair);
    }
    return pair;
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

const KINDS = Object.keys(noDecisions()) as readonly (keyof Decisions)[];

/** What is the route itself is not told again. */
function isRoute(kind: keyof Decisions, d: Decisions): boolean {
  return (kind === 'match' || kind === 'destination' || kind === 'cluster') && d[kind] === d.route;
}

function same(a: Decisions, b: Decisions): boolean {
  return (
    a.route === b.route &&
    a.match === b.match &&
    a.destination === b.destination &&
    a.fault === b.fault &&
    a.timeout === b.timeout &&
    a.retry === b.retry &&
    a.cluster === b.cluster &&
    a.balancer === b.balancer &&
    a.outlier === b.outlier &&
    a.transport === b.transport &&
    a.authentication === b.authentication &&
    a.authorization === b.authorization &&
    a.limit === b.limit
  );
}

/** What is in a header field, or in a terminal, may have no other characters. */
function ascii(json: string): string {
  return json.replace(/[^\x20-\x7e]/g, (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
}
