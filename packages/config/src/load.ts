/** Files → model. Reads every document, reports every problem, and gives a model only where there is no error. */
import type { Position } from '@weft/base';
import { type Labels, type Model, placeOf, type Resource, refOf } from '@weft/model';
import { CODES } from './analysis/codes.ts';
import { type Finding, findingOf, suppressedByResource } from './analysis/findings.ts';
import { lint } from './analysis/lint.ts';
import type { Brought, FileCache } from './file-cache.ts';
import {
  checkLabelName,
  type FieldReport,
  hasPem,
  type JudgedPair,
  type Kind,
  type KindContext,
  labelsOf,
  type Plain,
} from './kinds/common.ts';
import { any, METADATA } from './metadata.ts';
import { modelOf } from './model-of.ts';
import { pendingReason } from './pending.ts';
import { nearest, type Problem, Problems } from './problems.ts';
import { checkReferences } from './references/check.ts';
import { CLUSTER_WIDE } from './resources.ts';
import { type ObjectSchema, type Report, readSchema } from './schema.ts';
import { isAttachment, type SourceFile } from './source.ts';
import { KINDS, SUPPORTED_KINDS } from './supported-kinds.ts';
import { readYaml, type Tree } from './yaml.ts';

export interface LoadOptions {
  /** Judges a certificate chain and its key, and reads its names; absent: only their shape is looked at. */
  readonly judgeKeyPair?: (certificatePem: string, keyPem: string) => JudgedPair;
  /** Of earlier readings: who reads the same files again after each edit keeps one, and only what changed is read. */
  readonly cache?: FileCache;
  /** Kinds that are known and have no effect yet are warned of, not refused. */
  readonly allowPending?: boolean;
  /** Of the mesh that runs; absent: what the files say is taken as it is. */
  readonly trustDomain?: string;
  readonly domain?: string; // default cluster.local
  readonly rootNamespace?: string; // default istio-system
}

export interface LoadResult {
  /** Absent where there is an error. */
  readonly model?: Model;
  readonly problems: Problem[];
}

/** Pure: the same files give the same result. Files are taken in the order given; first means first in that order. */
export function loadFiles(files: readonly SourceFile[], options: LoadOptions = {}): LoadResult {
  const loader = new Loader(options, new Map(files.map((f) => [f.path, f.text])));
  for (const file of files) if (!isAttachment(file.path)) loader.file(file);
  options.cache?.done();
  return loader.finish();
}

/**
 * Everything that `weft analyze` says of the files: what loading refuses or warns of, and what is allowed but probably
 * not meant; without what resources suppress by `galley.istio.io/analyze-suppress`. Pure, in the order of the files.
 */
export function analyzeFiles(files: readonly SourceFile[], options: LoadOptions = {}): Finding[] {
  const loader = new Loader(options, new Map(files.map((f) => [f.path, f.text])));
  for (const file of files) if (!isAttachment(file.path)) loader.file(file);
  const order = new Map(files.map((f, i) => [f.path, i]));
  const place = (f: Finding) => order.get(f.file) ?? files.length;
  return loader.findings().sort((a, b) => place(a) - place(b) || a.line - b.line);
}

class Loader {
  readonly #problems = new Problems();
  readonly #positions = new Map<string, ReadonlyMap<string, Position>>();
  readonly #resources = new Map<string, Resource>();
  /** Named, but not readable: what refers to them is not blamed for it. */
  readonly #broken = new Set<string>();
  readonly #domain: string;
  readonly #trustDomain: string | undefined;
  readonly #allowPending: boolean;
  readonly #rootNamespace: string;
  readonly #judgeKeyPair: LoadOptions['judgeKeyPair'];
  readonly #texts: ReadonlyMap<string, string>;
  readonly #cache: FileCache | undefined;
  /** Of the file that is being read. */
  #brought: Brought[] = [];
  /** The file that is being read asked for another one, or for a judgement that may change with time. */
  #asked = false;

