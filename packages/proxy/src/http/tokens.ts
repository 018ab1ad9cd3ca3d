/**
 * JSON Web Tokens of requests (RequestAuthentication): found where the plan says, verified, taken off, and their claims
 * put into headers. A request without a token goes on without one; a token that is not good is refused, whoever made it.
 */
import { claimOf, type VerifiedToken } from '@weft/engine';
import type { TokenRule } from '@weft/plan';
import type { Head } from '@weft/wire';
import { createLocalJWKSet, decodeJwt, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose';
import { removeField, setPseudo } from './headers.ts';

/** Public keys alone: with a shared secret (HS256) whoever can verify can also sign, and `none` is no signature. */
const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'ES256', 'ES384', 'ES512'],
  ...['PS256', 'PS384', 'PS512', 'EdDSA', 'Ed25519'],
];
/** How far clocks may differ, as Envoy has it. */
const CLOCK_SKEW_MS = 60_000;
export const MAX_TOKEN_BYTES = 8192;
/** Verified tokens that are remembered for a plan's rules, and for how long at most. */
export const MAX_KNOWN_TOKENS = 1000;
const KNOWN_MS = 300_000;
/** Key sources that are remembered to lack a key until the control plane is told. */
const MAX_MISSING = 100;

export type TokenOutcome =
  | { readonly ok: true; readonly token: VerifiedToken | undefined }
  | { readonly ok: false; readonly why: string };

interface Known {
  readonly rule: TokenRule;
  readonly token: VerifiedToken;
  /** The payload as it came, base64url. */
  readonly payload: string;
  readonly fromMs: number;
  readonly untilMs: number;
}

type KeySet = ReturnType<typeof createLocalJWKSet>;

const NONE: TokenOutcome = Object.freeze({ ok: true, token: undefined });

export class Tokens {
  readonly #wallMs: () => number;
  readonly #failed: (error: unknown) => void;
  /** By the rules of one plan: when they change, nothing of before counts. */
  readonly #known = new WeakMap<readonly TokenRule[], Map<string, Known>>();
  readonly #keys = new WeakMap<TokenRule, KeySet>();
  #missing = new Set<string>();

  /** `failed`: what `tell` threw. */
  constructor(wallMs: () => number, failed: (error: unknown) => void) {
    this.#wallMs = wallMs;
    this.#failed = failed;
  }

