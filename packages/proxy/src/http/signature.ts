/** Signatures of tokens (JWS, RFC 7515) by the public keys of an issuer (JWK, RFC 7517). */
import { keyProblem } from '@weft/plan';
import { compactVerify, createLocalJWKSet, errors, type JSONWebKeySet } from 'jose';

/** Public keys alone: with a shared secret (HS256) whoever can verify can also sign, and `none` is no signature. */
const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'ES256', 'ES384', 'ES512'],
  ...['PS256', 'PS384', 'PS512', 'EdDSA', 'Ed25519'],
];

/** Base64url as RFC 7515 has it: no padding, and no bits beside the bytes. What is lenient here signs several texts at once. */
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+$/;

export class KeySet {
  readonly #keys: ReturnType<typeof createLocalJWKSet> | undefined;

  /** Of no key set, nothing is good. */
  constructor(jwks: string) {
    try {
      const { keys } = JSON.parse(jwks) as JSONWebKeySet;
      this.#keys = createLocalJWKSet({ keys: keys.filter((key) => keyProblem(key) === undefined) });
    } catch {
      this.#keys = undefined;
    }
  }

  /** What was signed, or why the token is not good. */
  async verify(token: string): Promise<Uint8Array | string> {
    if (!this.#keys) return 'verification_failed';
    if (!COMPACT.test(token) || !token.split('.').every(isCanonical)) return 'token_malformed';
    const options = { algorithms: ALGORITHMS };
    try {
      return (await compactVerify(token, this.#keys, options)).payload;
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) return reasonOf(error);
      // Keys without names: each may be the one.
      for await (const key of error) {
        try {
          return (await compactVerify(token, key, options)).payload;
        } catch (inner) {
          if (!(inner instanceof errors.JWSSignatureVerificationFailed)) return reasonOf(inner);
        }
      }
      return 'signature_wrong';
    }
  }
}

function isCanonical(part: string): boolean {
  return Buffer.from(part, 'base64url').toString('base64url') === part;
}

function reasonOf(error: unknown): string {
  if (error instanceof errors.JOSEAlgNotAllowed) return 'algorithm_not_accepted';
  if (error instanceof errors.JWKSNoMatchingKey) return 'no_key_for_the_token';
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'signature_wrong';
  return 'verification_failed';
}