  constructor(options: LoadOptions, texts: ReadonlyMap<string, string>) {
    this.#judgeKeyPair = options.judgeKeyPair;
    this.#texts = texts;
    this.#cache = options.cache;
    this.#allowPending = options.allowPending ?? false;
    this.#trustDomain = options.trustDomain;
    this.#domain = options.domain ?? 'cluster.local';
    this.#rootNamespace = options.rootNamespace ?? 'istio-system';
    this.#cache?.begin(JSON.stringify([this.#domain, this.#rootNamespace, this.#trustDomain]));
  }

  file(file: SourceFile): void {
    const cache = file.unreadable ? undefined : this.#cache;
    const known = cache?.brought(file);
    if (known && !known.some(({ id }) => this.#resources.has(id))) {
      for (const one of known) this.#bring(one);
      return;
    }
    const before = this.#problems.count;
    this.#brought = [];
    this.#asked = false;
    this.#read(file, cache);
    if (this.#problems.count === before && !this.#asked) cache?.keep(file, this.#brought);
  }

  #bring(one: Brought): void {
    this.#positions.set(one.id, one.places);
    this.#resources.set(one.id, one.resource);
  }

  #read(file: SourceFile, cache: FileCache | undefined): void {
    const { documents, errors } = file.unreadable
      ? { documents: [], errors: [file.unreadable] }
      : (cache?.parse(file) ?? readYaml(file.text));
    for (const e of errors) {
      const place = { file: file.path, line: e.line, field: '', resource: '', namespace: '' };
      this.#problems.add({ severity: 'error', code: 'WEFT-YAML', message: e.message, ...place });
    }
    // What cannot be parsed may hold what others refer to.
    if (errors.length > 0) this.#broken.add('*');
    for (const tree of documents) this.#document(file.path, tree);
  }

  finish(): LoadResult {
    const model = this.#modelOf();
    const problems = this.#problems.list;
    return this.#problems.errors > 0 ? { problems } : { model: Object.freeze(model), problems };
  }

