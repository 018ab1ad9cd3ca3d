/** A request that leaves a workload: routed, faulted, balanced, retried. */
import { hostPort } from '@weft/base';
import {
  acquireRequest,
  acquireRetry,
  affinityHash,
  applyHeaderOps,
  type ClusterView,
  type CompiledFault,
  canonicalAuthority,
  canonicalHead,
  drawFault,
  type EncodedSlash,
  type EndpointView,
  type FaultDecision,
  type ForwardDecision,
  failsFast,
  type HeaderOps,
  hostOf,
  httpToGrpcStatus,
  learns,
  meshed,
  NO_HASH,
  newAffinityCookie,
  onEnd,
  onResult,
  onStart,
  pickEndpoint,
  type RouteDecision,
  type RouteView,
  releaseRequest,
  releaseRetry,
  routeHttp,
  type ServicePortView,
  type SessionDecision,
  type Snapshot,
  sessionOps,
  speaksHttp2,
  waitedInVain,
  wasConnected,
} from '@weft/engine';
import { PASSTHROUGH_CLUSTER } from '@weft/plan';
import type { Head, Stream } from '@weft/wire';
import type { Core } from '../core.ts';
import type { Attempt } from '../http/attempt.ts';
import { Exchange } from '../http/exchange.ts';
import { cut, field, requestFacts, setField, setPseudo, stripMeshHeaders } from '../http/headers.ts';
import { PacedBody, type PacedTarget } from '../http/paced-body.ts';
import { turnMs } from '../net/turn.ts';
import { type Decisions, unknownPeer } from '../observe/types.ts';
import type { Lane } from '../upstream/lane.ts';
import { Mirror } from './mirror.ts';
import { addMeshHeaders, poolFor, reachOf } from './upstream.ts';

/** Where a client's request came in. */
export interface OutboundVia {
  /** `address:port`. */
  readonly remote: string;
  readonly remoteIp: string;
  readonly httpVersion: string;
}

const EXTERNAL = unknownPeer();

export class OutboundExchange extends Exchange {
  readonly reporter = 'source' as const;
  readonly downstreamRemote: string;
  readonly httpVersion: string;
  mtls = false;
  upstreamHost = '';
  #decision: RouteDecision | undefined;
  #fault: FaultDecision | undefined;
  #tryFault: CompiledFault | undefined;
  /** Of a fault: the response's body passes through it. */
  #paced: PacedBody | undefined;
  /** 0: the body passes as it comes. */
  #bytesPerSecond = 0;
  #clusterView: ClusterView | undefined;
  #counted = false;
  #retrying = 0;
  /** Of the attempt that runs, and of those before it. */
  #picked: EndpointView | undefined;
  #tried: EndpointView[] | undefined;
  /** Without those of a session, which are of one try. */
  #plainOps: readonly HeaderOps[] | undefined;
  #external: { host: string; port: number } | undefined;
  #remoteIp: string;
  #hash = NO_HASH;
  /** Length of the head without what is added for a mesh link; 0: not sent yet. */
  #ownFields = 0;

  constructor(core: Core, snapshot: Snapshot, down: Stream, head: Head, end: boolean, via: OutboundVia) {
    super(core, snapshot, down, head, end);
    this.downstreamRemote = via.remote;
    this.#remoteIp = via.remoteIp;
    this.httpVersion = via.httpVersion;
    this.source = core.self;
  }

  /** `view` undefined: nothing of the mesh; `external` says where to pass it on to, if anywhere. */
  begin(view: ServicePortView | undefined, external?: { host: string; port: number }): this {
    stripMeshHeaders(this.head);
    if (!this.take('keep')) return this;
    if (view) {
      this.service = this.core.serviceOf(view);
      return this.route(view);
    }
    if (!external) return this.noRoute();
    this.#external = external;
    this.cluster = PASSTHROUGH_CLUSTER;
    this.startAttempt();
    return this;
  }

