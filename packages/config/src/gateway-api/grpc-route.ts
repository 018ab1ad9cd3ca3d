/** GRPCRoute: a method of a service is a path, `/package.Service/Method`. */
import type { ApiRouteModel, RankedHttpRouteModel, StringMatchModel } from '@weft/model';
import { checkRegex, type FieldReport, type Kind, type Plain, str } from '../kinds/common.ts';
import type { ObjectSchema } from '../schema.ts';
import { backendRefs, backendsOf, filters, filtersOf, routeOf, versions } from './common.ts';
import { escapeRegex, headerMatches, keysOf } from './http-route.ts';
import { inboundRoute, isOfServers } from './inbound.ts';
import { actionsOf, emptyMatch, matchesIn, routeSpec, ruleOf, rulesIn } from './rules.ts';
import { sessionOf, sessionPersistence } from './session.ts';

const rule: ObjectSchema = {
  t: 'object',
  fields: {
    sessionPersistence,
    name: str,
    matches: {
      t: 'list',
      max: 64,
      of: {
        t: 'object',
        fields: {
          method: {
            t: 'object',
            fields: { type: { t: 'string', enum: ['Exact', 'RegularExpression'] }, service: str, method: str },
          },
          headers: headerMatches,
        },
      },
    },
    filters: filters(),
    backendRefs,
  },
};

export const grpcRouteKind: Kind<ApiRouteModel> = {
  kind: 'GRPCRoute',
  apiVersions: versions('v1', 'v1alpha2'),
  spec: routeSpec(rule),
  specRequired: true,
  build(resource, spec, report, context) {
    const http: RankedHttpRouteModel[] = [];
    for (const { rule: r, field, index } of rulesIn(spec)) {
      const said = filtersOf(r.filters, resource, `${field}.filters`, report, context);
      const backends = backendsOf(r.backendRefs, resource, `${field}.backendRefs`, report, context);
      const session = sessionOf(r.sessionPersistence, resource, field, index, report);
      const base = { ...ruleOf(field, r.name ?? ''), ...actionsOf(backends, said), session };
      for (const { match: m, at } of matchesIn(r, field)) {
        const uri = m.method ? methodOf(m.method, `${at}.method`, report) : undefined;
        const headers = keysOf(m.headers, true, `${at}.headers`, report);
        const { service = '', method = '' } = (m.method ?? {}) as { service?: string; method?: string };
        const match = [{ ...emptyMatch(at), uri, headers }];
        http.push({ rank: [service.length, method.length, headers.length], route: { ...base, field: at, match } });
      }
    }
    if (isOfServers(spec)) return inboundRoute(resource, spec, http.map(asCall), report, context);
    return { ...routeOf(resource, spec, report, context), http, tcp: [], tls: [] };
  },
};

/** Calls are POSTs: who may call a method may not do with its path what else HTTP knows. */
function asCall({ rank, route }: RankedHttpRouteModel): RankedHttpRouteModel {
  const method: StringMatchModel = { type: 'exact', value: 'POST' };
  return { rank, route: { ...route, match: route.match.map((m) => ({ ...m, method })) } };
}

function methodOf(m: Plain, field: string, report: FieldReport): StringMatchModel | undefined {
  const { type = 'Exact', service, method } = m as { type?: string; service?: string; method?: string };
  if (!service && !method) {
    report('WEFT-FIELD', 'needs service, method or both', field);
    return undefined;
  }
  const regex = type === 'RegularExpression';
  for (const [name, value] of Object.entries({ service, method })) {
    if (value === undefined) continue;
    const wrong = regex
      ? checkRegex(value)
      : /^[A-Za-z_][A-Za-z_0-9.]*$/.test(value)
        ? undefined
        : 'it is no gRPC name';
    if (wrong) report('WEFT-VALUE', `is "${value.slice(0, 80)}": ${wrong}`, `${field}.${name}`);
  }
  if (!regex && service && method) return { type: 'exact', value: `/${service}/${method}` };
  if (!regex && service) return { type: 'prefix', value: `/${service}/` };
  const part = (value: string | undefined): string => (!value ? '[^/]+' : regex ? `(?:${value})` : escapeRegex(value));
  return { type: 'regex', value: `/${part(service)}/${part(method)}` };
}
