/** Changes of people's own files that leave every other byte as it was. */
import { isMap, isScalar, parseAllDocuments } from 'yaml';

/** Which resource of a text is meant. */
export interface EditTarget {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/**
 * Replaces the plain value at `path` of one resource. Undefined where the resource, or a value at that place, is not in
 * the text: then nothing was changed. `value` is written as it is, so it must be a plain YAML word.
 */
export function replaceValue(
  text: string,
  target: EditTarget,
  path: readonly string[],
  value: string,
): string | undefined {
  const documents = parseAllDocuments(text, { prettyErrors: false });
  if (!Array.isArray(documents)) return undefined;
  for (const doc of documents) {
    if (doc.errors.length > 0 || !isMap(doc.contents)) continue;
    const is = (at: string[], wanted: string, fallback?: string): boolean => (doc.getIn(at) ?? fallback) === wanted;
    if (!is(['kind'], target.kind) || !is(['metadata', 'name'], target.name)) continue;
    if (!is(['metadata', 'namespace'], target.namespace, 'default')) continue;
    const node = doc.getIn([...path], true);
    if (!isScalar(node) || !node.range) return undefined;
    return text.slice(0, node.range[0]) + value + text.slice(node.range[1]);
  }
  return undefined;
}
