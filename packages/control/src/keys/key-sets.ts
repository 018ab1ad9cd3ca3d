/**
 * The key sets that RequestAuthentications name by an address: fetched here, once for the mesh, and sent to proxies as a
 * part of their plans. Renewed now and then, and soon where a proxy meets a token by a key that is not among them. Who
 * cannot be asked keeps the keys of before for a time; without keys no token of that issuer is good.
 */
import type { Clock, Logger, Timer } from '@weft/base';
import type { KeySource } from '@weft/model';
import { keyProblem } from '@weft/plan';

export interface StoredKeys {
  readonly jwks: string;
  /** Wall time. */
  readonly atMs: number;
}

export interface KeySetLimits {
  /** Between two fetches where all is well. */
  readonly refreshMs: number;
  /** Between two fetches of one source, whatever proxies miss. */
  readonly leastMs: number;
  /** After a failure, doubled each time up to ten times this. */
  readonly retryMs: number;
  /** How long the keys of a source that cannot be asked are good. */
  readonly staleMs: number;
}

export const KEY_SET_LIMITS: KeySetLimits = {
  refreshMs: 20 * 60_000,
  leastMs: 5_000,
  retryMs: 5_000,
  staleMs: 24 * 3_600_000,
};

export const MAX_KEY_SET_BYTES = 256 * 1024;
export const MAX_KEYS = 100;

interface Entry {
  source: KeySource;
  timer: Timer | undefined;
  /** Monotonic; when it was last asked. */
  askedMs: number;
  failures: number;
  busy: boolean;
}

export interface KeySetsOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly stored: Map<string, StoredKeys>;
  readonly fetch: (url: string, timeoutMs: number) => Promise<string>;
  /** Keys of some source are others than before. */
  readonly changed: () => void;
  readonly limits?: Partial<KeySetLimits>;
}

export class KeySets {
  readonly #o: KeySetsOptions;
  readonly #limits: KeySetLimits;
  readonly #entries = new Map<string, Entry>();
  readonly counters = { fetches: 0, failures: 0, limited: 0 };

  constructor(options: KeySetsOptions) {
    this.#o = options;
    this.#limits = { ...KEY_SET_LIMITS, ...options.limits };
  }

  /** What is known now, by the name of the source. */
  get current(): ReadonlyMap<string, string> {
    const out = new Map<string, string>();
    for (const name of this.#entries.keys()) {
      const keys = this.#o.stored.get(name);
      if (keys && this.#fresh(keys)) out.set(name, keys.jwks);
    }
    return out;
  }

  /** Fetches from these from now on, and from no others. */
  want(sources: readonly KeySource[]): void {
    const wanted = new Map(sources.map((s) => [s.name, s]));
    for (const [name, entry] of this.#entries) {
      if (wanted.has(name)) continue;
      entry.timer?.cancel();
      this.#entries.delete(name);
      this.#o.stored.delete(name);
    }
    for (const [name, source] of wanted) {
      const entry = this.#entries.get(name);
      if (entry) entry.source = source;
      else {
        const made: Entry = { source, timer: undefined, askedMs: Number.NEGATIVE_INFINITY, failures: 0, busy: false };
        this.#entries.set(name, made);
        this.#later(made, 0);
      }
    }
  }

  /** A proxy saw a token by a key that it does not know. */
  missing(name: string): void {
    const entry = this.#entries.get(name);
    if (!entry || entry.busy) return;
    const waitMs = entry.askedMs + this.#limits.leastMs - this.#o.clock.now();
    if (waitMs > 0) this.counters.limited++;
    this.#later(entry, Math.max(0, waitMs));
  }

  stop(): void {
    for (const entry of this.#entries.values()) entry.timer?.cancel();
    this.#entries.clear();
  }

  #fresh(keys: StoredKeys): boolean {
    return this.#o.clock.wall() - keys.atMs < this.#limits.staleMs;
  }

  #later(entry: Entry, ms: number): void {
    entry.timer?.cancel();
    entry.timer = this.#o.clock.after(ms, () => void this.#ask(entry));
  }

