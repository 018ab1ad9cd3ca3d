import { inBlock, parseIp, type Random } from '@weft/base';
import { DerivePort, type HttpRoute, type SessionPersistence } from '@weft/plan';
import { claimOf, claimTexts, isWordClaim } from './authorize-rule.ts';
import { canonicalAuthority, formatAuthority, hostOf } from './canonical.ts';
import {
  type CompiledDestination,
  type CompiledFault,
  type CompiledHttpRoute,
  type CompiledMatch,
  type CompiledSplit,
  type CompiledTcpRoute,
  type HeaderOps,
  rewriteByRegex,
  rewritePath,
} from './compile.ts';
import { decideCors } from './cors.ts';
import { drawCumulative, drawPercent } from './draw.ts';
import { headValue, type KeyMatcher, queryValue, testKey } from './match.ts';
import type { CompiledRetry } from './retry.ts';
import { beginLookup, nextCandidate, type RouteIndex } from './route-index.ts';
import { namedEndpoint, readToken, type SessionDecision } from './session.ts';
import type { ClusterView, RouteView, TcpRouteView } from './views.ts';

/** What to inject into one request. The delay, if any, comes before the abort, if any. */
export interface FaultDecision {
  readonly ref: string;
  /** 0: no delay. */
  readonly delayMs: number;
  /** HTTP status; 0: no abort with one. */
  readonly abortStatus: number;
  /** gRPC status; -1: no abort with one. */
  readonly abortGrpc: number;
}

/** Where a copy of one request goes. */
export interface MirrorDecision {
  readonly ref: string;
  readonly clusterName: string;
  /** Undefined: the plan names a cluster it does not have. */
  readonly cluster: ClusterView | undefined;
}

export interface ForwardDecision {
  readonly kind: 'forward';
  readonly route: HttpRoute;
  /** The route that matched. */
  readonly ref: string;
  /** The match block of it; the route's ref where it has none. */
  readonly matchRef: string;
  /** The destination that was drawn. */
  readonly destinationRef: string;
  readonly clusterName: string;
  /** Undefined: the plan names a cluster it does not have (503, flag NC). */
  readonly cluster: ClusterView | undefined;
  /** Over all attempts; 0: none. */
  readonly timeoutMs: number;
  readonly timeoutRef: string;
  readonly retry: CompiledRetry;
  readonly fault: FaultDecision | undefined;
  /** A fault behind the retry layer: to be drawn for each try (drawFault). */
  readonly tryFault: CompiledFault | undefined;
  /** To be applied in this order: the destination's, then the route's. */
  readonly requestOps: readonly HeaderOps[];
  readonly responseOps: readonly HeaderOps[];
  /** What to send instead of the request's own; undefined: unchanged. */
  readonly rewrite: { readonly path?: string; readonly authority?: string } | undefined;
  /** Copies of the request, sent as it is sent: rewritten, with `mirrorAuthority` for its authority. */
  readonly mirrors: readonly MirrorDecision[];
  /** Of a route with sessions: its first try goes to the session's endpoint, and the answer carries sessionOps. */
  readonly session: SessionDecision | undefined;
}

export interface RedirectDecision {
  readonly kind: 'redirect';
  readonly route: HttpRoute;
  readonly ref: string;
  readonly status: number;
  readonly location: string;
  readonly fault: FaultDecision | undefined;
  readonly responseOps: readonly HeaderOps[];
}

export interface DirectDecision {
  readonly kind: 'direct';
  readonly route: HttpRoute;
  readonly ref: string;
  readonly status: number;
  readonly body: string;
  readonly fault: FaultDecision | undefined;
  readonly responseOps: readonly HeaderOps[];
}

/** `none`: no route matched (404, flag NR). */
export type RouteDecision = ForwardDecision | RedirectDecision | DirectDecision | { readonly kind: 'none' };

