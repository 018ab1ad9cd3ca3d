/** Routes of one service port for one client (features: B-5, B-7, B-9). */
import { create } from '@bufbuild/protobuf';
import {
  type CorsPolicy,
  CorsPolicySchema,
  DerivePort,
  DirectResponseSchema,
  type Fault,
  FaultSchema,
  type HeaderOperations,
  HeaderOperationsSchema,
  type HttpMatch,
  HttpMatchSchema,
  type HttpRoute,
  HttpRouteSchema,
  type KeyMatch,
  KeyMatchSchema,
  type Mirror,
  MirrorSchema,
  outboundClusterName,
  RedirectSchema,
  type RetryPolicy,
  RetryPolicySchema,
  RewriteSchema,
  type SessionPersistence,
  SessionPersistenceSchema,
  type StringMatch,
  StringMatchSchema,
  type TcpRoute,
  TcpRouteSchema,
  type TlsRoute,
  TlsRouteSchema,
  type WeightedCluster,
  WeightedClusterSchema,
} from '@weft/plan';
import { rankedRoutes, routesOfService } from './api-routes.ts';
import { backendPoliciesOf, sessionPolicyOf } from './backend-policies.ts';
import type { Client } from './clusters.ts';
import { httpRoutesOf } from './delegates.ts';
import { isSeenFrom, labelsMatch, resolveHost, serviceHost } from './hosts.ts';
import { findService, meshVirtualServices } from './lookup.ts';
import { meshConfigOf } from './mesh-config.ts';
import { mayCarryHttp } from './protocols.ts';
import type { RefTable } from './refs.ts';
import type { BackendPolicyModel } from './types/gateway-api.ts';
import type { Model } from './types/model.ts';
import type { Resource } from './types/resource.ts';
import {
  type CorsModel,
  type DestinationModel,
  type FaultModel,
  type HeaderOperationsModel,
  type HttpMatchModel,
  type HttpRouteModel,
  type KeyMatchModel,
  MESH_GATEWAY,
  type MirrorModel,
  type RetriesModel,
  type SessionModel,
  type StringMatchModel,
  type TcpRouteModel,
  type TlsRouteModel,
  type VirtualServiceModel,
} from './types/route.ts';
import type { ServiceModel, ServicePortModel } from './types/service.ts';
import type { MeshDefaultsModel } from './types/weft.ts';

/** Annotation of a VirtualService: whether its faults stand before the retry layer (Istio's place) or behind it. */
export const FAULT_POSITION = 'weft.dev/fault-position';

export const DEFAULT_RETRY_ON: readonly string[] = [
  'connect-failure',
  'refused-stream',
  'unavailable',
  'cancelled',
  'retriable-status-codes',
];

/** The VirtualService that a client sees for a service: the most specific host, the first in file order among equals. */
export function virtualServiceFor(
  model: Model,
  service: ServiceModel,
  client: Pick<Client, 'namespace'>,
): VirtualServiceModel | undefined {
  let best: VirtualServiceModel | undefined;
  let bestScore = -1;
  for (const { value, specificity } of meshVirtualServices(model).covering(serviceHost(service, model.domain))) {
    if (specificity <= bestScore || !isSeenFrom(value, client.namespace)) continue;
    best = value;
    bestScore = specificity;
  }
  return best;
}

/** MeshDefaults for a destination: of the service's namespace, else of the root namespace. */
export function defaultTimeout(model: Model, namespace: string): { ms: number; from: MeshDefaultsModel | undefined } {
  for (const level of [namespace, model.rootNamespace]) {
    const found = model.meshDefaults.find((d) => d.namespace === level && d.timeoutMs !== undefined);
    if (found) return { ms: found.timeoutMs ?? 0, from: found };
  }
  return { ms: 0, from: undefined };
}

