/** YAML text → trees with a line on every node. Bounded in size, depth, aliases and nodes. */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
  type Node as YamlNode,
} from 'yaml';
import { depthMessage, MAX_DEPTH, shapeError } from './yaml-shape.ts';

const MAX_ALIASES = 100;
const MAX_NODES = 1_000_000;
/** Past this many the text is broken as a whole. */
const MAX_ERRORS = 1000;

export type Tree =
  | { readonly kind: 'map'; readonly line: number; readonly entries: ReadonlyMap<string, Entry> }
  | { readonly kind: 'list'; readonly line: number; readonly items: readonly Tree[] }
  | { readonly kind: 'scalar'; readonly line: number; readonly value: string | number | boolean | null };

export interface Entry {
  readonly line: number;
  readonly value: Tree;
}

export interface YamlError {
  readonly line: number;
  readonly message: string;
}

/** One tree a document (empty documents are left out), and everything that is wrong with the text. */
export function readYaml(text: string): { documents: Tree[]; errors: YamlError[] } {
  const errors: YamlError[] = [];
  const tooMuch = shapeError(text);
  if (tooMuch) return { documents: [], errors: [tooMuch] };
  const counter = new LineCounter();
  const documents: Tree[] = [];
  try {
    // Keys are compared here, by a Map: the library compares each with all others.
    const parsed = parseAllDocuments(text, { lineCounter: counter, uniqueKeys: false, prettyErrors: false });
    if (!Array.isArray(parsed)) return { documents, errors };
    for (const doc of parsed) {
      for (const e of doc.errors) {
        if (errors.length >= MAX_ERRORS) return { documents, errors };
        errors.push({ line: counter.linePos(e.pos[0]).line || 1, message: said(e) });
      }
      if (doc.errors.length > 0 || doc.contents === null) continue;
      const tree = new Reader(doc, counter, errors).read(doc.contents as YamlNode, 1, 0);
      if (tree && !(tree.kind === 'scalar' && tree.value === null)) documents.push(tree);
    }
  } catch (e) {
    errors.push({ line: 1, message: said(e) });
  }
  return { documents, errors };
}

/** The parser is recursive: it runs out of stack where a text nests deeper than its tokens showed. */
function said(e: unknown): string {
  const message = e instanceof Error ? e.message : String(e);
  return /call stack/.test(message) ? depthMessage() : message;
}

class Reader {
  readonly #doc: Document;
  readonly #counter: LineCounter;
  readonly #errors: YamlError[];
  #aliases = 0;
  #nodes = 0;
  #stopped = false;

  constructor(doc: Document, counter: LineCounter, errors: YamlError[]) {
    this.#doc = doc;
    this.#counter = counter;
    this.#errors = errors;
  }

  read(node: YamlNode | null, line: number, depth: number): Tree | undefined {
    if (this.#stopped) return undefined;
    if (node === null) return { kind: 'scalar', line, value: null };
    const at = node.range ? this.#counter.linePos(node.range[0]).line || line : line;
    if (depth > MAX_DEPTH) return this.#stop(at, depthMessage());
    if (++this.#nodes > MAX_NODES) return this.#stop(at, `more than ${MAX_NODES} values in one document`);
    if (isAlias(node)) {
      if (++this.#aliases > MAX_ALIASES) return this.#stop(at, `more than ${MAX_ALIASES} aliases in one document`);
      const target = node.resolve(this.#doc);
      if (!target) return this.#stop(at, `the alias *${node.source} names no anchor`);
      // Depth grows along an alias too, so that one that holds itself ends.
      return this.read(target as YamlNode, at, depth + 1);
    }
    if (isMap(node)) {
      const entries = new Map<string, Entry>();
      for (const pair of node.items) {
        const key = pair.key as YamlNode | null;
        const keyLine = key?.range ? this.#counter.linePos(key.range[0]).line || at : at;
        if (!isScalar(key) || key.value === null || typeof key.value === 'object') {
          return this.#stop(keyLine, 'a key must be a plain word');
        }
        const name = typeof key.value === 'string' ? key.value : (key.source ?? String(key.value));
        if (entries.has(name)) {
          if (this.#errors.length >= MAX_ERRORS) return this.#stop(keyLine, 'too many errors');
          this.#errors.push({ line: keyLine, message: `the key "${name.slice(0, 80)}" is there twice` });
          continue;
        }
        const value = this.read(pair.value as YamlNode | null, keyLine, depth + 1);
        if (!value) return undefined;
        entries.set(name, { line: keyLine, value });
      }
      return { kind: 'map', line: at, entries };
    }
    if (isSeq(node)) {
      const items: Tree[] = [];
      for (const item of node.items) {
        const value = this.read(item as YamlNode | null, at, depth + 1);
        if (!value) return undefined;
        items.push(value);
      }
      return { kind: 'list', line: at, items };
    }
    if (isScalar(node)) {
      const value = node.value;
      if (value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
        return { kind: 'scalar', line: at, value };
      }
      return { kind: 'scalar', line: at, value: node.source ?? String(value) };
    }
    return this.#stop(at, 'this is no YAML value that a manifest may hold');
  }

  #stop(line: number, message: string): undefined {
    this.#stopped = true;
    this.#errors.push({ line, message });
    return undefined;
  }
}