export interface TcpDecision {
  readonly clusterName: string;
  readonly cluster: ClusterView | undefined;
  readonly ref: string;
  readonly destinationRef: string;
}

const NONE: RouteDecision = Object.freeze({ kind: 'none' });
const NO_OPS: readonly HeaderOps[] = Object.freeze([]);
const NO_MIRRORS: readonly MirrorDecision[] = Object.freeze([]);

/** What matching reads of a request, taken apart once. */
export interface RequestParts {
  /** Claims of the request's token, once it is verified. */
  readonly claims?: Readonly<Record<string, unknown>> | undefined;
  readonly head: readonly string[];
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  /** With query. */
  readonly target: string;
  readonly path: string;
}

/**
 * The route of a request: first match wins. The head must be canonical (canonicalHead), with the pseudo-headers first.
 * `wallMs` is the time of day, for the age of sessions; 0: they have none. Randomness is drawn for weights (only with several
 * destinations, and not for a session), delay, abort, mirrors (below 100 %), in this order.
 */
export function routeHttp(
  view: RouteView,
  head: readonly string[],
  random: Random,
  wallMs = 0,
  claims?: Readonly<Record<string, unknown>>,
): RouteDecision {
  const parts = requestParts(head, claims);
  if (view.index) return routeIndexed(view, view.index, parts, random, wallMs);
  for (const compiled of view.http) {
    if (compiled.match.length === 0) return decide(view, compiled, undefined, parts, random, wallMs);
    for (const match of compiled.match) {
      if (mismatch(match, parts) === 0) return decide(view, compiled, match, parts, random, wallMs);
    }
  }
  return NONE;
}

/** The same among many routes. */
function routeIndexed(
  view: RouteView,
  index: RouteIndex,
  parts: RequestParts,
  random: Random,
  wallMs: number,
): RouteDecision {
  beginLookup(index, parts.head, parts.path, parts.authority);
  for (let c = nextCandidate(); c; c = nextCandidate()) {
    if (!c.match || mismatch(c.match, parts) === 0) return decide(view, c.route, c.match, parts, random, wallMs);
  }
  return NONE;
}

/** Takes a canonical head apart, pseudo-headers first. */
export function requestParts(head: readonly string[], claims?: Readonly<Record<string, unknown>>): RequestParts {
  let method = '';
  let scheme = '';
  let authority = '';
  let target = '/';
  for (let i = 0; i < head.length && head[i].charCodeAt(0) === 0x3a; i += 2) {
    const value = head[i + 1];
    switch (head[i]) {
      case ':method':
        method = value;
        break;
      case ':protocol':
        // An upgrade is a GET to those who write rules; the head shows it as extended CONNECT (RFC 8441).
        method = 'GET';
        break;
      case ':scheme':
        scheme = value;
        break;
      case ':authority':
        authority = value;
        break;
      case ':path':
        target = value;
    }
  }
  const end = target.indexOf('?');
  return { claims, head, method, scheme, authority, target, path: end < 0 ? target : target.slice(0, end) };
}

/**
 * The destination of a connection: the first TCP route for the address that was dialled (where a name was, the service's
 * first). Undefined: the port has none.
 */
export function routeTcp(view: TcpRouteView, random: Random, dialled = ''): TcpDecision | undefined {
  const route = view.tcp.find((r) => isFor(r, view, dialled));
  const destination = route && draw(route.split, random);
  if (!destination) return undefined;
  return {
    clusterName: destination.clusterName,
    cluster: clusterOf(view, destination.clusterName),
    ref: route.ref,
    destinationRef: destination.ref,
  };
}

/**
 * The destination of a connection that begins with TLS, by the name its client asks for ('' where it names none), where
 * the port has routes for names. Undefined: no route covers the name.
 */
