import { type IpBlock, parseIpBlock } from '@weft/base';
import type {
  HeaderOperations,
  HttpMatch,
  HttpRoute,
  Mirror,
  Rewrite,
  ServicePort,
  SessionPersistence,
  TcpRoute,
  TlsRoute,
  WeightedCluster,
} from '@weft/plan';
import type { RE2JS } from 're2js';
import { canonicalPattern } from './canonical.ts';
import { type CompiledCors, compileCors } from './cors.ts';
import { type HeaderOps, requestOps, responseOps } from './header-ops.ts';
import { compileKeyMatches, compileRegex, compileStringMatch, type KeyMatcher, type StringMatcher } from './match.ts';
import { type CompiledRetry, compileRetry, defaultRetry } from './retry.ts';
import { compileRouteIndex, type RouteIndex } from './route-index.ts';

export interface CompiledMatch {
  readonly ref: string;
  readonly uri: StringMatcher | undefined;
  readonly method: StringMatcher | undefined;
  readonly authority: StringMatcher | undefined;
  readonly scheme: StringMatcher | undefined;
  readonly headers: readonly KeyMatcher[];
  readonly withoutHeaders: readonly KeyMatcher[];
  readonly queryParams: readonly KeyMatcher[];
}

export interface CompiledDestination {
  readonly ref: string;
  readonly clusterName: string;
  /** Its own, then its route's. */
  readonly requestOps: readonly HeaderOps[];
  readonly responseOps: readonly HeaderOps[];
}

/** Destinations with running sums of their weights. */
export interface CompiledSplit {
  readonly destinations: readonly CompiledDestination[];
  readonly cumulative: readonly number[];
  readonly total: number;
}

export interface CompiledFault {
  readonly ref: string;
  readonly delayPercent: number;
  readonly delayMs: number;
  readonly abortPercent: number;
  readonly abortStatus: number;
  readonly abortGrpc: number;
  readonly bandwidthPercent: number;
  readonly bytesPerSecond: number;
  /** Drawn for each try, so that retries and timeouts meet it; else once before them. */
  readonly behindRetry: boolean;
}

export interface CompiledHttpRoute {
  readonly ref: string;
  readonly route: HttpRoute;
  readonly match: readonly CompiledMatch[];
  readonly split: CompiledSplit;
  readonly retry: CompiledRetry;
  readonly fault: CompiledFault | undefined;
  /** Of answers that no destination gives. */
  readonly responseOps: readonly HeaderOps[];
  readonly cors: CompiledCors | undefined;
  /** What is replaced in paths; undefined for almost all routes. */
  readonly pathRegex: CompiledRegexRewrite | undefined;
  /** Undefined for almost all routes. */
  readonly session: SessionPersistence | undefined;
  /** Empty for almost all routes. */
  readonly mirrors: readonly Mirror[];
}

export interface CompiledRegexRewrite {
  readonly regex: RE2JS;
  /** The match (first) and its groups → what takes its place. */
  readonly replace: (...groups: string[]) => string;
}

function compileRegexRewrite(rewrite: Rewrite, ref: string): CompiledRegexRewrite {
  // Text, and the numbers of groups.
  const pieces: (string | number)[] = [];
  for (const [piece] of rewrite.substitution.matchAll(/\\\d|\\\\|[^\\]+|\\/g)) {
    if (/^\\\d$/.test(piece)) pieces.push(Number(piece[1]));
    else pieces.push(piece === '\\\\' ? '\\' : piece);
  }
  const replace = (...groups: string[]): string =>
    pieces.map((p) => (typeof p === 'string' ? p : (groups[p] ?? ''))).join('');
  return { regex: compileRegex(rewrite.regex, ref), replace };
}

export interface CompiledTcpRoute {
  readonly ref: string;
  /** The address that was dialled lies in one of them; empty: any may. */
  readonly subnets: readonly IpBlock[];
  readonly split: CompiledSplit;
}

/** Routes in order, and how to find one among many. */
export interface CompiledHttpRoutes {
  readonly http: readonly CompiledHttpRoute[];
  readonly index: RouteIndex | undefined;
}

/** Everything of a service port that does not depend on other parts. */
export interface CompiledPort extends CompiledHttpRoutes {
  readonly tcp: readonly CompiledTcpRoute[];
  readonly tls: readonly CompiledTlsRoute[];
}

/** One name of a TLS route. A list of them is sorted: the first that covers a name is the most specific. */
export interface CompiledTlsRoute extends CompiledTcpRoute {
  /** Exact, `*.suffix` or `*`, lower case. */
  readonly sni: string;
}

