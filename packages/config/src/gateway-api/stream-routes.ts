/** TCPRoute and TLSRoute: connections to backends, by the name that a TLS client asks for. */
import type { ApiRouteModel, DestinationModel, TlsRouteModel } from '@weft/model';
import { type FieldReport, type Kind, type KindContext, labelsOf, type Plain, str } from '../kinds/common.ts';
import type { ObjectSchema, Schema } from '../schema.ts';
import { backendRef, backendsOf, hostnames, parentFields, routeOf, versions } from './common.ts';

const rules: Schema = {
  t: 'list',
  min: 1,
  max: 16,
  of: {
    t: 'object',
    fields: { name: str, backendRefs: { t: 'list', of: backendRef, min: 1, max: 16 } },
    required: ['backendRefs'],
  },
};

function spec(fields: Record<string, Schema>, required: string[]): ObjectSchema {
  return {
    t: 'object',
    fields: { ...parentFields, ...fields, rules },
    required: ['parentRefs', 'rules', ...required],
    unsupported: ['useDefaultGateways'],
  };
}

export const tcpRouteKind: Kind<ApiRouteModel> = {
  kind: 'TCPRoute',
  apiVersions: versions('v1', 'v1alpha2'),
  spec: spec({}, []),
  specRequired: true,
  build(resource, said, report, context) {
    const rule = rulesOf(resource, said, report, context);
    const tcp = rule ? [{ field: rule.field, match: [], route: rule.route }] : [];
    return { ...routeOf(resource, said, report, context), http: [], tcp, tls: [] };
  },
};

export const tlsRouteKind: Kind<ApiRouteModel> = {
  kind: 'TLSRoute',
  apiVersions: versions('v1', 'v1alpha3', 'v1alpha2'),
  spec: spec({ hostnames }, []),
  specRequired: true,
  build(resource, said, report, context) {
    const route = routeOf(resource, said, report, context);
    const rule = rulesOf(resource, said, report, context);
    const sniHosts = route.hostnames.length > 0 ? route.hostnames : ['*'];
    const any = {
      port: 0,
      sourceLabels: labelsOf(undefined),
      sourceNamespace: '',
      gateways: [],
      destinationSubnets: [],
    };
    const match = [{ ...any, sniHosts }];
    const tls: TlsRouteModel[] = rule ? [{ field: rule.field, match, route: rule.route }] : [];
    return { ...route, http: [], tcp: [], tls };
  },
};

/** The first rule: nothing tells connections of one route apart, so that a second one would never be reached. */
function rulesOf(
  resource: Parameters<Kind<ApiRouteModel>['build']>[0],
  said: Plain,
  report: FieldReport,
  context: KindContext,
): { field: string; route: DestinationModel[] } | undefined {
  const list = (said.rules ?? []) as (Plain | undefined)[];
  if (list.length > 1) report('WEFT-VALUE', 'is never reached: the first rule takes every connection', 'spec.rules[1]');
  const field = 'spec.rules[0]';
  if (!list[0]) return undefined;
  const all = backendsOf(list[0].backendRefs, resource, `${field}.backendRefs`, report, context);
  const route = all.filter((b) => b.weight > 0);
  if (all.length > 0 && route.length === 0) {
    report('WEFT-VALUE', 'the weights add up to 0: nothing would be routed', `${field}.backendRefs`);
  }
  return { field, route };
}