export function routeTls(
  view: TcpRouteView,
  serverName: string,
  random: Random,
  dialled = '',
): TcpDecision | undefined {
  const name = serverName.toLowerCase();
  const covers = (sni: string): boolean =>
    sni === '*' || sni === name || (sni.startsWith('*.') && name.endsWith(sni.slice(1)) && name.length >= sni.length);
  const route = view.tls.find((r) => covers(r.sni) && isFor(r, view, dialled));
  const destination = route && draw(route.split, random);
  if (!destination) return undefined;
  const { clusterName, ref } = destination;
  return { clusterName, cluster: clusterOf(view, clusterName), ref: route.ref, destinationRef: ref };
}

function isFor({ subnets }: CompiledTcpRoute, { service }: TcpRouteView, dialled: string): boolean {
  if (subnets.length === 0) return true;
  const ip = parseIp(dialled) ?? parseIp(service?.addresses[0] ?? '');
  return ip !== undefined && subnets.some((block) => inBlock(ip, block));
}

/** The conditions of a match, in the order in which they are tested: what `mismatch` says, without the index. */
export const Condition = Object.freeze({
  uri: 1,
  method: 2,
  authority: 3,
  scheme: 4,
  header: 5,
  withoutHeader: 6,
  query: 7,
});

/**
 * 0 where a match holds; else the first condition that does not (see Condition), plus 8 times its index among the headers
 * or query parameters. A number, since a request may meet many rules.
 */
export function mismatch(m: CompiledMatch, r: RequestParts): number {
  if (m.uri && !m.uri.test(r.path)) return Condition.uri;
  if (m.method && !m.method.test(r.method)) return Condition.method;
  if (m.authority && !m.authority.test(r.authority) && !m.authority.test(hostOf(r.authority)))
    return Condition.authority;
  if (m.scheme && !m.scheme.test(r.scheme)) return Condition.scheme;
  for (let i = 0; i < m.headers.length; i++) if (!holds(m.headers[i], r)) return Condition.header + 8 * i;
  for (let i = 0; i < m.withoutHeaders.length; i++)
    if (holds(m.withoutHeaders[i], r)) return Condition.withoutHeader + 8 * i;
  for (let i = 0; i < m.queryParams.length; i++)
    if (!testKey(m.queryParams[i], queryValue(r.target, m.queryParams[i].name))) return Condition.query + 8 * i;
  return 0;
}

/** A header's value, or any value of a claim. */
function holds(matcher: KeyMatcher, r: RequestParts): boolean {
  if (matcher.claim === undefined) return testKey(matcher, headValue(r.head, matcher.name));
  const { claim } = matcher;
  return (
    r.claims !== undefined &&
    claimTexts(claimOf(r.claims, claim), isWordClaim(claim)).some((text) => testKey(matcher, text))
  );
}

function decide(
  view: RouteView,
  compiled: CompiledHttpRoute,
  match: CompiledMatch | undefined,
  parts: RequestParts,
  random: Random,
  wallMs: number,
): RouteDecision {
  const { route, ref } = compiled;
  const cors = compiled.cors && decideCors(compiled.cors, parts.method, parts.head);
  if (cors?.preflight) {
    const { ops } = cors;
    return {
      kind: 'direct',
      route,
      ref: compiled.cors!.ref,
      status: 200,
      body: '',
      fault: undefined,
      responseOps: [ops],
    };
  }
  if (route.redirect || route.directResponse) {
    const fault = compiled.fault && drawFault(compiled.fault, random);
    const responseOps = both(compiled.response, cors?.ops);
    if (route.directResponse) {
      const { status, body } = route.directResponse;
      return { kind: 'direct', route, ref, status: status || 200, body, fault, responseOps };
    }
    const location = locationOf(route, match, parts);
    return { kind: 'redirect', route, ref, status: route.redirect!.code || 301, location, fault, responseOps };
  }
  const kept = compiled.session && sessionOf(view, compiled, compiled.session, parts.head, wallMs);
  const destination = kept?.destination ?? draw(compiled.split, random);
  const tryFault = compiled.fault?.behindRetry ? compiled.fault : undefined;
  const fault = compiled.fault && !tryFault ? drawFault(compiled.fault, random) : undefined;
  return {
    kind: 'forward',
    route,
    ref,
    matchRef: match?.ref ?? ref,
    destinationRef: destination?.ref ?? ref,
    clusterName: destination?.clusterName ?? '',
    cluster: destination && clusterOf(view, destination.clusterName),
    timeoutMs: route.timeoutMs,
    timeoutRef: route.timeoutRef,
    retry: compiled.retry,
    fault,
    tryFault,
    requestOps: both(destination?.request, compiled.request),
    responseOps: cors
      ? [...both(destination?.response, compiled.response), cors.ops]
      : both(destination?.response, compiled.response),
    rewrite: route.rewrite && rewriteOf(compiled, match, parts),
    mirrors: compiled.mirrors.length === 0 ? NO_MIRRORS : drawMirrors(view, compiled, random),
    session: kept?.decision,
  };
}

