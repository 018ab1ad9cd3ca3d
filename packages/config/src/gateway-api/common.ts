/** What routes of the Gateway API share: parents, backends, and filters that change headers or copy requests. */
import type {
  ApiRouteModel,
  DestinationModel,
  HeaderOperationsModel,
  MirrorModel,
  Resource,
  RouteParentModel,
} from '@weft/model';
import {
  checkHeaderName,
  checkHeaderValue,
  checkLabelName,
  checkName,
  type FieldReport,
  type KindContext,
  type Plain,
  port,
  str,
} from '../kinds/common.ts';
import { type ObjectSchema, parseDuration, type Schema } from '../schema.ts';

export const GROUP = 'gateway.networking.k8s.io';
const VALUE = 'WEFT-VALUE';

/** Served versions, as `apiVersion` names them. */
export function versions(...list: string[]): string[] {
  return list.map((v) => `${GROUP}/${v}`);
}

export const objectName: Schema = { t: 'string', check: checkName };
export const namespaceName: Schema = { t: 'string', check: checkLabelName };
const weight: Schema = { t: 'int', min: 0, max: 1_000_000 };

/** GEP-2257: at most four numbers of at most five digits, each with h, m, s or ms. Milliseconds are read from it by durationOf. */
export const gepDuration: Schema = {
  t: 'string',
  check: (v) =>
    /^([0-9]{1,5}(h|m|s|ms)){1,4}$/.test(v) && parseDuration(v) !== undefined
      ? undefined
      : 'it is no duration such as 5s, 100ms or 1m30s',
};

export function durationOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : parseDuration(text);
}

const parentRef: ObjectSchema = {
  t: 'object',
  fields: { group: str, kind: str, name: objectName, namespace: namespaceName, sectionName: objectName, port },
  required: ['name'],
};

/** Fields of every route's spec beside its rules. */
export const parentFields = { parentRefs: { t: 'list', of: parentRef, min: 1, max: 32 } as Schema };

/** A host name, perhaps with a first label of `*`; no IP address. */
export const hostname: Schema = {
  t: 'string',
  check: (v) => {
    const bare = v.startsWith('*.') ? v.slice(2) : v;
    if (/^[0-9.]+$/.test(bare)) return 'it is an IP address: name a host';
    return checkName(bare) === undefined && v.length <= 253
      ? undefined
      : 'it is no lower-case host name, nor "*." and one';
  },
};
export const hostnames: Schema = { t: 'list', of: hostname, max: 16 };

export const backendFields = { group: str, kind: str, name: objectName, namespace: namespaceName, port };
export const backendRequired = ['name', 'port'];

/** A reference with a weight, as TCPRoute and TLSRoute have it. */
export const backendRef: ObjectSchema = {
  t: 'object',
  fields: { ...backendFields, weight },
  required: backendRequired,
};

const header: ObjectSchema = {
  t: 'object',
  fields: {
    name: { t: 'string', check: (v) => (checkHeaderName(v) ? 'it is no header name' : undefined) },
    value: { t: 'string', check: checkHeaderValue },
  },
  required: ['name', 'value'],
};
const headerList: Schema = { t: 'list', of: header, max: 16 };
const modifier: ObjectSchema = {
  t: 'object',
  fields: { set: headerList, add: headerList, remove: { t: 'list', of: header.fields.name, max: 16 } },
};

const mirror: ObjectSchema = {
  t: 'object',
  fields: {
    backendRef: { t: 'object', fields: backendFields, required: backendRequired },
    percent: { t: 'int', min: 0, max: 100 },
    fraction: {
      t: 'object',
      fields: { numerator: { t: 'int', min: 0 }, denominator: { t: 'int', min: 1 } },
      required: ['numerator'],
    },
  },
  required: ['backendRef'],
  oneOf: [['percent', 'fraction']],
};

/** Filters by type, the name of the field that says more, and their schemas. */
export const FIELD_OF: Readonly<Record<string, string>> = {
  RequestHeaderModifier: 'requestHeaderModifier',
  ResponseHeaderModifier: 'responseHeaderModifier',
  RequestMirror: 'requestMirror',
  RequestRedirect: 'requestRedirect',
  URLRewrite: 'urlRewrite',
  CORS: 'cors',
};

