/** The mesh as the control plane knows it now: configuration of epoch N, the instances, and their addresses. */
import type { Clock, Logger } from '@weft/base';
import { formatPosition } from '@weft/base';
import { analyzeFiles, type Finding, findingOf, type Problem } from '@weft/config';
import { judgeKeyPair } from '@weft/identity';
import {
  type Instance,
  keySourcesOf,
  type MeshRuntime,
  type Model,
  namesToResolve,
  type ServiceModel,
} from '@weft/model';
import { MESH_NETWORK } from '@weft/plan';
import type { ControlConfig } from './config.ts';
import { fetchDocument } from './keys/fetch.ts';
import { KeySets, MAX_KEY_SET_BYTES } from './keys/key-sets.ts';
import { NameResolver } from './resolver.ts';
import type { ReadResult } from './sources/files.ts';
import type { SourceFile, State } from './state.ts';
import { allocateVips } from './vips.ts';

export type LoadFiles = (files: readonly SourceFile[]) => { model?: Model; problems: Problem[] };

/** What happened: a new epoch, other addresses, or one instance that came, changed or went. */
export type MeshChange =
  | { readonly kind: 'epoch' }
  /** Addresses of an outside name, by which these services are reached. */
  /** Keys of some token issuer. */
  | { readonly kind: 'keys' }
  | { readonly kind: 'name'; readonly services: readonly ServiceModel[] }
  | { readonly kind: 'instance'; readonly before: Instance | undefined; readonly after: Instance | undefined };

export interface MeshOptions {
  config: ControlConfig;
  state: State;
  load: LoadFiles;
  logger: Logger;
  clock: Clock;
  /** Reads a document of the outside; for tests. */
  fetch?: ((url: string, timeoutMs: number) => Promise<string>) | undefined;
}

export class Mesh {
  readonly trustDomain: string;
  readonly #options: MeshOptions;
  readonly #state: State;
  readonly #resolver: NameResolver;
  readonly keySets: KeySets;
  #named: ReadonlyMap<string, readonly ServiceModel[]> = new Map();
  readonly #listeners = new Set<(change: MeshChange) => void>();
  #model: Model | undefined;
  #vips: ReadonlyMap<string, readonly string[]> = new Map();
  #problems: Problem[] = [];
  #refused = false;
  readonly #onRefused = new Set<(files: readonly SourceFile[], problems: readonly Problem[]) => void>();

