/** HTTP routes of one service port for one client. */
import { create } from '@bufbuild/protobuf';
import {
  type CorsPolicy,
  CorsPolicySchema,
  DerivePort,
  DirectResponseSchema,
  type Fault,
  FaultSchema,
  type HttpRoute,
  HttpRouteSchema,
  RedirectSchema,
  type RetryPolicy,
  RetryPolicySchema,
  RewriteSchema,
  type SessionPersistence,
  SessionPersistenceSchema,
} from '@weft/plan';
import { rankedRoutes, routesOfService } from './api-routes.ts';
import { backendPoliciesOf, sessionPolicyOf } from './backend-policies.ts';
import type { Client } from './clusters.ts';
import type { Compilation } from './compilation.ts';
import { httpRoutesOf } from './delegates.ts';
import { resolveHost } from './hosts.ts';
import { findService, virtualServiceFor } from './lookup.ts';
import { meshConfigOf } from './mesh-config.ts';
import { mayCarryHttp } from './protocols.ts';
import { headersOf, mirrorOf, ownCluster, weighted } from './route-destinations.ts';
import { httpMatch, matchesFor, stringMatch } from './route-match.ts';
import type { BackendPolicyModel } from './types/gateway-api.ts';
import type { Model } from './types/model.ts';
import type { Resource } from './types/resource.ts';
import {
  type CorsModel,
  type FaultModel,
  type HttpMatchModel,
  type HttpRouteModel,
  MESH_GATEWAY,
  type RetriesModel,
  type SessionModel,
  type VirtualServiceModel,
} from './types/route.ts';
import type { ServiceModel, ServicePortModel } from './types/service.ts';
import type { MeshDefaultsModel } from './types/weft.ts';

/** Annotation of a VirtualService: whether its faults stand before the retry layer (Istio's place) or behind it. */
export const FAULT_POSITION = 'weft.dev/fault-position';

/** Annotation of a VirtualService: how fast responses' bodies are at most. */
export const FAULT_BANDWIDTH = 'weft.dev/fault-bandwidth';

export const DEFAULT_RETRY_ON: readonly string[] = [
  'connect-failure',
  'refused-stream',
  'unavailable',
  'cancelled',
  'retriable-status-codes',
];

/** MeshDefaults for a destination: of the service's namespace, else of the root namespace. */
export function defaultTimeout(model: Model, namespace: string): { ms: number; from: MeshDefaultsModel | undefined } {
  for (const level of [namespace, model.rootNamespace]) {
    const found = model.meshDefaults.find((d) => d.namespace === level && d.timeoutMs !== undefined);
    if (found) return { ms: found.timeoutMs ?? 0, from: found };
  }
  return { ms: 0, from: undefined };
}

export function compileHttpRoutes(
  c: Compilation,
  client: Client,
  service: ServiceModel,
  port: ServicePortModel,
): HttpRoute[] {
  if (!mayCarryHttp(port.protocol)) return [];
  const fallback = defaultTimeout(c.model, service.namespace);
  const timeoutRef = fallback.from ? c.refs.use(fallback.from, 'spec.timeout') : '';
  const inherited = { ms: fallback.ms, ref: timeoutRef };
  const attached = rankedRoutes(routesOfService(c.model, client, service, port, 'http'), port.port);
  if (attached.length > 0) {
    return attached.map((r) => httpRoute(c, r.from, r.route, r.route.match, inherited, port.port));
  }
  const vs = virtualServiceFor(c.model, service, client);
  if (!vs || vs.http.length === 0) {
    return [
      create(HttpRouteSchema, {
        ref: c.refs.use(service, port.field),
        name: 'default',
        clusters: [ownCluster(c, service, port)],
        timeoutMs: fallback.ms,
        timeoutRef,
        retry: retryOf(c, undefined, ''),
        session: policySession(
          c,
          backendPoliciesOf(c.model, service).find((p) => p.session),
        ),
      }),
    ];
  }
  const routes = virtualServiceRoutes(c, client, vs, MESH_GATEWAY, port.port, inherited);
  if (routes.length === 0) {
    // A port that carries HTTP always has a route: this one says what "no rule for this caller" means.
    const direct = create(DirectResponseSchema, { status: 404, body: '' });
    routes.push(create(HttpRouteSchema, { ref: c.refs.use(vs, 'spec.http'), name: 'no-rule', directResponse: direct }));
  }
  return routes;
}

/** The routes of a VirtualService that hold for this client on one of its gateways (`mesh`, or a Gateway's) and port. */
export function virtualServiceRoutes(
  c: Compilation,
  client: Client,
  vs: VirtualServiceModel,
  gateway: string,
  port: number,
  fallback: { ms: number; ref: string } = { ms: 0, ref: '' },
): HttpRoute[] {
  const routes: HttpRoute[] = [];
  for (const route of httpRoutesOf(c.model, vs)) {
    const match = matchesFor(route.match, client, gateway, port);
    if (match) routes.push(httpRoute(c, route.owner ?? vs, route, match, fallback, port));
  }
  return routes;
}