export function compileHttpRoutes(
  model: Model,
  domain: string,
  client: Client,
  service: ServiceModel,
  port: ServicePortModel,
  refs: RefTable,
): HttpRoute[] {
  if (!mayCarryHttp(port.protocol)) return [];
  const fallback = defaultTimeout(model, service.namespace);
  const timeoutRef = fallback.from ? refs.use(fallback.from, 'spec.timeout') : '';
  const inherited = { ms: fallback.ms, ref: timeoutRef };
  const attached = rankedRoutes(routesOfService(model, client, service, port, 'http'), port.port);
  if (attached.length > 0) {
    return attached.map((r) => httpRoute(model, domain, r.from, r.route, r.route.match, inherited, port.port, refs));
  }
  const vs = virtualServiceFor(model, service, client);
  if (!vs || vs.http.length === 0) {
    return [
      create(HttpRouteSchema, {
        ref: refs.use(service, port.field),
        name: 'default',
        clusters: [ownCluster(domain, service, port, refs)],
        timeoutMs: fallback.ms,
        timeoutRef,
        retry: retryOf(model, undefined, '', refs),
        session: policySession(
          backendPoliciesOf(model, service).find((p) => p.session),
          refs,
        ),
      }),
    ];
  }
  const routes = virtualServiceRoutes(model, domain, client, vs, MESH_GATEWAY, port.port, refs, inherited);
  if (routes.length === 0) {
    // A port that carries HTTP always has a route: this one says what "no rule for this caller" means.
    const direct = create(DirectResponseSchema, { status: 404, body: '' });
    routes.push(create(HttpRouteSchema, { ref: refs.use(vs, 'spec.http'), name: 'no-rule', directResponse: direct }));
  }
  return routes;
}

/** The routes of a VirtualService that hold for this client on one of its gateways (`mesh`, or a Gateway's) and port. */
export function virtualServiceRoutes(
  model: Model,
  domain: string,
  client: Client,
  vs: VirtualServiceModel,
  gateway: string,
  port: number,
  refs: RefTable,
  fallback: { ms: number; ref: string } = { ms: 0, ref: '' },
): HttpRoute[] {
  const routes: HttpRoute[] = [];
  for (const route of httpRoutesOf(model, vs)) {
    const match = matchesFor(route.match, client, gateway, port);
    if (match) routes.push(httpRoute(model, domain, route.owner ?? vs, route, match, fallback, port, refs));
  }
  return routes;
}

export function compileTcpRoutes(
  model: Model,
  domain: string,
  client: Client,
  service: ServiceModel,
  port: ServicePortModel,
  refs: RefTable,
): TcpRoute[] {
  for (const from of routesOfService(model, client, service, port, 'tcp')) {
    return [tcpRoute(model, domain, from, from.tcp[0], port.port, refs)];
  }
  const vs = virtualServiceFor(model, service, client);
  const routes = vs ? virtualServiceTcpRoutes(model, domain, client, vs, MESH_GATEWAY, port.port, refs) : [];
  if (routes.at(-1)?.destinationSubnets.length === 0) return routes;
  const clusters = [ownCluster(domain, service, port, refs)];
  routes.push(create(TcpRouteSchema, { ref: refs.use(service, port.field), clusters }));
  return routes;
}

/** The TCP routes of a VirtualService for this client on one of its gateways and port, up to one that takes all. */
export function virtualServiceTcpRoutes(
  model: Model,
  domain: string,
  client: Client,
  vs: VirtualServiceModel,
  gateway: string,
  port: number,
  refs: RefTable,
): TcpRoute[] {
  const routes: TcpRoute[] = [];
  for (const route of vs.tcp) {
    const match = matchesFor(route.match, client, gateway, port);
    if (!match) continue;
    const made = tcpRoute(model, domain, vs, route, port, refs);
    routes.push(made);
    // What was dialled is known where it was captured; at a gateway it is the gateway.
    if (match.length === 0 || gateway !== MESH_GATEWAY) return routes;
    if (match.some((m) => m.destinationSubnets.length === 0)) return routes;
    made.destinationSubnets = match.flatMap((m) => m.destinationSubnets);
  }
  return routes;
}

export function tcpRoute(
  model: Model,
  domain: string,
  from: Resource,
  route: TcpRouteModel,
  port: number,
  refs: RefTable,
): TcpRoute {
  const clusters = route.route.map((d) => weighted(model, domain, from, d, port, refs));
  return create(TcpRouteSchema, { ref: refs.use(from, route.field), clusters });
}