  constructor(options: MeshOptions) {
    this.#options = options;
    this.#state = options.state;
    this.#resolver = new NameResolver(options.clock, (name) => {
      this.#changed({ kind: 'name', services: this.#named.get(name) ?? [] });
    });
    const limits = { allow: options.config.jwksAllow ?? [], maxBytes: MAX_KEY_SET_BYTES };
    this.keySets = new KeySets({
      ...{ clock: options.clock, logger: options.logger, stored: this.#state.keySets },
      fetch: options.fetch ?? ((url, timeoutMs) => fetchDocument(url, timeoutMs, limits)),
      changed: () => {
        this.#state.save();
        this.#changed({ kind: 'keys' });
      },
    });
    this.trustDomain = options.config.trustDomain ?? 'cluster.local';
    // The last good configuration serves until the files have been read, and beyond, where they are broken by now.
    if (this.#state.files.length > 0) {
      const { model } = options.load(this.#state.files);
      if (model) this.#use(model);
    }
  }

  get model(): Model | undefined {
    return this.#model;
  }

  get epoch(): number {
    return this.#state.epoch;
  }

  get epochAtMs(): number {
    return this.#state.epochAtMs;
  }

  /** Problems of the files as they are now; with `refused` the epoch is that of older ones. */
  get problems(): readonly Problem[] {
    return this.#problems;
  }

  get refused(): boolean {
    return this.#refused;
  }

  get vips(): ReadonlyMap<string, readonly string[]> {
    return this.#vips;
  }

  instances(): Instance[] {
    return [...this.#state.instances.values()];
  }

  instance(name: string): Instance | undefined {
    return this.#state.instances.get(name);
  }

  identityOf(instance: Pick<Instance, 'namespace' | 'serviceAccount'>): string {
    return `spiffe://${this.trustDomain}/ns/${instance.namespace}/sa/${instance.serviceAccount}`;
  }

  hasIdentity(spiffeId: string): boolean {
    for (const instance of this.#state.instances.values()) if (this.identityOf(instance) === spiffeId) return true;
    return false;
  }

  runtime(): MeshRuntime {
    const { config } = this.#options;
    return {
      mesh: config.mesh,
      trustDomain: this.trustDomain,
      domain: this.#model?.domain ?? 'cluster.local',
      capture: config.capture,
      instances: this.instances(),
      vips: this.#vips,
      resolved: this.#resolver.addresses,
      registryOnly: config.registryOnly,
      drainMs: config.drainMs,
      keySets: this.keySets.current,
      network: config.entrance && MESH_NETWORK,
    };
  }

  /** Called after each change of configuration or instances. */
  onChange(listener: (change: MeshChange) => void): void {
    this.#listeners.add(listener);
  }

  /** Called each time files are refused: those that could be read, and what is wrong. */
  onRefused(listener: (files: readonly SourceFile[], problems: readonly Problem[]) => void): void {
    this.#onRefused.add(listener);
  }

  /** Looks up no more names. */
  stop(): void {
    this.#resolver.stop();
    this.keySets.stop();
  }

  putInstance(instance: Instance): void {
    const before = this.#state.instances.get(instance.name);
    if (JSON.stringify(before) === JSON.stringify(instance)) return;
    this.#state.putInstance(instance);
    this.#changed({ kind: 'instance', before, after: instance });
  }

  /** Returns whether it was there. */
  deleteInstance(name: string): boolean {
    const before = this.#state.instances.get(name);
    if (!before) return false;
    this.#state.deleteInstance(name);
    this.#changed({ kind: 'instance', before, after: undefined });
    return true;
  }

  /** What an analysis of the epoch's files says, and what is wrong with newer ones where those are refused. */
  analysis(): Finding[] {
    const found = analyzeFiles(this.#state.files, { judgeKeyPair });
    return this.#refused ? [...this.#problems.map(findingOf), ...found] : found;
  }

  /** Takes in what the files say now: epoch N+1, or nothing but problems. */
  applyFiles({ files, errors }: ReadResult): void {
    const { load, logger, clock } = this.#options;
    let problems: Problem[];
    let model: Model | undefined;
    if (errors.length > 0) {
      problems = errors.map(({ path, message, line = 0 }) => ({
        severity: 'error',
        code: 'source/unreadable',
        message: `${path} ${message}`,
        resource: '',
        namespace: '',
        file: path,
        line,
        field: '',
      }));
    } else {
      const loaded = load(files);
      problems = loaded.problems;
      model = problems.some((p) => p.severity === 'error') ? undefined : loaded.model;
    }
    this.#problems = problems;
    this.#refused = model === undefined;
    for (const p of problems) {
      const where = p.file ? `${formatPosition({ file: p.file, line: p.line, field: p.field || undefined })}: ` : '';
      const fields = { code: p.code, resource: p.resource, namespace: p.namespace };
      if (p.severity === 'error') logger.error(fields, `${where}${p.message}`);
      else logger.warn(fields, `${where}${p.message}`);
    }
    if (!model) {
      logger.error({ epoch: this.epoch }, `the files are refused: epoch ${this.epoch} stays`);
      for (const listener of this.#onRefused) listener(files, problems);
      return;
    }
    if (this.#model && sameFiles(files, this.#state.files)) return;
    this.#state.nextEpoch(files, clock.wall());
    this.#use(model);
    logger.info({ epoch: this.epoch, files: files.length, services: model.services.length }, `epoch ${this.epoch}`);
    this.#changed({ kind: 'epoch' });
  }

  #use(model: Model): void {
    const { config } = this.#options;
    const { vips, changed } = allocateVips(model, this.#state.vips, {
      capture: config.capture,
      domain: model.domain,
      prefix: config.vipPrefix,
    });
    this.#model = model;
    this.#vips = vips;
    this.#named = namesToResolve(model);
    this.#resolver.want(this.#named.keys());
    this.keySets.want(keySourcesOf(model));
    if (changed) this.#state.save();
  }

  #changed(change: MeshChange): void {
    for (const listener of this.#listeners) listener(change);
  }
}

function sameFiles(a: readonly SourceFile[], b: readonly SourceFile[]): boolean {
  return a.length === b.length && a.every(({ path, text }, i) => path === b[i]!.path && text === b[i]!.text);
}