/** The session of a request, and the destination where its endpoint is. A destination of weight 0 keeps none. */
function sessionOf(
  view: RouteView,
  compiled: CompiledHttpRoute,
  rule: SessionPersistence,
  head: readonly string[],
  wallMs: number,
): { decision: SessionDecision; destination: CompiledDestination | undefined } {
  const token = readToken(rule, head, wallMs);
  const { destinations, cumulative } = compiled.split;
  for (let i = 0; token && i < destinations.length; i++) {
    if (cumulative[i] === (i > 0 ? cumulative[i - 1] : 0)) continue;
    const cluster = clusterOf(view, destinations[i].clusterName);
    const endpoint = cluster && namedEndpoint(cluster, token.key);
    if (endpoint) {
      return { decision: { rule, endpoint, createdMs: token.createdMs }, destination: destinations[i] };
    }
  }
  return { decision: { rule, endpoint: undefined, createdMs: 0 }, destination: undefined };
}

/** Each mirror is drawn for itself. */
function drawMirrors(view: RouteView, compiled: CompiledHttpRoute, random: Random): MirrorDecision[] {
  const drawn: MirrorDecision[] = [];
  for (const { ref, cluster, percent } of compiled.mirrors) {
    if (percent < 100 && !drawPercent(random, percent)) continue;
    drawn.push({ ref: ref || compiled.ref, clusterName: cluster, cluster: view.clusters.get(cluster) });
  }
  return drawn;
}

/** `pay:8080` → `pay-shadow:8080`: by it, as with Istio, the receiver knows a copy from a request. */
export function mirrorAuthority(authority: string): string {
  const parsed = canonicalAuthority(authority);
  if (!parsed || parsed.host.startsWith('[')) return authority;
  return formatAuthority({ ...parsed, host: `${parsed.host}-shadow` });
}

function both(first: HeaderOps | undefined, second: HeaderOps | undefined): readonly HeaderOps[] {
  if (!first) return second ? [second] : NO_OPS;
  return second ? [first, second] : [first];
}

function clusterOf(view: Pick<RouteView, 'clusters' | 'pinned' | 'host'>, name: string): ClusterView | undefined {
  const cluster = view.clusters.get(name);
  // An address that the client chose itself stays chosen, unless the route sends the request to another service.
  return view.pinned && (!cluster || cluster.cluster.host === view.host) ? view.pinned : cluster;
}

function draw(split: CompiledSplit, random: Random): CompiledDestination | undefined {
  const { destinations, cumulative } = split;
  if (destinations.length < 2) return destinations[0];
  return destinations[drawCumulative(random, cumulative, split.total)];
}

/** The delay is drawn first, the abort independently of it: both may hit one request. */
export function drawFault(fault: CompiledFault, random: Random): FaultDecision | undefined {
  const delayed = fault.delayPercent > 0 && drawPercent(random, fault.delayPercent);
  const aborted = fault.abortPercent > 0 && drawPercent(random, fault.abortPercent);
  if (!delayed && !aborted) return undefined;
  return {
    ref: fault.ref,
    delayMs: delayed ? fault.delayMs : 0,
    abortStatus: aborted ? fault.abortStatus : 0,
    abortGrpc: aborted ? fault.abortGrpc : -1,
  };
}