/** Of the ports that may carry the application's own TLS. */
export function compileTlsRoutes(
  model: Model,
  domain: string,
  client: Client,
  service: ServiceModel,
  port: ServicePortModel,
  refs: RefTable,
): TlsRoute[] {
  if (port.protocol !== 'tls' && port.protocol !== 'tcp' && port.protocol !== 'detect') return [];
  const routes: TlsRoute[] = [];
  for (const from of routesOfService(model, client, service, port, 'tls'))
    for (const route of from.tls) routes.push(...tlsRoutes(model, domain, from, route, route.match, port.port, refs));
  if (routes.length > 0) return routes;
  const vs = virtualServiceFor(model, service, client);
  return vs ? virtualServiceTlsRoutes(model, domain, client, vs, MESH_GATEWAY, port.port, refs) : [];
}

/** The TLS routes of a VirtualService that hold for this client on one of its gateways and port. */
export function virtualServiceTlsRoutes(
  model: Model,
  domain: string,
  client: Client,
  vs: VirtualServiceModel,
  gateway: string,
  port: number,
  refs: RefTable,
): TlsRoute[] {
  return vs.tls.flatMap((route) => {
    const match = route.match.filter((m) => appliesTo(m, client, gateway, port));
    // What was dialled is known where it was captured; at a gateway it is the gateway.
    const here = gateway === MESH_GATEWAY ? match : match.map((m) => ({ ...m, destinationSubnets: [] }));
    return tlsRoutes(model, domain, vs, route, here, port, refs);
  });
}

/** One entry for all names of matches that ask for no address, and one for each match that does. */
export function tlsRoutes(
  model: Model,
  domain: string,
  from: Resource,
  route: TlsRouteModel,
  match: TlsRouteModel['match'],
  port: number,
  refs: RefTable,
): TlsRoute[] {
  if (match.length === 0) return [];
  const clusters = route.route.map((d) => weighted(model, domain, from, d, port, refs));
  const ref = refs.use(from, route.field);
  const routes: TlsRoute[] = [];
  const add = (names: readonly string[], destinationSubnets: string[]): void => {
    const sniHosts = names.map((h) => h.toLowerCase());
    routes.push(create(TlsRouteSchema, { ref, sniHosts, clusters, destinationSubnets }));
  };
  const anywhere = match.filter((m) => m.destinationSubnets.length === 0).flatMap((m) => m.sniHosts);
  for (const m of match) if (m.destinationSubnets.length > 0) add(m.sniHosts, [...m.destinationSubnets]);
  if (anywhere.length > 0) add(anywhere, []);
  return routes;
}

/** Those that can hold for this client there; undefined: none can. With no match at all a route holds always. */
function matchesFor<M extends Parameters<typeof appliesTo>[0]>(
  matches: readonly M[],
  client: Client,
  gateway: string,
  port: number,
): M[] | undefined {
  const match = matches.filter((m) => appliesTo(m, client, gateway, port));
  return matches.length > 0 && match.length === 0 ? undefined : match;
}

function appliesTo(
  m: Pick<HttpMatchModel, 'port' | 'sourceLabels' | 'sourceNamespace' | 'gateways'>,
  client: Client,
  gateway: string,
  port: number,
): boolean {
  if (m.gateways.length > 0 && !m.gateways.includes(gateway)) return false;
  if (m.port !== 0 && m.port !== port) return false;
  if (m.sourceNamespace !== '' && m.sourceNamespace !== client.namespace) return false;
  return labelsMatch(m.sourceLabels, client.labels);
}

function ownCluster(domain: string, service: ServiceModel, port: ServicePortModel, refs: RefTable): WeightedCluster {
  const cluster = outboundClusterName(port.port, '', serviceHost(service, domain));
  return create(WeightedClusterSchema, { ref: refs.use(service, port.field), cluster, weight: 100 });
}

