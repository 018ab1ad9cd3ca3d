/**
 * Consul's intentions for a workload as a table. Between a source and a destination one intention counts, that of the
 * highest precedence; its permissions are asked from the top down. A destination that intentions name refuses what none
 * of them allows.
 */
import { create } from '@bufbuild/protobuf';
import {
  type AuthorizationRow,
  AuthorizationRowSchema,
  AuthorizationSourceSchema,
  type AuthorizationTable,
  AuthorizationTableSchema,
  type HttpMatch,
  type TokenNeed,
  TokenNeedSchema,
} from '@weft/plan';
import { labelsMatch } from './hosts.ts';
import type { TableWorkload } from './linkerd-policy.ts';
import type { RefTable } from './refs.ts';
import { httpMatch } from './route-match.ts';
import type { Model } from './types/model.ts';
import type { Resource } from './types/resource.ts';
import type { HttpMatchModel } from './types/route.ts';
import type { TokenRuleModel } from './types/security.ts';

/** `consul.hashicorp.com ServiceIntentions`: who may call a service. Names and namespaces may be `*`. */
export interface ServiceIntentionsModel extends Resource {
  readonly destination: { readonly name: string; readonly namespace: string };
  readonly sources: readonly IntentionSourceModel[];
  /** What all of them have to bring beside their identity: one of these tokens; empty: none. */
  readonly tokens: readonly TokenNeedModel[];
}

/** `JWTProvider`: an issuer whose tokens intentions may ask for, by its name, which holds for the whole mesh. */
export interface JwtProviderModel extends Resource {
  readonly rule: TokenRuleModel;
}

/** A token of a JWTProvider that says all of this. */
export interface TokenNeedModel {
  readonly field: string;
  readonly provider: string;
  readonly claims: readonly { readonly path: readonly string[]; readonly value: string }[];
}

export interface IntentionSourceModel {
  readonly field: string;
  readonly name: string;
  readonly namespace: string;
  /** Undefined: the permissions say. */
  readonly action: 'allow' | 'deny' | undefined;
  /** The first that matches decides; where none does the call is refused. */
  readonly permissions: readonly {
    readonly field: string;
    readonly action: 'allow' | 'deny';
    /** OR. */
    readonly match: readonly HttpMatchModel[];
    /** OR, beside those of the intentions; empty: none. */
    readonly tokens: readonly TokenNeedModel[];
  }[];
}

/** 9 to 1, the higher first: a destination by its name before any, and of its sources an exact one before any. */
export function precedenceOf(intentions: ServiceIntentionsModel, source: IntentionSourceModel): number {
  const { name, namespace } = intentions.destination;
  const destination = name !== '*' ? 6 : namespace !== '*' ? 3 : 0;
  return destination + (source.name !== '*' ? 3 : source.namespace !== '*' ? 2 : 1);
}

export function intentionTables(
  model: Model,
  workload: TableWorkload,
  trustDomain: string,
  refs: RefTable,
): AuthorizationTable[] {
  const found = intentionsFor(model, workload).flatMap((intentions) =>
    intentions.sources.map((source) => ({ intentions, source, precedence: precedenceOf(intentions, source) })),
  );
  if (found.length === 0) return [];
  found.sort((a, b) => b.precedence - a.precedence);
  const rows: AuthorizationRow[] = [];
  for (const { intentions, source } of found) {
    const principals = principalsOf(model, source, trustDomain);
    const said = { label: `${intentions.namespace}/${intentions.name}` };
    const from = [create(AuthorizationSourceSchema, { principals })];
    // What needs a token is refused without: nothing that comes later is asked, as in Consul.
    const say = (ref: string, http: HttpMatch[], allow: boolean, tokens: TokenNeed[]): void => {
      const row = { ...said, ref, from, http };
      if (allow) rows.push(create(AuthorizationRowSchema, { ...row, allow, tokens }));
      if (!allow || tokens.length > 0) rows.push(create(AuthorizationRowSchema, row));
    };
    for (const p of source.permissions) {
      const http = p.match.map((m) => httpMatch(m, intentions, refs));
      say(refs.use(intentions, p.field), http, p.action === 'allow', tokensOf(intentions.tokens, p.tokens));
    }
    // No intention of a lower precedence is asked for this source.
    say(refs.use(intentions, source.field), [], source.action === 'allow', tokensOf(intentions.tokens, []));
  }
  const first = found[0].intentions;
  const { name, namespace } = first;
  return [create(AuthorizationTableSchema, { ref: refs.use(first, 'spec.destination'), name, namespace, rows })];
}

