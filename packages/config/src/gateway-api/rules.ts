/** What rules of HTTPRoute and GRPCRoute become in the words of the model. */
import type { DestinationModel, HttpMatchModel, HttpRouteModel, RetriesModel } from '@weft/model';
import type { FieldReport, Plain } from '../kinds/common.ts';
import type { ObjectSchema, Schema } from '../schema.ts';
import { durationOf, type Filters, hostnames, parentFields } from './common.ts';

/** The spec of a route whose rules have matches. */
export function routeSpec(rule: Schema): ObjectSchema {
  return {
    t: 'object',
    fields: { ...parentFields, hostnames, rules: { t: 'list', of: rule, min: 1, max: 128 } },
    required: ['parentRefs'],
    unsupported: ['useDefaultGateways'],
  };
}

/** Rules and where they stand. Without any there is one: everything, and no backend. */
export function* rulesIn(spec: Plain): Generator<{ rule: Plain; field: string; index: number }> {
  for (const [index, rule] of ((spec.rules ?? [{}]) as (Plain | undefined)[]).entries()) {
    if (rule) yield { rule, field: `spec.rules[${index}]`, index };
  }
}

/** A rule's matches and where they stand; without any it matches everything, by where the rule stands. */
export function* matchesIn(rule: Plain, field: string): Generator<{ match: Plain; at: string }> {
  const written = (rule.matches ?? []) as (Plain | undefined)[];
  if (written.length === 0) yield { match: {}, at: field };
  for (const [j, match] of written.entries()) if (match) yield { match, at: `${field}.matches[${j}]` };
}

/** A rule that says nothing but where it is. */
export function ruleOf(field: string, name: string): HttpRouteModel {
  return {
    field,
    name,
    match: [],
    route: [],
    redirect: undefined,
    directResponse: undefined,
    rewrite: undefined,
    cors: undefined,
    timeoutMs: undefined,
    retries: undefined,
    fault: undefined,
    headers: undefined,
    mirrors: [],
  };
}

/** A match of every request. */
export function emptyMatch(field: string): HttpMatchModel {
  return {
    field,
    uri: undefined,
    method: undefined,
    authority: undefined,
    scheme: undefined,
    headers: [],
    withoutHeaders: [],
    queryParams: [],
    ignoreUriCase: false,
    port: 0,
    sourceLabels: {},
    sourceNamespace: '',
    gateways: [],
  };
}

/** Where the requests of a rule go. A weight of 0 is nothing, also of the only backend; without any the answer is 500. */
export function actionsOf(
  backends: readonly DestinationModel[],
  said: Filters,
): Pick<HttpRouteModel, 'route' | 'headers' | 'mirrors' | 'directResponse'> {
  const route = backends.filter((b) => b.weight > 0);
  const answered = route.length === 0 && !said.redirect;
  return {
    route,
    headers: said.headers,
    mirrors: said.mirrors,
    directResponse: answered ? { status: 500, body: '' } : undefined,
  };
}

/** GEP-1731, and `timeouts.backendRequest`, which bounds each attempt. Undefined: the default policy. */
export function retriesOf(
  retry: Plain | undefined,
  timeouts: Plain | undefined,
  field: string,
  report: FieldReport,
): RetriesModel | undefined {
  const each = durationOf(timeouts?.backendRequest) ?? 0;
  const all = durationOf(timeouts?.request) ?? 0;
  if (all > 0 && each > all) {
    report('WEFT-VALUE', 'is longer than timeouts.request, which ends all attempts', `${field}.backendRequest`);
  }
  if (!retry && each === 0) return undefined;
  const statusCodes = ((retry?.codes ?? []) as (number | undefined)[]).filter((c) => c !== undefined);
  return {
    attempts: retry?.attempts ?? 2,
    perTryTimeoutMs: each,
    // Failures before an answer are always repeated, and the statuses that are named.
    retryOn: statusCodes.length > 0 ? ['connect-failure', 'refused-stream', 'reset', 'retriable-status-codes'] : [],
    statusCodes,
    backoffMs: durationOf(retry?.backoff) ?? 0,
    ignorePreviousHosts: true,
    remoteLocalities: false,
  };
}
