/**
 * Which of many routes can match a request at all, found by what the request says instead of by trying each: paths by a
 * tree, authorities and headers by tables. It only leaves out what cannot match; who asks tests the rest in their order.
 */
import { hostOf } from './canonical.ts';
import type { CompiledHttpRoute, CompiledMatch } from './compile.ts';
import { headValue } from './match.ts';
import { PathTree } from './path-tree.ts';

/** With fewer matches than this, trying each costs less than looking them up. */
const WORTH_IT = 16;

/** One match of one route. */
export interface Candidate {
  /** Place among all matches of all routes: the lower one wins. */
  readonly ordinal: number;
  readonly route: CompiledHttpRoute;
  /** Undefined where the route has none and takes everything. */
  readonly match: CompiledMatch | undefined;
  /** It is looked up by its path: who finds it knows that the path is right. */
  byPath: boolean;
  /** The next one that is found by the same; in the order of the rules. */
  next: Candidate | undefined;
}

/** While the index is made; then the first stands for all. */
type Candidates = Candidate[];

export interface RouteIndex {
  readonly paths: PathTree<Candidate>;
  /** Of matches that ignore case; undefined where there are none. */
  readonly foldedPaths: PathTree<Candidate> | undefined;
  readonly authorities: ReadonlyMap<string, Candidate>;
  /** By name, then exact value. */
  readonly headers: ReadonlyMap<string, ReadonlyMap<string, Candidate>>;
  /** What none of these tells apart: regular expressions, rules without a path. */
  readonly rest: Candidate | undefined;
}

/** What a match can be found by. */
type Key =
  | { readonly by: 'path' | 'folded' | 'authority'; readonly text: string; readonly prefix: boolean }
  | { readonly by: 'header'; readonly name: string; readonly text: string };

/** Undefined where there are too few routes to be worth it. */
export function compileRouteIndex(routes: readonly CompiledHttpRoute[]): RouteIndex | undefined {
  const candidates: Candidates = [];
  for (const route of routes) {
    for (const match of route.match.length === 0 ? [undefined] : route.match) {
      candidates.push({ ordinal: candidates.length, route, match, byPath: false, next: undefined });
    }
  }
  if (candidates.length < WORTH_IT) return undefined;
  const keys = candidates.map(({ match }) => (match ? keysOf(match) : []));
  const shared = new Map<string, number>();
  for (const list of keys) for (const key of list) shared.set(idOf(key), (shared.get(idOf(key)) ?? 0) + 1);

  const paths = new Paths();
  const folded = new Paths();
  const authorities = new Map<string, Candidates>();
  const headers = new Map<string, Map<string, Candidates>>();
  const rest: Candidates = [];
  for (const [i, list] of keys.entries()) {
    const candidate = candidates[i];
    // Each match stands in one place alone: where it has the fewest others beside it.
    let best: Key | undefined;
    for (const key of list) if (!best || countOf(shared, key) < countOf(shared, best)) best = key;
    if (!best) rest.push(candidate);
    else if (best.by === 'header') {
      let values = headers.get(best.name);
      if (!values) headers.set(best.name, (values = new Map()));
      addTo(values, best.text, candidate);
    } else if (best.by === 'authority') addTo(authorities, best.text, candidate);
    else {
      candidate.byPath = true;
      (best.by === 'folded' ? folded : paths).add(best.text, best.prefix, candidate);
    }
  }
  return {
    paths: paths.tree(),
    foldedPaths: folded.isEmpty ? undefined : folded.tree(),
    authorities: chained(authorities),
    headers: new Map([...headers].map(([name, values]) => [name, chained(values)])),
    rest: chain(rest),
  };
}

function keysOf(m: CompiledMatch): Key[] {
  const keys: Key[] = [];
  const { uri, authority } = m;
  // The tree's tables are as wide as the letters beside each other are far apart.
  if (uri && (uri.isExact || uri.isPrefix) && /^[\x20-\x7e]*$/.test(uri.text)) {
    keys.push({ by: uri.ignoreCase ? 'folded' : 'path', text: uri.text, prefix: uri.isPrefix });
  }
  if (authority?.isExact) keys.push({ by: 'authority', text: authority.text, prefix: false });
  for (const { name, value } of m.headers) {
    if (value?.isExact) keys.push({ by: 'header', name, text: value.text });
  }
  return keys;
}

function idOf(key: Key): string {
  return key.by === 'header' ? `header ${key.name}: ${key.text}` : `${key.by} ${key.prefix} ${key.text}`;
}

function countOf(shared: ReadonlyMap<string, number>, key: Key): number {
  return shared.get(idOf(key)) ?? 0;
}

/** Matches by their paths, before there is a tree of them. */
class Paths {
  readonly #exact = new Map<string, Candidates>();
  readonly #prefix = new Map<string, Candidates>();

  add(text: string, prefix: boolean, candidate: Candidate): void {
    addTo(prefix ? this.#prefix : this.#exact, text, candidate);
  }

  get isEmpty(): boolean {
    return this.#exact.size + this.#prefix.size === 0;
  }

  tree(): PathTree<Candidate> {
    const entries = (of: Map<string, Candidates>, prefix: boolean) =>
      [...of].map(([text, list]) => ({ text, prefix, value: chain(list) as Candidate }));
    return new PathTree([...entries(this.#exact, false), ...entries(this.#prefix, true)]);
  }
}

/** Each is in one list alone. */
function chain(list: Candidates): Candidate | undefined {
  for (let i = 1; i < list.length; i++) list[i - 1].next = list[i];
  return list[0];
}

function chained(table: ReadonlyMap<string, Candidates>): Map<string, Candidate> {
  return new Map([...table].map(([key, list]) => [key, chain(list) as Candidate]));
}

function addTo(table: Map<string, Candidates>, key: string, candidate: Candidate): void {
  const list = table.get(key);
  if (list) list.push(candidate);
  else table.set(key, [candidate]);
}

/** What of each list that the request being looked up meets comes next. Looking up never waits, so one set serves all. */
const found: (Candidate | undefined)[] = [];

/**
 * Begins looking up. Then each call of `nextCandidate` gives the next match that the request may meet, in the order of
 * the rules. The path is without its query.
 */
export function beginLookup(index: RouteIndex, head: readonly string[], path: string, authority: string): void {
  found.length = 0;
  if (index.rest) found.push(index.rest);
  index.paths.collect(path, found);
  index.foldedPaths?.collect(path.toLowerCase(), found);
  if (index.authorities.size > 0) {
    const whole = index.authorities.get(authority);
    if (whole) found.push(whole);
    const host = hostOf(authority);
    const bare = host === authority ? undefined : index.authorities.get(host);
    if (bare) found.push(bare);
  }
  if (index.headers.size > 0) collectHeaders(index, head);
}

function collectHeaders(index: RouteIndex, head: readonly string[]): void {
  for (let i = 0; i < head.length; i += 2) {
    const values = index.headers.get(head[i]);
    if (!values) continue;
    const first = values.get(headValue(head, head[i])!);
    // A field that is there twice counts once.
    if (first && !found.includes(first)) found.push(first);
  }
}

/** The next match to try; undefined: no more. */
export function nextCandidate(): Candidate | undefined {
  let next: Candidate | undefined;
  let from = 0;
  for (let i = 0; i < found.length; i++) {
    const candidate = found[i];
    if (!candidate || (next && next.ordinal < candidate.ordinal)) continue;
    next = candidate;
    from = i;
  }
  if (next) found[from] = next.next;
  return next;
}
