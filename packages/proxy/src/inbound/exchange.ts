/** A request that arrives at a workload: authenticated, authorized, and handed to the application. */
import {
  type AttemptOutcome,
  type AuthorizationResult,
  authenticate,
  authorize,
  canonicalHead,
  type RateLimitView,
  retriesAtApplication,
  type Snapshot,
  takeRate,
} from '@weft/engine';
import { Protocol } from '@weft/plan';
import type { Head, Stream, StreamHandler } from '@weft/wire';
import type { Core } from '../core.ts';
import type { Attempt } from '../http/attempt.ts';
import { Exchange } from '../http/exchange.ts';
import { GrpcWebStream, isGrpcWeb } from '../http/grpc-web.ts';
import { CLIENT_CERT, field, joinedField, requestFacts, stripMeshHeaders } from '../http/headers.ts';
import type { CheckedFacts } from '../http/vetting.ts';
import type { LinkPeer } from '../link/server.ts';
import { SOURCE_HEADER } from '../link/settings.ts';
import { noteAuthorization } from '../observe/authorization-notes.ts';
import type { Decisions } from '../observe/types.ts';
import type { Lane } from '../upstream/lane.ts';
import type { InboundPort } from './port.ts';

export interface InboundVia {
  /** Undefined: plaintext. */
  readonly peer: LinkPeer | undefined;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** `address:port`. */
  readonly remote: string;
  readonly httpVersion: string;
  readonly sni?: string;
}

/** Begins the exchange of a request; what comes back hears of its body. `at`: the workload's port that was asked for. */
export function inboundExchange(
  core: Core,
  snapshot: Snapshot,
  stream: Stream,
  head: Head,
  end: boolean,
  via: InboundVia,
  at: InboundPort,
): StreamHandler {
  if (at.inbound.protocol !== Protocol.GRPC_WEB || !isGrpcWeb(head)) {
    return new InboundExchange(core, snapshot, stream, head, end, via, at).begin();
  }
  const web = new GrpcWebStream(stream, head);
  const exchange = new InboundExchange(core, snapshot, web, head, end, via, at);
  web.handler = exchange;
  exchange.begin();
  return web;
}

class InboundExchange extends Exchange {
  readonly reporter = 'destination' as const;
  readonly downstreamRemote: string;
  readonly httpVersion: string;
  readonly mtls: boolean;
  upstreamHost = '';
  #via: InboundVia;
  #at: InboundPort;
  #retries = 0;
  #acquired = false;
  #visitorCert = '';
  /** Length of the head that policies saw; what is added to it afterwards is ours. */
  #judgedLength = 0;

  constructor(
    core: Core,
    snapshot: Snapshot,
    down: Stream,
    head: Head,
    end: boolean,
    via: InboundVia,
    at: InboundPort,
  ) {
    super(core, snapshot, down, head, end);
    this.#via = via;
    this.#at = at;
    this.downstreamRemote = via.remote;
    this.httpVersion = via.httpVersion;
    this.mtls = via.peer !== undefined;
    this.destination = core.self;
    this.service = at.service;
    this.cluster = at.cluster;
  }

