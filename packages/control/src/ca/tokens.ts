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
    for (const [hash, token] of tokens) if (token.instance === instance || token.expiresMs <= now) tokens.delete(hash);
    if (tokens.size >= MAX_TOKENS) tokens.delete(tokens.keys().next().value as string);
    const token = randomBytes(32).toString('base64url');
    tokens.set(hashOf(token), { instance, identity, expiresMs: now + TOKEN_TTL_MS });
    this.#state.save();
    return token;
  }

  /** Takes a token out of use, on disk too before it counts; undefined where it is unknown, used or too old. */
  redeem(token: string): StoredToken | undefined {
    if (token.length === 0 || token.length > 256) return undefined;
    const hash = hashOf(token);
    const found = this.#state.tokens.get(hash);
    if (!found) return undefined;
    this.#state.tokens.delete(hash);
    this.#state.save();
    return found.expiresMs > this.#clock.wall() ? found : undefined;
  }
}