const NOT_SERVED: Readonly<Record<string, string>> = {
  ExtensionRef: 'there are no extensions that it could name',
  ExternalAuth: 'an outside authorizer is not asked yet',
};

/** `more`: schemas of filters that this kind of route has beside headers and mirrors. */
export function filters(more: Readonly<Record<string, Schema>> = {}): Schema {
  const fields: Record<string, Schema> = {
    requestHeaderModifier: modifier,
    responseHeaderModifier: modifier,
    requestMirror: mirror,
    ...more,
  };
  const types = Object.keys(FIELD_OF).filter((type) => Object.hasOwn(fields, FIELD_OF[type]));
  const type: Schema = {
    t: 'string',
    check: (v) => {
      if (Object.hasOwn(NOT_SERVED, v)) return `it is not supported: ${NOT_SERVED[v]}`;
      return types.includes(v) ? undefined : `it may be ${types.join(', ')}`;
    },
  };
  return {
    t: 'list',
    max: 16,
    of: {
      t: 'object',
      fields: { type, ...fields },
      required: ['type'],
      unsupported: ['extensionRef', 'externalAuth'],
    },
  };
}

/** The services that a rule of requests leads to, each with a weight and filters of its own. */
export const backendRefs: Schema = {
  t: 'list',
  max: 16,
  of: { t: 'object', fields: { ...backendFields, weight, filters: filters() }, required: backendRequired },
};

/** What all filters of one list say together. */
export interface Filters {
  readonly headers: HeaderOperationsModel | undefined;
  readonly mirrors: readonly MirrorModel[];
  readonly redirect: Plain | undefined;
  readonly redirectField: string;
  readonly cors: Plain | undefined;
  readonly rewrite: Plain | undefined;
  readonly rewriteField: string;
}

export function filtersOf(
  written: unknown,
  resource: Resource,
  field: string,
  report: FieldReport,
  context: KindContext,
): Filters {
  const seen = new Map<string, Plain>();
  const at = new Map<string, string>();
  const mirrors: MirrorModel[] = [];
  for (const [i, f] of ((written ?? []) as (Plain | undefined)[]).entries()) {
    if (typeof f?.type !== 'string') continue;
    const place = `${field}[${i}]`;
    const name = FIELD_OF[f.type];
    const said = f[name] as Plain | undefined;
    if (!said) {
      if (!report.broken(`${place}.${name}`)) report('WEFT-FIELD', `a filter ${f.type} needs ${name}`, place);
      continue;
    }
    const other = Object.values(FIELD_OF).find((n) => n !== name && f[n] !== undefined);
    if (other) report(VALUE, `a filter ${f.type} has no ${other}`, `${place}.${other}`);
    if (f.type === 'RequestMirror') {
      const mirrored = mirrorOf(said, resource, `${place}.${name}`, report, context);
      if (mirrored) mirrors.push(mirrored);
    } else if (seen.has(name)) report(VALUE, `there may be one filter ${f.type} in a rule`, place);
    else {
      seen.set(name, said);
      at.set(name, `${place}.${name}`);
    }
  }
  const both = seen.has('requestRedirect') && seen.has('urlRewrite');
  if (both) report(VALUE, 'URLRewrite may not stand with RequestRedirect', at.get('urlRewrite') ?? field);
  return {
    headers: headersOf(seen.get('requestHeaderModifier'), seen.get('responseHeaderModifier')),
    mirrors,
    redirect: seen.get('requestRedirect'),
    redirectField: at.get('requestRedirect') ?? field,
    cors: seen.get('cors'),
    rewrite: seen.get('urlRewrite'),
    rewriteField: at.get('urlRewrite') ?? field,
  };
}

function mirrorOf(
  m: Plain,
  resource: Resource,
  field: string,
  report: FieldReport,
  context: KindContext,
): MirrorModel | undefined {
  const target = targetOf(m.backendRef, resource, `${field}.backendRef`, report, context);
  if (!target) return undefined;
  const { numerator = 0, denominator = 100 } = (m.fraction ?? {}) as { numerator?: number; denominator?: number };
  if (m.fraction && numerator > denominator) {
    report(VALUE, `is more than the whole: ${numerator} of ${denominator}`, `${field}.fraction`);
  }
  const percent = m.fraction ? (100 * numerator) / denominator : (m.percent ?? 100);
  return { ...target, percent };
}

