/** The resources of files by their contents alone, for who asks what changed between two readings. */
import type { SourceFile } from './source.ts';
import { readYaml, type Tree } from './yaml.ts';

/** Kinds without a namespace. */
export const CLUSTER_WIDE: ReadonlySet<string> = new Set(['Namespace', 'GatewayClass']);

export interface ResourceText {
  /** Of its apiVersion; empty for Kubernetes' own. Two APIs may have a kind of one name. */
  readonly group: string;
  readonly kind: string;
  /** Empty for kinds that have none. */
  readonly namespace: string;
  readonly name: string;
  readonly file: string;
  readonly line: number;
  /** The same for the same fields and values, wherever and in whichever order they stand. */
  readonly content: string;
}

/** Pure. Documents without kind and name, and files that cannot be read, are left out. */
export function resourcesOf(files: readonly SourceFile[]): ResourceText[] {
  const out: ResourceText[] = [];
  for (const file of files) {
    if (file.unreadable || /\.(pem|crt|key)$/.test(file.path)) continue;
    const { documents } = readYaml(file.text);
    for (const tree of documents) {
      const metadata = member(tree, 'metadata');
      const kind = word(member(tree, 'kind'));
      const name = word(member(metadata, 'name'));
      if (kind === '' || name === '') continue;
      const namespace = CLUSTER_WIDE.has(kind) ? '' : word(member(metadata, 'namespace')) || 'default';
      const version = word(member(tree, 'apiVersion')).split('/');
      const group = version.length > 1 ? version[0] : '';
      out.push({ group, kind, namespace, name, file: file.path, line: tree.line, content: contentOf(tree) });
    }
  }
  return out;
}

function member(tree: Tree | undefined, key: string): Tree | undefined {
  return tree?.kind === 'map' ? tree.entries.get(key)?.value : undefined;
}

function word(tree: Tree | undefined): string {
  return tree?.kind === 'scalar' && typeof tree.value === 'string' ? tree.value : '';
}

function contentOf(tree: Tree): string {
  if (tree.kind === 'scalar') return JSON.stringify(tree.value);
  if (tree.kind === 'list') return `[${tree.items.map(contentOf).join(',')}]`;
  const entries = [...tree.entries].sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, e]) => `${JSON.stringify(key)}:${contentOf(e.value)}`).join(',')}}`;
}
