/** HTTPRoute: every match of every rule becomes one route of the model, with what the order of matches depends on. */
import type { ApiRouteModel, HttpMatchModel, HttpRouteModel, KeyMatchModel, RankedHttpRouteModel } from '@weft/model';
import {
  bool,
  checkHeaderName,
  checkRegex,
  type FieldReport,
  type Kind,
  type Plain,
  port,
  str,
} from '../kinds/common.ts';
import type { ObjectSchema, Schema } from '../schema.ts';
import {
  backendRefs,
  backendsOf,
  durationOf,
  filters,
  filtersOf,
  gepDuration,
  hostname,
  routeOf,
  versions,
} from './common.ts';
import { inboundRoute, isOfServers } from './inbound.ts';
import { actionsOf, emptyMatch, matchesIn, retriesOf, routeSpec, ruleOf, rulesIn } from './rules.ts';
import { sessionOf, sessionPersistence } from './session.ts';

const VALUE = 'WEFT-VALUE';

const path: Schema = {
  t: 'string',
  check: (v) => (v.length <= 1024 ? undefined : 'a path has at most 1024 characters'),
};
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'];

const keyMatch = (name: Schema): Schema => ({
  t: 'list',
  max: 16,
  of: {
    t: 'object',
    fields: { type: { t: 'string', enum: ['Exact', 'RegularExpression'] }, name, value: str },
    required: ['name', 'value'],
  },
});
export const headerMatches = keyMatch({
  t: 'string',
  check: (v) => (checkHeaderName(v) ? 'it is no header name' : undefined),
});
const queryMatches = keyMatch({ t: 'string', check: (v) => (v === '' ? 'it may not be empty' : undefined) });

const pathModifier: ObjectSchema = {
  t: 'object',
  fields: {
    type: { t: 'string', enum: ['ReplaceFullPath', 'ReplacePrefixMatch'] },
    replaceFullPath: path,
    replacePrefixMatch: path,
  },
  required: ['type'],
  oneOf: [['replaceFullPath', 'replacePrefixMatch']],
};

const token: Schema = {
  t: 'string',
  check: (v) => (v === '*' || !checkHeaderName(v) ? undefined : 'it is no name, nor "*"'),
};
const tokens: Schema = { t: 'list', max: 64, of: token };
const cors: ObjectSchema = {
  t: 'object',
  fields: {
    allowOrigins: {
      t: 'list',
      max: 64,
      of: {
        t: 'string',
        check: (v) =>
          v === '*' || /^[a-z][a-z0-9+.-]*:\/\/(\*|(\*\.)?[a-z0-9.-]+)(:[0-9]{1,5})?$/.test(v)
            ? undefined
            : 'it is an origin such as https://a.example.com or https://*.example.com, or "*"',
      },
    },
    allowMethods: tokens,
    allowHeaders: tokens,
    exposeHeaders: tokens,
    allowCredentials: bool,
    maxAge: { t: 'int', min: 1, max: 2_147_483 },
  },
};

export const routeMatches: Schema = {
  t: 'list',
  max: 64,
  of: {
    t: 'object',
    fields: {
      path: {
        t: 'object',
        fields: { type: { t: 'string', enum: ['Exact', 'PathPrefix', 'RegularExpression'] }, value: path },
      },
      headers: headerMatches,
      queryParams: queryMatches,
      method: { t: 'string', enum: METHODS },
    },
  },
};

const rule: ObjectSchema = {
  t: 'object',
  fields: {
    sessionPersistence,
    name: str,
    matches: routeMatches,
    filters: filters({
      requestRedirect: {
        t: 'object',
        fields: {
          scheme: { t: 'string', enum: ['http', 'https'] },
          hostname,
          path: pathModifier,
          port,
          statusCode: { t: 'int', min: 301, max: 308 },
        },
      },
      urlRewrite: { t: 'object', fields: { hostname, path: pathModifier } },
      cors,
    }),
    backendRefs,
    timeouts: { t: 'object', fields: { request: gepDuration, backendRequest: gepDuration } },
    retry: {
      t: 'object',
      fields: {
        codes: { t: 'list', of: { t: 'int', min: 400, max: 599 }, max: 100 },
        attempts: { t: 'int', min: 0, max: 100 },
        backoff: gepDuration,
      },
    },
  },
};