  async #ask(entry: Entry): Promise<void> {
    if (entry.busy) return;
    const { clock, logger, stored } = this.#o;
    const { source } = entry;
    entry.busy = true;
    entry.askedMs = clock.now();
    this.counters.fetches++;
    let jwks: string | undefined;
    let why = '';
    try {
      jwks = await this.#read(source);
    } catch (error) {
      why = error instanceof Error ? error.message : String(error);
    }
    entry.busy = false;
    // It may not be wanted any more.
    if (this.#entries.get(source.name) !== entry) return;
    const before = stored.get(source.name);
    if (jwks !== undefined) {
      entry.failures = 0;
      stored.set(source.name, { jwks, atMs: clock.wall() });
      this.#later(entry, this.#limits.refreshMs);
      if (before?.jwks !== jwks || !this.#fresh(before)) this.#o.changed();
      return;
    }
    this.counters.failures++;
    const wait = this.#limits.retryMs * Math.min(10, 2 ** entry.failures++);
    const leftMs = before ? before.atMs + this.#limits.staleMs - clock.wall() : 0;
    logger.warn(
      { source: source.name, error: why },
      leftMs > 0
        ? 'the keys of an issuer cannot be renewed; those of before are good until they are too old'
        : 'the keys of an issuer cannot be had: no token of it is accepted',
    );
    if (before && leftMs <= 0) {
      stored.delete(source.name);
      this.#o.changed();
    }
    this.#later(entry, leftMs > 0 ? Math.min(wait, leftMs) : wait);
  }

  async #read(source: KeySource): Promise<string> {
    const { fetch } = this.#o;
    if (!source.discover) return publicKeys(await fetch(source.url, source.timeoutMs));
    const text = await fetch(source.url, source.timeoutMs);
    const said = parse(text) as { issuer?: unknown; jwks_uri?: unknown };
    if (said.issuer !== source.issuer) throw new Error(`${source.url} speaks for another issuer`);
    if (typeof said.jwks_uri !== 'string') throw new Error(`${source.url} names no jwks_uri`);
    if (source.url.startsWith('https:') && !said.jwks_uri.startsWith('https:')) {
      throw new Error(`${source.url} names keys that come without TLS`);
    }
    return publicKeys(await fetch(said.jwks_uri, source.timeoutMs));
  }
}

function parse(text: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('the answer is no JSON');
  }
  if (typeof value !== 'object' || value === null) throw new Error('the answer is no JSON object');
  return value;
}

/** What of a key is public and of use, in a fixed order: the same keys are the same text. */
const MEMBERS = ['kty', 'kid', 'use', 'alg', 'crv', 'x', 'y', 'n', 'e'] as const;

/** The keys of a set that can verify. Throws where there is none, or where the set gives a secret away. */
export function publicKeys(text: string): string {
  const { keys } = parse(text) as { keys?: unknown };
  if (!Array.isArray(keys)) throw new Error('the answer is no key set');
  if (keys.length > MAX_KEYS) throw new Error(`a key set may have ${MAX_KEYS} keys, not ${keys.length}`);
  const out: Record<string, string>[] = [];
  for (const key of keys as (Record<string, unknown> | null)[]) {
    if (typeof key !== 'object' || key === null) continue;
    if (Object.hasOwn(key, 'd')) throw new Error('the key set holds a private key');
    if (keyProblem(key) !== undefined || (key.use !== undefined && key.use !== 'sig')) continue;
    const kept: Record<string, string> = {};
    for (const name of MEMBERS) if (typeof key[name] === 'string') kept[name] = key[name];
    out.push(kept);
  }
  if (out.length === 0) throw new Error('the key set has no public key of a kind that is believed');
  return JSON.stringify({ keys: out });
}