/** `from`: the VirtualService, or route of the Gateway API, that says so. */
export function httpRoute(
  c: Compilation,
  from: Resource,
  route: HttpRouteModel,
  match: readonly HttpMatchModel[],
  fallback: { ms: number; ref: string },
  port: number,
): HttpRoute {
  const own = route.timeoutMs !== undefined;
  const { inherited: outer } = route;
  const ownerOf = (key: string): Resource => (outer?.keys.includes(key) ? outer.owner : from);
  const said = (key: string, name = key): string =>
    outer?.keys.includes(key)
      ? c.refs.use(outer.owner, `${outer.field}.${name}`)
      : c.refs.use(from, `${route.field}.${name}`);
  const forwards = route.route.length > 0;
  // The timeout is that of the destination's namespace, where the route does not say its own.
  const first = forwards
    ? findService(c.model, resolveHost(route.route[0].host, from.namespace, c.model.domain))
    : undefined;
  const ofTarget = first ? defaultTimeout(c.model, first.namespace) : undefined;
  const inherited = ofTarget
    ? { ms: ofTarget.ms, ref: ofTarget.from ? c.refs.use(ofTarget.from, 'spec.timeout') : '' }
    : fallback;
  return create(HttpRouteSchema, {
    ref: c.refs.use(from, route.field),
    name: route.name,
    match: match.map((m) => httpMatch(m, m.owner ?? from, c.refs)),
    clusters: route.route.map((d) => weighted(c, from, d, port)),
    redirect: route.redirect
      ? create(RedirectSchema, { ...route.redirect, derivePort: DERIVED[route.redirect.derivePort ?? ''] })
      : undefined,
    directResponse: route.directResponse ? create(DirectResponseSchema, { ...route.directResponse }) : undefined,
    timeoutMs: !forwards ? 0 : own ? route.timeoutMs : inherited.ms,
    timeoutRef: !forwards ? '' : own ? said('timeoutMs', 'timeout') : inherited.ref,
    retry: forwards ? retryOf(c, route.retries, route.retries ? said('retries') : '') : undefined,
    fault: route.fault ? faultOf(c, route.fault, ownerOf('fault'), () => said('fault')) : undefined,
    headers: headersOf(route.headers),
    rewrite: route.rewrite ? create(RewriteSchema, { ...route.rewrite }) : undefined,
    session: route.session
      ? sessionOf(c, route.session, from)
      : policySession(c, forwards ? sessionPolicyOf(c.model, from, route.route) : undefined),
    cors: route.cors ? corsOf(route.cors, said('cors', 'corsPolicy')) : undefined,
    mirrors: route.mirrors.map((m) => mirrorOf(c, route.inherited?.mirrors ? route.inherited.owner : from, m, port)),
  });
}

const DERIVED = {
  '': DerivePort.UNSPECIFIED,
  FROM_PROTOCOL_DEFAULT: DerivePort.FROM_PROTOCOL_DEFAULT,
  FROM_REQUEST_PORT: DerivePort.FROM_REQUEST_PORT,
};

function policySession(c: Compilation, policy: BackendPolicyModel | undefined): SessionPersistence | undefined {
  return policy?.session && sessionOf(c, policy.session, policy);
}

function sessionOf(c: Compilation, session: SessionModel, from: Resource): SessionPersistence {
  const { field, ...rest } = session;
  return create(SessionPersistenceSchema, { ref: c.refs.use(from, field), ...rest });
}

function corsOf(cors: CorsModel, ref: string): CorsPolicy {
  return create(CorsPolicySchema, {
    ref,
    allowOrigins: cors.allowOrigins.map((m) => stringMatch(m)!),
    allowMethods: [...cors.allowMethods],
    allowHeaders: [...cors.allowHeaders],
    exposeHeaders: [...cors.exposeHeaders],
    maxAgeSeconds: cors.maxAgeMs === undefined ? undefined : Math.floor(cors.maxAgeMs / 1000),
    allowCredentials: cors.allowCredentials,
    ignoreUnmatchedPreflights: cors.ignoreUnmatchedPreflights,
  });
}

/**
 * What the route says, else the mesh settings, else the default policy (2 retries on failures that are safe to retry).
 * `attempts: 0`: none.
 */
function retryOf(c: Compilation, own: RetriesModel | undefined, ownRef: string): RetryPolicy {
  const settings = meshConfigOf(c.model);
  const r = own ?? settings?.retries;
  const ref = !own && settings?.retries ? c.refs.use(settings, `${settings.field}.defaultHttpRetryPolicy`) : ownRef;
  const base = r?.backoffMs || 25;
  return create(RetryPolicySchema, {
    ref,
    attempts: r ? r.attempts : 2,
    perTryTimeoutMs: r?.perTryTimeoutMs ?? 0,
    retryOn: r && r.retryOn.length > 0 ? [...r.retryOn] : [...DEFAULT_RETRY_ON],
    statusCodes: [...(r?.statusCodes ?? [])],
    backoffBaseMs: base,
    backoffMaxMs: 10 * base,
    ignorePreviousHosts: r?.ignorePreviousHosts ?? true,
    remoteLocalities: r?.remoteLocalities ?? false,
    retryAfterMaxMs: r?.retryAfterMaxMs ?? 0,
  });
}

function faultOf(c: Compilation, f: FaultModel, from: Resource, written: () => string): Fault {
  const grpc = f.abort !== undefined && f.abort.httpStatus === 0;
  return create(FaultSchema, {
    ref: f.delay || f.abort ? written() : c.refs.use(from, `metadata.annotations.${FAULT_BANDWIDTH}`),
    bandwidthPercent: f.bandwidth?.percent ?? 0,
    bandwidthBytesPerSecond: f.bandwidth?.bytesPerSecond ?? 0,
    delayPercent: f.delay?.percent ?? 0,
    delayMs: f.delay?.delayMs ?? 0,
    abortPercent: f.abort?.percent ?? 0,
    abortStatus: f.abort?.httpStatus ?? 0,
    abortGrpcStatus: grpc ? (f.abort?.grpcStatus ?? 0) : 0,
    abortIsGrpc: grpc,
    behindRetry: from.annotations[FAULT_POSITION] === 'behind-retry',
  });
}
