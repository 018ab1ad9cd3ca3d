/** Which requests and connections a route of a VirtualService takes. */
import { type HttpMatchModel, type KeyMatchModel, MESH_GATEWAY, type StringMatchModel } from '@weft/model';
import type { ObjectSchema, Schema } from '../../schema.ts';
import {
  bool,
  checkHeaderName,
  checkIpBlock,
  checkLabelName,
  checkName,
  checkRegex,
  labels,
  labelsOf,
  type Plain,
  port,
  str,
} from '../common.ts';

export const stringMatch: ObjectSchema = {
  t: 'object',
  fields: { exact: str, prefix: str, regex: { t: 'string', check: checkRegex } },
  oneOf: [['exact', 'prefix', 'regex']],
};
/** Headers, and on gateways claims of the request's token (`@request.auth.claims.group`). */
const headerMatch: Schema = {
  t: 'map',
  of: stringMatch,
  checkKey: (name) => {
    if (!name.startsWith('@'))
      return OWN_FIELDS.has(name) ? `is a field of the match (match.${name})` : checkHeaderName(name);
    return CLAIM.test(name) ? undefined : 'is no claim: @request.auth.claims.NAME or @request.auth.claims[NAME][NAME]';
  },
};
/** Istio does not look at headers of these names: what somebody means by them are the fields. */
const OWN_FIELDS = new Set(['uri', 'scheme', 'method', 'authority']);
const CLAIM = /^@request\.auth\.claims(\.[^[\]]{1,256}|(\[[^[\]]{1,256}\]){1,16})$/;
export const gateways: Schema = {
  t: 'list',
  max: 1000,
  of: {
    t: 'string',
    check: (v) => {
      const [first, second, more] = v.split('/');
      const good = second === undefined || checkLabelName(first) === undefined;
      return good && more === undefined && checkName(second ?? first) === undefined
        ? undefined
        : 'it is "mesh", the name of a Gateway in the same namespace, or namespace/name';
    },
  },
};
export const sources = { sourceLabels: labels, sourceNamespace: str, gateways, port };

export const destinationSubnets: Schema = { t: 'list', max: 1000, of: { t: 'string', check: checkIpBlock } };

export const httpMatch: ObjectSchema = {
  t: 'object',
  fields: {
    name: str,
    uri: stringMatch,
    method: stringMatch,
    authority: stringMatch,
    scheme: stringMatch,
    headers: headerMatch,
    withoutHeaders: headerMatch,
    queryParams: { t: 'map', of: stringMatch },
    ignoreUriCase: bool,
    statPrefix: str,
    ...sources,
  },
};

/** Names with their namespaces: a short one is in the rule's own. */
export function gatewaysOf(written: unknown, namespace: string): string[] {
  const names = ((written ?? []) as (string | undefined)[]).filter((g) => g !== undefined);
  return [...new Set(names.map((g) => (g === MESH_GATEWAY || g.includes('/') ? g : `${namespace}/${g}`)))];
}

export function matchOf(m: Plain, namespace: string, field: string): HttpMatchModel {
  return {
    field,
    uri: stringOf(m.uri),
    method: stringOf(m.method),
    authority: stringOf(m.authority),
    scheme: stringOf(m.scheme),
    headers: keysOf(m.headers, true),
    withoutHeaders: keysOf(m.withoutHeaders, true),
    queryParams: keysOf(m.queryParams, false),
    ignoreUriCase: m.ignoreUriCase ?? false,
    port: m.port ?? 0,
    sourceLabels: labelsOf(m.sourceLabels),
    sourceNamespace: m.sourceNamespace ?? '',
    gateways: gatewaysOf(m.gateways, namespace),
  };
}

export function stringOf(m: Plain | undefined): StringMatchModel | undefined {
  if (!m) return undefined;
  for (const type of ['exact', 'prefix', 'regex'] as const) {
    if (m[type] !== undefined) return { type, value: m[type] };
  }
  return { type: 'present' };
}

function keysOf(map: Plain | undefined, lower: boolean): KeyMatchModel[] {
  return Object.entries(map ?? {}).map(([name, m]) => ({
    name: lower && !name.startsWith('@') ? name.toLowerCase() : name,
    value: stringOf(m) ?? { type: 'present' },
  }));
}
