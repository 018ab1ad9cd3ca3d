/**
 * What must survive `kill -9`: one JSON file, and beside it a line for each change since that was written, so that a change
 * costs what it changes and not the mesh. A start, and a journal that has grown, write the file anew.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Logger, WeftError } from '@weft/base';
import { appendFile, writeFileAtomic } from '@weft/identity';
import type { Instance } from '@weft/model';
import type { StoredKeys } from './keys/key-sets.ts';

export interface SourceFile {
  path: string;
  text: string;
}

export interface StoredToken {
  instance: string;
  identity: string;
  expiresMs: number;
  /** The key (SHA-256 of its SPKI) for which it was used. */
  usedBy?: string;
}

/** A machine that runs workloads of one WorkloadGroup. */
export interface StoredHost {
  namespace: string;
  group: string;
  /** Of its certificate now, and of the one before: others under its name count no more. */
  serials: string[];
  /** Where it is reached, and how it captures; absent: it has not joined yet. */
  entrance?: { host: string; port: number };
  capture?: 'transparent' | 'explicit';
}

/** One certificate by its number, or everything of one identity. */
export interface StoredRevocation {
  /** A whole SPIFFE id, or empty. */
  id: string;
  /** Hexadecimal, or empty. */
  serial: string;
  /** When, in wall time. */
  atMs: number;
}

interface Stored {
  epoch: number;
  /** Wall time at which the epoch began. */
  epochAtMs: number;
  /** The files of the epoch: what a control plane that returns to broken files goes on with. */
  files: readonly SourceFile[];
  instances: Instance[];
  vips: [host: string, address: string][];
  /** By the SHA-256 of the token: the file does not give tokens away. */
  tokens: [hash: string, token: StoredToken][];
  /** Absent in files of before there was such a thing; so is the next. */
  revoked?: StoredRevocation[];
  federated?: [trustDomain: string, rootPem: string][];
  keySets?: [source: string, keys: StoredKeys][];
  federatedKeys?: [trustDomain: string, jwks: string][];
  workloadApi?: StoredWorkloadApi;
  hosts?: [name: string, host: StoredHost][];
}

/** A SPIFFE Workload API that gives proxies their certificates. */
export interface StoredWorkloadApi {
  /** Path of its socket; empty: the CA gives certificates again, and the roots are believed until nobody lives by them. */
  socket: string;
  /** The roots above what it gives, as it said them last. */
  rootPem: string;
}

/** One change. Taken twice, or after a file that has it already, it changes nothing more. */
type Entry =
  | { readonly instance: Instance }
  | { readonly noInstance: string }
  | { readonly token: readonly [hash: string, token: StoredToken] }
  | { readonly noTokens: readonly string[] }
  /** `texts`: files that are new or have other contents; `paths`: of all files, where those before were others. */
  | { readonly epoch: number; readonly atMs: number; readonly texts: SourceFile[]; readonly paths?: string[] };

/** Past so many bytes of journal the file is written anew. */
const MAX_JOURNAL_BYTES = 8 * 1024 * 1024;

export class State {
  #epoch = 0;
  #epochAtMs = 0;
  #files: readonly SourceFile[] = [];
  readonly #instances = new Map<string, Instance>();
  readonly #tokens = new Map<string, StoredToken>();
  /** Who changes this or what follows says so by `save`. */
  readonly vips = new Map<string, string>();
  revoked: StoredRevocation[] = [];
  readonly federated = new Map<string, string>();
  /** Key sets of token issuers, so that a restart while those cannot be asked locks nobody out. */
  readonly keySets = new Map<string, StoredKeys>();
  /** What signs their tokens, where that is known. */
  readonly federatedKeys = new Map<string, string>();
  workloadApi: StoredWorkloadApi | undefined;
  readonly #hosts = new Map<string, StoredHost>();
  readonly #path: string;
  readonly #journal: string;
  #journalBytes = 0;