  begin(): this {
    const { head, core, snapshot } = this;
    const peer = this.#via.peer;
    this.source = peer
      ? peer.source(peer.weft ? field(head, SOURCE_HEADER) : undefined)
      : core.callerAt(this.#via.remoteAddress);
    // What a gateway says of its visitor is kept, before what is said of the gateway.
    if (peer && core.certificateTellers?.has(peer.spiffeId)) this.#visitorCert = joinedField(head, CLIENT_CERT);
    stripMeshHeaders(head);
    const problem = canonicalHead(head, snapshot.pathPolicies ? 'reject' : 'keep');
    this.facts = requestFacts(head);
    this.prepareIds();
    if (!this.admit()) return this;
    if (problem) {
      this.details = problem.details;
      this.reply(problem.status, '');
      return this;
    }
    this.enter();
    const authentic = authenticate(this.#at.inbound, { mtls: this.mtls });
    if (!peer) {
      const { mtlsRef } = this.#at.inbound;
      core.observer.plaintext(
        this.source,
        this.#via.remoteAddress,
        this.#at.port,
        !authentic,
        authentic ? '' : mtlsRef,
      );
    }
    if (!authentic) {
      core.observer.count('inbound_plaintext_refused');
      this.details = 'mtls_required';
      this.refuse('connection', 0);
      return this;
    }
    if (snapshot.authorization.tokens.length === 0) this.#authorized();
    else this.authenticateToken(this.#at.port, () => this.#authorized());
    return this;
  }

  #authorized(): void {
    const { head, snapshot, core } = this;
    const peer = this.#via.peer;
    const verdict = this.judge(snapshot);
    this.port = this.#at.port;
    if (verdict.ask) {
      this.askAuthorizer(verdict, () => this.#authorized());
      return;
    }
    this.judgedBy = snapshot.authorization;
    this.#judgedLength = head.length;
    this.verdict = verdict;
    if (!verdict.allow || verdict.audit || verdict.shadow) {
      const { method, path } = this.facts;
      const remote = this.#via.remoteAddress;
      noteAuthorization(core, verdict, { principal: peer?.principal, remote, port: this.#at.port, method, path });
    }
    if (!verdict.allow) {
      this.details = verdict.details;
      this.reply(403, 'RBAC: access denied');
      return;
    }
    const { rateLimit } = this.#at;
    if (rateLimit && !this.#withinRate(rateLimit)) return;
    if (!this.#acquire()) return;
    if (peer) {
      head.push(CLIENT_CERT, this.#clientCert(peer));
    }
    this.startAttempt();
  }

  #clientCert(peer: LinkPeer): string {
    const own = peer.forwarded(this.core.spiffeId);
    return this.#visitorCert === '' ? own : `${this.#visitorCert},${own}`;
  }

  /** A Sidecar says how many requests a port takes at once. */
  #acquire(): boolean {
    // Few ports have a limit: the others are not counted.
    if (!this.#at.inbound.pool?.maxRequests) return true;
    this.#acquired = this.core.portUse.acquire(this.#at.inbound, 'requests');
    if (this.#acquired) return true;
    this.core.observer.count('inbound_overflow');
    this.addFlag('UO');
    this.details = 'overflow';
    this.reply(503, 'upstream connect error or disconnect/reset before headers. reset reason: overflow', [
      'x-envoy-overloaded',
      'true',
    ]);
    return false;
  }

  protected override release(): void {
    if (this.#acquired) this.core.portUse.release(this.#at.inbound, 'requests');
  }

  #withinRate(limit: RateLimitView): boolean {
    this.limitRef = limit.limit.ref;
    const verdict = takeRate(limit, this.#via.peer?.principal, this.core.nowMs());
    if (verdict === 'allow') return true;
    this.core.observer.count(verdict === 'total' ? 'rate_limited_total' : 'rate_limited_identity');
    this.addFlag('RL');
    this.details = 'local_rate_limited';
    this.routeRef = limit.limit.ref;
    this.reply(429, 'local_rate_limited');
    return false;
  }

  protected override decided(d: Decisions): void {
    d.route = '';
    d.match = '';
    d.destination = '';
    d.fault = '';
    d.timeout = '';
    d.retry = '';
    d.cluster = '';
    d.balancer = '';
    d.outlier = '';
    d.transport = '';
    d.authentication = this.#at.inbound.mtlsRef;
    d.authorization = this.authzRef;
    d.limit = this.limitRef;
  }

  /** Who proves no identity is told nothing. */
  protected override get tellsDecisions(): boolean {
    const principal = this.#via.peer?.principal;
    return principal !== undefined && this.core.disclosure?.toCaller(principal) === true;
  }

  protected override judge(snapshot: Snapshot): AuthorizationResult {
    const { facts } = this;
    return authorize(snapshot, {
      principal: this.#via.peer?.principal,
      remoteIp: this.#via.remoteAddress,
      destPort: this.#at.port,
      localIp: this.core.options.address,
      sni: this.#via.sni,
      token: this.token,
      approved: this.approved,
      // What passes through a tunnel is opaque: where HTTP rules restrict the port, a CONNECT would lead around them.
      head: facts.method === 'CONNECT' && facts.protocol === '' ? undefined : this.#judgedHead(),
    });
  }

  protected override checkedOf(): CheckedFacts {
    const { core, facts } = this;
    const via = this.#via;
    // As the application will see it: who calls is what an authorizer asks first.
    const told = via.peer ? [CLIENT_CERT, this.#clientCert(via.peer)] : [];
    return {
      http: true,
      ...{
        head: [...this.head, ...told],
        method: facts.method,
        path: facts.path,
        authority: facts.authority,
        requestId: facts.requestId,
      },
      ...{ httpVersion: this.httpVersion, remoteIp: via.remoteAddress, remotePort: via.remotePort },
      ...{ principal: via.peer?.principal ?? '', localIp: core.options.address, localPort: this.#at.port },
      ...{ ownPrincipal: core.spiffeId, sni: via.sni ?? '', wallMs: core.wallMs() },
    };
  }

  #judgedHead(): Head {
    return this.#judgedLength === 0 ? this.head : this.head.slice(0, this.#judgedLength);
  }

  protected override get maySayIgnored(): boolean {
    return super.maySayIgnored || this.#via.peer?.weft === true;
  }

  protected open(attempt: Attempt): void {
    const { inbound, host, dialPort, upstreamHost } = this.#at;
    const { protocol, pool } = inbound;
    const h2 = this.facts.grpc || protocol === Protocol.GRPC || protocol === Protocol.HTTP2;
    this.upstreamHost = upstreamHost;
    this.core.upstreams.pool(host, dialPort, h2, pool).ask(attempt);
  }

  protected requestHead(_attempt: Attempt, _lane: Lane): Head {
    return this.head;
  }

  protected attemptOver(): void {}

  protected override tryAgain(outcome: AttemptOutcome): boolean {
    if (this.done || !this.body.whole) return false;
    const repeatable = this.attempt?.lane?.reused === true && this.safe;
    const most = this.core.snapshot?.self?.applicationRetries;
    if (!retriesAtApplication(outcome, this.#retries, repeatable, most)) return false;
    this.#retries++;
    this.startAttempt();
    return true;
  }

  /**
   * The application did not answer. Where the request was not processed, or is safe to repeat, a Weft client hears
   * REFUSED_STREAM, by which it tries another instance; all others get the 503.
   */
  protected failed(reason: string, _flag: string, unprocessed: boolean): void {
    if (this.#via.peer?.weft && (unprocessed || this.safe)) {
      this.refuse('refused', 503);
      return;
    }
    this.reply(503, `upstream connect error or disconnect/reset before headers. reset reason: ${reason}`);
  }
}
