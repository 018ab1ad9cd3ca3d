/** One entry of `spec.http`. */
import type { HttpRouteModel } from '@weft/model';
import { RE2JS } from 're2js';
import type { ObjectSchema } from '../../schema.ts';
import { checkLabelName, checkName, checkRegex, type FieldReport, nonEmpty, type Plain, port, str } from '../common.ts';
import { retries, retriesOf } from '../retries.ts';
import { corsOf, corsPolicy } from './cors.ts';
import { destination, destinationsOf, mirrorsOf, percentage, weight } from './destinations.ts';
import { fault, faultOf } from './fault.ts';
import { headers, headersOf } from './headers.ts';
import { httpMatch, matchOf } from './match.ts';

const redirect: ObjectSchema = {
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
};

const directResponse: ObjectSchema = {
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
};

const rewrite: ObjectSchema = {
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
};

export const httpRoute: ObjectSchema = {
  t: 'object',
  fields: {
    name: str,
    match: { t: 'list', max: 1000, of: httpMatch },
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
    redirect,
    directResponse,
    rewrite,
    corsPolicy,
    timeout: { t: 'duration' },
    retries,
    fault,
    headers,
    mirror: destination,
    mirrorPercentage: percentage,
    mirrors: {
      t: 'list',
      max: 10,
      of: { t: 'object', fields: { destination, percentage }, required: ['destination'] },
    },
  },
  replaced: { mirrorPercent: 'mirrorPercentage: {value: …}', mirror_percent: 'mirrorPercentage: {value: …}' },
};

export function buildHttp(r: Plain, namespace: string, field: string, report: FieldReport): HttpRouteModel {
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
    redirect: r.redirect ? redirectOf(r.redirect) : undefined,
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

function redirectOf(r: Plain): HttpRouteModel['redirect'] {
  return {
    uri: r.uri ?? '',
    authority: r.authority ?? '',
    scheme: r.scheme ?? '',
    port: r.port ?? 0,
    code: r.redirectCode ?? 301,
    prefixRewrite: r.prefixRewrite ?? '',
    derivePort: r.derivePort,
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