  constructor(dir: string, logger: Logger) {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    this.#path = join(dir, 'control.json');
    this.#journal = join(dir, 'control.journal');
    if (existsSync(this.#path)) this.#read(logger);
    if (!existsSync(this.#journal)) return;
    for (const line of readFileSync(this.#journal, 'utf8').split('\n')) {
      if (line === '') continue;
      try {
        this.#apply(JSON.parse(line) as Entry);
      } catch {
        // The end of a line that a crash cut: nobody was told of that change.
        logger.warn(
          { journal: this.#journal },
          'a change that was being written when the control plane died is left out',
        );
      }
    }
    this.save();
  }

  #read(logger: Logger): void {
    try {
      const stored = JSON.parse(readFileSync(this.#path, 'utf8')) as Stored;
      this.#epoch = stored.epoch;
      this.#epochAtMs = stored.epochAtMs;
      this.#files = stored.files;
      for (const instance of stored.instances) this.#instances.set(instance.name, instance);
      for (const [host, address] of stored.vips) this.vips.set(host, address);
      for (const [hash, token] of stored.tokens) this.#tokens.set(hash, token);
      this.revoked = stored.revoked ?? [];
      for (const [domain, pem] of stored.federated ?? []) this.federated.set(domain, pem);
      for (const [source, keys] of stored.keySets ?? []) this.keySets.set(source, keys);
      for (const [domain, keys] of stored.federatedKeys ?? []) this.federatedKeys.set(domain, keys);
      this.workloadApi = stored.workloadApi;
      for (const [name, host] of stored.hosts ?? []) this.#hosts.set(name, host);
    } catch (error) {
      // Instances come back by themselves; addresses and the epoch begin anew. Starting is better than not.
      const aside = `${this.#path}.broken`;
      renameSync(this.#path, aside);
      // Changes without what they changed are half a state.
      rmSync(this.#journal, { force: true });
      logger.error({ error: String(error), aside }, 'the stored state cannot be read and was put aside');
    }
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Wall time at which the epoch began. */
  get epochAtMs(): number {
    return this.#epochAtMs;
  }

  get files(): readonly SourceFile[] {
    return this.#files;
  }

  get instances(): ReadonlyMap<string, Instance> {
    return this.#instances;
  }

  get hosts(): ReadonlyMap<string, StoredHost> {
    return this.#hosts;
  }

  setHost(name: string, host: StoredHost): void {
    this.#hosts.set(name, host);
    this.save();
  }

  get tokens(): ReadonlyMap<string, StoredToken> {
    return this.#tokens;
  }

  /** This and what follows throw `control/state` where the folder cannot be written. */
  putInstance(instance: Instance): void {
    this.#change({ instance });
  }

  deleteInstance(name: string): void {
    this.#change({ noInstance: name });
  }

  /** `durable`: it also survives that the machine loses its power. */
  setToken(hash: string, token: StoredToken, durable = false): void {
    this.#change({ token: [hash, token] }, durable);
  }

  deleteTokens(hashes: readonly string[]): void {
    if (hashes.length > 0) this.#change({ noTokens: hashes });
  }

  /** The next epoch begins, with these files. */
  nextEpoch(files: readonly SourceFile[], atMs: number): void {
    const before = new Map(this.#files.map((f) => [f.path, f.text]));
    const texts = files.filter((f) => before.get(f.path) !== f.text);
    const samePaths = files.length === this.#files.length && files.every((f, i) => f.path === this.#files[i]!.path);
    const entry = { epoch: this.#epoch + 1, atMs, texts };
    this.#change(samePaths ? entry : { ...entry, paths: files.map((f) => f.path) });
  }

  #change(entry: Entry, durable = false): void {
    // Begun anew, so that a line that a full disk cut spoils no other.
    const line = `\n${JSON.stringify(entry)}\n`;
    try {
      appendFile(this.#journal, line, 0o600, durable);
    } catch (cause) {
      throw this.#unwritable(this.#journal, cause);
    }
    this.#apply(entry);
    this.#journalBytes += line.length;
    if (this.#journalBytes > MAX_JOURNAL_BYTES) this.save();
  }

  #apply(entry: Entry): void {
    if ('instance' in entry) this.#instances.set(entry.instance.name, entry.instance);
    else if ('noInstance' in entry) this.#instances.delete(entry.noInstance);
    else if ('token' in entry) this.#tokens.set(...entry.token);
    else if ('noTokens' in entry) for (const hash of entry.noTokens) this.#tokens.delete(hash);
    else {
      const known = new Map(this.#files.map((f) => [f.path, f]));
      for (const file of entry.texts) known.set(file.path, file);
      const paths = entry.paths ?? this.#files.map((f) => f.path);
      this.#files = paths.flatMap((path) => known.get(path) ?? []);
      this.#epoch = entry.epoch;
      this.#epochAtMs = entry.atMs;
    }
  }

  #unwritable(path: string, cause: unknown): WeftError {
    return new WeftError('control/state', `${path} cannot be written: ${String(cause)}`, { cause });
  }

  /** Writes the whole state. */
  save(): void {
    const stored: Stored = {
      epoch: this.#epoch,
      epochAtMs: this.#epochAtMs,
      files: this.#files,
      instances: [...this.#instances.values()],
      vips: [...this.vips],
      tokens: [...this.#tokens],
      revoked: this.revoked,
      federated: [...this.federated],
      keySets: [...this.keySets],
      federatedKeys: [...this.federatedKeys],
      workloadApi: this.workloadApi,
      hosts: [...this.#hosts],
    };
    try {
      writeFileAtomic(this.#path, JSON.stringify(stored), 0o600);
      // Between the two a crash leaves a journal of what the file has: taken again, it changes nothing.
      rmSync(this.#journal, { force: true });
      this.#journalBytes = 0;
    } catch (cause) {
      throw this.#unwritable(this.#path, cause);
    }
  }
}
