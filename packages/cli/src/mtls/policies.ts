/** The PeerAuthentications that `weft mtls strict` writes into the mesh's files, and how they are taken back. */
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { WeftError } from '@weft/base';
import { replaceValue } from '@weft/config';

export interface StrictPolicies {
  /** STRICT for these workloads alone; replaces what was written before. */
  workloads(selected: readonly { readonly name: string; readonly labels: Readonly<Record<string, string>> }[]): void;
  /**
   * STRICT for the namespace: by the policy of its own where it has one (`file:line` and name), else by one more. Those
   * of the workloads go with `workloads([])`.
   */
  namespace(own: { readonly name: string; readonly where: string } | undefined): void;
  /** Every file as it was before. */
  revert(): void;
  /** The files that are changed now. */
  readonly changed: readonly string[];
}

const HEAD = '# Written by "weft mtls strict".\n';

/** `file` is written by us alone. */
export function policyFiles(namespace: string, file: string): StrictPolicies {
  const before = new Map<string, string | undefined>();
  let workloads: string[] = [];
  let general: string[] = [];
  const keep = (path: string): void => {
    if (!before.has(path)) before.set(path, existsSync(path) ? readFileSync(path, 'utf8') : undefined);
  };
  const put = (path: string, text: string): void => {
    const temporary = join(dirname(path), `.${basename(path)}.weft`);
    writeFileSync(temporary, text, { mode: statSync(path, { throwIfNoEntry: false })?.mode ?? 0o644 });
    renameSync(temporary, path);
  };
  const write = (): void => {
    keep(file);
    const documents = [...general, ...workloads];
    if (documents.length > 0) put(file, `${HEAD}${documents.join('---\n')}`);
    else rmSync(file, { force: true });
  };
  return {
    workloads(selected) {
      workloads = selected.map(({ name, labels }) => document(namespace, `strict-${name}`, labels));
      write();
    },
    namespace(own) {
      if (!own) {
        general = [document(namespace, 'default', undefined)];
        write();
        return;
      }
      const path = own.where.slice(0, own.where.lastIndexOf(':'));
      keep(path);
      const text = readFileSync(path, 'utf8');
      const target = { kind: 'PeerAuthentication', namespace, name: own.name };
      const edited = replaceValue(text, target, ['spec', 'mtls', 'mode'], 'STRICT');
      if (edited === undefined)
        throw new WeftError('strict', `${own.where}: the policy says no spec.mtls.mode that could be changed`);
      put(path, edited);
    },
    revert() {
      for (const [path, text] of before) {
        if (text === undefined) rmSync(path, { force: true });
        else if (!existsSync(path) || readFileSync(path, 'utf8') !== text) put(path, text);
      }
    },
    get changed() {
      return [...before]
        .filter(([path, text]) => text !== (existsSync(path) ? readFileSync(path, 'utf8') : undefined))
        .map(([path]) => path);
    },
  };
}

/** JSON is YAML: label values need no quoting of ours. */
function document(namespace: string, name: string, labels: Readonly<Record<string, string>> | undefined): string {
  const selector = labels ? `  selector:\n    matchLabels: ${JSON.stringify(labels)}\n` : '';
  return `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: ${name}
  namespace: ${namespace}
spec:
${selector}  mtls:
    mode: STRICT
`;
}