/** One of each list (those that are not empty), in one token. */
function tokensOf(all: readonly TokenNeedModel[], own: readonly TokenNeedModel[]): TokenNeed[] {
  const need = (...of: TokenNeedModel[]): TokenNeed =>
    create(TokenNeedSchema, {
      providers: of.map((n) => n.provider),
      claims: of.flatMap((n) => n.claims.map((c) => ({ path: [...c.path], value: c.value }))),
    });
  if (all.length === 0 || own.length === 0) return [...all, ...own].map((n) => need(n));
  return all.flatMap((a) => own.map((b) => need(a, b)));
}

/** The issuers that the intentions for a workload ask for. */
export function providersFor(model: Model, workload: IntentionWorkload): JwtProviderModel[] {
  const named = new Set(
    intentionsFor(model, workload)
      .flatMap(tokensNamed)
      .map((n) => n.provider),
  );
  const found = model.jwtProviders.filter((p) => named.has(p.name));
  // Of two of one name, which is an error, the first.
  return found.filter((p, i) => found.findIndex((other) => other.name === p.name) === i);
}

/** Every token that intentions ask for somewhere. */
export function tokensNamed(i: ServiceIntentionsModel): TokenNeedModel[] {
  return [...i.tokens, ...i.sources.flatMap((s) => s.permissions.flatMap((p) => p.tokens))];
}

type IntentionWorkload = Pick<TableWorkload, 'namespace' | 'labels'>;

/** Intentions whose destination is a service of the workload. */
export function intentionsFor(model: Model, workload: IntentionWorkload): ServiceIntentionsModel[] {
  return model.serviceIntentions.filter(({ destination: d }) => {
    if (d.namespace !== '*' && d.namespace !== workload.namespace) return false;
    if (d.name === '*') return true;
    const service = model.services.find((s) => s.name === d.name && s.namespace === workload.namespace && !s.external);
    return service?.selector !== undefined && labelsMatch(service.selector, workload.labels);
  });
}

/** Who a source is: the accounts of the service's Processes; where it has none here, the account of its name. */
export function accountsOf(model: Model, { name, namespace }: IntentionSourceModel): string[] {
  const services = model.services.filter((s) => s.name === name && !s.external && s.selector !== undefined);
  const accounts = new Set<string>();
  for (const s of services) {
    if (namespace !== '*' && s.namespace !== namespace) continue;
    for (const p of model.processes)
      if (p.namespace === s.namespace && labelsMatch(s.selector!, p.labels))
        accounts.add(`${p.namespace}/${p.serviceAccountName}`);
  }
  return accounts.size > 0 || namespace === '*' ? [...accounts] : [`${namespace}/${name}`];
}

function principalsOf(model: Model, source: IntentionSourceModel, trustDomain: string): string[] {
  if (source.name === '*') {
    return [source.namespace === '*' ? `${trustDomain}/*` : `${trustDomain}/ns/${source.namespace}/sa/*`];
  }
  const accounts = accountsOf(model, source);
  // Nobody: a pattern that no identity has, since no pattern would be everybody.
  if (accounts.length === 0) return ['/'];
  return accounts.map((a) => a.split('/')).map(([namespace, name]) => `${trustDomain}/ns/${namespace}/sa/${name}`);
}
