/** Consul's ServiceIntentions: who may call a service, by name (L4) or by permissions on requests (L7). */
import type {
  HttpMatchModel,
  IntentionSourceModel,
  KeyMatchModel,
  ServiceIntentionsModel,
  TokenNeedModel,
} from '@weft/model';
import { escapeRegex } from '../gateway-api/http-route.ts';
import { emptyMatch } from '../gateway-api/rules.ts';
import type { ObjectSchema, Schema } from '../schema.ts';
import {
  bool,
  checkHeaderName,
  checkName,
  checkRegex,
  type FieldReport,
  type Kind,
  nonEmpty,
  type Plain,
  str,
} from './common.ts';

const named: Schema = {
  t: 'string',
  check: (v) => (v === '*' ? undefined : checkName(v)),
};
const action: Schema = { t: 'string', enum: ['allow', 'deny'] };
const path: Schema = { t: 'string', check: (v) => (v.startsWith('/') ? undefined : 'a path begins with "/"') };
const regex: Schema = { t: 'string', check: checkRegex };
const TESTS = ['exact', 'prefix', 'suffix', 'contains', 'regex'] as const;

const header: ObjectSchema = {
  t: 'object',
  fields: {
    name: { t: 'string', check: (v) => (checkHeaderName(v) ? 'it is no header name' : undefined) },
    present: bool,
    ...{ exact: str, prefix: str, suffix: str, contains: str, regex },
    ignoreCase: bool,
    invert: bool,
  },
  required: ['name'],
  oneOf: [['present', ...TESTS]],
};

const jwt: ObjectSchema = {
  t: 'object',
  fields: {
    providers: {
      t: 'list',
      min: 1,
      max: 16,
      of: {
        t: 'object',
        fields: {
          name: { t: 'string', check: checkName },
          verifyClaims: {
            t: 'list',
            max: 100,
            of: {
              t: 'object',
              fields: { path: { t: 'list', of: nonEmpty, min: 1, max: 32 }, value: str },
              required: ['path', 'value'],
            },
          },
        },
        required: ['name'],
      },
    },
  },
  required: ['providers'],
};

const permission: ObjectSchema = {
  t: 'object',
  fields: {
    action,
    http: {
      t: 'object',
      fields: {
        pathExact: path,
        pathPrefix: path,
        pathRegex: regex,
        methods: {
          t: 'list',
          max: 100,
          of: { t: 'string', check: (v) => (/^[A-Z]{1,20}$/.test(v) ? undefined : 'methods are capital letters') },
        },
        header: { t: 'list', of: header, max: 100 },
      },
      oneOf: [['pathExact', 'pathPrefix', 'pathRegex']],
    },
    jwt,
  },
  required: ['action', 'http'],
};

export const serviceIntentionsKind: Kind<ServiceIntentionsModel> = {
  kind: 'ServiceIntentions',
  apiVersions: ['consul.hashicorp.com/v1alpha1'],
  spec: {
    t: 'object',
    fields: {
      destination: { t: 'object', fields: { name: named, namespace: named }, required: ['name'] },
      jwt,
      sources: {
        t: 'list',
        min: 1,
        max: 1000,
        of: {
          t: 'object',
          fields: {
            name: named,
            namespace: named,
            action,
            permissions: { t: 'list', of: permission, min: 1, max: 1000 },
            description: str,
          },
          required: ['name'],
          unsupported: ['peer', 'partition', 'samenessGroup'],
          oneOf: [['action', 'permissions']],
        },
      },
    },
    required: ['destination', 'sources'],
  },
  specRequired: true,
  build(resource, spec, report) {
    const seen = new Map<string, string>();
    const sources: IntentionSourceModel[] = [];
    for (const [i, s] of ((spec.sources ?? []) as (Plain | undefined)[]).entries()) {
      if (!s?.name) continue;
      const field = `spec.sources[${i}]`;
      const namespace: string = s.namespace ?? (s.name === '*' ? '*' : resource.namespace);
      const key = `${namespace}/${s.name}`;
      const other = seen.get(key);
      if (other) report('WEFT-VALUE', `${s.name} stands in ${other} already: one intention counts for a source`, field);
      else seen.set(key, field);
      if (namespace === '*' && s.name !== '*')
        report('WEFT-VALUE', 'a name in every namespace is no source: name its namespace', `${field}.namespace`);
      if (!s.action && !s.permissions && !report.broken(`${field}.action`))
        report('WEFT-FIELD', 'needs an action, or permissions', field);
      const permissions = ((s.permissions ?? []) as (Plain | undefined)[]).flatMap((p, j) =>
        p?.action ? [permissionOf(p, `${field}.permissions[${j}]`, report)] : [],
      );
      sources.push({ field, name: s.name, namespace, action: s.action, permissions });
    }
    const { name = '', namespace = resource.namespace } = (spec.destination ?? {}) as {
      name?: string;
      namespace?: string;
    };
    if (namespace === '*' && name !== '*')
      report(
        'WEFT-VALUE',
        'a name in every namespace is no destination: name its namespace',
        'spec.destination.namespace',
      );
    return { ...resource, destination: { name, namespace }, sources, tokens: tokensOf(spec.jwt, 'spec.jwt') };
  },
};

