/**
 * Faults for a while, in people's own VirtualServices: before each route a copy of it that has the fault, and what it holds
 * for. To take the copies out leaves every byte as it was; what was changed elsewhere in the meantime stays.
 */
import { WeftError } from '@weft/base';
import { type Document, isMap, isScalar, isSeq, type Node, parseAllDocuments, stringify, type YAMLSeq } from 'yaml';
import type { EditTarget } from './edit.ts';

/** Which requests it is for; without any of it: all. */
export interface FaultScope {
  readonly source?: { readonly namespace: string; readonly labels: Readonly<Record<string, string>> } | undefined;
  /** Names in lower case, and exact values. */
  readonly headers: readonly (readonly [string, string])[];
  /** What the path begins with. */
  readonly path?: string | undefined;
}

/** As `fault` of a route says it. */
export type FaultText = Readonly<Record<string, unknown>>;

export interface FaultEdit {
  /** A DNS label. */
  readonly id: string;
  readonly fault: FaultText;
  readonly scope: FaultScope;
  /** One line, for who reads the file. */
  readonly comment: string;
}

const PREFIX = 'weft-fault-';

type Match = Record<string, unknown>;
type Route = Record<string, unknown>;

/** Throws `fault` where the routes cannot be told apart by such a scope, or none of them could ever be met by it. */
export function addFault(text: string, target: EditTarget, edit: FaultEdit): string {
  const name = `${target.kind} ${target.namespace}/${target.name}`;
  const found = find(text, (doc) => isTarget(doc, target));
  const list = found?.doc.getIn(['spec', 'http']);
  if (!found || !isSeq(list) || list.items.length === 0)
    throw new WeftError('fault', `${name} has no http routes that a fault could be put before`);
  const inserts: { at: number; text: string }[] = [];
  let copies = 0;
  // Copies for other faults stay before their route, and after the newer ones.
  let first: Node | undefined;
  for (const item of list.items as Node[]) {
    first ??= item;
    const route = isMap(item) ? (item.toJS(found.doc) as Route) : undefined;
    if (!route || isCopy(route)) continue;
    const copy = faulty(route, edit, `${PREFIX}${edit.id}-${copies}`);
    if (copy) {
      inserts.push({ at: first.range![0], text: textOf(text, list, first, copy, edit.comment) });
      copies++;
    }
    first = undefined;
  }
  if (copies === 0)
    throw new WeftError('fault', `no route of ${name} has requests of that kind: other routes take them, or none`);
  let out = text;
  for (const { at, text: inserted } of inserts.reverse()) out = out.slice(0, at) + inserted + out.slice(at);
  return out;
}

/** The text without what this fault added; undefined: it added nothing, or the text is no YAML. */
export function removeFault(text: string, id: string): string | undefined {
  const cuts: [number, number][] = [];
  const mark = `${PREFIX}${id}-`;
  for (const doc of documents(text)) {
    const list = isMap(doc.contents) ? doc.getIn(['spec', 'http']) : undefined;
    if (!isSeq(list)) continue;
    for (const [i, item] of (list.items as Node[]).entries()) {
      const name = isMap(item) ? item.get('name') : undefined;
      if (typeof name !== 'string' || !name.startsWith(mark) || !/^\d+$/.test(name.slice(mark.length))) continue;
      const next = list.items[i + 1] as Node | undefined;
      // Whoever took its route away left it as the last one.
      if (next) cuts.push([item.range![0], next.range![0]]);
      else if (list.flow) cuts.push([i > 0 ? (list.items[i - 1] as Node).range![1] : item.range![0], item.range![1]]);
      else cuts.push([text.lastIndexOf('\n', item.range![0]) + 1, item.range![2]]);
    }
  }
  if (cuts.length === 0) return undefined;
  let out = text;
  for (const [from, to] of cuts.reverse()) out = out.slice(0, from) + out.slice(to);
  return out;
}

/** Whether faults of this kind are in a text. */
export function hasFaults(text: string): boolean {
  return new RegExp(`\\b${PREFIX}[a-z0-9-]+-\\d+\\b`).test(text);
}

/** A file with a VirtualService of our own, for a service that has none. `removeFault` leaves its plain route. */
export function faultFile(target: EditTarget, host: string, edit: FaultEdit): string {
  const plain = `# Written by "weft fault add"; it is removed with the last of its faults.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: ${target.name}
  namespace: ${target.namespace}
spec:
  hosts:
    - ${host}
  http:
    - route:
        - destination:
            host: ${host}
`;
  return addFault(plain, target, edit);
}

function documents(text: string): Document[] {
  const all = parseAllDocuments(text, { prettyErrors: false });
  return Array.isArray(all) ? (all.filter((d) => d.errors.length === 0) as Document[]) : [];
}

function find(text: string, is: (doc: Document) => boolean): { doc: Document } | undefined {
  const doc = documents(text).find((d) => isMap(d.contents) && is(d));
  return doc && { doc };
}

