/** Istio's VirtualService, on the mesh and on gateways (features: B-5, B-7, B-9). */
import {
  type CorsModel,
  type DestinationModel,
  FAULT_POSITION,
  type FaultModel,
  type HeaderOperationsModel,
  type HttpMatchModel,
  type HttpRouteModel,
  type KeyMatchModel,
  MESH_GATEWAY,
  type MirrorModel,
  type Resource,
  type StringMatchModel,
  type TcpRouteModel,
  type TlsRouteModel,
  type VirtualServiceModel,
} from '@weft/model';
import { RE2JS } from 're2js';
import { type ObjectSchema, parseDuration, type Schema } from '../schema.ts';
import {
  bool,
  checkHeaderName,
  checkHeaderValue,
  checkHost,
  checkIpBlock,
  checkLabelName,
  checkName,
  checkRegex,
  exportTo,
  type FieldReport,
  type Kind,
  labels,
  labelsOf,
  nonEmpty,
  type Plain,
  percent,
  port,
  portName,
  str,
} from './common.ts';
import { NETWORKING } from './networking.ts';
import { retries, retriesOf } from './retries.ts';

const stringMatch: ObjectSchema = {
  t: 'object',
  fields: { exact: str, prefix: str, regex: { t: 'string', check: checkRegex } },
  oneOf: [['exact', 'prefix', 'regex']],
};
/** Headers, and on gateways claims of the request's token (`@request.auth.claims.group`). */
const headerMatch: Schema = {
  t: 'map',
  of: stringMatch,
  checkKey: (name) => {
    if (!name.startsWith('@')) return checkHeaderName(name);
    return CLAIM.test(name) ? undefined : 'is no claim: @request.auth.claims.NAME or @request.auth.claims[NAME][NAME]';
  },
};
const CLAIM = /^@request\.auth\.claims(\.[^[\]]{1,256}|(\[[^[\]]{1,256}\]){1,16})$/;
const gateways: Schema = {
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
const sources = { sourceLabels: labels, sourceNamespace: str, gateways, port };

const destinationSubnets: Schema = { t: 'list', max: 1000, of: { t: 'string', check: checkIpBlock } };

const headerPairs: Schema = {
  t: 'map',
  of: { t: 'string', check: checkHeaderValue },
  checkKey: checkHeaderName,
};
const headerList: Schema = {
  t: 'list',
  of: { t: 'string', check: (v) => (checkHeaderName(v) ? 'it is no header name' : undefined) },
};
const headerSide: ObjectSchema = { t: 'object', fields: { set: headerPairs, add: headerPairs, remove: headerList } };
const headers: ObjectSchema = { t: 'object', fields: { request: headerSide, response: headerSide } };

const destination: ObjectSchema = {
  t: 'object',
  fields: {
    host: { t: 'string', check: (v) => (v.includes('*') ? 'a destination is one host' : checkHost(v)) },
    subset: portName,
    port: { t: 'object', fields: { number: port }, required: ['number'] },
  },
  required: ['host'],
};
/** A method or the name of a header, or `*`. */
const token: Schema = {
  t: 'string',
  check: (v) => (checkHeaderName(v) ? 'it is no token of letters, digits and "-"' : undefined),
};
const weight: Schema = { t: 'int', min: 0, max: 1_000_000 };
const percentage: ObjectSchema = { t: 'object', fields: { value: percent } };

/** gRPC's status names and numbers (grpc/grpc, doc/statuscodes.md). */
const GRPC_STATUS = new Map(
  [
    'OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED',
    'RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS',
    'UNAUTHENTICATED',
  ]
    .join(' ')
    .split(' ')
    .map((name, i) => [name, i] as const),
);

const httpRoute: ObjectSchema = {
  t: 'object',
  fields: {
    name: str,
    match: {
      t: 'list',
      max: 1000,
      of: {
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
      },
    },
    route: {
      t: 'list',
      max: 1000,
      of: { t: 'object', fields: { destination, weight, headers }, required: ['destination'] },
    },
    delegate: {
      t: 'object',
      fields: { name: { t: 'string', check: checkName }, namespace: { t: 'string', check: checkLabelName } },
      required: ['name'],
    },
    redirect: {
      t: 'object',
      fields: {
        uri: str,
        authority: str,
        scheme: { t: 'string', enum: ['http', 'https'] },
        port,
        redirectCode: { t: 'int', min: 300, max: 399 },
        prefixRewrite: nonEmpty,
        derivePort: { t: 'string', enum: ['FROM_PROTOCOL_DEFAULT', 'FROM_REQUEST_PORT'] },
      },
      oneOf: [
        ['uri', 'prefixRewrite'],
        ['port', 'derivePort'],
      ],
    },
    directResponse: {
      t: 'object',
      fields: {
        status: { t: 'int', min: 200, max: 599 },
        body: {
          t: 'object',
          fields: { string: str, bytes: { t: 'string', check: checkBytes } },
          oneOf: [['string', 'bytes']],
        },
      },
      required: ['status'],
    },
    rewrite: {
      t: 'object',
      fields: {
        uri: str,
        authority: str,
        uriRegexRewrite: {
          t: 'object',
          fields: { match: { t: 'string', check: checkRegex }, rewrite: str },
          required: ['match', 'rewrite'],
        },
      },
      oneOf: [['uri', 'uriRegexRewrite']],
    },
    corsPolicy: {
      t: 'object',
      fields: {
        allowOrigins: { t: 'list', max: 1000, of: stringMatch },
        allowMethods: { t: 'list', max: 100, of: token },
        allowHeaders: { t: 'list', max: 1000, of: token },
        exposeHeaders: { t: 'list', max: 1000, of: token },
        maxAge: { t: 'duration' },
        allowCredentials: bool,
        unmatchedPreflights: { t: 'string', enum: ['UNSPECIFIED', 'FORWARD', 'IGNORE'] },
      },
      unsupported: ['allowOrigin'],
    },
    timeout: { t: 'duration' },
    retries,
    fault: {
      t: 'object',
      fields: {
        delay: {
          t: 'object',
          fields: { percentage, fixedDelay: { t: 'duration', minMs: 1 } },
          required: ['fixedDelay'],
          unsupported: ['percent', 'exponentialDelay'],
        },
        abort: {
          t: 'object',
          fields: {
            percentage,
            httpStatus: { t: 'int', min: 200, max: 599 },
            grpcStatus: {
              t: 'string',
              check: (v) =>
                GRPC_STATUS.has(v) ? undefined : `there is no such status: ${[...GRPC_STATUS.keys()].join(', ')}`,
            },
          },
          oneOf: [['httpStatus', 'grpcStatus']],
          unsupported: ['percent', 'http2Error'],
        },
      },
    },
    headers,
    mirror: destination,
    mirrorPercentage: percentage,
    mirrors: {
      t: 'list',
      max: 10,
      of: { t: 'object', fields: { destination, percentage }, required: ['destination'] },
    },
  },
  unsupported: ['mirrorPercent', 'mirror_percent'],
};

const tcpRoute: ObjectSchema = {
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

const tlsRoute: ObjectSchema = {
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

/** Annotation: retries wait for a response's Retry-After where it is at most this. */
const RETRY_AFTER_MAX = 'weft.dev/retry-after-max';

export const virtualServiceKind: Kind<VirtualServiceModel> = {
  kind: 'VirtualService',
  apiVersions: NETWORKING,
  spec: {
    t: 'object',
    fields: {
      hosts: {
        t: 'list',
        min: 1,
        max: 1000,
        of: { t: 'string', check: (v) => (v === '*' ? undefined : checkHost(v)) },
      },
      gateways,
      http: { t: 'list', max: 1000, of: httpRoute },
      tcp: { t: 'list', max: 1000, of: tcpRoute },
      tls: { t: 'list', max: 1000, of: tlsRoute },
      exportTo,
    },
  },
  specRequired: true,
  build(resource, spec, report) {
    const { namespace } = resource;
    checkFaultPosition(resource, spec, report);
    const bound = gatewaysOf(spec.gateways, namespace);
    if (!spec.hosts) checkDelegate(spec, report);
    if (bound.length === 0) bound.push(MESH_GATEWAY);
    const retryAfterMaxMs = retryAfterMax(resource, report);
    const http = ((spec.http ?? []) as Plain[])
      .map((r, i) => buildHttp(r ?? {}, namespace, `spec.http[${i}]`, report))
      .map((r) => (r.retries && retryAfterMaxMs ? { ...r, retries: { ...r.retries, retryAfterMaxMs } } : r));
    if (retryAfterMaxMs && !http.some((r) => r.retries)) {
      const message = 'has no effect: no route says how to retry';
      report('WEFT-NO-EFFECT', message, `metadata.annotations.${RETRY_AFTER_MAX}`, 'warning');
    }
    const tcp = ((spec.tcp ?? []) as Plain[]).map((r, i) => buildTcp(r ?? {}, namespace, `spec.tcp[${i}]`, report));
    const tls = ((spec.tls ?? []) as Plain[]).map((r, i) => buildTls(r ?? {}, namespace, `spec.tls[${i}]`, report));
    if (bound.includes(MESH_GATEWAY)) {
      const star = ((spec.hosts ?? []) as string[]).indexOf('*');
      if (star >= 0) report('WEFT-VALUE', '"*" is for gateways only: name the services', `spec.hosts[${star}]`);
    }
    // A delegate is bound to the gateways of those that hand over to it.
    for (const route of spec.hosts ? [...http, ...tcp, ...tls] : []) {
      for (const [j, m] of route.match.entries()) {
        const strange = m.gateways.find((g) => !bound.includes(g));
        if (strange === undefined) continue;
        const message = `names ${strange}, which spec.gateways does not (${bound.join(', ')}): it would never match`;
        report('WEFT-VALUE', message, `${route.field}.match[${j}].gateways`);
      }
    }
    if (spec.hosts && bound.includes(MESH_GATEWAY)) checkClaims(http, report);
    if (http.length + tcp.length + tls.length === 0) {
      report('WEFT-VALUE', 'a VirtualService needs at least one entry in http, tcp or tls', 'spec');
    }
    const all = http.findIndex((r) => r.match.length === 0);
    if (all >= 0 && all < http.length - 1) {
      const message = `is never reached: spec.http[${all}] before it has no match and takes every request`;
      report('WEFT-UNREACHABLE', message, `spec.http[${all + 1}]`, 'warning');
    }
    for (const [i, r] of ((spec.http ?? []) as (Plain | undefined)[]).entries()) {
      for (const [j, m] of ((r?.match ?? []) as (Plain | undefined)[]).entries()) {
        if (m?.statPrefix === undefined) continue;
        const message = 'metrics have no prefix: give the route a name, by which access logs show it';
        report('WEFT-NO-EFFECT', message, `spec.http[${i}].match[${j}].statPrefix`, 'warning');
      }
    }
    return { ...resource, exportTo: spec.exportTo, hosts: spec.hosts ?? [], gateways: bound, http, tcp, tls };
  },
};

/** Claims are known where tokens of visitors are verified: on gateways. */
function checkClaims(http: readonly HttpRouteModel[], report: FieldReport): void {
  for (const { match } of http) {
    for (const m of match) {
      // On a match that is for gateways alone it can be meant.
      if (m.gateways.length > 0 && !m.gateways.includes(MESH_GATEWAY)) continue;
      for (const [list, name] of [
        [m.headers, 'headers'],
        [m.withoutHeaders, 'withoutHeaders'],
      ] as const) {
        const claim = list.find((k) => k.name.startsWith('@'));
        if (!claim) continue;
        const message =
          'claims of tokens decide on gateways alone: leave "mesh" out of gateways, or of those of this match';
        report('WEFT-VALUE', message, `${m.field}.${name}.${claim.name}`);
      }
    }
  }
}

/** Without hosts it serves those that other VirtualServices hand over to it. */
function checkDelegate(spec: Plain, report: FieldReport): void {
  if (report.broken('spec.hosts')) return;
  for (const name of ['gateways', 'tcp', 'tls']) {
    if (!spec[name]?.length) continue;
    const message =
      'a VirtualService without hosts is a delegate, which has HTTP routes alone: name its hosts, or remove this';
    report('WEFT-VALUE', message, `spec.${name}`);
  }
  for (const [i, r] of ((spec.http ?? []) as (Plain | undefined)[]).entries()) {
    if (!r?.delegate) continue;
    report('WEFT-VALUE', 'a delegate (it has no hosts) may not hand over again: one level', `spec.http[${i}].delegate`);
  }
}

/** Names with their namespaces: a short one is in the rule's own. */
function gatewaysOf(written: unknown, namespace: string): string[] {
  const names = ((written ?? []) as (string | undefined)[]).filter((g) => g !== undefined);
  return [...new Set(names.map((g) => (g === MESH_GATEWAY || g.includes('/') ? g : `${namespace}/${g}`)))];
}

function buildHttp(r: Plain, namespace: string, field: string, report: FieldReport): HttpRouteModel {
  const actions = ['route', 'redirect', 'directResponse', 'delegate'].filter((a) =>
    a === 'route' ? r.route?.length : r[a],
  );
  if (actions.length !== 1) {
    report(
      'WEFT-VALUE',
      `needs exactly one of route, redirect, directResponse, delegate; it has ${actions.join(', ') || 'none'}`,
      field,
    );
  }
  if (r.rewrite && r.redirect) report('WEFT-VALUE', 'rewrite may not stand with redirect', `${field}.rewrite`);
  return {
    field,
    name: r.name ?? '',
    match: ((r.match ?? []) as Plain[]).map((m, i) => matchOf(m ?? {}, namespace, `${field}.match[${i}]`)),
    route: destinationsOf(r.route, field, report),
    redirect: r.redirect
      ? {
          uri: r.redirect.uri ?? '',
          authority: r.redirect.authority ?? '',
          scheme: r.redirect.scheme ?? '',
          port: r.redirect.port ?? 0,
          code: r.redirect.redirectCode ?? 301,
          prefixRewrite: r.redirect.prefixRewrite ?? '',
          derivePort: r.redirect.derivePort,
        }
      : undefined,
    delegate: r.delegate && { namespace: r.delegate.namespace ?? namespace, name: r.delegate.name ?? '' },
    directResponse: r.directResponse
      ? { status: r.directResponse.status ?? 200, body: bodyOf(r.directResponse.body) }
      : undefined,
    rewrite: r.rewrite ? rewriteOf(r.rewrite, `${field}.rewrite`, report) : undefined,
    cors: r.corsPolicy ? corsOf(r.corsPolicy, `${field}.corsPolicy`, report) : undefined,
    timeoutMs: r.timeout,
    retries: r.retries ? retriesOf(r.retries, `${field}.retries`, report) : undefined,
    fault: r.fault ? faultOf(r.fault, `${field}.fault`, report) : undefined,
    headers: headersOf(r.headers),
    mirrors: mirrorsOf(r, field, report),
  };
}

function checkBytes(value: string): string | undefined {
  return textOf(value) === undefined ? 'it is no base64 of UTF-8 text' : undefined;
}

function textOf(base64: string): string | undefined {
  try {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function bodyOf(body: Plain | undefined): string {
  return body?.string ?? textOf(body?.bytes ?? '') ?? '';
}

function rewriteOf(r: Plain, field: string, report: FieldReport): HttpRouteModel['rewrite'] {
  const { match = '', rewrite = '' } = (r.uriRegexRewrite ?? {}) as { match?: string; rewrite?: string };
  const groups = match === '' || checkRegex(match) ? 0 : RE2JS.compile(match).groupCount();
  for (const [, group] of rewrite.matchAll(/\\(\d)/g)) {
    if (Number(group) <= groups) continue;
    report('WEFT-VALUE', `names the group \\${group}, but match has ${groups}`, `${field}.uriRegexRewrite.rewrite`);
  }
  return { uri: r.uri ?? '', authority: r.authority ?? '', regex: match, substitution: rewrite };
}

function corsOf(c: Plain, field: string, report: FieldReport): CorsModel {
  const allowOrigins = ((c.allowOrigins ?? []) as (Plain | undefined)[]).flatMap((m) => stringOf(m) ?? []);
  if (allowOrigins.length === 0) {
    report('WEFT-NO-EFFECT', 'without allowOrigins no origin is allowed anything', field, 'warning');
  }
  return {
    allowOrigins,
    allowMethods: c.allowMethods ?? [],
    allowHeaders: c.allowHeaders ?? [],
    exposeHeaders: c.exposeHeaders ?? [],
    maxAgeMs: c.maxAge,
    allowCredentials: c.allowCredentials ?? false,
    ignoreUnmatchedPreflights: c.unmatchedPreflights === 'IGNORE',
  };
}

/** `mirror` with `mirrorPercentage` is the older form of one entry of `mirrors`. */
function mirrorsOf(r: Plain, field: string, report: FieldReport): MirrorModel[] {
  if (r.mirrorPercentage && !r.mirror) {
    const message = 'without mirror no request is copied; an entry of mirrors has a percentage of its own';
    report('WEFT-NO-EFFECT', message, `${field}.mirrorPercentage`, 'warning');
  }
  const list: MirrorModel[] = [];
  const add = (d: Plain | undefined, percentage: Plain | undefined, at: string): void => {
    const { host, subset, port: p } = d ?? {};
    // Absent: all. A percentage without a value is 0, as in Istio.
    const part = percentage ? (percentage.value ?? 0) : 100;
    list.push({ field: at, host: host ?? '', subset: subset ?? '', port: p?.number ?? 0, percent: part });
  };
  if (r.mirror) add(r.mirror, r.mirrorPercentage, `${field}.mirror`);
  for (const [i, m] of ((r.mirrors ?? []) as Plain[]).entries()) {
    add(m?.destination, m?.percentage, `${field}.mirrors[${i}].destination`);
  }
  const at = `${field}.${r.mirror ? 'mirror' : 'mirrors'}`;
  if (r.mirror && r.mirrors?.length) report('WEFT-VALUE', 'mirror may not stand with mirrors: use mirrors', at);
  if (list.length > 0 && !r.route?.length && !r.delegate)
    report('WEFT-VALUE', 'only requests of a route are copied', at);
  return list;
}

function buildTcp(r: Plain, namespace: string, field: string, report: FieldReport): TcpRouteModel {
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

function buildTls(r: Plain, namespace: string, field: string, report: FieldReport): TlsRouteModel {
  const { match, route } = buildTcp(r, namespace, field, report);
  return { field, match: match.map((m, i) => ({ ...m, sniHosts: r.match?.[i]?.sniHosts ?? [] })), route };
}

function destinationsOf(route: Plain[] | undefined, field: string, report: FieldReport): DestinationModel[] {
  const list = (route ?? []).map((d, i) => ({
    field: `${field}.route[${i}]`,
    host: d?.destination?.host ?? '',
    subset: d?.destination?.subset ?? '',
    port: d?.destination?.port?.number ?? 0,
    // One destination takes all, whatever its weight says
    weight: route?.length === 1 ? 100 : (d?.weight ?? 0),
    headers: headersOf(d?.headers),
  }));
  const alone = route?.length === 1 ? route[0]?.weight : undefined;
  if (alone !== undefined && alone < 100) {
    const message = `is ${alone}, but the destination is alone: it gets all requests`;
    report('WEFT-NO-EFFECT', message, `${field}.route[0].weight`, 'warning');
  }
  const sum = list.reduce((n, d) => n + d.weight, 0);
  if (list.length > 0 && sum === 0)
    report('WEFT-VALUE', 'the weights add up to 0: nothing would be routed', `${field}.route`);
  if (sum > 4_294_967_295) report('WEFT-VALUE', 'the weights add up to more than 4294967295', `${field}.route`);
  return list;
}

function matchOf(m: Plain, namespace: string, field: string): HttpMatchModel {
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

function stringOf(m: Plain | undefined): StringMatchModel | undefined {
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

/** How long a Retry-After may be that the routes' retries wait for; undefined: they look at none. */
function retryAfterMax(resource: Resource, report: FieldReport): number | undefined {
  const text = resource.annotations[RETRY_AFTER_MAX];
  if (text === undefined) return undefined;
  const ms = parseDuration(text);
  if (ms !== undefined && ms >= 1000) return ms;
  const message = `is "${text.slice(0, 40)}", not a duration of at least 1s`;
  report('WEFT-VALUE', message, `metadata.annotations.${RETRY_AFTER_MAX}`);
  return undefined;
}

function checkFaultPosition(resource: Resource, spec: Plain, report: FieldReport): void {
  const position = resource.annotations[FAULT_POSITION];
  if (position === undefined) return;
  const field = `metadata.annotations.${FAULT_POSITION}`;
  if (position !== 'before-retry' && position !== 'behind-retry') {
    report('WEFT-VALUE', `is "${position.slice(0, 40)}"; it may be before-retry, behind-retry`, field);
  } else if (!((spec.http ?? []) as Plain[]).some((r) => r?.fault)) {
    report('WEFT-NO-EFFECT', 'has no effect: no route has a fault', field, 'warning');
  }
}

function faultOf(f: Plain, field: string, report: FieldReport): FaultModel {
  if (!f.delay && !f.abort) report('WEFT-VALUE', 'a fault needs delay or abort', field);
  if (f.abort && f.abort.httpStatus === undefined && f.abort.grpcStatus === undefined) {
    report('WEFT-FIELD', 'an abort needs httpStatus or grpcStatus', `${field}.abort`);
  }
  for (const kind of ['delay', 'abort']) {
    if (f[kind] && f[kind].percentage?.value === undefined) {
      report('WEFT-NO-EFFECT', 'without percentage.value no request is touched', `${field}.${kind}`, 'warning');
    }
  }
  return {
    delay: f.delay ? { percent: f.delay.percentage?.value ?? 0, delayMs: f.delay.fixedDelay ?? 0 } : undefined,
    abort: f.abort
      ? {
          percent: f.abort.percentage?.value ?? 0,
          httpStatus: f.abort.httpStatus ?? 0,
          grpcStatus: GRPC_STATUS.get(f.abort.grpcStatus) ?? 0,
        }
      : undefined,
  };
}

function headersOf(h: Plain | undefined): HeaderOperationsModel | undefined {
  if (!h) return undefined;
  const pairs = (map: Plain | undefined) =>
    Object.entries(map ?? {}).map(([name, value]) => [name.toLowerCase(), String(value ?? '')] as const);
  const names = (list: string[] | undefined) => (list ?? []).map((n) => String(n).toLowerCase());
  return {
    requestSet: pairs(h.request?.set),
    requestAdd: pairs(h.request?.add),
    requestRemove: names(h.request?.remove),
    responseSet: pairs(h.response?.set),
    responseAdd: pairs(h.response?.add),
    responseRemove: names(h.response?.remove),
  };
}