  /** Tells of the outcome, now or later, once. Changes the head: headers for claims are ours, and a token is not passed on. */
  check(rules: readonly TokenRule[], head: Head, tell: (outcome: TokenOutcome) => void): void {
    for (const rule of rules) {
      if (rule.payloadHeader !== '') removeSpellings(head, rule.payloadHeader);
      for (const { header } of rule.claimHeaders) removeSpellings(head, header);
    }
    const texts = findTokens(rules, head);
    if (texts.size === 0) {
      tell(NONE);
      return;
    }
    if (texts.size > 1) {
      tell({ ok: false, why: 'several_tokens' });
      return;
    }
    const [[text, places]] = texts;
    const known = this.#known.get(rules)?.get(text);
    const now = this.#wallMs();
    if (known && known.fromMs <= now && now < known.untilMs && places.has(known.rule)) {
      apply(known, head, text);
      tell({ ok: true, token: known.token });
      return;
    }
    this.#verify(rules, places, text)
      .catch(() => 'verification_failed')
      .then((found) => {
        if (typeof found === 'string') {
          tell({ ok: false, why: found });
          return;
        }
        this.#remember(rules, text, found);
        apply(found, head, text);
        tell({ ok: true, token: found.token });
      })
      .catch(this.#failed);
  }

  /** Key sources whose keys some token was not made with, since this was asked last. */
  takeMissing(): string[] {
    const out = [...this.#missing];
    if (out.length > 0) this.#missing = new Set();
    return out;
  }

  #remember(rules: readonly TokenRule[], text: string, found: Known): void {
    let known = this.#known.get(rules);
    if (!known) this.#known.set(rules, (known = new Map()));
    known.delete(text);
    if (known.size >= MAX_KNOWN_TOKENS) known.delete(known.keys().next().value as string);
    known.set(text, found);
  }

  /** The first rule that the token is good for, or why it is good for none. */
  async #verify(all: readonly TokenRule[], places: ReadonlySet<TokenRule>, text: string): Promise<Known | string> {
    if (text.length > MAX_TOKEN_BYTES) return 'token_too_long';
    let issuer: unknown;
    try {
      issuer = decodeJwt(text).iss;
    } catch {
      return 'token_malformed';
    }
    const rules = all.filter((r) => places.has(r) && r.issuer === issuer);
    if (rules.length === 0) return 'issuer_not_known';
    let why = 'verification_failed';
    for (const rule of rules) {
      if (rule.jwks === '') {
        why = 'keys_not_there';
        continue;
      }
      const payload = await this.#verifyFor(rule, text);
      if (typeof payload !== 'string') return this.#describe(rule, payload, text);
      why = payload;
      // The issuer may have a new key: whoever fetches keys is to look again.
      if (why === 'no_key_for_the_token' && rule.keySource !== '' && this.#missing.size < MAX_MISSING)
        this.#missing.add(rule.keySource);
    }
    return why;
  }

  async #verifyFor(rule: TokenRule, text: string): Promise<JWTPayload | string> {
    const options = {
      algorithms: ALGORITHMS,
      issuer: rule.issuer,
      ...(rule.audiences.length > 0 && { audience: rule.audiences }),
      clockTolerance: CLOCK_SKEW_MS / 1000,
      currentDate: new Date(this.#wallMs()),
    };
    try {
      return (await jwtVerify(text, this.#keySet(rule), options)).payload;
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) return reasonOf(error);
      // Keys without names: each may be the one.
      for await (const key of error) {
        try {
          return (await jwtVerify(text, key, options)).payload;
        } catch (inner) {
          if (!(inner instanceof errors.JWSSignatureVerificationFailed)) return reasonOf(inner);
        }
      }
      return 'signature_wrong';
    }
  }

  #keySet(rule: TokenRule): KeySet {
    let keys = this.#keys.get(rule);
    if (!keys) this.#keys.set(rule, (keys = createLocalJWKSet(JSON.parse(rule.jwks) as JSONWebKeySet)));
    return keys;
  }

  #describe(rule: TokenRule, payload: JWTPayload, text: string): Known | string {
    if (payload.sub !== undefined && typeof payload.sub !== 'string') return 'subject_malformed';
    const now = this.#wallMs();
    const expiresMs = payload.exp === undefined ? Number.POSITIVE_INFINITY : payload.exp * 1000 + CLOCK_SKEW_MS;
    const presenter = payload.azp;
    const token: VerifiedToken = {
      principal: payload.sub === undefined ? '' : `${rule.issuer}/${payload.sub}`,
      audiences: payload.aud === undefined ? [] : [payload.aud].flat(),
      presenter: typeof presenter === 'string' ? presenter : undefined,
      claims: payload,
    };
    const untilMs = Math.min(expiresMs, now + KNOWN_MS);
    return { rule, token, payload: text.split('.')[1], fromMs: now, untilMs };
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'token_expired';
  if (error instanceof errors.JWTClaimValidationFailed) return `claim_${error.claim}_not_accepted`;
  if (error instanceof errors.JOSEAlgNotAllowed) return 'algorithm_not_accepted';
  if (error instanceof errors.JWKSNoMatchingKey) return 'no_key_for_the_token';
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'signature_wrong';
  return 'verification_failed';
}

/** `x_user` is read as `x-user` by some applications: what claims a header claims both. */
function removeSpellings(head: Head, name: string): void {
  removeField(head, name);
  for (let i = head.length - 2; i >= 0; i -= 2) {
    if (head[i].length === name.length && head[i].includes('_') && head[i].replaceAll('_', '-') === name)
      head.splice(i, 2);
  }
}

/** Every token of the request, with the rules at whose places it stands. */
function findTokens(rules: readonly TokenRule[], head: Head): Map<string, Set<TokenRule>> {
  const found = new Map<string, Set<TokenRule>>();
  const add = (text: string, rule: TokenRule): void => {
    const places = found.get(text);
    if (places) places.add(rule);
    else found.set(text, new Set([rule]));
  };
  for (let i = 0; i < head.length; i += 2) {
    const name = head[i];
    const value = head[i + 1];
    for (const rule of rules) {
      for (const h of rule.headers) {
        if (h.name === name && startsWith(value, h.prefix)) add(value.slice(h.prefix.length).trim(), rule);
      }
      if (name === 'cookie' && rule.cookies.length > 0) {
        for (const pair of value.split(';')) {
          const at = pair.indexOf('=');
          if (at > 0 && rule.cookies.includes(pair.slice(0, at).trim())) add(pair.slice(at + 1).trim(), rule);
        }
      }
      if (name === ':path' && rule.params.length > 0) {
        for (const [param, text] of queryOf(value)) if (rule.params.includes(param)) add(text, rule);
      }
    }
  }
  return found;
}

function queryOf(path: string): URLSearchParams {
  const at = path.indexOf('?');
  return new URLSearchParams(at < 0 ? '' : path.slice(at + 1));
}

/** Names of authentication schemes have no case (RFC 9110 11.1): `bearer x` is a token too. */
function startsWith(value: string, prefix: string): boolean {
  return value.length >= prefix.length && value.slice(0, prefix.length).toLowerCase() === prefix.toLowerCase();
}

/** Takes the token off where it is not to be passed on, and says what it says in headers. Cookies stay as they are. */
function apply({ rule, token, payload }: Known, head: Head, text: string): void {
  if (!rule.forward) {
    for (let i = head.length - 2; i >= 0; i -= 2) {
      const here = rule.headers.find((h) => h.name === head[i] && startsWith(head[i + 1], h.prefix));
      if (here && head[i + 1].slice(here.prefix.length).trim() === text) head.splice(i, 2);
      else if (head[i] === ':path' && rule.params.length > 0) dropParams(head, head[i + 1], rule.params);
    }
  }
  if (rule.payloadHeader !== '') head.push(rule.payloadHeader, payload);
  for (const { header, claim } of rule.claimHeaders) {
    const value = claimOf(token.claims, claim);
    const plain = typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
    // A value that no header can hold is left out: the application sees none rather than another.
    if (plain && /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(String(value))) head.push(header, String(value));
  }
}

function dropParams(head: Head, path: string, params: readonly string[]): void {
  const at = path.indexOf('?');
  if (at < 0) return;
  const kept = path
    .slice(at + 1)
    .split('&')
    .filter((pair) => ![...new URLSearchParams(pair).keys()].some((name) => params.includes(name)));
  setPseudo(head, ':path', kept.length > 0 ? `${path.slice(0, at)}?${kept.join('&')}` : path.slice(0, at));
}