/** Of two entries of one name (compared without case) the first counts. */
function headersOf(request: Plain | undefined, response: Plain | undefined): HeaderOperationsModel | undefined {
  if (!request && !response) return undefined;
  const pairs = (list: unknown): (readonly [string, string])[] => {
    const out = new Map<string, string>();
    for (const h of (list ?? []) as (Plain | undefined)[]) {
      if (h?.name === undefined || h.value === undefined || out.has(h.name.toLowerCase())) continue;
      out.set(h.name.toLowerCase(), h.value);
    }
    return [...out];
  };
  const names = (list: unknown): string[] =>
    ((list ?? []) as (string | undefined)[]).flatMap((n) => (n === undefined ? [] : [n.toLowerCase()]));
  return {
    requestSet: pairs(request?.set),
    requestAdd: pairs(request?.add),
    requestRemove: names(request?.remove),
    responseSet: pairs(response?.set),
    responseAdd: pairs(response?.add),
    responseRemove: names(response?.remove),
  };
}

/** The service that a backend names, with its namespace; undefined (and reported) where it is no Service. */
function targetOf(
  b: Plain | undefined,
  resource: Resource,
  field: string,
  report: FieldReport,
  context: KindContext,
): Omit<MirrorModel, 'percent'> | undefined {
  if (b?.name === undefined || b.port === undefined) return undefined;
  const { group = '', kind = 'Service' } = b;
  if (group !== '' || kind !== 'Service') {
    const shown = `${kind}${group ? ` of ${group}` : ''}`;
    report(VALUE, `names a ${shown.slice(0, 120)}: a backend is a Service (group "")`, `${field}.kind`);
    return undefined;
  }
  const host = `${b.name}.${b.namespace ?? resource.namespace}.svc.${context.domain}`;
  return { field, host, subset: '', port: b.port };
}

/** The services that a rule names, with their weights (default 1). */
export function backendsOf(
  written: unknown,
  resource: Resource,
  field: string,
  report: FieldReport,
  context: KindContext,
): DestinationModel[] {
  const list: DestinationModel[] = [];
  for (const [i, b] of ((written ?? []) as (Plain | undefined)[]).entries()) {
    const place = `${field}[${i}]`;
    const target = targetOf(b, resource, place, report, context);
    if (!b || !target) continue;
    const own = filtersOf(b.filters, resource, `${place}.filters`, report, context);
    if (own.redirect || own.rewrite || own.cors || own.mirrors.length > 0) {
      const message = 'a backend may change headers alone; redirects, rewrites and mirrors belong to the rule';
      report('WEFT-UNSUPPORTED', message, `${place}.filters`);
    }
    list.push({ ...target, weight: b.weight ?? 1, headers: own.headers });
  }
  return list;
}

/** What every route has beside its rules. */
export function routeOf(
  resource: Resource,
  spec: Plain,
  report: FieldReport,
  context: KindContext,
): Omit<ApiRouteModel, 'http' | 'tcp' | 'tls'> {
  const parents: RouteParentModel[] = [];
  for (const [i, p] of ((spec.parentRefs ?? []) as (Plain | undefined)[]).entries()) {
    if (p?.name === undefined) continue;
    const field = `spec.parentRefs[${i}]`;
    const { group = GROUP, kind = 'Gateway' } = p;
    if (!(group === GROUP && kind === 'Gateway') && !(group === '' && kind === 'Service')) {
      const linkerds = group === 'policy.linkerd.io' && kind === 'Server';
      const help = linkerds ? '. HTTPRoutes and GRPCRoutes alone can be of a Server' : '';
      const message = `names a ${`${kind} of group "${group}"`.slice(0, 120)}: a parent is a Gateway (${GROUP}) or a Service (group "")${help}`;
      report(VALUE, message, `${field}.kind`);
      continue;
    }
    const namespace = p.namespace ?? resource.namespace;
    parents.push({ field, kind, namespace, name: p.name, sectionName: p.sectionName ?? '', port: p.port ?? 0 });
  }
  return {
    ...resource,
    kind: resource.kind as ApiRouteModel['kind'],
    created: context.created,
    parents,
    hostnames: ((spec.hostnames ?? []) as (string | undefined)[]).filter((h) => h !== undefined),
  };
}