function permissionOf(p: Plain, field: string, report: FieldReport): IntentionSourceModel['permissions'][number] {
  const http: Plain = p.http ?? {};
  if (Object.keys(http).length === 0) report('WEFT-VALUE', 'says nothing of requests: use an action', `${field}.http`);
  const keys: KeyMatchModel[] = [];
  const without: KeyMatchModel[] = [];
  for (const [i, h] of ((http.header ?? []) as (Plain | undefined)[]).entries()) {
    if (!h?.name) continue;
    const at = `${field}.http.header[${i}]`;
    const value = headerTest(h);
    if (!value) report('WEFT-FIELD', `needs present, ${TESTS.join(', ')}`, at);
    // "present: false" asks for what "present" inverted does.
    else if ((h.invert === true) !== (h.present === false)) without.push({ name: h.name.toLowerCase(), value });
    else keys.push({ name: h.name.toLowerCase(), value });
  }
  const base: HttpMatchModel = { ...emptyMatch(field), uri: pathTest(http), headers: keys, withoutHeaders: without };
  const methods = (http.methods ?? []) as (string | undefined)[];
  const match = methods.flatMap((m) => (m ? [{ ...base, method: { type: 'exact', value: m } as const }] : []));
  if (p.jwt && p.action === 'deny') {
    const message =
      'a denial asks for no token, in Consul neither: take it away, or allow with a token what this would leave over';
    report('WEFT-VALUE', message, `${field}.jwt`);
  }
  const tokens = tokensOf(p.jwt, `${field}.jwt`);
  return { field, action: p.action, match: methods.length === 0 ? [base] : match, tokens };
}

/** Where a provider has mistakes it stays: without it, a token would be asked for by fewer, or by nobody. */
function tokensOf(written: Plain | undefined, field: string): TokenNeedModel[] {
  return ((written?.providers ?? []) as (Plain | undefined)[]).map((p, i) => ({
    field: `${field}.providers[${i}]`,
    provider: p?.name ?? '',
    claims: ((p?.verifyClaims ?? []) as (Plain | undefined)[]).map((c) => ({
      path: (c?.path ?? []) as string[],
      value: c?.value ?? '',
    })),
  }));
}

function pathTest(http: Plain): HttpMatchModel['uri'] {
  if (http.pathExact) return { type: 'exact', value: http.pathExact };
  if (http.pathPrefix) return { type: 'prefix', value: http.pathPrefix };
  return http.pathRegex ? { type: 'regex', value: http.pathRegex } : undefined;
}

function headerTest(h: Plain): KeyMatchModel['value'] | undefined {
  if (h.present !== undefined) return { type: 'present' };
  const test = TESTS.find((t) => h[t] !== undefined);
  if (!test) return undefined;
  const text: string = h[test];
  if (!h.ignoreCase && (test === 'exact' || test === 'prefix')) return { type: test, value: text };
  const quoted = escapeRegex(text);
  const patterns = {
    exact: quoted,
    prefix: `${quoted}.*`,
    suffix: `.*${quoted}`,
    contains: `.*${quoted}.*`,
    regex: text,
  };
  return { type: 'regex', value: `${h.ignoreCase ? '(?i)' : ''}${patterns[test]}` };
}
