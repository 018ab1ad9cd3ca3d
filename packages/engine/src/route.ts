/** Which route a request takes, and what is decided with it: destination, faults, mirrors, session, answers of its own. */
import type { Random } from '@weft/base';
import type { HttpRoute, SessionPersistence } from '@weft/plan';
import type { CompiledDestination, CompiledFault, CompiledHttpRoute, CompiledMatch } from './compile.ts';
import { decideCors } from './cors.ts';
import { drawPercent } from './draw.ts';
import { type HeaderOps, NO_OPS } from './header-ops.ts';
import type { CompiledRetry } from './retry.ts';
import { locationOf, rewriteOf } from './rewrite.ts';
import { clusterOf, draw } from './route-destination.ts';
import { beginLookup, nextCandidate, type RouteIndex } from './route-index.ts';
import { mismatch, type RequestParts, requestParts } from './route-match.ts';
import { namedEndpoint, readToken, type SessionDecision } from './session.ts';
import type { ClusterView, RouteView } from './views.ts';

/** What to inject into one request. The delay, if any, comes before the abort, if any. */
export interface FaultDecision {
  readonly ref: string;
  /** 0: no delay. */
  readonly delayMs: number;
  /** HTTP status; 0: no abort with one. */
  readonly abortStatus: number;
  /** gRPC status; -1: no abort with one. */
  readonly abortGrpc: number;
  /** Of the response's body, at most; 0: as fast as it comes. */
  readonly bytesPerSecond: number;
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

const NONE: RouteDecision = Object.freeze({ kind: 'none' });
const NO_MIRRORS: readonly MirrorDecision[] = [];

/**
 * The route of a request: first match wins. The head must be canonical (canonicalHead), with the pseudo-headers first.
 * `wallMs` gives the time of day, for the age of sessions; undefined: they have none. Randomness is drawn for weights (only with several
 * destinations, and not for a session), delay, abort, mirrors (below 100 %), in this order.
 */
export function routeHttp(
  view: RouteView,
  head: readonly string[],
  random: Random,
  wallMs?: () => number,
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
  wallMs: (() => number) | undefined,
): RouteDecision {
  beginLookup(index, parts.head, parts.path, parts.authority);
  for (let c = nextCandidate(); c; c = nextCandidate()) {
    if (!c.match || mismatch(c.match, parts, c.byPath) === 0)
      return decide(view, c.route, c.match, parts, random, wallMs);
  }
  return NONE;
}

function decide(
  view: RouteView,
  compiled: CompiledHttpRoute,
  match: CompiledMatch | undefined,
  parts: RequestParts,
  random: Random,
  wallMs: (() => number) | undefined,
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
    const responseOps = cors ? [...compiled.responseOps, cors.ops] : compiled.responseOps;
    if (route.directResponse) {
      const { status, body } = route.directResponse;
      return { kind: 'direct', route, ref, status: status || 200, body, fault, responseOps };
    }
    const location = locationOf(route, match, parts);
    return { kind: 'redirect', route, ref, status: route.redirect!.code || 301, location, fault, responseOps };
  }
  const kept = compiled.session && sessionOf(view, compiled, compiled.session, parts.head, wallMs);
  const destination = kept?.destination ?? draw(compiled.split, random);
  const responseOps = destination ? destination.responseOps : compiled.responseOps;
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
    requestOps: destination ? destination.requestOps : NO_OPS,
    responseOps: cors ? [...responseOps, cors.ops] : responseOps,
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
  wallMs: (() => number) | undefined,
): { decision: SessionDecision; destination: CompiledDestination | undefined } {
  const token = readToken(rule, head, wallMs ? wallMs() : 0);
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

/** The delay is drawn first, the abort and the bandwidth independently of it: all may hit one request. */
export function drawFault(fault: CompiledFault, random: Random): FaultDecision | undefined {
  const delayed = fault.delayPercent > 0 && drawPercent(random, fault.delayPercent);
  const aborted = fault.abortPercent > 0 && drawPercent(random, fault.abortPercent);
  const slow = fault.bandwidthPercent > 0 && drawPercent(random, fault.bandwidthPercent);
  if (!delayed && !aborted && !slow) return undefined;
  return {
    ref: fault.ref,
    delayMs: delayed ? fault.delayMs : 0,
    abortStatus: aborted ? fault.abortStatus : 0,
    abortGrpc: aborted ? fault.abortGrpc : -1,
    bytesPerSecond: slow ? fault.bytesPerSecond : 0,
  };
}
