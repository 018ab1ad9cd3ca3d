/** One-use tokens: what a proxy that has no certificate yet shows instead. */
import { createHash, randomBytes } from 'node:crypto';
import type { Clock } from '@weft/base';
import type { State, StoredToken } from '../state.ts';

const TOKEN_TTL_MS = 3_600_000;
const MAX_TOKENS = 50_000;

const hashOf = (token: string) => createHash('sha256').update(token).digest('hex');

export class Tokens {
  readonly #state: State;
  readonly #clock: Clock;

  constructor(state: State, clock: Clock) {
    this.#state = state;
    this.#clock = clock;
  }

  /** A new token for one instance; older unused ones of the instance end. */
  create(instance: string, identity: string): string {
    const now = this.#clock.wall();
    const { tokens } = this.#state;
    const ended: string[] = [];
    for (const [hash, token] of tokens) if (token.instance === instance || token.expiresMs <= now) ended.push(hash);
    if (tokens.size - ended.length >= MAX_TOKENS) ended.push(tokens.keys().next().value as string);
    this.#state.deleteTokens(ended);
    const token = randomBytes(32).toString('base64url');
    this.#state.setToken(hashOf(token), { instance, identity, expiresMs: now + TOKEN_TTL_MS });
    return token;
  }

  /** What a token is good for; undefined where it is unknown or too old. It is not used by this. */
  find(token: string): StoredToken | undefined {
    if (token.length === 0 || token.length > 256) return undefined;
    const found = this.#state.tokens.get(hashOf(token));
    return found && found.expiresMs > this.#clock.wall() ? found : undefined;
  }

  /** Why a token is good for nothing, in words. */
  why(token: string): string {
    const found = this.#state.tokens.get(hashOf(token.slice(0, 256)));
    if (!found) return 'the token is unknown: it is not of this mesh, a newer one took its place, or it has ended';
    if (found.expiresMs <= this.#clock.wall()) return 'the token is too old';
    return found.usedBy === undefined
      ? 'what the token was for is gone'
      : 'the token was used already, with another key';
  }

  /**
   * Uses a token for one key, on disk before it counts. Whoever used it may ask again with the same key, since an answer
   * can be lost on its way, or its certificate on the way to a disk; for any other key it is spent.
   */
  use(token: string, keyId: string): boolean {
    const hash = hashOf(token);
    const found = this.#state.tokens.get(hash);
    if (!found || (found.usedBy !== undefined && found.usedBy !== keyId)) return false;
    if (found.usedBy === undefined) this.#state.setToken(hash, { ...found, usedBy: keyId }, true);
    return true;
  }
}
