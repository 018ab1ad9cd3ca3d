/**
 * Consul's intentions for a workload as a table. Between a source and a destination one intention counts, that of the
 * highest precedence; its permissions are asked from the top down. A destination that intentions name refuses what none
 * of them allows (features: B-4).
 */
import { create } from '@bufbuild/protobuf';
import {
  type AuthorizationRow,
  AuthorizationRowSchema,
  AuthorizationSourceSchema,
  type AuthorizationTable,
  AuthorizationTableSchema,
} from '@weft/plan';
import { labelsMatch } from './hosts.ts';
import type { TableWorkload } from './linkerd-policy.ts';
import type { RefTable } from './refs.ts';
import { httpMatch } from './route-match.ts';
import type { Model } from './types/model.ts';
import type { Resource } from './types/resource.ts';
import type { HttpMatchModel } from './types/route.ts';

/** `consul.hashicorp.com ServiceIntentions`: who may call a service. Names and namespaces may be `*`. */
export interface ServiceIntentionsModel extends Resource {
  readonly destination: { readonly name: string; readonly namespace: string };
  readonly sources: readonly IntentionSourceModel[];
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
    for (const p of source.permissions) {
      const http = p.match.map((m) => httpMatch(m, intentions, refs));
      const ref = refs.use(intentions, p.field);
      rows.push(create(AuthorizationRowSchema, { ...said, ref, from, http, allow: p.action === 'allow' }));
    }
    // No intention of a lower precedence is asked for this source.
    const ref = refs.use(intentions, source.field);
    rows.push(create(AuthorizationRowSchema, { ...said, ref, from, allow: source.action === 'allow' }));
  }
  const first = found[0].intentions;
  const { name, namespace } = first;
  return [create(AuthorizationTableSchema, { ref: refs.use(first, 'spec.destination'), name, namespace, rows })];
}

/** Intentions whose destination is a service of the workload. */
export function intentionsFor(model: Model, workload: TableWorkload): ServiceIntentionsModel[] {
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
