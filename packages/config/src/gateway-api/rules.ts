/** What rules of HTTPRoute and GRPCRoute become in the words of the model. */
import type { DestinationModel, HttpMatchModel, HttpRouteModel, RetriesModel } from '@weft/model';
import type { FieldReport, Plain } from '../kinds/common.ts';
import { durationOf, type Filters } from './common.ts';

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
