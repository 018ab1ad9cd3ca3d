/** AuthorizationPolicy: who may call this workload, and how. Istio's semantics. */
import { type Ip, parseIp } from '@weft/base';
import {
  type Authorization,
  AuthorizationAction,
  type AuthorizationPolicy,
  type AuthorizationRule,
  type ExternalAuthorizer,
  type TokenRule,
} from '@weft/plan';
import { RuleIndex } from './authorize-index.ts';
import { type CompiledRuleTests, compileRule } from './authorize-rule.ts';
import { type CompiledTable, compileTable } from './authorize-table.ts';
import { hostOf } from './canonical.ts';
import type { Snapshot } from './views.ts';

/** A JSON Web Token whose signature, issuer, audience and times were checked. */
export interface VerifiedToken {
  /** `issuer/subject`; '' for a token without a subject. */
  readonly principal: string;
  readonly audiences: readonly string[];
  /** Names of the issuers' rules that found it good (TokenRule.provider). */
  readonly providers?: readonly string[];
  /** `azp`: who it was made for. */
  readonly presenter: string | undefined;
  /** Claims whose texts are lists of words, beside `scope` and `permission`. */
  readonly wordClaims?: readonly string[];
  /** The payload, parsed. Its names are an issuer's: never looked up but by own property. */
  readonly claims: Readonly<Record<string, unknown>>;
}

export interface AuthorizationRequest {
  /** The peer's SPIFFE id, with or without `spiffe://`; undefined: the peer proved none. Its namespace is in it. */
  readonly principal?: string;
  /** The peer's address. */
  readonly remoteIp: string;
  /** The client's address behind trusted proxies (`remote.ip`); the peer's where not given. */
  readonly originalIp?: string;
  /** The workload's port. */
  readonly destPort: number;
  /** The workload's address. */
  readonly localIp: string;
  readonly sni?: string;
  /** What a verified token says of the request; undefined: there was none. */
  readonly token?: VerifiedToken | undefined;
  /** Canonical request head; absent for TCP. */
  readonly head?: readonly string[];
  /** External authorizers that were asked and let it pass. */
  readonly approved?: readonly string[] | undefined;
}

export interface AuthorizationResult {
  readonly allow: boolean;
  /** The rule that decided; where none matched an ALLOW list, the first ALLOW policy; '' without policies. */
  readonly ref: string;
  /** `namespace/name` of the policy, or `none`. */
  readonly policy: string;
  /** Response code details of a denial; '' if allowed. */
  readonly details: string;
  /** Whom to ask first: a denial, until the same is decided again with this one among `approved`. */
  readonly ask?: ExternalAuthorizer;
  /** Policies with action AUDIT that matched. */
  readonly audit?: readonly string[];
  /** What the dry-run policies would have said, if there are any. */
  readonly shadow?: { readonly allow: boolean; readonly policy: string; readonly ref: string };
}

export interface CompiledRule extends CompiledRuleTests {
  readonly source: AuthorizationRule;
  readonly result: AuthorizationResult;
}

export interface CompiledPolicy {
  readonly ref: string;
  readonly label: string;
  readonly rules: readonly CompiledRule[];
}

/** The rules of one list of policies, to be found fast. */
interface Found {
  readonly http: RuleIndex<AuthorizationResult>;
  readonly tcp: RuleIndex<AuthorizationResult>;
}

type ListName = 'custom' | 'deny' | 'allow' | 'audit' | 'shadowDeny' | 'shadowAllow';

export interface CompiledAuthorization {
  readonly custom: readonly CompiledPolicy[];
  readonly deny: readonly CompiledPolicy[];
  readonly allow: readonly CompiledPolicy[];
  readonly audit: readonly CompiledPolicy[];
  readonly shadowDeny: readonly CompiledPolicy[];
  readonly shadowAllow: readonly CompiledPolicy[];
  /** What other APIs say. */
  readonly tables: readonly CompiledTable[];
  readonly usesPaths: boolean;
  /** Nobody says anything: all may pass. */
  readonly silent: boolean;
  /** Whose tokens are believed. */
  readonly tokens: readonly TokenRule[];
  readonly index: Readonly<Record<Exclude<ListName, 'audit' | 'custom'>, Found>> & {
    /** Each audited policy on its own: all that match are told of. */
    readonly audit: readonly Found[];
    /** What each external authorizer is to be asked of. */
    readonly custom: readonly { readonly provider: string; readonly found: Found }[];
  };
}

const ALLOWED: AuthorizationResult = Object.freeze({ allow: true, ref: '', policy: 'none', details: '' });

