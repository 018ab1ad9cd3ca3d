/**
 * JSON Web Tokens of requests (RequestAuthentication): found where the plan says, verified, taken off, and their claims
 * put into headers. A request without a token goes on without one; a token that is not good is refused, whoever made it.
 */
import { claimOf, type VerifiedToken } from '@weft/engine';
import type { TokenRule } from '@weft/plan';
import type { Head } from '@weft/wire';
import { removeField, setPseudo } from './headers.ts';
import { KeySet } from './signature.ts';

/** How far clocks may differ where a rule does not say, as Envoy has it. */
const CLOCK_SKEW_MS = 60_000;
const skewOf = (rule: TokenRule): number => rule.clockSkewMs || CLOCK_SKEW_MS;

/** Bounds of what tokens may cost. */
export interface TokenLimits {
  tokenBytes: number;
  /** Verified tokens that are remembered for a plan's rules, and for how long at most. */
  knownTokens: number;
  knownTokenMs: number;
}

export const defaultTokenLimits: Readonly<TokenLimits> = Object.freeze({
  tokenBytes: 8192,
  knownTokens: 1000,
  knownTokenMs: 300_000,
});

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

type Claims = Readonly<Record<string, unknown>>;

const NONE: TokenOutcome = Object.freeze({ ok: true, token: undefined });

export class Tokens {
  readonly #wallMs: () => number;
  readonly #failed: (error: unknown) => void;
  readonly #limits: TokenLimits;
  /** By the rules of one plan: when they change, nothing of before counts. */
  readonly #known = new WeakMap<readonly TokenRule[], Map<string, Known>>();
  readonly #keys = new WeakMap<TokenRule, KeySet>();
  readonly #byPort = new WeakMap<readonly TokenRule[], Map<number, readonly TokenRule[]>>();
  #missing = new Set<string>();

  /** `failed`: what `tell` threw. */
  constructor(wallMs: () => number, failed: (error: unknown) => void, limits: TokenLimits = defaultTokenLimits) {
    this.#wallMs = wallMs;
    this.#limits = limits;
    this.#failed = failed;
  }

  /** The rules that are for a port; of the same plan always the same list. */
  rulesAt(rules: readonly TokenRule[], port: number): readonly TokenRule[] {
    if (rules.every((r) => r.ports.length === 0)) return rules;
    let byPort = this.#byPort.get(rules);
    if (!byPort) this.#byPort.set(rules, (byPort = new Map()));
    let found = byPort.get(port);
    if (!found) {
      found = rules.filter((r) => r.ports.length === 0 || r.ports.includes(port));
      // Of ports that the plan does not name there may be many, and all have the same.
      if (rules.some((r) => r.ports.includes(port))) byPort.set(port, found);
    }
    return found;
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
    if (known.size >= this.#limits.knownTokens) known.delete(known.keys().next().value as string);
    known.set(text, found);
  }

  /** The first rule that the token is good for, with all others that policies ask for by name; or why it is good for none. */
  async #verify(all: readonly TokenRule[], places: ReadonlySet<TokenRule>, text: string): Promise<Known | string> {
    if (text.length > this.#limits.tokenBytes) return 'token_too_long';
    // Only to find the keys: nothing of it counts before the signature does.
    const said = claimsOf(Buffer.from(text.split('.')[1] ?? '', 'base64url'));
    if (!said) return 'token_malformed';
    const rules = all.filter((r) => places.has(r) && r.issuer === said.iss);
    if (rules.length === 0) return 'issuer_not_known';
    let why = 'verification_failed';
    const good: { rule: TokenRule; payload: Claims }[] = [];
    for (const rule of rules) {
      if (good.length > 0 && rule.provider === '') continue;
      if (rule.jwks === '') {
        why = 'keys_not_there';
        continue;
      }
      const payload = await this.#verifyFor(rule, text);
      if (typeof payload !== 'string') {
        good.push({ rule, payload });
        continue;
      }
      why = payload;
      // The issuer may have a new key: whoever fetches keys is to look again.
      if (why === 'no_key_for_the_token' && rule.keySource !== '' && this.#missing.size < MAX_MISSING)
        this.#missing.add(rule.keySource);
    }
    if (good.length === 0) return why;
    const providers = good.map((g) => g.rule.provider).filter((name) => name !== '');
    const skewMs = Math.min(...good.map((g) => skewOf(g.rule)));
    return this.#describe(good[0].rule, good[0].payload, text, providers, skewMs);
  }

  async #verifyFor(rule: TokenRule, text: string): Promise<Claims | string> {
    const signed = await this.#keySet(rule).verify(text);
    if (typeof signed === 'string') return signed;
    const claims = claimsOf(signed);
    return claims === undefined ? 'token_malformed' : (this.#wrong(rule, claims) ?? claims);
  }

  /** Issuer, audiences and times (RFC 7519 4.1); undefined where they are right. */
  #wrong(rule: TokenRule, claims: Claims): string | undefined {
    const { iss, aud, exp, nbf, iat, sub } = claims;
    const now = this.#wallMs();
    if (iss !== rule.issuer) return 'claim_iss_not_accepted';
    const audiences = aud === undefined ? [] : [aud].flat();
    if (!audiences.every((a) => typeof a === 'string')) return 'claim_aud_not_accepted';
    if (rule.audiences.length > 0 && !rule.audiences.some((a) => audiences.includes(a)))
      return 'claim_aud_not_accepted';
    if (exp !== undefined && !isTime(exp)) return 'claim_exp_not_accepted';
    if (exp !== undefined && now >= (exp as number) * 1000 + skewOf(rule)) return 'token_expired';
    if (nbf !== undefined && !(isTime(nbf) && (nbf as number) * 1000 <= now + skewOf(rule)))
      return 'claim_nbf_not_accepted';
    if (iat !== undefined && !isTime(iat)) return 'claim_iat_not_accepted';
    return sub === undefined || typeof sub === 'string' ? undefined : 'subject_malformed';
  }

  #keySet(rule: TokenRule): KeySet {
    let keys = this.#keys.get(rule);
    if (!keys) this.#keys.set(rule, (keys = new KeySet(rule.jwks)));
    return keys;
  }

  #describe(rule: TokenRule, payload: Claims, text: string, providers: string[], skewMs: number): Known {
    const now = this.#wallMs();
    const { sub, aud, exp, azp } = payload as { sub?: string; aud?: string | string[]; exp?: number; azp?: unknown };
    const expiresMs = exp === undefined ? Number.POSITIVE_INFINITY : exp * 1000 + skewMs;
    const token: VerifiedToken = {
      principal: sub === undefined ? '' : `${rule.issuer}/${sub}`,
      audiences: aud === undefined ? [] : [aud].flat(),
      presenter: typeof azp === 'string' ? azp : undefined,
      claims: payload,
      ...(providers.length > 0 && { providers }),
      ...(rule.wordClaims.length > 0 && { wordClaims: rule.wordClaims }),
    };
    const untilMs = Math.min(expiresMs, now + this.#limits.knownTokenMs);
    return { rule, token, payload: text.split('.')[1], fromMs: now, untilMs };
  }
}

function isTime(value: unknown): boolean {
  return typeof value === 'number' && Number.isFinite(value);
}

/** A payload as claims: an object, in UTF-8. */
function claimsOf(bytes: Uint8Array): Claims | undefined {
  try {
    const value: unknown = JSON.parse(utf8.decode(bytes));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Claims) : undefined;
  } catch {
    return undefined;
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

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
