/** JSON Web Tokens that name a workload (JWT-SVID), and key sets as other trust domains publish them. */
import { X509Certificate } from 'node:crypto';
import { type Clock, systemClock, WeftError } from '@weft/base';
import { createLocalJWKSet, decodeJwt, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose';
import type { TrustBundle } from './bundle.ts';
import { parseSpiffeId } from './spiffe.ts';

/** What JWT-SVID 2.1 allows: public keys alone. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512'];
export const MAX_JWT_BYTES = 8192;
const CLOCK_SKEW_S = 20;

/** Whether a token may be asked for so many, so long audiences: LIMITS.md. */
export function isAudience(audience: readonly string[]): boolean {
  return audience.length > 0 && audience.length <= 16 && audience.every((a) => a !== '' && Buffer.byteLength(a) <= 512);
}

type KeySet = ReturnType<typeof createLocalJWKSet>;
const sets = new WeakMap<TrustBundle, Map<string, KeySet>>();

function keySetOf(bundle: TrustBundle, trustDomain: string): KeySet | undefined {
  const text = bundle.jwtKeysOf(trustDomain);
  if (text === '') return undefined;
  let known = sets.get(bundle);
  if (!known) sets.set(bundle, (known = new Map()));
  let set = known.get(trustDomain);
  if (!set) known.set(trustDomain, (set = createLocalJWKSet(JSON.parse(text) as JSONWebKeySet)));
  return set;
}

/**
 * Whom a token names, where a key of *that id's* trust domain signed it for `audience` and it has not ended. Never
 * throws; the errors hold nothing of the token.
 */
export async function verifyJwtSvid(
  token: string,
  audience: string,
  bundle: TrustBundle,
  clock: Clock = systemClock,
): Promise<{ spiffeId: string; claims: JWTPayload } | { error: string }> {
  if (token.length > MAX_JWT_BYTES) return { error: `the token has more than ${MAX_JWT_BYTES} bytes` };
  let subject: unknown;
  try {
    subject = decodeJwt(token).sub;
  } catch {
    return { error: 'the token is not a JSON Web Token' };
  }
  const id = typeof subject === 'string' ? parseSpiffeId(subject) : undefined;
  if (!id) return { error: 'the token names no workload (sub)' };
  let keys: KeySet | undefined;
  try {
    keys = keySetOf(bundle, id.trustDomain);
  } catch {
    return { error: `the keys for tokens of trust domain ${id.trustDomain} cannot be read` };
  }
  if (!keys) return { error: `no keys for tokens of trust domain ${id.trustDomain} are known` };
  const ids = [subject as string, bundle.canonical(subject as string, id)];
  if (ids.some((i) => bundle.revocations.refusesId(i))) return { error: `${subject} is revoked` };
  try {
    const { payload, protectedHeader } = await jwtVerify(token, keys, {
      audience,
      algorithms: ALGORITHMS,
      requiredClaims: ['sub', 'aud', 'exp'],
      clockTolerance: CLOCK_SKEW_S,
      currentDate: new Date(clock.wall()),
    });
    const { typ } = protectedHeader;
    if (typ !== undefined && typ !== 'JWT' && typ !== 'JOSE') return { error: 'the token is of another type' };
    return { spiffeId: subject as string, claims: payload };
  } catch (error) {
    return { error: `the token is refused: ${(error as { code?: string }).code ?? 'it cannot be verified'}` };
  }
}

const PRIVATE = new Set(['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'use', 'key_ops', 'x5c', 'x5t']);
// `use` is "jwt-svid" in a SPIFFE bundle, which verifiers of ordinary tokens would pass over.
const publicPart = (key: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(key).filter(([name]) => !PRIVATE.has(name)));

function keysOf(text: string): Record<string, unknown>[] {
  try {
    const { keys } = JSON.parse(text) as { keys: Record<string, unknown>[] };
    if (Array.isArray(keys) && keys.every((k) => typeof k === 'object' && k !== null)) return keys;
  } catch {
    // The same as a text without keys.
  }
  throw new WeftError('identity/bad-jwks', 'this is not a JSON Web Key Set: it has no list "keys"');
}

/** A trust domain's bundle as its owner publishes it (SPIFFE Trust Domain and Bundle 4): roots as PEM, and keys of tokens. */
export function readSpiffeBundle(text: string): { rootPem: string; jwtKeys: string } {
  const keys = keysOf(text);
  const roots = keys.filter((k) => k.use === 'x509-svid');
  const tokens = keys.filter((k) => k.use === 'jwt-svid' && typeof k.kid === 'string');
  let rootPem = '';
  for (const { x5c } of roots) {
    const first = Array.isArray(x5c) && x5c.length === 1 ? x5c[0] : undefined;
    try {
      if (typeof first !== 'string') throw new Error('not one certificate');
      rootPem += new X509Certificate(Buffer.from(first, 'base64')).toString();
    } catch (cause) {
      throw new WeftError('identity/bad-bundle', 'a root of the bundle is not one certificate (x5c)', { cause });
    }
  }
  return { rootPem, jwtKeys: tokens.length === 0 ? '' : JSON.stringify({ keys: tokens.map(publicPart) }) };
}