export const httpRouteKind: Kind<ApiRouteModel> = {
  kind: 'HTTPRoute',
  apiVersions: versions('v1', 'v1beta1', 'v1alpha2'),
  spec: routeSpec(rule),
  specRequired: true,
  build(resource, spec, report, context) {
    const http: RankedHttpRouteModel[] = [];
    for (const { rule: r, field, index } of rulesIn(spec)) {
      const said = filtersOf(r.filters, resource, `${field}.filters`, report, context);
      const backends = backendsOf(r.backendRefs, resource, `${field}.backendRefs`, report, context);
      if (said.redirect && backends.length > 0) {
        report(VALUE, 'backendRefs may not stand with RequestRedirect', `${field}.backendRefs`);
      }
      const base: HttpRouteModel = {
        ...ruleOf(field, r.name ?? ''),
        ...actionsOf(backends, said),
        cors: said.cors && corsOf(said.cors),
        timeoutMs: durationOf(r.timeouts?.request),
        retries: retriesOf(r.retry, r.timeouts, `${field}.timeouts`, report),
        session: sessionOf(r.sessionPersistence, resource, field, index, report),
      };
      for (const { match: m, at } of matchesIn(r, field)) {
        http.push(...rankedOf(base, m, at, said.rewrite, said.redirect, said.rewriteField, said.redirectField, report));
      }
    }
    if (isOfServers(spec)) return inboundRoute(resource, spec, http, report, context);
    return { ...routeOf(resource, spec, report, context), http, tcp: [], tls: [] };
  },
};

/** What a match of a rule asks for, with its rank: for who routes nowhere by it. */
export function matchesOf(
  m: Plain,
  field: string,
  report: FieldReport,
): { rank: readonly number[]; match: readonly HttpMatchModel[] }[] {
  const ranked = rankedOf(ruleOf(field, ''), m, field, undefined, undefined, '', '', report);
  return ranked.map(({ rank, route }) => ({ rank, match: route.match }));
}