/** Compiles the policies that select this workload. */
export function compileAuthorization(parts: readonly Authorization[]): CompiledAuthorization {
  const of: Record<ListName, CompiledPolicy[]> = {
    custom: [],
    deny: [],
    allow: [],
    audit: [],
    shadowDeny: [],
    shadowAllow: [],
  };
  let usesPaths = false;
  const authorizers = new Map(parts.flatMap((p) => p.authorizers).map((a) => [a.name, a]));
  const providers = new Map<string, CompiledPolicy[]>();
  for (const policy of parts.flatMap((p) => p.policies)) {
    usesPaths ||= policy.rules.some((r) => r.to.some((o) => o.paths.length + o.notPaths.length > 0));
    switch (policy.action) {
      case AuthorizationAction.DENY:
        (policy.dryRun ? of.shadowDeny : of.deny).push(compilePolicy(policy, false));
        break;
      case AuthorizationAction.AUDIT:
        if (!policy.dryRun) of.audit.push(compilePolicy(policy, true));
        break;
      case AuthorizationAction.CUSTOM:
        if (!policy.dryRun) {
          // Where nobody to ask is known to this plan, what would be asked for is denied.
          const compiled = compilePolicy(policy, false, authorizers.get(policy.provider));
          of.custom.push(compiled);
          const known = providers.get(policy.provider);
          if (known) known.push(compiled);
          else providers.set(policy.provider, [compiled]);
        }
        break;
      default:
        (policy.dryRun ? of.shadowAllow : of.allow).push(compilePolicy(policy, true));
    }
  }
  const index = {
    custom: [...providers].map(([provider, list]) => ({ provider, found: indexOf(list) })),
    deny: indexOf(of.deny),
    allow: indexOf(of.allow),
    shadowDeny: indexOf(of.shadowDeny),
    shadowAllow: indexOf(of.shadowAllow),
    audit: of.audit.map((p) => indexOf([p])),
  };
  const tables = parts.flatMap((p) => p.tables).map(compileTable);
  usesPaths ||= tables.some((t) => t.usesPaths);
  const silent = tables.length === 0 && Object.values(of).every((list) => list.length === 0);
  return { ...of, tables, usesPaths, silent, index, tokens: parts.flatMap((p) => p.tokens) };
}

function indexOf(policies: readonly CompiledPolicy[]): Found {
  const rules = policies.flatMap((p) => p.rules);
  const tcp = rules.flatMap(({ tcp: test, source, result }) => (test ? [{ test, source, result }] : []));
  return {
    http: new RuleIndex(
      rules.map(({ http: test, source, result }) => ({ test, source, result })),
      true,
    ),
    tcp: new RuleIndex(tcp, false),
  };
}

function compilePolicy(policy: AuthorizationPolicy, allow: boolean, ask?: ExternalAuthorizer): CompiledPolicy {
  const label = `${policy.namespace}/${policy.name}`;
  const widen = policy.action !== AuthorizationAction.ALLOW && policy.action !== AuthorizationAction.UNSPECIFIED;
  const rules = policy.rules.map((rule, i) => ({
    ...compileRule(rule, widen),
    source: rule,
    result: Object.freeze({
      allow,
      ref: rule.ref || policy.ref,
      policy: label,
      ...(ask && { ask }),
      details: allow
        ? ''
        : `rbac_access_denied_matched_policy[ns[${policy.namespace}]-policy[${policy.name}]-rule[${i}]]`,
    }),
  }));
  return { ref: policy.ref, label, rules };
}

/** What a principal `domain/ns/namespace/sa/account` says; of others nothing. */
interface IdentityParts {
  readonly trustDomain: string | undefined;
  readonly namespace: string | undefined;
  readonly serviceAccount: string | undefined;
}

const NO_IDENTITY: IdentityParts = { trustDomain: undefined, namespace: undefined, serviceAccount: undefined };
/** By principal as peers have it; emptied where it grows. */
const identities = new Map<string, IdentityParts>();
const REMEMBERED_IDENTITIES = 512;

function identityOf({ principal, request }: Subject): IdentityParts {
  if (principal === undefined || request.principal === undefined) return NO_IDENTITY;
  let identity = identities.get(request.principal);
  if (identity === undefined) {
    const [trustDomain, ns, namespace, sa, account, ...more] = principal.split('/');
    const known = ns === 'ns' && sa === 'sa' && account !== undefined && more.length === 0;
    identity = known ? { trustDomain, namespace, serviceAccount: `${namespace}/${account}` } : NO_IDENTITY;
    if (identities.size >= REMEMBERED_IDENTITIES) identities.clear();
    identities.set(request.principal, identity);
  }
  return identity;
}

/** A request, taken apart as far as rules ask for it. */
export class Subject {
  readonly request: AuthorizationRequest;
  readonly principal: string | undefined;
  #remote: Ip | undefined | null = null;
  #original: Ip | undefined | null = null;
  #local: Ip | undefined | null = null;
  #path: string | undefined;

  constructor(request: AuthorizationRequest) {
    this.request = request;
    const p = request.principal;
    this.principal = p?.startsWith('spiffe://') ? p.slice(9) : p || undefined;
  }

  /** With its scheme. */
  get spiffeId(): string | undefined {
    const p = this.request.principal;
    if (!p) return undefined;
    return p.startsWith('spiffe://') ? p : `spiffe://${p}`;
  }

  get trustDomain(): string | undefined {
    return identityOf(this).trustDomain;
  }

  get namespace(): string | undefined {
    return identityOf(this).namespace;
  }