function isTarget(doc: Document, target: EditTarget): boolean {
  const at = (path: string[]): unknown => {
    const value = doc.getIn(path, true);
    return isScalar(value) ? value.value : undefined;
  };
  return (
    at(['kind']) === target.kind &&
    at(['metadata', 'name']) === target.name &&
    (at(['metadata', 'namespace']) ?? 'default') === target.namespace
  );
}

function isCopy(route: Route): boolean {
  return typeof route.name === 'string' && route.name.startsWith(PREFIX);
}

/** The copy before an item, with what separates the two. */
function textOf(text: string, list: YAMLSeq, before: Node, copy: Route, comment: string): string {
  if (list.flow) return `${JSON.stringify(copy)}, `;
  const start = before.range![0];
  const column = start - (text.lastIndexOf('\n', start - 1) + 1);
  const dash = text.lastIndexOf('-', start - 1) - (text.lastIndexOf('\n', start - 1) + 1);
  const eol = text.includes('\r\n') ? '\r\n' : '\n';
  const [first, ...rest] = stringify(copy, { lineWidth: 0, aliasDuplicateObjects: false }).trimEnd().split('\n');
  const lines = [`${first} # ${comment}`, ...rest.map((l) => ' '.repeat(column) + l)];
  // The same between the dash and what follows it, whatever was there.
  return `${lines.join(eol)}${eol}${' '.repeat(dash)}${text.slice(text.lastIndexOf('-', start - 1), start)}`;
}

/** Undefined: no request of the scope comes to this route. */
function faulty(route: Route, { fault, scope }: FaultEdit, name: string): Route | undefined {
  if (route.delegate !== undefined)
    throw new WeftError('fault', `routes of a delegate (${JSON.stringify(route.delegate)}) have no fault of their own`);
  const { match, name: _, fault: had, ...rest } = route;
  const wanted = scopeMatch(scope);
  const of = Array.isArray(match) && match.length > 0 ? (match as Match[]) : undefined;
  const matches = of ? of.map((m) => both(m ?? {}, scope, wanted)).filter((m) => m !== undefined) : [wanted];
  if (matches.length === 0) return undefined;
  const any = !of && Object.keys(wanted).length === 0;
  return { name, ...(!any && { match: matches }), fault: { ...(had as object | undefined), ...fault }, ...rest };
}

function scopeMatch(scope: FaultScope): Match {
  const { source, headers, path } = scope;
  return {
    ...(path !== undefined && { uri: { prefix: path } }),
    ...(headers.length > 0 && { headers: Object.fromEntries(headers.map(([n, value]) => [n, { exact: value }])) }),
    ...(source && { sourceNamespace: source.namespace, sourceLabels: { ...source.labels } }),
  };
}

/** What both ask for; undefined where nothing is both. */
function both(m: Match, scope: FaultScope, wanted: Match): Match | undefined {
  const out: Match = { ...m, ...wanted };
  delete out.name;
  if (m.uri !== undefined && scope.path !== undefined) {
    const uri = narrower(m.uri as Match, scope.path, m.ignoreUriCase === true);
    if (!uri) return undefined;
    out.uri = uri;
  }
  if (m.headers !== undefined && scope.headers.length > 0) {
    const headers = m.headers as Record<string, Match>;
    for (const [name, value] of scope.headers) {
      const key = Object.keys(headers).find((k) => k.toLowerCase() === name);
      if (key === undefined) continue;
      if (!satisfies(headers[key] ?? {}, value, `header ${name}`)) return undefined;
      delete headers[key];
    }
    out.headers = { ...headers, ...(wanted.headers as object) };
  }
  if (scope.source) {
    const { namespace, labels } = scope.source;
    if ((m.sourceNamespace ?? namespace) !== namespace) return undefined;
    const own = (m.sourceLabels ?? {}) as Record<string, string>;
    for (const [key, value] of Object.entries(own)) {
      if (labels[key] !== value) return undefined; // Its caller has not this label, or another value.
    }
    out.sourceLabels = { ...own, ...labels };
  }
  return out;
}

function narrower(uri: Match, path: string, ignoreCase: boolean): Match | undefined {
  const fold = (s: string): string => (ignoreCase ? s.toLowerCase() : s);
  if (typeof uri.exact === 'string') return fold(uri.exact).startsWith(fold(path)) ? uri : undefined;
  if (typeof uri.prefix === 'string') {
    if (fold(path).startsWith(fold(uri.prefix))) return { prefix: path };
    return fold(uri.prefix).startsWith(fold(path)) ? uri : undefined;
  }
  throw new WeftError('fault', `a route matches paths by the pattern ${JSON.stringify(uri.regex)}: leave --path out`);
}

/** Whether this exact value fits the match. */
function satisfies(m: Match, value: string, what: string): boolean {
  if (typeof m.exact === 'string') return m.exact === value;
  if (typeof m.prefix === 'string') return value.startsWith(m.prefix);
  if (m.regex === undefined) return true;
  throw new WeftError('fault', `a route matches ${what} by the pattern ${JSON.stringify(m.regex)}: leave -H out`);
}
