/** `extensionProviders` of mesh settings: external authorizers, and providers of telemetry by name. */
import type { ExtensionProviderModel, SpanProviderModel } from '@weft/model';
import type { ObjectSchema, Schema } from '../schema.ts';
import {
  bool,
  checkHeaderName,
  checkHeaderValue,
  checkHost,
  checkLabelName,
  type FieldReport,
  nonEmpty,
  type Plain,
  port,
  uint32,
} from './common.ts';

/** `[namespace/]host`. */
const service: Schema = {
  t: 'string',
  check: (v) => {
    const [first, second, more] = v.split('/');
    const scoped = second === undefined || checkLabelName(first) === undefined;
    return scoped && more === undefined && checkHost(second ?? first) === undefined && !v.includes('*')
      ? undefined
      : 'it is the host of a Service or ServiceEntry, or namespace/host';
  },
};

/** Header names, or a part of one with `*` before or behind it. */
const headerPatterns: Schema = {
  t: 'list',
  max: 100,
  of: {
    t: 'string',
    check: (v) => {
      const bare = v === '*' ? 'x' : v.replace(/^\*|\*$/, '');
      return checkHeaderName(bare) === undefined && !bare.includes('*')
        ? undefined
        : 'it is a header name, "prefix*", "*suffix" or "*"';
    },
  },
};

const body: ObjectSchema = {
  t: 'object',
  fields: { maxRequestBytes: { t: 'int', min: 1, max: 16_777_216 }, allowPartialMessage: bool, packAsBytes: bool },
  required: ['maxRequestBytes'],
};

const authorizer: ObjectSchema = {
  t: 'object',
  fields: {
    service,
    port,
    timeout: { t: 'duration', minMs: 1 },
    failOpen: bool,
    clearRouteCache: bool,
    statusOnError: {
      t: 'string',
      check: (v) => (/^[1-5]\d\d$/.test(v) ? undefined : 'it is an HTTP status in quotes, such as "403"'),
    },
    includeRequestBodyInCheck: body,
  },
  required: ['service', 'port'],
};