  /** `namespace/service account`. */
  get serviceAccount(): string | undefined {
    return identityOf(this).serviceAccount;
  }

  get remoteIp(): Ip | undefined {
    if (this.#remote === null) this.#remote = parseIp(this.request.remoteIp);
    return this.#remote;
  }

  get originalIp(): Ip | undefined {
    if (this.request.originalIp === undefined) return this.remoteIp;
    if (this.#original === null) this.#original = parseIp(this.request.originalIp);
    return this.#original;
  }

  get localIp(): Ip | undefined {
    if (this.#local === null) this.#local = parseIp(this.request.localIp);
    return this.#local;
  }

  pseudo(name: string): string | undefined {
    const head = this.request.head;
    if (!head) return undefined;
    for (let i = 0; i < head.length && head[i].charCodeAt(0) === 0x3a; i += 2) if (head[i] === name) return head[i + 1];
    return undefined;
  }

  /**
   * What the client sent: an upgrade is a GET, though its head is that of an extended CONNECT (RFC 8441). A rule about
   * GET must not be evaded by an Upgrade field that the application ignores.
   */
  get method(): string | undefined {
    return this.pseudo(':protocol') === undefined ? this.pseudo(':method') : 'GET';
  }

  /** Without query. */
  get path(): string | undefined {
    if (this.#path === undefined) {
      const target = this.pseudo(':path');
      const end = target?.indexOf('?') ?? -1;
      this.#path = end < 0 ? target : target!.slice(0, end);
    }
    return this.#path;
  }

  get authority(): string | undefined {
    return this.pseudo(':authority')?.toLowerCase();
  }

  get host(): string | undefined {
    const authority = this.authority;
    return authority === undefined ? undefined : hostOf(authority);
  }
}

function find(list: Found, subject: Subject, tcp: boolean): AuthorizationResult | undefined {
  return (tcp ? list.tcp : list.http).find(subject);
}

function notAllowed(policies: readonly CompiledPolicy[]): AuthorizationResult {
  return {
    allow: false,
    ref: policies[0].ref,
    policy: 'none',
    details: 'rbac_access_denied_matched_policy[none]',
  };
}

/** The first table that denies decides; where all allow, what was said first and by name stands. */
function askTables(
  tables: readonly CompiledTable[],
  subject: Subject,
  tcp: boolean,
  before: AuthorizationResult,
): AuthorizationResult {
  let result = before;
  let audit: readonly string[] = [];
  for (const table of tables) {
    if (!table.holds(subject.request.destPort)) continue;
    const said = (tcp ? table.tcp : table.http).find(subject) ?? table.otherwise;
    if (!said.allow) return said;
    if (said.audit) audit = [...audit, ...said.audit];
    if (result.ref === '') result = said;
  }
  return audit.length === 0 ? result : { ...result, audit };
}

/** The first CUSTOM rule whose authorizer has not let this pass. */
function findCustom(a: CompiledAuthorization, subject: Subject, tcp: boolean): AuthorizationResult | undefined {
  for (const { provider, found } of a.index.custom) {
    if (subject.request.approved?.includes(provider)) continue;
    const hit = find(found, subject, tcp);
    if (hit) return hit;
  }
  return undefined;
}

/**
 * Decides on a request, or on a connection where it has no head: what a CUSTOM rule matches waits for its authorizer
 * (`ask`) and is denied unless that lets it pass, DENY match denies, no ALLOW policy
 * allows, ALLOW match allows, else denied. What is allowed so must be by every table of another API too. AUDIT and dry-run
 * policies never change that.
 */
export function authorize(snapshot: Snapshot, request: AuthorizationRequest): AuthorizationResult {
  return decideAuthorization(snapshot.authorization, request);
}

export function decideAuthorization(a: CompiledAuthorization, request: AuthorizationRequest): AuthorizationResult {
  if (a.silent) return ALLOWED;
  const subject = new Subject(request);
  const tcp = request.head === undefined;
  let result =
    findCustom(a, subject, tcp) ??
    find(a.index.deny, subject, tcp) ??
    (a.allow.length === 0 ? ALLOWED : (find(a.index.allow, subject, tcp) ?? notAllowed(a.allow)));
  if (result.allow && a.tables.length > 0) result = askTables(a.tables, subject, tcp, result);
  if (a.audit.length + a.shadowDeny.length + a.shadowAllow.length === 0) return result;

  const audit = a.audit.filter((_, i) => find(a.index.audit[i], subject, tcp)).map((p) => p.label);
  if (result.audit) audit.push(...result.audit);
  let shadow: AuthorizationResult['shadow'];
  if (a.shadowDeny.length + a.shadowAllow.length > 0) {
    const denied = find(a.index.shadowDeny, subject, tcp);
    const said = denied ?? (a.shadowAllow.length === 0 ? ALLOWED : find(a.index.shadowAllow, subject, tcp));
    const { allow, policy, ref } = said ?? notAllowed(a.shadowAllow);
    shadow = { allow, policy, ref };
  }
  return { ...result, ...(audit.length > 0 && { audit }), ...(shadow && { shadow }) };
}