  findings(): Finding[] {
    const model = this.#modelOf();
    const findings = this.#problems.list.map(findingOf);
    const told = new Set(findings.map((f) => `${f.code} ${f.namespace} ${f.resource} ${f.field}`));
    lint(model, this.#broken, !this.#broken.has('*'), (r, code, message, field, severity) => {
      // Where loading tells of it already, once is enough.
      if (told.has(`${code} ${r.namespace} ${r.kind}/${r.name} ${field}`)) return;
      const { severity: usual = 'warning', also = [] } = CODES.get(code) ?? {};
      findings.push({
        code,
        also,
        severity: severity ?? usual,
        resource: `${r.kind}/${r.name}`,
        namespace: r.namespace,
        file: r.source.file,
        line: placeOf(this.#positions, r, field).line,
        field,
        message,
      });
    });
    const resources = new Map<string, Resource>();
    for (const r of this.#resources.values()) resources.set(`${r.namespace} ${r.kind}/${r.name}`, r);
    return findings.filter((f) => !suppressedByResource(f, resources.get(`${f.namespace} ${f.resource}`)));
  }

  #modelOf(): Model {
    const model = modelOf(this.#resources, {
      positions: this.#positions,
      rootNamespace: this.#rootNamespace,
      domain: this.#domain,
    });
    if (!this.#broken.has('*')) {
      checkReferences(model, this.#broken, (resource, code, message, field, severity) =>
        this.#report(resource, code, message, field, severity),
      );
    }
    return model;
  }

  #report(
    r: Resource,
    code: string,
    message: string,
    field: string,
    severity: 'error' | 'warning' = 'error',
    line = 0,
  ) {
    const at = line || placeOf(this.#positions, r, field).line;
    this.#problems.add({
      severity,
      code,
      message,
      resource: `${r.kind}/${r.name}`,
      namespace: r.namespace,
      file: r.source.file,
      line: at,
      field,
    });
  }

  #document(file: string, tree: Tree): undefined {
    const none = { resource: '', namespace: '', field: '' };
    const fail = (code: string, message: string, line: number, field = ''): undefined => {
      this.#broken.add('*');
      this.#problems.add({ severity: 'error', code, message, ...none, file, line, field });
      return undefined;
    };
    if (tree.kind !== 'map')
      return fail('WEFT-KIND', 'a document must be a mapping with apiVersion and kind', tree.line);
    const apiVersion = scalar(tree, 'apiVersion');
    const kindName = scalar(tree, 'kind');
    if (apiVersion === undefined || kindName === undefined) {
      return fail('WEFT-KIND', 'a document needs apiVersion and kind, both strings', tree.line);
    }
    const kinds = KINDS.get(kindName);
    const kindLine = tree.entries.get('kind')?.line ?? tree.line;
    const versionLine = tree.entries.get('apiVersion')?.line ?? tree.line;
    const pending = kinds ? undefined : pendingReason(apiVersion, kindName);
    if (pending !== undefined) {
      const message = `${kindName} is known, and has no effect: ${pending}`;
      if (!this.#allowPending)
        return fail('WEFT-PENDING', `${message}. Remove it, or allow it (--allow-pending)`, kindLine, 'kind');
      this.#problems.add({
        severity: 'warning',
        code: 'WEFT-PENDING',
        message,
        ...none,
        file,
        line: kindLine,
        field: 'kind',
      });
      return undefined;
    }
    if (!kinds) {
      const near = nearest(kindName, SUPPORTED_KINDS);
      const hint = near.length > 0 ? ` Did you mean ${near.join(', ')}?` : '';
      const shown = `${kindName.slice(0, 80)} (${apiVersion.slice(0, 80)})`;
      return fail('WEFT-KIND', `the kind ${shown} is not supported.${hint} Supported: ${served()}`, kindLine, 'kind');
    }
    const meta = tree.entries.get('metadata')?.value;
    const name = (meta?.kind === 'map' && scalar(meta, 'name')) || '';
    const versions = kinds.filter((k) => k.apiVersions.includes(apiVersion));
    const kind = versions.find((k) => k.only?.(name)) ?? versions.find((k) => !k.only);
    if (!kind) {
      const all = kinds.flatMap((k) => k.apiVersions).join(', ');
      const message = `${kindName} is not served in "${apiVersion.slice(0, 80)}", only in ${all}`;
      return fail('WEFT-KIND', message, versionLine, 'apiVersion');
    }
    this.#resource(file, tree, kind);
    return undefined;
  }

  #resource(file: string, written: Extract<Tree, { kind: 'map' }>, kind: Kind<Resource>): void {
    const before = this.#problems.errors;
    const metaTree = written.entries.get('metadata')?.value;
    const name = (metaTree?.kind === 'map' && scalar(metaTree, 'name')) || (kind.defaultName ?? '');
    const clusterWide = CLUSTER_WIDE.has(kind.kind);
    const namespace = clusterWide ? '' : (metaTree?.kind === 'map' && scalar(metaTree, 'namespace')) || 'default';
    const source: Position = Object.freeze({ file, line: written.line });
    let resource: Resource = { kind: kind.as ?? kind.kind, name, namespace, labels: {}, annotations: {}, source };
    const wrong = new Set<string>();
    const report: Report = (code, message, field, line) => {
      wrong.add(field);
      this.#report(resource, code, message, field, 'error', line);
    };

    const tree = kind.expand?.(written, (message, line, field) => report('WEFT-YAML', message, field, line)) ?? written;
    const metadata: ObjectSchema = kind.defaultName === undefined ? METADATA : { ...METADATA, required: [] };
    const fields: ObjectSchema['fields'] = kind.spec
      ? { apiVersion: any, kind: any, metadata, spec: kind.spec, status: any }
      : { apiVersion: any, kind: any, metadata, ...kind.top?.fields };
    const unsupported = kind.top?.unsupported ?? [];
    const required = [...(kind.defaultName === undefined ? ['metadata'] : []), ...(kind.specRequired ? ['spec'] : [])];
    const read = readSchema({ t: 'object', fields, required, unsupported }, tree, '', report) as Plain;
    const meta = (read.metadata ?? {}) as { labels?: Labels; annotations?: Labels; creationTimestamp?: string };
    if (kind.kind === 'Service' || kind.kind === 'Namespace') {
      const bad = name ? checkLabelName(name) : undefined;
      if (bad) report('WEFT-VALUE', `is "${name.slice(0, 80)}": ${bad}`, 'metadata.name', 0);
    }
    resource = { ...resource, labels: labelsOf(meta.labels), annotations: labelsOf(meta.annotations) };

    const id = refOf(resource);
    const other = this.#resources.get(id);
    if (other) {
      const where = `${other.source.file}:${other.source.line}`;
      const shown = namespace ? `in namespace ${namespace} ` : '';
      report('WEFT-DUPLICATE', `${kind.kind} ${name} ${shown}is already at ${where}`, 'metadata.name', 0);
      return;
    }
    const places = placesIn(tree, file);
    // Reports of what it builds are placed by it.
    this.#positions.set(id, places);
    const fieldReport: FieldReport = Object.assign(
      (code: string, message: string, field: string, severity?: 'error' | 'warning') =>
        this.#report(resource, code, message, field, severity),
      { broken: (field: string) => wrong.has(field) },
    );
    const built = kind.build(
      resource,
      (kind.top ? read : read.spec) ?? {},
      fieldReport,
      this.#contextOf(file, meta.creationTimestamp),
    );
    if (this.#problems.errors > before) this.#broken.add(id);
    const one = { id, resource: Object.freeze(built), places };
    this.#bring(one);
    this.#brought.push(one);
  }

  #contextOf(file: string, created = ''): KindContext {
    return {
      domain: this.#domain,
      rootNamespace: this.#rootNamespace,
      trustDomain: this.#trustDomain,
      created,
      attachment: (path) => {
        this.#asked = true;
        return this.#texts.get(path.startsWith('/') ? path : besides(file, path));
      },
      judgePair: (certificatePem, keyPem) => {
        this.#asked = true;
        if (!hasPem(certificatePem, 'CERTIFICATE')) return { error: 'the certificate is no PEM of a CERTIFICATE' };
        if (!hasPem(keyPem, 'PRIVATE KEY')) return { error: 'the key is no PEM of a PRIVATE KEY' };
        return this.#judgeKeyPair?.(certificatePem, keyPem) ?? { names: [] };
      },
    };
  }
}