/** `includeHeadersInCheck` is the older name of `includeRequestHeadersInCheck`. */
const httpAuthorizer: ObjectSchema = {
  ...authorizer,
  fields: {
    ...authorizer.fields,
    pathPrefix: { t: 'string', check: (v) => (/^(\/[^?#\s]*)?$/.test(v) ? undefined : 'a path begins with "/"') },
    includeHeadersInCheck: headerPatterns,
    includeRequestHeadersInCheck: headerPatterns,
    includeAdditionalHeadersInCheck: {
      t: 'map',
      of: { t: 'string', check: checkHeaderValue },
      checkKey: checkHeaderName,
    },
    headersToUpstreamOnAllow: headerPatterns,
    headersToDownstreamOnAllow: headerPatterns,
    headersToDownstreamOnDeny: headerPatterns,
  },
  oneOf: [['includeHeadersInCheck', 'includeRequestHeadersInCheck']],
};

const spanPath: Schema = {
  t: 'string',
  check: (v) => (/^\/[\x21-\x7e]*$/.test(v) ? undefined : 'a path begins with "/"'),
};

const zipkin: ObjectSchema = {
  t: 'object',
  fields: {
    service,
    port,
    path: spanPath,
    timeout: { t: 'duration', minMs: 1 },
    maxTagLength: uint32,
    enable64bitTraceId: bool,
    // Both are read and written in any case.
    traceContextOption: { t: 'string', enum: ['USE_B3', 'USE_B3_WITH_W3C_PROPAGATION'] },
  },
  required: ['service', 'port'],
  unsupported: ['headers'],
};

const opentelemetry: ObjectSchema = {
  t: 'object',
  fields: {
    service,
    port,
    maxTagLength: uint32,
    http: {
      t: 'object',
      fields: { path: spanPath, timeout: { t: 'duration', minMs: 1 } },
      unsupported: ['headers'],
    },
    grpc: { t: 'object', fields: { timeout: { t: 'duration', minMs: 1 } }, unsupported: ['initialMetadata'] },
    resourceDetectors: { t: 'any' },
  },
  required: ['service', 'port'],
  oneOf: [['http', 'grpc']],
  unsupported: ['dynatraceSampler'],
};

/** A provider's settings are its own; here they say no more than that there is one of the name. */
const TELEMETRY = [
  'lightstep',
  'datadog',
  'stackdriver',
  'opencensus',
  'skywalking',
  'prometheus',
  'envoyFileAccessLog',
  'envoyHttpAls',
  'envoyTcpAls',
  'envoyOtelAls',
  'sds',
];

const NAMED = ['envoyExtAuthzHttp', 'envoyExtAuthzGrpc', 'zipkin', 'opentelemetry', ...TELEMETRY];

export const extensionProviders: Schema = {
  t: 'list',
  max: 1000,
  of: {
    t: 'object',
    fields: {
      name: nonEmpty,
      envoyExtAuthzHttp: httpAuthorizer,
      envoyExtAuthzGrpc: authorizer,
      zipkin,
      opentelemetry,
      ...Object.fromEntries(TELEMETRY.map((name) => [name, { t: 'any' } as const])),
    },
    required: ['name'],
    oneOf: [NAMED],
  },
};

/** Istio's default; so that nobody waits for ten minutes for an authorizer, give a timeout. */
const TIMEOUT_MS = 600_000;

export function extensionProvidersOf(written: unknown, field: string, report: FieldReport): ExtensionProviderModel[] {
  const list: ExtensionProviderModel[] = [];
  for (const [i, p] of ((written ?? []) as (Plain | undefined)[]).entries()) {
    if (!p?.name) continue;
    const at = `${field}[${i}]`;
    if (list.some((other) => other.name === p.name)) {
      report('WEFT-VALUE', `the provider "${p.name}" is there twice`, `${at}.name`);
    }
    const of = NAMED.find((name) => name in p);
    if (of === undefined) {
      report('WEFT-VALUE', `says not what it is: one of ${NAMED.join(', ')}`, at);
    } else if (of === 'envoyExtAuthzHttp') {
      if (p[of])
        list.push({ type: 'extAuthzHttp', ...authorizerOf(p.name, p[of], `${at}.${of}`), ...headersOf(p[of]) });
    } else if (of === 'envoyExtAuthzGrpc') {
      if (p[of]) list.push({ type: 'extAuthzGrpc', ...authorizerOf(p.name, p[of], `${at}.${of}`) });
    } else if (of === 'zipkin' || of === 'opentelemetry') {
      if (p[of]) list.push(spanProviderOf(p.name, of, p[of], `${at}.${of}`, report));
    } else list.push({ type: 'telemetry', field: `${at}.${of}`, name: p.name, of });
  }
  return list;
}

/** `opentelemetry` without `http` is asked by gRPC. */
function spanProviderOf(
  name: string,
  type: SpanProviderModel['type'],
  p: Plain,
  field: string,
  report: FieldReport,
): SpanProviderModel {
  const noEffect = (what: string, why: string): void =>
    report('WEFT-NO-EFFECT', `has no effect: ${why}`, `${field}.${what}`, 'warning');
  if (p.enable64bitTraceId) noEffect('enable64bitTraceId', 'trace ids have 128 bits');
  if ('resourceDetectors' in p) noEffect('resourceDetectors', 'the resource of a span is its workload');
  return {
    ...{ type, field, name, service: p.service ?? '', port: p.port ?? 0 },
    grpc: type === 'opentelemetry' && !('http' in p),
    path: type === 'zipkin' ? (p.path ?? '/api/v2/spans') : (p.http?.path ?? '/v1/traces'),
    timeoutMs: p.timeout ?? p.http?.timeout ?? p.grpc?.timeout,
    maxPathTagLength: p.maxTagLength,
  };
}

function authorizerOf(name: string, p: Plain, field: string) {
  const b = p.includeRequestBodyInCheck as Plain | undefined;
  return {
    field,
    name,
    service: (p.service ?? '') as string,
    port: (p.port ?? 0) as number,
    timeoutMs: (p.timeout ?? TIMEOUT_MS) as number,
    failOpen: (p.failOpen ?? false) as boolean,
    clearRouteCache: (p.clearRouteCache ?? false) as boolean,
    statusOnError: Number(p.statusOnError ?? 403),
    body: b && {
      maxBytes: (b.maxRequestBytes ?? 0) as number,
      allowPartial: (b.allowPartialMessage ?? false) as boolean,
      asBytes: (b.packAsBytes ?? false) as boolean,
    },
  };
}

function headersOf(p: Plain) {
  const names = (list: unknown): string[] =>
    ((list ?? []) as (string | undefined)[]).flatMap((n) => n?.toLowerCase() ?? []);
  const added = Object.entries((p.includeAdditionalHeadersInCheck ?? {}) as Record<string, string>);
  return {
    pathPrefix: (p.pathPrefix ?? '') as string,
    includeRequestHeaders: names(p.includeRequestHeadersInCheck ?? p.includeHeadersInCheck),
    additionalHeaders: added.map(([name, value]) => [name.toLowerCase(), value] as const),
    headersToUpstreamOnAllow: names(p.headersToUpstreamOnAllow),
    headersToDownstreamOnAllow: names(p.headersToDownstreamOnAllow),
    headersToDownstreamOnDeny: names(p.headersToDownstreamOnDeny),
  };
}
