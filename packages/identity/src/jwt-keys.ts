/** The keys that sign the trust domain's JSON Web Tokens (JWT-SVID), each known to everybody before it is used. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, systemClock, WeftError } from '@weft/base';
import { calculateJwkThumbprint, type JWK, SignJWT } from 'jose';
import type { RotationPhase } from './ca.ts';
import { privateFolder, refuseIfShared, writeFileAtomic } from './files.ts';

/** How long a token lives: it cannot be revoked by its number. */
export const JWT_TTL_MS = 300_000;
const KEY_LIFE_MS = 7 * 86_400_000;
/** A key is published this long before it signs, and believed this long after its last token ended. */
const AHEAD_MS = 3_600_000;
const FILE = 'jwt-keys.json';

interface Key {
  readonly kid: string;
  readonly keyPem: string;
  /** Wall milliseconds from which it signs; it does so until the next one does. */
  fromMs: number;
}

interface Stored {
  keys: Key[];
  /** While the root is replaced: the key that replaces the others with it. */
  next?: string;
  phase: RotationPhase;
}

export class JwtKeys {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();
  readonly #loaded = new Map<string, { key: KeyObject; jwk: JWK }>();
  #stored: Stored;

  private constructor(path: string, clock: Clock, stored: Stored) {
    this.#path = path;
    this.#clock = clock;
    this.#stored = stored;
  }

  /** Opens the keys of a CA's folder, or makes the first one there. Throws `identity/bad-jwt-keys` or `identity/exposed-secret`. */
  static async open(dir: string, clock: Clock = systemClock): Promise<JwtKeys> {
    privateFolder(dir);
    const path = join(dir, FILE);
    let stored: Stored = { keys: [], phase: 'stable' };
    if (existsSync(path)) {
      refuseIfShared(path, 'file of signing keys', '0600');
      try {
        stored = JSON.parse(readFileSync(path, 'utf8')) as Stored;
        for (const { keyPem } of stored.keys) createPrivateKey(keyPem);
      } catch (cause) {
        throw new WeftError(
          'identity/bad-jwt-keys',
          `${path} cannot be read: remove it, and tokens are signed by a new key`,
          { cause },
        );
      }
    }
    const keys = new JwtKeys(path, clock, stored);
    for (const key of stored.keys) await keys.#load(key);
    await keys.renew();
    return keys;
  }

  /** The public keys as a JSON Web Key Set. */
  get jwks(): string {
    return JSON.stringify({ keys: this.#stored.keys.map(({ kid }) => this.#loaded.get(kid)?.jwk) });
  }

  /** Called after each change of the public keys. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** A token for one identity, good for `audience` alone. */
  async sign(spiffeId: string, audience: readonly string[]): Promise<string> {
    await this.renew();
    const { kid } = this.#signer();
    const now = Math.floor(this.#clock.wall() / 1000);
    return new SignJWT({ aud: [...audience] })
      .setProtectedHeader({ alg: 'ES256', kid, typ: 'JWT' })
      .setSubject(spiffeId)
      .setIssuedAt(now)
      .setExpirationTime(now + JWT_TTL_MS / 1000)
      .sign(this.#loaded.get(kid)!.key);
  }

  /** Makes the next key in time and lets those go whose tokens have ended. To be called from time to time. */
  async renew(): Promise<void> {
    const now = this.#clock.wall();
    const { keys, next } = this.#stored;
    if (keys.length === 0) {
      await this.#add(now);
      return;
    }
    if (next !== undefined) return; // The replacement of the root decides.
    const newest = keys.at(-1) as Key;
    if (now >= newest.fromMs + KEY_LIFE_MS) {
      await this.#add(now + AHEAD_MS);
      return;
    }
    const kept = keys.filter((_key, i) => i === keys.length - 1 || now < keys[i + 1].fromMs + JWT_TTL_MS + AHEAD_MS);
    if (kept.length < keys.length) this.#save({ ...this.#stored, keys: kept });
  }

  /**
   * Goes with the CA's root: a second key is published (distribute), signs (issue), and is the only one (back in stable).
   * Undone steps are undone here too.
   */
  async follow(phase: RotationPhase): Promise<void> {
    const before = this.#stored.phase;
    if (phase === before) return;
    if (phase !== 'stable') {
      if (this.#stored.next === undefined) await this.#add(Number.MAX_SAFE_INTEGER, true);
      this.#save({ ...this.#stored, phase });
      return;
    }
    const { keys, next } = this.#stored;
    const kept = keys.filter((k) => (k.kid === next) === (before === 'issue'));
    for (const key of kept) key.fromMs = Math.min(key.fromMs, this.#clock.wall());
    this.#save({ keys: kept, phase });
  }

  #signer(): Key {
    const { keys, next, phase } = this.#stored;
    if (phase === 'issue') return keys.find((k) => k.kid === next) as Key;
    const now = this.#clock.wall();
    const usable = keys.filter((k) => k.kid !== next);
    return usable.findLast((k) => k.fromMs <= now) ?? (usable[0] as Key);
  }

  async #add(fromMs: number, next = false): Promise<void> {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const kid = await calculateJwkThumbprint(createPublicKey(privateKey).export({ format: 'jwk' }) as JWK);
    const key: Key = { kid, fromMs, keyPem: String(privateKey.export({ type: 'pkcs8', format: 'pem' })) };
    await this.#load(key);
    this.#save({ ...this.#stored, keys: [...this.#stored.keys, key], ...(next ? { next: kid } : {}) });
  }

  async #load({ kid, keyPem }: Key): Promise<void> {
    const key = createPrivateKey(keyPem);
    const jwk = { ...(createPublicKey(key).export({ format: 'jwk' }) as JWK), kid, alg: 'ES256' };
    this.#loaded.set(kid, { key, jwk });
  }

  #save(stored: Stored): void {
    writeFileAtomic(this.#path, JSON.stringify(stored), 0o600);
    const same = stored.keys.map((k) => k.kid).join() === this.#stored.keys.map((k) => k.kid).join();
    this.#stored = stored;
    if (!same) for (const listener of this.#listeners) listener();
  }
}
