/** Istio's VirtualService, on the mesh and on gateways. */
import {
  type HttpRouteModel,
  MESH_GATEWAY,
  type Resource,
  type TcpRouteModel,
  type TlsRouteModel,
  type VirtualServiceModel,
} from '@weft/model';
import { parseDuration } from '../schema.ts';
import { checkHost, exportTo, type FieldReport, type Kind, type Plain } from './common.ts';
import { NETWORKING } from './networking.ts';
import { buildTcp, buildTls, tcpRoute, tlsRoute } from './virtual-service/connection-routes.ts';
import { checkFaultPosition, withBandwidth } from './virtual-service/fault.ts';
import { buildHttp, httpRoute } from './virtual-service/http-route.ts';
import { gateways, gatewaysOf } from './virtual-service/match.ts';

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
    if (spec.hosts) checkGateways([...http, ...tcp, ...tls], bound, report);
    if (spec.hosts && bound.includes(MESH_GATEWAY)) checkClaims(http, report);
    if (http.length + tcp.length + tls.length === 0) {
      report('WEFT-VALUE', 'a VirtualService needs at least one entry in http, tcp or tls', 'spec');
    }
    checkReached(http, report);
    checkMatches(spec, report);
    const paced = withBandwidth(resource, http, report);
    return { ...resource, exportTo: spec.exportTo, hosts: spec.hosts ?? [], gateways: bound, http: paced, tcp, tls };
  },
};

/** Matches name gateways of the VirtualService's own alone. */
function checkGateways(
  routes: readonly (HttpRouteModel | TcpRouteModel | TlsRouteModel)[],
  bound: readonly string[],
  report: FieldReport,
): void {
  for (const route of routes) {
    for (const [j, m] of route.match.entries()) {
      const strange = m.gateways.find((g) => !bound.includes(g));
      if (strange === undefined) continue;
      const message = `names ${strange}, which spec.gateways does not (${bound.join(', ')}): it would never match`;
      report('WEFT-VALUE', message, `${route.field}.match[${j}].gateways`);
    }
  }
}

function checkReached(http: readonly HttpRouteModel[], report: FieldReport): void {
  const all = http.findIndex((r) => r.match.length === 0);
  if (all < 0 || all === http.length - 1) return;
  const message = `is never reached: spec.http[${all}] before it has no match and takes every request`;
  report('WEFT-UNREACHABLE', message, `spec.http[${all + 1}]`, 'warning');
}

/** Fields of a match that do nothing. */
function checkMatches(spec: Plain, report: FieldReport): void {
  for (const [i, r] of ((spec.http ?? []) as (Plain | undefined)[]).entries()) {
    for (const [j, m] of ((r?.match ?? []) as (Plain | undefined)[]).entries()) {
      const at = `spec.http[${i}].match[${j}]`;
      if (m?.statPrefix !== undefined) {
        const message = 'metrics have no prefix: give the route a name, by which access logs show it';
        report('WEFT-NO-EFFECT', message, `${at}.statPrefix`, 'warning');
      }
      if (m?.ignoreUriCase && m.uri?.exact === undefined && m.uri?.prefix === undefined) {
        const message = 'is for exact and prefix of uri; a pattern says it itself, by (?i)';
        report('WEFT-NO-EFFECT', message, `${at}.ignoreUriCase`, 'warning');
      }
    }
  }
}

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