function rewriteOf(
  compiled: CompiledHttpRoute,
  match: CompiledMatch | undefined,
  parts: RequestParts,
): ForwardDecision['rewrite'] {
  const { uri, authority } = compiled.route.rewrite!;
  let path: string | undefined;
  if (parts.path.startsWith('/')) {
    if (compiled.pathRegex) path = rewriteByRegex(parts.target, compiled.pathRegex);
    else if (uri !== '') path = rewritePath(parts.target, matchedPrefix(match), uri);
  }
  return { path, authority: authority === '' ? undefined : authority };
}

/** Undefined where the whole path was matched. A route that says nothing about the path matches the prefix "/". */
function matchedPrefix(match: CompiledMatch | undefined): string | undefined {
  if (!match?.uri) return '/';
  return match.uri.isPrefix ? match.uri.text : undefined;
}

function locationOf(route: HttpRoute, match: CompiledMatch | undefined, parts: RequestParts): string {
  const redirect = route.redirect!;
  const scheme = redirect.scheme || parts.scheme || 'http';
  let authority = redirect.authority;
  if (authority === '') {
    const own = canonicalAuthority(parts.authority);
    // The old port belongs to the old scheme.
    authority = !own ? '' : redirect.scheme && redirect.scheme !== parts.scheme ? own.host : formatAuthority(own);
  }
  const usual = scheme === 'https' ? 443 : 80;
  let port = redirect.port;
  if (port === 0 && redirect.derivePort === DerivePort.FROM_PROTOCOL_DEFAULT) port = usual;
  else if (port === 0 && redirect.derivePort === DerivePort.FROM_REQUEST_PORT) {
    // A request without a port came to the usual one of its own scheme.
    port = canonicalAuthority(parts.authority)?.port || (parts.scheme === 'https' ? 443 : 80);
  }
  if (port > 0) authority = port === usual ? hostOf(authority) : `${hostOf(authority)}:${port}`;
  let path = parts.target;
  if (redirect.prefixRewrite !== '') path = rewritePath(parts.target, matchedPrefix(match), redirect.prefixRewrite);
  if (redirect.uri !== '') {
    const end = parts.target.indexOf('?');
    path = redirect.uri + (end < 0 || redirect.uri.includes('?') ? '' : parts.target.slice(end));
  }
  return `${scheme}://${authority}${path.startsWith('/') ? '' : '/'}${path}`;
}

/** Changes a head in place. What is set keeps the place of the first field of that name; other fields of it go. */
export function applyHeaderOps(head: string[], ops: readonly HeaderOps[]): void {
  for (const op of ops) {
    for (const name of op.remove) removeField(head, name, 0);
    for (let i = 0; i < op.set.length; i += 2) setField(head, op.set[i], op.set[i + 1]);
    for (let i = 0; i < op.add.length; i += 2) {
      if (op.add[i] === ':authority') setField(head, ':authority', op.add[i + 1]);
      else head.push(op.add[i], op.add[i + 1]);
    }
  }
}

function setField(head: string[], name: string, value: string): void {
  for (let i = 0; i < head.length; i += 2) {
    if (head[i] === name) {
      head[i + 1] = value;
      removeField(head, name, i + 2);
      return;
    }
  }
  // A response has no authority to change, and pseudo-headers stand first.
  if (!name.startsWith(':')) head.push(name, value);
}

function removeField(head: string[], name: string, from: number): void {
  let to = from;
  for (let i = from; i < head.length; i += 2) {
    if (head[i] === name) continue;
    head[to] = head[i];
    head[to + 1] = head[i + 1];
    to += 2;
  }
  if (to !== head.length) head.length = to;
}