function weighted(
  model: Model,
  domain: string,
  from: Resource,
  d: DestinationModel,
  listenerPort: number,
  refs: RefTable,
): WeightedCluster {
  return create(WeightedClusterSchema, {
    ref: refs.use(from, d.field),
    cluster: clusterOf(model, domain, from, d, listenerPort),
    weight: d.weight,
    headers: headersOf(d.headers),
  });
}

function mirrorOf(
  model: Model,
  domain: string,
  from: Resource,
  m: MirrorModel,
  listenerPort: number,
  refs: RefTable,
): Mirror {
  return create(MirrorSchema, {
    ref: refs.use(from, m.field),
    cluster: clusterOf(model, domain, from, m, listenerPort),
    percent: m.percent,
  });
}

function clusterOf(
  model: Model,
  domain: string,
  from: Resource,
  d: { host: string; subset: string; port: number },
  listenerPort: number,
): string {
  const host = resolveHost(d.host, from.namespace, model.domain);
  const target = findService(model, host);
  const tcp = target?.ports.filter((p) => p.transport === 'TCP') ?? [];
  const port = d.port || (tcp.length === 1 ? tcp[0].port : listenerPort);
  return outboundClusterName(port, d.subset, target ? serviceHost(target, domain) : host);
}

/** `from`: the VirtualService, or route of the Gateway API, that says so. */
export function httpRoute(
  model: Model,
  domain: string,
  from: Resource,
  route: HttpRouteModel,
  match: readonly HttpMatchModel[],
  fallback: { ms: number; ref: string },
  port: number,
  refs: RefTable,
): HttpRoute {
  const own = route.timeoutMs !== undefined;
  const { inherited: outer } = route;
  const ownerOf = (key: string): Resource => (outer?.keys.includes(key) ? outer.owner : from);
  const said = (key: string, name = key): string =>
    outer?.keys.includes(key)
      ? refs.use(outer.owner, `${outer.field}.${name}`)
      : refs.use(from, `${route.field}.${name}`);
  const forwards = route.route.length > 0;
  // The timeout is that of the destination's namespace, where the route does not say its own.
  const first = forwards
    ? findService(model, resolveHost(route.route[0].host, from.namespace, model.domain))
    : undefined;
  const ofTarget = first ? defaultTimeout(model, first.namespace) : undefined;
  const inherited = ofTarget
    ? { ms: ofTarget.ms, ref: ofTarget.from ? refs.use(ofTarget.from, 'spec.timeout') : '' }
    : fallback;
  return create(HttpRouteSchema, {
    ref: refs.use(from, route.field),
    name: route.name,
    match: match.map((m) => httpMatch(m, m.owner ?? from, refs)),
    clusters: route.route.map((d) => weighted(model, domain, from, d, port, refs)),
    redirect: route.redirect
      ? create(RedirectSchema, { ...route.redirect, derivePort: DERIVED[route.redirect.derivePort ?? ''] })
      : undefined,
    directResponse: route.directResponse ? create(DirectResponseSchema, { ...route.directResponse }) : undefined,
    timeoutMs: !forwards ? 0 : own ? route.timeoutMs : inherited.ms,
    timeoutRef: !forwards ? '' : own ? said('timeoutMs', 'timeout') : inherited.ref,
    retry: forwards ? retryOf(model, route.retries, route.retries ? said('retries') : '', refs) : undefined,
    fault: route.fault ? faultOf(route.fault, ownerOf('fault'), said('fault')) : undefined,
    headers: headersOf(route.headers),
    rewrite: route.rewrite ? create(RewriteSchema, { ...route.rewrite }) : undefined,
    session: route.session
      ? sessionOf(route.session, from, refs)
      : policySession(forwards ? sessionPolicyOf(model, from, route.route) : undefined, refs),
    cors: route.cors ? corsOf(route.cors, said('cors', 'corsPolicy')) : undefined,
    mirrors: route.mirrors.map((m) =>
      mirrorOf(model, domain, route.inherited?.mirrors ? route.inherited.owner : from, m, port, refs),
    ),
  });
}

