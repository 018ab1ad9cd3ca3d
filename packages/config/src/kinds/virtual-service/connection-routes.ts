/** Entries of `spec.tcp` and `spec.tls`. */
import type { TcpRouteModel, TlsRouteModel } from '@weft/model';
import type { ObjectSchema } from '../../schema.ts';
import { checkHost, type FieldReport, labelsOf, type Plain } from '../common.ts';
import { destination, destinationsOf, weight } from './destinations.ts';
import { destinationSubnets, gatewaysOf, sources } from './match.ts';

export const tcpRoute: ObjectSchema = {
  t: 'object',
  fields: {
    match: {
      t: 'list',
      max: 1000,
      of: { t: 'object', fields: { ...sources, destinationSubnets }, unsupported: ['sourceSubnet'] },
    },
    route: {
      t: 'list',
      min: 1,
      max: 1000,
      of: { t: 'object', fields: { destination, weight }, required: ['destination'] },
    },
  },
  required: ['route'],
};

export const tlsRoute: ObjectSchema = {
  ...tcpRoute,
  fields: {
    ...tcpRoute.fields,
    match: {
      t: 'list',
      min: 1,
      max: 1000,
      of: {
        t: 'object',
        fields: {
          ...sources,
          destinationSubnets,
          sniHosts: {
            t: 'list',
            min: 1,
            max: 1000,
            of: { t: 'string', check: (v) => (v === '*' ? undefined : checkHost(v)) },
          },
        },
        required: ['sniHosts'],
      },
    },
  },
  required: ['match', 'route'],
};

export function buildTcp(r: Plain, namespace: string, field: string, report: FieldReport): TcpRouteModel {
  return {
    field,
    match: ((r.match ?? []) as (Plain | undefined)[]).map((m) => ({
      port: m?.port ?? 0,
      sourceLabels: labelsOf(m?.sourceLabels),
      sourceNamespace: m?.sourceNamespace ?? '',
      gateways: gatewaysOf(m?.gateways, namespace),
      destinationSubnets: ((m?.destinationSubnets ?? []) as (string | undefined)[]).filter((b) => b !== undefined),
    })),
    route: destinationsOf(r.route, field, report),
  };
}

export function buildTls(r: Plain, namespace: string, field: string, report: FieldReport): TlsRouteModel {
  const { match, route } = buildTcp(r, namespace, field, report);
  return { field, match: match.map((m, i) => ({ ...m, sniHosts: r.match?.[i]?.sniHosts ?? [] })), route };
}