  /** Canonical form, ids, and a place among the requests in flight; false: answered already. */
  protected take(encodedSlash: EncodedSlash): boolean {
    const { head } = this;
    const problem = canonicalHead(head, encodedSlash);
    this.facts = requestFacts(head);
    this.prepareIds();
    if (!this.admit()) return false;
    if (problem) {
      this.details = problem.details;
      this.reply(problem.status, '');
      return false;
    }
    this.startGrpcDeadline();
    return true;
  }

  protected noRoute(): this {
    this.addFlag('NR');
    this.details = 'route_not_found';
    this.reply(404, '');
    return this;
  }

  /** Decides among the routes of `view` and does what they say. */
  protected route(view: RouteView): this {
    const decision = routeHttp(view, this.head, this.core.random, this.core.wallMs, this.token?.claims);
    this.#decision = decision;
    if (decision.kind === 'none') return this.noRoute();
    this.routeRef = decision.ref;
    this.responseOps = decision.responseOps;
    if (decision.kind === 'forward') {
      this.cluster = decision.clusterName;
      // A visitor of a gateway asks for a host; the service is the one that the route leads to.
      if (!this.service && decision.cluster) this.service = this.core.serviceOfCluster(decision.cluster.cluster);
    }
    const fault = decision.fault;
    if (fault) {
      this.#fault = fault;
      this.faultRef = fault.ref;
      if (fault.delayMs > 0) {
        this.addFlag('DI');
        this.delay(fault.delayMs);
        return this;
      }
      if (this.#abort(fault)) return this;
    }
    this.#proceed();
    return this;
  }

  protected override afterDelay(): void {
    if (this.#fault && this.#abort(this.#fault)) return;
    this.#proceed();
  }

  #abort(fault: FaultDecision): boolean {
    this.#bytesPerSecond = fault.bytesPerSecond;
    if (fault.abortStatus <= 0 && fault.abortGrpc < 0) return false;
    this.addFlag('FI');
    this.details = 'fault_filter_abort';
    this.routeRef = fault.ref || this.routeRef;
    // A destination that is never reached is still the service that was asked.
    if (fault.abortGrpc >= 0) this.replyGrpc(fault.abortGrpc, 'fault filter abort');
    else this.reply(fault.abortStatus, 'fault filter abort');
    return true;
  }

  #proceed(): void {
    const decision = this.#decision as Exclude<RouteDecision, { kind: 'none' }>;
    if (decision.kind === 'redirect') {
      this.details = 'direct_response';
      this.reply(decision.status, '', ['location', decision.location]);
    } else if (decision.kind === 'direct') {
      this.details = 'direct_response';
      this.reply(decision.status, decision.body);
    } else this.#forward(decision);
  }

