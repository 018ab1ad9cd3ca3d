/** Routes whose parents are Linkerd's Servers: they say who may call, and nothing of where requests go. */
import type { ApiRouteModel, InboundRouteModel, RankedHttpRouteModel, Resource } from '@weft/model';
import type { FieldReport, KindContext, Plain } from '../kinds/common.ts';
import { rulesIn } from './rules.ts';

export const POLICY = 'policy.linkerd.io';

const isServer = (p: Plain | undefined): boolean => p?.group === POLICY && p.kind === 'Server';

/** Whether a route of the Gateway API is one of Servers. */
export function isOfServers(spec: Plain): boolean {
  return ((spec.parentRefs ?? []) as (Plain | undefined)[]).some(isServer);
}

/** The Servers that a route names; what else is among its parents is reported. */
export function serversIn(spec: Plain, resource: Resource, report: FieldReport): InboundRouteModel['servers'] {
  const servers: InboundRouteModel['servers'][number][] = [];
  for (const [i, p] of ((spec.parentRefs ?? []) as (Plain | undefined)[]).entries()) {
    if (!p?.name) continue;
    const field = `spec.parentRefs[${i}]`;
    if (!isServer(p)) {
      const message = `its parents are Servers (group: ${POLICY}, kind: Server); a route of a Service is another one, with apiVersion gateway.networking.k8s.io/v1`;
      report('WEFT-VALUE', message, `${field}${p.kind === undefined ? '' : '.kind'}`);
    } else if (p.namespace && p.namespace !== resource.namespace)
      report('WEFT-VALUE', 'the Server is in the namespace of the route', `${field}.namespace`);
    else servers.push({ field: `${field}.name`, name: p.name });
    for (const name of ['sectionName', 'port'])
      if (p[name] !== undefined) report('WEFT-VALUE', 'a Server has one port', `${field}.${name}`);
  }
  return servers;
}

/** What a rule of a Server's route may not have. */
const ELSEWHERE = ['filters', 'backendRefs', 'timeouts', 'retry', 'sessionPersistence'];

/** A route of the Gateway API as one of Servers, with the matches that `http` was made of. */
export function inboundRoute(
  resource: Resource,
  spec: Plain,
  http: readonly RankedHttpRouteModel[],
  report: FieldReport,
  context: KindContext,
): ApiRouteModel {
  for (const { rule, field } of rulesIn(spec)) {
    for (const name of ELSEWHERE) {
      if (rule[name] === undefined) continue;
      const message = `a route of a Server says who may call, and nothing of what becomes of a request: write ${name} in a route of the Service`;
      report('WEFT-UNSUPPORTED', message, `${field}.${name}`);
    }
  }
  const kind = resource.kind as 'HTTPRoute' | 'GRPCRoute';
  const hostnames = ((spec.hostnames ?? []) as (string | undefined)[]).filter((h) => h !== undefined);
  const matches = http.map(({ rank, route }) => ({ field: route.field, rank, match: route.match }));
  const inbound = { ...resource, kind, servers: serversIn(spec, resource, report), hostnames, matches };
  const nothing = { parents: [], hostnames: [], http: [], tcp: [], tls: [] };
  return { ...resource, ...nothing, kind, created: context.created, inbound };
}