const DERIVED = {
  '': DerivePort.UNSPECIFIED,
  FROM_PROTOCOL_DEFAULT: DerivePort.FROM_PROTOCOL_DEFAULT,
  FROM_REQUEST_PORT: DerivePort.FROM_REQUEST_PORT,
};

function policySession(policy: BackendPolicyModel | undefined, refs: RefTable): SessionPersistence | undefined {
  return policy?.session && sessionOf(policy.session, policy, refs);
}

function sessionOf(session: SessionModel, from: Resource, refs: RefTable): SessionPersistence {
  const { field, ...rest } = session;
  return create(SessionPersistenceSchema, { ref: refs.use(from, field), ...rest });
}

function corsOf(c: CorsModel, ref: string): CorsPolicy {
  return create(CorsPolicySchema, {
    ref,
    allowOrigins: c.allowOrigins.map((m) => stringMatch(m)!),
    allowMethods: [...c.allowMethods],
    allowHeaders: [...c.allowHeaders],
    exposeHeaders: [...c.exposeHeaders],
    maxAgeSeconds: c.maxAgeMs === undefined ? undefined : Math.floor(c.maxAgeMs / 1000),
    allowCredentials: c.allowCredentials,
    ignoreUnmatchedPreflights: c.ignoreUnmatchedPreflights,
  });
}

/** One match as the plan says it. */
export function httpMatch(m: HttpMatchModel, from: Resource, refs: RefTable): HttpMatch {
  return create(HttpMatchSchema, {
    ref: refs.use(from, m.field),
    uri: stringMatch(m.uri),
    method: stringMatch(m.method),
    authority: stringMatch(m.authority),
    scheme: stringMatch(m.scheme),
    headers: m.headers.map(keyMatch),
    withoutHeaders: m.withoutHeaders.map(keyMatch),
    queryParams: m.queryParams.map(keyMatch),
    ignoreUriCase: m.ignoreUriCase,
  });
}

function stringMatch(m: StringMatchModel | undefined): StringMatch | undefined {
  if (!m) return undefined;
  return create(StringMatchSchema, {
    kind: m.type === 'present' ? { case: 'present', value: true } : { case: m.type, value: m.value },
  });
}

function keyMatch(m: KeyMatchModel): KeyMatch {
  return create(KeyMatchSchema, { name: m.name, value: stringMatch(m.value) });
}

/**
 * What the route says, else the mesh settings, else the default policy (2 retries on failures that are safe to retry).
 * `attempts: 0`: none.
 */
function retryOf(model: Model, own: RetriesModel | undefined, ownRef: string, refs: RefTable): RetryPolicy {
  const settings = meshConfigOf(model);
  const r = own ?? settings?.retries;
  const ref = !own && settings?.retries ? refs.use(settings, `${settings.field}.defaultHttpRetryPolicy`) : ownRef;
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

function faultOf(f: FaultModel, from: Resource, ref: string): Fault {
  const grpc = f.abort !== undefined && f.abort.httpStatus === 0;
  return create(FaultSchema, {
    ref,
    delayPercent: f.delay?.percent ?? 0,
    delayMs: f.delay?.delayMs ?? 0,
    abortPercent: f.abort?.percent ?? 0,
    abortStatus: f.abort?.httpStatus ?? 0,
    abortGrpcStatus: grpc ? (f.abort?.grpcStatus ?? 0) : 0,
    abortIsGrpc: grpc,
    behindRetry: from.annotations[FAULT_POSITION] === 'behind-retry',
  });
}

function headersOf(h: HeaderOperationsModel | undefined): HeaderOperations | undefined {
  if (!h) return undefined;
  const pairs = (list: readonly (readonly [string, string])[]) =>
    list.map(([name, value]) => ({ $typeName: 'weft.plan.v1.Header' as const, name, value }));
  return create(HeaderOperationsSchema, {
    requestSet: pairs(h.requestSet),
    requestAdd: pairs(h.requestAdd),
    requestRemove: [...h.requestRemove],
    responseSet: pairs(h.responseSet),
    responseAdd: pairs(h.responseAdd),
    responseRemove: [...h.responseRemove],
  });
}