  #forward(decision: ForwardDecision): void {
    const { cluster } = decision;
    if (!cluster) {
      this.addFlag('NC');
      this.details = 'cluster_not_found';
      this.reply(503, '');
      return;
    }
    this.#clusterView = cluster;
    if ((cluster.pool?.failFastMs ?? 0) > 0 && failsFast(cluster, this.core.nowMs())) {
      this.core.observer.count('fail_fast');
      this.addFlag('UF');
      this.details = 'fail_fast';
      this.reply(503, 'fail-fast: no connection to the destination was to be had');
      return;
    }
    if (!acquireRequest(cluster)) {
      this.addFlag('UO');
      this.details = 'overflow';
      this.reply(503, 'upstream connect error or disconnect/reset before headers. reset reason: overflow', [
        'x-envoy-overloaded',
        'true',
      ]);
      return;
    }
    this.#counted = true;
    if (cluster.cluster.hash) this.#hashed(cluster);
    this.routeRef = decision.destinationRef;
    if (decision.rewrite?.path !== undefined) setPseudo(this.head, ':path', decision.rewrite.path);
    if (decision.rewrite?.authority !== undefined) setPseudo(this.head, ':authority', decision.rewrite.authority);
    applyHeaderOps(this.head, decision.requestOps);
    if (field(this.head, 'x-forwarded-proto') === undefined) this.head.push('x-forwarded-proto', 'http');
    this.retry = decision.retry;
    this.maxStreamMs = cluster.pool?.maxStreamDurationMs ?? 0;
    this.#tryFault = decision.tryFault;
    this.startTimeout(decision.timeoutMs);
    // Tunnels are no requests that could be made twice.
    if (decision.mirrors.length > 0 && this.facts.protocol === '' && this.facts.method !== 'CONNECT')
      this.#copy(decision);
    this.startAttempt();
  }

  #copy(decision: ForwardDecision): void {
    for (const mirror of decision.mirrors) {
      this.body.copyTo(new Mirror(this.core, mirror, this.#h2(mirror.cluster)).prepare(this.head, decision.timeoutMs));
    }
  }

  /** Applications get the protocol that they were declared to speak. */
  #h2(cluster: ClusterView | undefined): boolean {
    const { grpc, protocol } = this.facts;
    return speaksHttp2(cluster, grpc, this.httpVersion === 'HTTP/2', protocol !== '');
  }

  /** Who is asked follows from the request; a caller without the cookie that says it is given one. */
  #hashed(cluster: ClusterView): void {
    this.#hash = affinityHash(cluster, this.head, this.#remoteIp);
    if (this.#hash !== NO_HASH) return;
    const cookie = newAffinityCookie(cluster, this.core.random);
    if (!cookie) return;
    this.#hash = cookie.hash;
    this.responseOps = [...(this.responseOps ?? []), { remove: [], set: [], add: ['set-cookie', cookie.setCookie] }];
  }

  protected open(attempt: Attempt): void {
    const { core } = this;
    if (this.#external) {
      const { host, port } = this.#external;
      this.upstreamHost = hostPort(host, port);
      this.destination = EXTERNAL;
      this.enter();
      core.upstreams.pool(host, port, this.facts.grpc, undefined).ask(attempt);
      return;
    }
    if (this.#tryFault && this.#faultyTry(attempt, this.#tryFault)) return;
    this.#pick(attempt);
  }

  /** A fault behind the retry layer: to the layers before it, it is an answer of the destination. True: it took the try. */
  #faultyTry(attempt: Attempt, compiled: CompiledFault): boolean {
    const fault = drawFault(compiled, this.core.random);
    this.#bytesPerSecond = 0;
    if (!fault) return false;
    this.faultRef = fault.ref;
    if (fault.delayMs <= 0) return this.#abortTry(attempt, fault);
    this.#flagOnce('DI');
    const onTimer = (): void => {
      if (this.done || attempt.abandoned || this.#abortTry(attempt, fault)) return;
      this.#pick(attempt);
    };
    this.core.timers.add(fault.delayMs, { onTimer });
    return true;
  }

  #abortTry(attempt: Attempt, fault: FaultDecision): boolean {
    if (fault.abortStatus <= 0 && fault.abortGrpc < 0) {
      this.#bytesPerSecond = fault.bytesPerSecond;
      return false;
    }
    this.#flagOnce('FI');
    const text = 'fault filter abort';
    if (this.facts.grpc || fault.abortGrpc >= 0) {
      const code = fault.abortGrpc >= 0 ? fault.abortGrpc : httpToGrpcStatus(fault.abortStatus);
      const head = [':status', '200', 'content-type', 'application/grpc', 'grpc-status', String(code)];
      this.responseHead(attempt, [...head, 'grpc-message', text], true);
      return true;
    }
    const body = Buffer.from(text);
    const type = ['content-length', String(body.length), 'content-type', 'text/plain'];
    const none = this.facts.method === 'HEAD';
    this.responseHead(attempt, [':status', String(fault.abortStatus), ...type], none);
    if (!none && !attempt.abandoned) this.responseData(attempt, body, true);
    return true;
  }

  override responseHead(attempt: Attempt, head: Head, end: boolean): void {
    this.#paced?.stop();
    this.#paced = this.#bytesPerSecond > 0 && !end ? this.#pace(attempt) : undefined;
    super.responseHead(attempt, head, end);
  }

  override responseData(attempt: Attempt, chunk: Uint8Array, end: boolean): void {
    if (this.#paced) this.#paced.data(chunk, end);
    else super.responseData(attempt, chunk, end);
  }

  override responseTrailers(attempt: Attempt, fields: Head): void {
    if (this.#paced) this.#paced.end(fields);
    else super.responseTrailers(attempt, fields);
  }

  protected override resumeResponse(): void {
    // What waits here goes first.
    if (!this.#paced || this.#paced.heldBytes === 0) super.resumeResponse();
  }

  override get heldBytes(): number {
    return super.heldBytes + (this.#paced?.heldBytes ?? 0);
  }

  /** From here on the body passes no faster than the fault says. */
  #pace(attempt: Attempt): PacedBody {
    const { core } = this;
    core.observer.count('fault_bandwidth');
    const exchange = this;
    const target: PacedTarget = {
      get full() {
        return exchange.downFull;
      },
      part: (chunk, end) => super.responseData(attempt, chunk, end),
      trailers: (fields) => super.responseTrailers(attempt, fields),
      hold: () => attempt.stream?.pause(),
      more: () => {
        if (!this.downFull) attempt.stream?.resume();
      },
    };
    return new PacedBody(target, this.#bytesPerSecond, core.timers, core.nowMs);
  }

  #flagOnce(flag: string): void {
    if (!this.flags.split(',').includes(flag)) this.addFlag(flag);
  }

  #pick(attempt: Attempt): void {
    const { core } = this;
    const cluster = this.#clusterView as ClusterView;
    // A retry uses the newest endpoints: the reason for it may be that the old ones left.
    const now = this.attempts > 1 ? (core.snapshot ?? this.snapshot) : this.snapshot;
    const current = cluster.pinned ? cluster : (now.clusters.get(cluster.name) ?? cluster);
    const session = this.#decision?.kind === 'forward' ? this.#decision.session : undefined;
    const nowMs = turnMs();
    const kept = this.attempts === 1 ? session?.endpoint : undefined;
    if (this.#picked) (this.#tried ??= []).push(this.#picked);
    const picked =
      kept ??
      pickEndpoint(
        now,
        current,
        core.random,
        nowMs,
        this.retry?.ignorePreviousHosts ? this.#tried : undefined,
        this.#hash,
        this.retry?.remoteLocalities ? this.#tried : undefined,
      );
    if (picked === 'none') {
      this.addFlag('UH');
      this.details = 'no_healthy_upstream';
      this.reply(503, 'no healthy upstream');
      return;
    }
    this.#picked = picked;
    if (session) this.#keep(session, picked);
    attempt.endpoint = picked;
    onStart(picked);
    attempt.startedMs = nowMs;
    const reach = reachOf(core, picked);
    this.destination = reach.peer;
    this.enter();
    this.upstreamHost = reach.host;
    this.mtls = meshed(current, picked);
    poolFor(core, current, picked, this.#h2(current)).ask(attempt);
    const failFastMs = current.pool?.failFastMs ?? 0;
    if (failFastMs > 0) this.#waitFor(attempt, current, failFastMs);
  }

  /** Gives the try up where it gets no connection in the time that the destination says. */
  #waitFor(attempt: Attempt, cluster: ClusterView, ms: number): void {
    if (attempt.lane || attempt.abandoned) return;
    const onTimer = (): void => {
      if (this.done || attempt.lane || attempt.abandoned) return;
      waitedInVain(cluster, this.core.nowMs());
      this.unavailable(attempt, 'timeout', 'fail_fast');
    };
    attempt.wait = this.core.timers.add(ms, { onTimer });
  }

  /** The answer tells the client how to come back to this endpoint. */
  #keep(session: SessionDecision, picked: EndpointView): void {
    this.#plainOps ??= this.responseOps ?? [];
    const secure = field(this.head, 'x-forwarded-proto') === 'https';
    const ops = sessionOps(session, picked, this.core.wallMs(), secure);
    this.responseOps = ops ? [...this.#plainOps, ops] : this.#plainOps;
  }

  protected requestHead(attempt: Attempt, lane: Lane): Head {
    const { head } = this;
    if (attempt.wait) attempt.wait.cancel();
    if (this.#clusterView?.pool?.failFastMs) wasConnected(this.#clusterView);
    // A further attempt begins with what the first one did.
    if (this.#ownFields === 0) this.#ownFields = head.length;
    else cut(head, this.#ownFields);
    const left = this.attempts > 1 ? this.remainingGrpcTimeout() : undefined;
    if (left !== undefined) setField(head, 'grpc-timeout', left);
    if (lane.weft && attempt.endpoint) addMeshHeaders(this.core, head, attempt.endpoint);
    return head;
  }

  protected attemptOver(attempt: Attempt, status: number, grpc: number, local?: 'connect' | 'reset' | 'timeout'): void {
    const ep = attempt.endpoint;
    if (!ep) return;
    attempt.endpoint = undefined;
    onEnd(ep);
    const cluster = this.#clusterView;
    if (!cluster || !learns(cluster) || (status === 0 && local === undefined)) return;
    const ejected = onResult(
      ep,
      cluster,
      {
        status,
        grpcStatus: grpc < 0 ? undefined : grpc,
        local,
        latencyMs: attempt.headMs > 0 ? attempt.headMs - attempt.startedMs : undefined,
      },
      this.core.nowMs(),
      this.core.random,
    );
    if (ejected) {
      this.core.observer.count('outlier_ejected');
      this.core.logger.info({ cluster: cluster.name, endpoint: this.upstreamHost }, 'endpoint ejected');
    }
  }

  protected override attemptCancelled(attempt: Attempt): void {
    if (!attempt.endpoint) return;
    onEnd(attempt.endpoint);
    attempt.endpoint = undefined;
  }

  /**
   * The other side's proxy or workload died: it would have said "refused" for a safe request (see InboundExchange), so
   * the same conditions of the policy hold for its silence.
   */
  protected override repeatsBroken(): boolean {
    return this.safe;
  }

  protected override mayRetry(): boolean {
    const cluster = this.#clusterView;
    if (!cluster || !acquireRetry(cluster)) return false;
    this.#retrying++;
    this.core.observer.count('upstream_retry');
    return true;
  }

  protected failed(reason: string): void {
    this.reply(503, `upstream connect error or disconnect/reset before headers. reset reason: ${reason}`);
  }

  protected override decided(d: Decisions): void {
    super.decided(d);
    const decision = this.#decision;
    const forward = decision?.kind === 'forward' ? decision : undefined;
    if (decision && decision.kind !== 'none') d.route = decision.ref;
    d.match = forward?.matchRef ?? '';
    d.destination = forward?.destinationRef ?? '';
    d.timeout = forward?.timeoutRef ?? '';
    d.retry = forward?.retry.ref ?? '';
    const cluster = this.#clusterView?.cluster;
    d.cluster = cluster?.ref ?? '';
    d.balancer = cluster?.lbRef ?? '';
    d.outlier = cluster?.outlier?.ref ?? cluster?.failureAccrual?.ref ?? '';
    d.transport = cluster?.tlsRef ?? '';
    d.authentication = '';
  }

  protected override get tellsDecisions(): boolean {
    const { disclosure } = this.core;
    return disclosure !== undefined && this.service !== undefined && disclosure.toSelf(this.service.namespace);
  }

  protected override release(): void {
    this.#paced?.stop();
    const cluster = this.#clusterView;
    if (!cluster) return;
    if (this.#counted) releaseRequest(cluster);
    for (; this.#retrying > 0; this.#retrying--) releaseRetry(cluster);
  }
}

/** Where an authority that is nothing of the mesh leads to; undefined if it is none. */
export function externalTarget(authority: string, port: number): { host: string; port: number } | undefined {
  const parsed = canonicalAuthority(authority);
  if (!parsed) return undefined;
  const host = hostOf(parsed.host).replace(/^\[|\]$/g, '');
  return { host, port: parsed.port || port };
}