export function compilePort(port: ServicePort): CompiledPort {
  return {
    ...compileHttpRoutes(port.http),
    tcp: port.tcp.map(compileTcpRoute),
    tls: compileTlsRoutes(port.tls),
  };
}

export function compileHttpRoutes(routes: readonly HttpRoute[]): CompiledHttpRoutes {
  const http = routes.map(compileHttpRoute);
  return { http, index: compileRouteIndex(http) };
}

const NO_MIRRORS: readonly Mirror[] = [];

function compileHttpRoute(route: HttpRoute): CompiledHttpRoute {
  const f = route.fault;
  return {
    ref: route.ref,
    route,
    match: route.match.map((m) => compileMatch(m, route.ref)),
    split: compileSplit(route.clusters, route.ref, route.headers),
    retry: route.retry ? compileRetry(route.retry) : defaultRetry,
    fault: f && {
      ref: f.ref || route.ref,
      delayPercent: f.delayMs > 0 ? f.delayPercent : 0,
      delayMs: f.delayMs,
      abortPercent: f.abortStatus > 0 || f.abortIsGrpc ? f.abortPercent : 0,
      abortStatus: f.abortIsGrpc ? 0 : f.abortStatus,
      abortGrpc: f.abortIsGrpc ? f.abortGrpcStatus : -1,
      bandwidthPercent: f.bandwidthBytesPerSecond > 0 ? f.bandwidthPercent : 0,
      bytesPerSecond: f.bandwidthBytesPerSecond,
      behindRetry: f.behindRetry,
    },
    responseOps: responseOps(route.headers),
    cors: route.cors && compileCors(route.cors, route.ref),
    pathRegex: route.rewrite?.regex ? compileRegexRewrite(route.rewrite, `${route.ref} rewrite`) : undefined,
    session: route.session,
    mirrors: route.mirrors.length === 0 ? NO_MIRRORS : route.mirrors.filter((m) => m.percent > 0),
  };
}

export function compileTlsRoutes(routes: readonly TlsRoute[]): CompiledTlsRoute[] {
  const compiled = routes.flatMap((route) => {
    const split = compileSplit(route.clusters, route.ref);
    const subnets = compileSubnets(route.destinationSubnets);
    return route.sniHosts.map((sni) => ({ ref: route.ref, subnets, split, sni: sni.toLowerCase() }));
  });
  // Sorting is stable: of two routes for one name the first is kept in front.
  const rank = (sni: string): number => (sni.startsWith('*') ? sni.length : 1000);
  return compiled.sort((x, y) => rank(y.sni) - rank(x.sni));
}

export function compileTcpRoute(route: TcpRoute): CompiledTcpRoute {
  const subnets = compileSubnets(route.destinationSubnets);
  return { ref: route.ref, subnets, split: compileSplit(route.clusters, route.ref) };
}

/** What is no block matches nothing: a plan does not hold such. */
function compileSubnets(blocks: readonly string[]): readonly IpBlock[] {
  return blocks.map((text) => parseIpBlock(text) ?? { family: 4, words: [0, 0, 0, 0], bits: 32 });
}

function compileMatch(m: HttpMatch, routeRef: string): CompiledMatch {
  const ref = m.ref || routeRef;
  return {
    ref,
    uri: compileStringMatch(m.uri, `${ref} uri`, m.ignoreUriCase, canonicalPattern),
    method: compileStringMatch(m.method, `${ref} method`),
    authority: compileStringMatch(m.authority, `${ref} authority`, false, (text) => text.toLowerCase()),
    scheme: compileStringMatch(m.scheme, `${ref} scheme`),
    headers: compileKeyMatches(m.headers, ref, true),
    withoutHeaders: compileKeyMatches(m.withoutHeaders, ref, true),
    queryParams: compileKeyMatches(m.queryParams, ref, false),
  };
}

/** One destination takes all whatever its weight. Several whose weights are all 0 share evenly. */
function compileSplit(clusters: readonly WeightedCluster[], ref: string, headers?: HeaderOperations): CompiledSplit {
  const even = clusters.every((c) => c.weight === 0);
  const cumulative: number[] = [];
  let total = 0;
  for (const c of clusters) {
    total += even ? 1 : c.weight;
    cumulative.push(total);
  }
  const destinations = clusters.map((c) => ({
    ref: c.ref || ref,
    clusterName: c.cluster,
    requestOps: requestOps(c.headers, headers),
    responseOps: responseOps(c.headers, headers),
  }));
  return { destinations, cumulative, total };
}