/** One match; two routes where the replacement of a prefix differs between the prefix itself and what is below it. */
function rankedOf(
  base: HttpRouteModel,
  m: Plain,
  field: string,
  rewrite: Plain | undefined,
  redirect: Plain | undefined,
  rewriteField: string,
  redirectField: string,
  report: FieldReport,
): RankedHttpRouteModel[] {
  const type: string = m.path?.type ?? 'PathPrefix';
  const value: string = m.path?.value ?? '/';
  const wrong = checkPath(type, value);
  if (wrong && !report.broken(`${field}.path.value`)) {
    report(VALUE, `is "${value.slice(0, 80)}": ${wrong}`, `${field}.path.value`);
    return [];
  }
  const common = {
    ...emptyMatch(field),
    method: m.method === undefined ? undefined : ({ type: 'exact', value: m.method } as const),
    headers: keysOf(m.headers, true, `${field}.headers`, report),
    queryParams: keysOf(m.queryParams, false, `${field}.queryParams`, report),
  };
  const kindRank = { Exact: 2, RegularExpression: 1, PathPrefix: 0 }[type] ?? 0;
  const length = value.length;
  const rank = [kindRank, length, common.method ? 1 : 0, common.headers.length, common.queryParams.length];
  const uri = (t: 'exact' | 'prefix' | 'regex', v: string): HttpMatchModel => ({
    ...common,
    uri: { type: t, value: v },
  });
  const make = (match: HttpMatchModel[], path: string): RankedHttpRouteModel => ({
    rank,
    route: {
      ...base,
      field,
      match,
      rewrite: rewrite ? { uri: path, authority: rewrite.hostname ?? '', regex: '', substitution: '' } : undefined,
      redirect: redirect ? redirectOf(redirect, path) : undefined,
    },
  });
  if (redirect?.statusCode !== undefined && ![301, 302, 303, 307, 308].includes(redirect.statusCode)) {
    report(VALUE, `is ${redirect.statusCode}; it may be 301, 302, 303, 307 or 308`, `${redirectField}.statusCode`);
  }
  const change = (rewrite ?? redirect)?.path as Plain | undefined;
  const changeField = `${rewrite ? rewriteField : redirectField}.path`;
  const replacement = change && replacementOf(change, changeField, report);
  const bare = value.replace(/\/+$/, '');
  if (change?.type === 'ReplacePrefixMatch') {
    if (type !== 'PathPrefix') {
      report(VALUE, `ReplacePrefixMatch needs a match of type PathPrefix; ${field} has ${type}`, changeField);
      return [];
    }
    const slashed = (replacement ?? '').replace(/\/*$/, '/');
    const below = make([uri('prefix', `${bare}/`)], slashed);
    return bare === '' ? [below] : [make([uri('exact', bare)], slashed.length > 1 ? slashed.slice(0, -1) : '/'), below];
  }
  const whole = replacement ?? '';
  if (type === 'Exact') return [make([uri('exact', value)], whole)];
  if (type === 'RegularExpression') return [make([uri('regex', value)], whole)];
  // A prefix would be replaced alone: a pattern is replaced as a whole.
  if (rewrite && whole !== '') return [make([uri('regex', `${escapeRegex(bare)}(/.*)?`)], whole)];
  // A prefix ends where an element of the path ends.
  return [make(bare === '' ? [uri('prefix', '/')] : [uri('exact', bare), uri('prefix', `${bare}/`)], whole)];
}

function checkPath(type: string, value: string): string | undefined {
  if (type === 'RegularExpression') return checkRegex(value);
  if (!value.startsWith('/')) return 'a path begins with "/"';
  if (value.includes('//')) return 'it may not have "//"';
  if (/(^|\/)\.{1,2}(\/|$)/.test(value)) return 'it may not have "/./" or "/../"';
  if (/[#?]/.test(value)) return 'a path ends before "?" and "#"';
  if (/%2f/i.test(value)) return 'it may not have an escaped "/"';
  return undefined;
}

function replacementOf(change: Plain, field: string, report: FieldReport): string | undefined {
  const name = change.type === 'ReplaceFullPath' ? 'replaceFullPath' : 'replacePrefixMatch';
  const value = change[name];
  if (value === undefined) {
    if (!report.broken(`${field}.${name}`)) report('WEFT-FIELD', `${change.type} needs ${name}`, field);
    return undefined;
  }
  if (value === '') return '/';
  if (!value.startsWith('/')) report(VALUE, `is "${value.slice(0, 80)}": a path begins with "/"`, `${field}.${name}`);
  return value;
}

function redirectOf(r: Plain, path: string): NonNullable<HttpRouteModel['redirect']> {
  const scheme: '' | 'http' | 'https' = r.scheme ?? '';
  // The port of a scheme that is named; else that of the listener, which the plan knows.
  const usual = scheme === '' ? 0 : scheme === 'https' ? 443 : 80;
  const prefix = r.path?.type === 'ReplacePrefixMatch';
  return {
    uri: prefix ? '' : path,
    prefixRewrite: prefix ? path : '',
    authority: r.hostname ?? '',
    scheme,
    port: r.port ?? usual,
    code: r.statusCode ?? 302,
    derivePort: undefined,
  };
}

function corsOf(c: Plain): NonNullable<HttpRouteModel['cors']> {
  const texts = (list: unknown): string[] => ((list ?? []) as (string | undefined)[]).filter((v) => v !== undefined);
  return {
    // A "*" stands for any labels of the host, or alone for any origin.
    allowOrigins: texts(c.allowOrigins).map((v) => {
      if (!v.includes('*')) return { type: 'exact', value: v };
      return { type: 'regex', value: v === '*' ? '.*' : v.split('*').map(escapeRegex).join('[^/:]+') };
    }),
    allowMethods: texts(c.allowMethods),
    allowHeaders: texts(c.allowHeaders),
    exposeHeaders: texts(c.exposeHeaders),
    maxAgeMs: 1000 * (c.maxAge ?? 5),
    allowCredentials: c.allowCredentials ?? false,
    ignoreUnmatchedPreflights: false,
  };
}

/** Of several entries for one name the first counts. */
export function keysOf(written: unknown, lower: boolean, field: string, report: FieldReport): KeyMatchModel[] {
  const out = new Map<string, KeyMatchModel>();
  for (const [i, k] of ((written ?? []) as (Plain | undefined)[]).entries()) {
    if (k?.name === undefined || k.value === undefined) continue;
    const name: string = lower ? k.name.toLowerCase() : k.name;
    const regex = k.type === 'RegularExpression';
    const wrong = regex ? checkRegex(k.value) : undefined;
    if (wrong) report(VALUE, `is "${k.value.slice(0, 80)}": ${wrong}`, `${field}[${i}].value`);
    if (out.has(name)) {
      report('WEFT-NO-EFFECT', `the first entry for ${name} counts`, `${field}[${i}].name`, 'warning');
    } else out.set(name, { name, value: { type: regex ? 'regex' : 'exact', value: k.value } });
  }
  return [...out.values()];
}

export function escapeRegex(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}