/** Where the fields of a document stand. */
function placesIn(tree: Tree, file: string): Map<string, Position> {
  const places = new Map<string, Position>();
  const walk = (of: Tree, path: string): void => {
    const note = (field: string, line: number, value: Tree) => {
      if (path === '' && !PLACED.has(field)) return;
      places.set(field, { file, line, field });
      walk(value, field);
    };
    if (of.kind === 'map') {
      for (const [key, entry] of of.entries) note(path ? `${path}.${key}` : key, entry.line, entry.value);
    } else if (of.kind === 'list') {
      for (const [i, item] of of.items.entries()) note(`${path}[${i}]`, item.line, item);
    }
  };
  walk(tree, '');
  return places;
}

/** Top-level fields of documents whose contents are referred to by position. */
const PLACED = new Set(['metadata', 'spec', 'data', 'endpoints', 'ports']);

function served(): string {
  const all = [...KINDS.values()].flat();
  return all.map((k) => `${k.kind} (${k.apiVersions.join(', ')})`).join('; ');
}

/** A path relative to the folder of a file. */
function besides(file: string, path: string): string {
  const parts = file.split('/').slice(0, -1);
  for (const part of path.split('/')) {
    if (part === '..' && parts.length > 0) parts.pop();
    else if (part !== '.' && part !== '') parts.push(part);
  }
  return parts.join('/');
}

function scalar(tree: Extract<Tree, { kind: 'map' }>, key: string): string | undefined {
  const value = tree.entries.get(key)?.value;
  return value?.kind === 'scalar' && typeof value.value === 'string' ? value.value : undefined;
}
