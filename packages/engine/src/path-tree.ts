/**
 * A radix tree of paths and prefixes of paths, as flat arrays: a step down reads a line of memory or two, not an object, its
 * table and its text. What a lookup among many costs is mostly the memory it touches.
 */

/** Numbers of one node, in `#nodes`; children name a node by the place of its first. */
const LABEL = 0;
const LABEL_LENGTH = 1;
/** The first letter of the labels of its children, from which on its table goes, and how far. */
const FIRST = 2;
const WIDTH = 3;
const CHILDREN = 4;
/** Places in `#values`; -1: none. */
const PREFIX = 5;
const EXACT = 6;

/** While the tree is made. */
interface Node<T> {
  label: string;
  prefix: T | undefined;
  exact: T | undefined;
  readonly children: Map<number, Node<T>>;
}

const nodeOf = <T>(label: string): Node<T> => ({ label, prefix: undefined, exact: undefined, children: new Map() });

export class PathTree<T> {
  readonly #nodes: Int32Array;
  readonly #children: Int32Array;
  readonly #labels: Uint8Array;
  readonly #values: readonly T[];

  /** Texts are of ASCII alone; each is there once as a prefix and once as a whole path at most. */
  constructor(entries: Iterable<{ readonly text: string; readonly prefix: boolean; readonly value: T }>) {
    const root = nodeOf<T>('');
    for (const { text, prefix, value } of entries) nodeFor(root, text)[prefix ? 'prefix' : 'exact'] = value;
    const nodes: number[] = [];
    const children: number[] = [];
    const labels: number[] = [];
    const values: T[] = [];
    const place = (value: T | undefined): number => (value === undefined ? -1 : values.push(value) - 1);
    /** Depth first: what a lookup goes through lies close together. */
    const write = (node: Node<T>): number => {
      const at = nodes.length;
      const codes = [...node.children.keys()];
      const first = codes.length > 0 ? Math.min(...codes) : 0;
      const width = codes.length > 0 ? Math.max(...codes) - first + 1 : 0;
      const table = children.length;
      for (let i = 0; i < width; i++) children.push(-1);
      nodes.push(labels.length, node.label.length, first, width, table, place(node.prefix), place(node.exact), 0);
      for (let i = 0; i < node.label.length; i++) labels.push(node.label.charCodeAt(i));
      for (const [code, child] of node.children) children[table + code - first] = write(child);
      return at;
    };
    write(root);
    this.#nodes = Int32Array.from(nodes);
    this.#children = Int32Array.from(children);
    this.#labels = Uint8Array.from(labels);
    this.#values = values;
  }

  /** Adds the values of what is this path, or a prefix of it. */
  collect(path: string, out: (T | undefined)[]): void {
    const nodes = this.#nodes;
    const labels = this.#labels;
    let node = 0;
    let at = 0;
    for (;;) {
      const prefix = nodes[node + PREFIX];
      if (prefix >= 0) out.push(this.#values[prefix]);
      if (at === path.length) {
        const exact = nodes[node + EXACT];
        if (exact >= 0) out.push(this.#values[exact]);
        return;
      }
      const letter = path.charCodeAt(at) - nodes[node + FIRST];
      if (letter < 0 || letter >= nodes[node + WIDTH]) return;
      const child = this.#children[nodes[node + CHILDREN] + letter];
      if (child < 0) return;
      const length = nodes[child + LABEL_LENGTH];
      if (at + length > path.length) return;
      // Its first letter is the one by which it was found.
      const label = nodes[child + LABEL];
      for (let i = 1; i < length; i++) if (path.charCodeAt(at + i) !== labels[label + i]) return;
      at += length;
      node = child;
    }
  }
}

function nodeFor<T>(root: Node<T>, text: string): Node<T> {
  let node = root;
  let at = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    const child = node.children.get(code);
    if (!child) {
      const fresh = nodeOf<T>(text.slice(at));
      node.children.set(code, fresh);
      return fresh;
    }
    const { label } = child;
    let same = 1;
    while (same < label.length && label.charCodeAt(same) === text.charCodeAt(at + same)) same++;
    if (same < label.length) {
      const middle = nodeOf<T>(label.slice(0, same));
      child.label = label.slice(same);
      middle.children.set(label.charCodeAt(same), child);
      node.children.set(code, middle);
      node = middle;
    } else node = child;
    at += same;
  }
  return node;
}
