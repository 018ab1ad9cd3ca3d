/** What must survive `kill -9`: one JSON file, written whole at each change. */
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { type Logger, WeftError } from '@weft/base';
import { writeFileAtomic } from '@weft/identity';
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
  files: SourceFile[];
  instances: Instance[];
  vips: [host: string, address: string][];
  /** By the SHA-256 of the token: the file does not give tokens away. */
  tokens: [hash: string, token: StoredToken][];
  /** Absent in files of before there was such a thing; so is the next. */
  revoked?: StoredRevocation[];
  federated?: [trustDomain: string, rootPem: string][];
  keySets?: [source: string, keys: StoredKeys][];
  federatedKeys?: [trustDomain: string, jwks: string][];
}

export class State {
  epoch = 0;
  epochAtMs = 0;
  files: SourceFile[] = [];
  readonly instances = new Map<string, Instance>();
  readonly vips = new Map<string, string>();
  readonly tokens = new Map<string, StoredToken>();
  revoked: StoredRevocation[] = [];
  readonly federated = new Map<string, string>();
  /** Key sets of token issuers, so that a restart while those cannot be asked locks nobody out. */
  readonly keySets = new Map<string, StoredKeys>();
  /** What signs their tokens, where that is known. */
  readonly federatedKeys = new Map<string, string>();
  readonly #path: string;

  constructor(dir: string, logger: Logger) {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    this.#path = join(dir, 'control.json');
    if (!existsSync(this.#path)) return;
    try {
      const stored = JSON.parse(readFileSync(this.#path, 'utf8')) as Stored;
      this.epoch = stored.epoch;
      this.epochAtMs = stored.epochAtMs;
      this.files = stored.files;
      for (const instance of stored.instances) this.instances.set(instance.name, instance);
      for (const [host, address] of stored.vips) this.vips.set(host, address);
      for (const [hash, token] of stored.tokens) this.tokens.set(hash, token);
      this.revoked = stored.revoked ?? [];
      for (const [domain, pem] of stored.federated ?? []) this.federated.set(domain, pem);
      for (const [source, keys] of stored.keySets ?? []) this.keySets.set(source, keys);
      for (const [domain, keys] of stored.federatedKeys ?? []) this.federatedKeys.set(domain, keys);
    } catch (error) {
      // Instances come back by themselves; addresses and the epoch begin anew. Starting is better than not.
      const aside = `${this.#path}.broken`;
      renameSync(this.#path, aside);
      logger.error({ error: String(error), aside }, 'the stored state cannot be read and was put aside');
    }
  }

  /** Throws `control/state` where the folder cannot be written. */
  save(): void {
    const stored: Stored = {
      epoch: this.epoch,
      epochAtMs: this.epochAtMs,
      files: this.files,
      instances: [...this.instances.values()],
      vips: [...this.vips],
      tokens: [...this.tokens],
      revoked: this.revoked,
      federated: [...this.federated],
      keySets: [...this.keySets],
      federatedKeys: [...this.federatedKeys],
    };
    try {
      writeFileAtomic(this.#path, JSON.stringify(stored), 0o600);
    } catch (cause) {
      throw new WeftError('control/state', `${this.#path} cannot be written: ${String(cause)}`, { cause });
    }
  }
}
