/**
 * Which of many routes can match a request at all, found by what the request says instead of by trying each: paths by a
 * tree, authorities and headers by tables. It only leaves out what cannot match; who asks tests the rest in their order.
 */
import { hostOf } from './canonical.ts';
import type { CompiledHttpRoute, CompiledMatch } from './compile.ts';
import { headValue } from './match.ts';

/** With fewer matches than this, trying each costs less than looking them up. */
const WORTH_IT = 16;

/** One match of one route. */
export interface Candidate {
  /** Place among all matches of all routes: the lower one wins. */
  readonly ordinal: number;
  readonly route: CompiledHttpRoute;
  /** Undefined where the route has none and takes everything. */
  readonly match: CompiledMatch | undefined;
}

/** In the order of the rules. */
type Candidates = Candidate[];

export interface RouteIndex {
  readonly paths: PathTree;
  /** Of matches that ignore case; undefined where there are none. */
  readonly foldedPaths: PathTree | undefined;
  readonly authorities: ReadonlyMap<string, Candidates>;
  /** By name, then exact value. */
  readonly headers: ReadonlyMap<string, ReadonlyMap<string, Candidates>>;
  /** What none of these tells apart: regular expressions, rules without a path. */
  readonly rest: Candidates;
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
      candidates.push({ ordinal: candidates.length, route, match });
    }
  }
  if (candidates.length < WORTH_IT) return undefined;
  const keys = candidates.map(({ match }) => (match ? keysOf(match) : []));
  const shared = new Map<string, number>();
  for (const list of keys) for (const key of list) shared.set(idOf(key), (shared.get(idOf(key)) ?? 0) + 1);

  const paths = new PathTree();
  const folded = new PathTree();
  let anyFolded = false;
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
      anyFolded ||= best.by === 'folded';
      (best.by === 'folded' ? folded : paths).add(best.text, best.prefix, candidate);
    }
  }
  return { paths, foldedPaths: anyFolded ? folded : undefined, authorities, headers, rest };
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

function addTo(table: Map<string, Candidates>, key: string, candidate: Candidate): void {
  const list = table.get(key);
  if (list) list.push(candidate);
  else table.set(key, [candidate]);
}

/** Lists of the request being looked up, and how far each is read. Looking up never waits, so one set serves all. */
const lists: Candidates[] = [];
const cursors: number[] = [];

/**
 * Begins looking up. Then each call of `nextCandidate` gives the next match that the request may meet, in the order of
 * the rules. The path is without its query.
 */
export function beginLookup(index: RouteIndex, head: readonly string[], path: string, authority: string): void {
  lists.length = 0;
  if (index.rest.length > 0) lists.push(index.rest);
  index.paths.collect(path, lists);
  index.foldedPaths?.collect(path.toLowerCase(), lists);
  if (index.authorities.size > 0) {
    const whole = index.authorities.get(authority);
    if (whole) lists.push(whole);
    const host = hostOf(authority);
    const bare = host === authority ? undefined : index.authorities.get(host);
    if (bare) lists.push(bare);
  }
  if (index.headers.size > 0) collectHeaders(index, head);
  cursors.length = lists.length;
  cursors.fill(0);
}

function collectHeaders(index: RouteIndex, head: readonly string[]): void {
  for (let i = 0; i < head.length; i += 2) {
    const values = index.headers.get(head[i]);
    if (!values) continue;
    const found = values.get(headValue(head, head[i])!);
    // A field that is there twice counts once.
    if (found && !lists.includes(found)) lists.push(found);
  }
}

/** The next match to try; undefined: no more. */
export function nextCandidate(): Candidate | undefined {
  let next: Candidate | undefined;
  let from = 0;
  for (let i = 0; i < lists.length; i++) {
    const list = lists[i];
    const cursor = cursors[i];
    if (cursor >= list.length) continue;
    const candidate = list[cursor];
    if (next && next.ordinal < candidate.ordinal) continue;
    next = candidate;
    from = i;
  }
  if (next) cursors[from]++;
  return next;
}

/** A radix tree: each node holds what ends there. */
class PathNode {
  label: string;
  prefix: Candidates | undefined = undefined;
  exact: Candidates | undefined = undefined;
  /** The first UTF-16 unit of the labels of `children`, from `first` on: a table is looked up faster than a Map. */
  first = 0;
  readonly children: (PathNode | undefined)[] = [];

  constructor(label: string) {
    this.label = label;
  }

  child(code: number): PathNode | undefined {
    const at = code - this.first;
    return at >= 0 && at < this.children.length ? this.children[at] : undefined;
  }

  put(code: number, node: PathNode): void {
    const { children } = this;
    if (children.length === 0) this.first = code;
    for (; code < this.first; this.first--) children.unshift(undefined);
    while (children.length < code - this.first) children.push(undefined);
    children[code - this.first] = node;
  }
}

export class PathTree {
  readonly #root = new PathNode('');

  add(text: string, prefix: boolean, candidate: Candidate): void {
    const node = this.#nodeFor(text);
    const list = prefix ? (node.prefix ??= []) : (node.exact ??= []);
    list.push(candidate);
  }

  #nodeFor(text: string): PathNode {
    let node = this.#root;
    let at = 0;
    while (at < text.length) {
      const code = text.charCodeAt(at);
      const child = node.child(code);
      if (!child) {
        const fresh = new PathNode(text.slice(at));
        node.put(code, fresh);
        return fresh;
      }
      const { label } = child;
      let same = 1;
      while (same < label.length && label.charCodeAt(same) === text.charCodeAt(at + same)) same++;
      if (same < label.length) {
        const middle = new PathNode(label.slice(0, same));
        child.label = label.slice(same);
        middle.put(label.charCodeAt(same), child);
        node.put(code, middle);
        node = middle;
      } else node = child;
      at += same;
    }
    return node;
  }

  /** Adds the lists of what is this path, or a prefix of it. */
  collect(path: string, out: Candidates[]): void {
    let node: PathNode = this.#root;
    let at = 0;
    for (;;) {
      if (node.prefix) out.push(node.prefix);
      if (at === path.length) {
        if (node.exact) out.push(node.exact);
        return;
      }
      const child = node.child(path.charCodeAt(at));
      if (!child || !continues(path, at, child.label)) return;
      at += child.label.length;
      node = child;
    }
  }
}

/** Whether the path has the label at a place; its first unit is known to be there. A call of `startsWith` costs more. */
function continues(path: string, at: number, label: string): boolean {
  if (at + label.length > path.length) return false;
  for (let i = 1; i < label.length; i++) if (path.charCodeAt(at + i) !== label.charCodeAt(i)) return false;
  return true;
}
