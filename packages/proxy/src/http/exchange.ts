/**
 * One HTTP exchange through a proxy, whichever way: takes a request from a downstream stream, decides (subclass), sends
 * it upstream in one or more attempts, and passes the response back. Bodies pass as the chunks they came in, with
 * back-pressure each way.
 */
import {
  type AttemptOutcome,
  type AuthorizationResult,
  applyHeaderOps,
  type CompiledAuthorization,
  type CompiledRetry,
  grpcTimeoutMs,
  type HeaderOps,
  httpToGrpcStatus,
  retryDecision,
  type Snapshot,
  type VerifiedToken,
} from '@weft/engine';
import { type Head, type ResetCode, type Stream, type StreamHandler, UPGRADE_IGNORED } from '@weft/wire';
import type { Core, InFlight } from '../core.ts';
import type { Deadline, TimerOwner } from '../net/timers.ts';
import { turnMs } from '../net/turn.ts';
import { dropDecisions } from '../observe/disclosure.ts';
import type { Lane, UnavailableReason } from '../upstream/lane.ts';
import { Attempt } from './attempt.ts';
import { field, stripMeshHeaders } from './headers.ts';
import { ObservedExchange } from './observed.ts';
import { RequestBody } from './request-body.ts';
import { type CheckedFacts, type Vetted, Vetting } from './vetting.ts';

const NOBODY: readonly string[] = [];

/** Requests that run this long are judged again by policies that came since. */
const REJUDGE_AFTER_MS = 1000;

/**
 * A timeout that is further off stands in the exchange alone until a tick, which comes each second, finds it near: hardly
 * any request lasts so long, and the others need no timer.
 */
const NEAR_MS = 3000;

const TIMER_ROUTE = 1;
const TIMER_DELAY = 2;
const TIMER_BACKOFF = 3;
const TIMER_TRY = 4;
const TIMER_GRPC = 5;
const TIMER_STREAM = 6;

/** gRPC's status for a call that took longer than its client allowed. */
const DEADLINE_EXCEEDED = 4;

export abstract class Exchange extends ObservedExchange implements StreamHandler, TimerOwner, InFlight, Vetted {
  readonly snapshot: Snapshot;
  readonly down: Stream;
  place = -1;
  protected attempt: Attempt | undefined;
  protected retry: CompiledRetry | undefined;
  /** How long one attempt may last, its response included; 0: as long as it likes. */
  protected maxStreamMs = 0;
  protected responseOps: readonly HeaderOps[] | undefined;
  done = false;
  #upPaused = false;
  #headSent = false;
  /** An upgrade was accepted: the request side may go on when the response has ended. */
  #tunnel = false;
  /** The response of an upgraded connection has ended, its request side goes on. */
  #upgraded = false;
  /** When the route's timeout ends, rounded up; 0: it has none, or the timer has it. */
  #routeAtMs = 0;
  #routeTimer: Deadline | undefined;
  #otherTimer: Deadline | undefined;
  #grpcTimer: Deadline | undefined;
  #streamTimer: Deadline | undefined;
  /** Something passed since the last tick. */
  #active = true;
  #idleSinceMs = 0;

  constructor(core: Core, snapshot: Snapshot, down: Stream, head: Head, end: boolean) {
    super(core, head, new RequestBody(down, end));
    this.snapshot = snapshot;
    this.down = down;
  }

  /** What the request's token says, once it is verified. */
  protected token: VerifiedToken | undefined;

  /** What else it has to pass; undefined: nothing. */
  #vetting: Vetting | undefined;

  /**
   * Has the request's token verified and goes on, at once or later; else answers 401. To be asked where the plan believes
   * some issuer. The body that comes meanwhile is kept as for a retry.
   */
  protected authenticateToken(port: number, next: () => void): void {
    const rules = this.core.tokens.rulesAt(this.snapshot.authorization.tokens, port);
    if (rules.length === 0) {
      next();
      return;
    }
    this.#vetting ??= new Vetting(this);
    this.#vetting.verifyToken(rules, (token) => {
      this.token = token;
      next();
    });
  }

  /** What an external authorizer is told of the request, but its body. */
  protected checkedOf(): CheckedFacts | undefined {
    return undefined;
  }

  /** Has the external authorizer that `verdict` names decide, and goes on to judge again; else answers. */
  protected askAuthorizer(verdict: AuthorizationResult, next: () => void): void {
    // Denied unless the authorizer says otherwise: then it is judged again.
    this.verdict = verdict;
    const facts = this.checkedOf();
    this.#vetting ??= new Vetting(this);
    if (facts) this.#vetting.ask(verdict, facts, next);
  }

  /** External authorizers that let this request pass. */
  protected get approved(): readonly string[] {
    return this.#vetting?.approved ?? NOBODY;
  }

  /**
   * Takes off trailers what may not stand in the head either: applications may join the two. Mesh headers, and what says who
   * the caller is.
   */
  protected cleanTrailers(fields: Head): void {
    stripMeshHeaders(fields);
    this.#vetting?.cleanTrailers(fields);
  }

  /** The policies that let this request in; undefined where none are asked (outbound). */
  protected judgedBy: CompiledAuthorization | undefined;

  /** What the policies of this plan say of the request: long streams hear of policies that came after they began. */
  protected judge(_snapshot: Snapshot): AuthorizationResult | undefined {
    return undefined;
  }

  /** Chooses an upstream for the attempt and asks its pool, or answers. */
  protected abstract open(attempt: Attempt): void;
  /** The head to send on this lane. Not kept by the exchange. */
  protected abstract requestHead(attempt: Attempt, lane: Lane): Head;
  /** An attempt is over: status 0 where no response came. Called once per attempt that had an endpoint. */
  protected abstract attemptOver(
    attempt: Attempt,
    status: number,
    grpc: number,
    local?: 'connect' | 'reset' | 'timeout',
  ): void;
  /** The response failed before its head and there is no further attempt. Answers. */
  protected abstract failed(reason: string, flag: string, refused: boolean): void;

  /** The client can be told that the application ignored its upgrade (see UPGRADE_IGNORED). */
  protected get maySayIgnored(): boolean {
    return this.httpVersion === 'HTTP/1.1';
  }

  // ---- request side

  onHead(): void {}

  /** False where too many requests are in flight: this one is answered. */
  protected admit(): boolean {
    const { core } = this;
    if (core.overload.level > 0) {
      core.observer.count('overload_requests_refused');
      this.#overloaded();
      return false;
    }
    if (core.exchanges.size >= core.limits.maxRequests) {
      core.observer.count('requests_overflow');
      this.addFlag('UO');
      this.details = 'overload';
      this.reply(503, 'too many requests in flight', ['x-envoy-local-overloaded', 'true']);
      return false;
    }
    core.exchanges.add(this);
    core.overload.admitted();
    return true;
  }

  /** Head, body kept for a retry, and what waits in the streams of both sides. */
  get heldBytes(): number {
    let bytes = this.body.keptBytes + this.down.buffered + (this.attempt?.stream?.buffered ?? 0);
    for (const text of this.head) bytes += text.length;
    return bytes;
  }

  /** Memory is short, and this exchange is one of those that hold most of it. */
  shed(): void {
    if (this.done) {
      this.#letGo('flow');
      return;
    }
    this.core.observer.count('overload_exchanges_reset');
    this.#giveUp();
    if (!this.#headSent) {
      this.#overloaded();
      return;
    }
    this.addFlag('OM');
    this.details = 'overload';
    this.down.reset('flow');
    this.finish();
  }

  #overloaded(): void {
    this.addFlag('OM');
    this.details = 'overload';
    const extra: Head = ['x-envoy-local-overloaded', 'true'];
    if (this.httpVersion !== 'HTTP/2') extra.push('connection', 'close');
    this.reply(503, 'memory is short', extra);
  }

  /** Lets go of the attempt that runs, with a judgement of nobody unless `local` says how it failed. */
  #giveUp(local?: 'timeout'): void {
    const attempt = this.attempt;
    if (attempt && !attempt.abandoned) this.attemptOver(attempt, 0, -1, local);
    this.#dropAttempt('cancel');
  }

  /** The proxy ends it: by an answer, or where one has begun, by breaking it off. */
  #end(flag: string, details: string, status: number, text: string, code: ResetCode = 'timeout'): void {
    if (flag !== '') this.addFlag(flag);
    this.details = details;
    if (this.#headSent) {
      this.down.reset(code);
      this.finish();
    } else this.reply(status, text);
  }

  /** Ends an upgraded connection that went on after the exchange was over. */
  #letGo(code: ResetCode): void {
    this.core.exchanges.delete(this);
    this.attempt?.stream?.reset('cancel');
    this.down.reset(code);
  }

  /** Once a second: gives up what does not move, whoever holds it up. */
  tick(nowMs: number): void {
    if (this.#routeAtMs > 0 && this.#routeAtMs - nowMs <= NEAR_MS) this.#routeNear(this.#routeAtMs - nowMs);
    if (this.judgedBy !== undefined && !this.#stillAllowed(nowMs)) return;
    const { requestTimeoutMs } = this.core.limits;
    if (requestTimeoutMs > 0 && nowMs - this.startMs >= requestTimeoutMs && this.#unfinished) {
      // The client does not finish its request.
      this.core.observer.count('request_timeout');
      this.#giveUp();
      this.#end('DT', 'request_overall_timeout', 408, 'request timeout');
      return;
    }
    if (this.#active) {
      this.#active = false;
      this.#idleSinceMs = nowMs;
      return;
    }
    if (nowMs - this.#idleSinceMs < this.core.limits.streamIdleTimeoutMs) return;
    this.core.observer.count('stream_idle_timeout');
    if (this.done) {
      this.#letGo('timeout');
      return;
    }
    this.#giveUp();
    this.#end('SI', 'stream_idle_timeout', this.body.ended ? 504 : 408, 'stream timeout');
  }

  /**
   * Judges by the policies that hold now what runs since before them; false where they end it. Short requests finish by
   * the decision they were let in with.
   */
  #stillAllowed(nowMs: number): boolean {
    const { snapshot } = this.core;
    if (!snapshot || snapshot.authorization === this.judgedBy || nowMs - this.startMs < REJUDGE_AFTER_MS) return true;
    const verdict = this.judge(snapshot);
    this.judgedBy = snapshot.authorization;
    if (!verdict || verdict.allow) return true;
    this.core.observer.count('authorization_ended');
    if (this.done) {
      this.#letGo('cancel');
      return false;
    }
    this.verdict = verdict;
    this.#giveUp();
    this.#end('', verdict.details, 403, 'RBAC: access denied', 'cancel');
    return false;
  }

  /** The request is still coming, and is of a kind that ends: tunnels do not, and calls of gRPC may stream for long. */
  get #unfinished(): boolean {
    return !this.body.ended && !this.done && this.facts.protocol === '' && !this.facts.grpc;
  }

  onData(_stream: Stream, chunk: Uint8Array, end: boolean): void {
    this.#active = true;
    if (this.done) {
      // An upgraded connection whose other direction has ended already.
      if (this.#upgraded && !this.attempt?.stream?.sendData(chunk, end)) this.body.pause();
      if (end) this.core.exchanges.delete(this);
      return;
    }
    // What asks for more of the body may begin an attempt, which gets this chunk with what was kept.
    const stream = this.attempt?.stream;
    this.body.data(chunk, end, stream, this.#vetting?.bodyWanted ?? 0);
    this.#vetting?.bodyGrew();
    this.body.pass(chunk, end, stream);
  }

  onTrailers(_stream: Stream, fields: Head): void {
    if (this.done) return;
    this.body.ended = true;
    this.cleanTrailers(fields);
    this.body.trailers = fields;
    const stream = this.attempt?.stream;
    this.#vetting?.bodyGrew();
    this.body.passTrailers(fields, stream);
  }

  /** The client went away. */
  onReset(_stream: Stream, _code: ResetCode, _detail: string): void {
    if (this.done) {
      if (this.#upgraded) this.attempt?.stream?.reset('cancel');
      this.core.exchanges.delete(this);
      return;
    }
    this.#dropAttempt('cancel');
    this.addFlag('DC');
    this.details = 'downstream_remote_disconnect';
    this.finish();
  }

  onDrain(): void {
    this.#active = true;
    if (this.#upPaused) {
      this.#upPaused = false;
      this.resumeResponse();
    }
  }

  /** The client's stream has no room for more of the response. */
  protected get downFull(): boolean {
    return this.#upPaused;
  }

  /** It has room again. */
  protected resumeResponse(): void {
    this.attempt?.stream?.resume();
  }

  protected startTimeout(ms: number): void {
    if (ms <= 0) return;
    if (ms <= NEAR_MS) this.#routeNear(ms);
    else this.#routeAtMs = Math.ceil(this.core.nowMs() + ms);
  }

  get #timed(): boolean {
    return this.#routeAtMs > 0 || this.#routeTimer !== undefined;
  }

  #routeNear(ms: number): void {
    this.#routeAtMs = 0;
    this.#routeTimer = this.core.timers.add(ms, this, TIMER_ROUTE);
  }

  #endRouteTimeout(): void {
    this.#routeAtMs = 0;
    if (this.#routeTimer) this.#routeTimer.cancel();
  }

  /** Holds a gRPC call to its client's deadline, whole streams too, whether or not client and server do. */
  protected startGrpcDeadline(): void {
    const { grpc, grpcTimeout } = this.facts;
    if (!grpc || grpcTimeout === '') return;
    const ms = grpcTimeoutMs(grpcTimeout);
    if (ms >= 0) this.#grpcTimer = this.core.timers.add(ms, this, TIMER_GRPC);
  }

  /** What is left of that for a further attempt: goes in the place of the client's `grpc-timeout`. */
  protected remainingGrpcTimeout(): string | undefined {
    if (!this.#grpcTimer) return undefined;
    const ms = Math.ceil(this.#grpcTimer.atMs - this.core.nowMs());
    // 8 digits of milliseconds are 27 hours: what is longer stays as it was said.
    return ms < 100_000_000 ? `${Math.max(0, ms)}m` : undefined;
  }

  /** Calls `afterDelay` later. */
  protected delay(ms: number): void {
    this.#otherTimer = this.core.timers.add(ms, this, TIMER_DELAY);
  }
  protected afterDelay(): void {}

  protected startAttempt(): void {
    if (this.done) return;
    this.attempts++;
    const attempt = new Attempt(this);
    this.attempt = attempt;
    const perTry = this.retry?.perTryTimeoutMs ?? 0;
    if (perTry > 0) attempt.deadline = this.core.timers.add(perTry, this, TIMER_TRY);
    this.#streamTimer?.cancel();
    if (this.maxStreamMs > 0) this.#streamTimer = this.core.timers.add(this.maxStreamMs, this, TIMER_STREAM);
    this.open(attempt);
  }

  laneReady(attempt: Attempt, lane: Lane): void {
    attempt.lane = lane;
    const head = this.requestHead(attempt, lane);
    const { body } = this;
    const stream = lane.request(head, body.ended && body.keptBytes === 0 && !body.trailers, attempt);
    attempt.stream = stream;
    // They may have come before it was known what must not stand in them.
    if (body.trailers && this.#vetting) this.cleanTrailers(body.trailers);
    body.replay(stream);
  }

  upstreamDrained(): void {
    this.#active = true;
    this.body.resume();
  }

  // ---- failure of an attempt

  unavailable(attempt: Attempt, reason: UnavailableReason, detail: string): void {
    attempt.abandoned = true;
    attempt.deadline?.cancel();
    if (reason === 'overflow') {
      this.attemptOver(attempt, 0, -1);
      this.addFlag('UO');
      this.details = 'overflow';
      this.reply(503, 'upstream connect error or disconnect/reset before headers. reset reason: overflow', [
        'x-envoy-overloaded',
        'true',
      ]);
      return;
    }
    this.attemptOver(attempt, 0, -1, 'connect');
    const text = reason === 'timeout' ? 'connection timeout' : 'connection failure';
    this.#retryOrFail({ kind: 'reset', phase: 'connect', refused: false }, text, 'UF', detail);
  }

  upstreamReset(attempt: Attempt, code: ResetCode, detail: string): void {
    attempt.abandoned = true;
    attempt.deadline?.cancel();
    const refused = code === 'refused' || (code === 'connection' && this.repeatsBroken());
    this.attemptOver(attempt, 0, -1, 'reset');
    if (this.#headSent) {
      this.addFlag(code === 'connection' ? 'UC' : 'UR');
      this.details = `upstream_reset_after_response_started{${reasonOf(code)}}`;
      this.down.reset('connection');
      this.finish();
      return;
    }
    const flag = code === 'connection' ? 'UC' : code === 'protocol' ? 'UPE' : 'UR';
    this.#retryOrFail({ kind: 'reset', phase: 'before-headers', refused }, reasonOf(code), flag, detail, refused);
  }

  #retryOrFail(outcome: AttemptOutcome, reason: string, flag: string, detail: string, refused = false): void {
    if (this.tryAgain(outcome)) return;
    this.addFlag(flag);
    this.details = `upstream_reset_before_response_started{${reason.replaceAll(' ', '_')}${detail ? `|${detail}` : ''}}`;
    this.failed(reason, flag, refused || flag === 'UF');
  }

  /** True if another attempt was started or will be. */
  protected tryAgain(outcome: AttemptOutcome): boolean {
    if (!this.retry || !this.body.whole || this.#headSent || this.done) return false;
    const decision = retryDecision(this.retry, outcome, this.attempts, this.core.random);
    if (!decision.retry) {
      if (decision.reason === 'exhausted') this.addFlag('URX');
      return false;
    }
    if (!this.mayRetry()) return false;
    if (decision.delayMs < 1) this.startAttempt();
    else {
      this.attempt = undefined;
      this.#otherTimer = this.core.timers.add(decision.delayMs, this, TIMER_BACKOFF);
    }
    return true;
  }

  /** Whether a connection that broke under this request, before an answer, counts as one that refused it. */
  protected repeatsBroken(): boolean {
    return false;
  }

  /** May be sent again even where it was processed (RFC 9110, 9.2.2), and there is nothing else to send again. */
  protected get safe(): boolean {
    const m = this.facts.method;
    return (m === 'GET' || m === 'HEAD' || m === 'OPTIONS') && !this.body.exists && this.facts.protocol === '';
  }

  /** Budget of retries, taken once. */
  protected mayRetry(): boolean {
    return true;
  }

  onTimer(id: number): void {
    if (this.done) return;
    if (id === TIMER_DELAY) {
      this.afterDelay();
    } else if (id === TIMER_BACKOFF) {
      this.startAttempt();
    } else if (id === TIMER_TRY) {
      const attempt = this.attempt;
      if (!attempt || attempt.headSeen) return;
      this.attemptOver(attempt, 0, -1, 'timeout');
      this.#dropAttempt('cancel');
      if (this.tryAgain({ kind: 'reset', phase: 'per-try-timeout', refused: false })) return;
      this.#end('UT', 'upstream_per_try_timeout', 504, 'upstream request timeout');
    } else if (id === TIMER_GRPC) {
      this.#grpcDeadline();
    } else if (id === TIMER_STREAM) {
      this.#streamTooLong();
    } else {
      this.#giveUp('timeout');
      this.#end('UT', 'upstream_response_timeout', 504, 'upstream request timeout');
    }
  }

  /** The attempt took longer than its destination's rule allows (Envoy's max_stream_duration). */
  #streamTooLong(): void {
    const attempt = this.attempt;
    if (!attempt || attempt.abandoned) return;
    this.core.observer.count('max_stream_duration');
    this.attemptOver(attempt, 0, -1, this.#headSent ? undefined : 'timeout');
    this.#dropAttempt('cancel');
    if (this.tryAgain({ kind: 'reset', phase: 'before-headers', refused: false })) return;
    this.#end('UMSDR', 'upstream_max_stream_duration_reached', 408, 'upstream max stream duration reached');
  }

  #grpcDeadline(): void {
    this.#dropAttempt('cancel');
    this.addFlag('DT');
    this.details = 'max_duration_timeout';
    if (this.#headSent) {
      this.grpcStatus = DEADLINE_EXCEEDED;
      this.down.sendTrailers(['grpc-status', String(DEADLINE_EXCEEDED), 'grpc-message', 'deadline exceeded']);
      this.finish();
    } else this.replyGrpc(DEADLINE_EXCEEDED, 'deadline exceeded');
  }

  // ---- response side

  interim(head: Head): void {
    dropDecisions(head);
    if (!this.#headSent) this.down.sendInterim(head);
  }

  responseHead(attempt: Attempt, head: Head, end: boolean): void {
    attempt.headSeen = true;
    this.#active = true;
    attempt.deadline?.cancel();
    const status = Number(field(head, ':status'));
    const grpcText = this.facts.grpc ? field(head, 'grpc-status') : undefined;
    const grpc = grpcText === undefined ? -1 : Number(grpcText);
    if (!this.#headSent && this.retry && this.body.whole && !(end && this.facts.protocol !== '')) {
      const retryAfter = this.retry.retryAfterMaxMs > 0 ? field(head, 'retry-after') : undefined;
      // A limit that refused this request refuses it again: only who asks for that tries again.
      const rateLimited = status >= 400 && field(head, 'x-envoy-ratelimited') !== undefined;
      const grpcStatus = grpc < 0 ? undefined : grpc;
      const outcome: AttemptOutcome = { kind: 'status', status, grpcStatus, rateLimited, retryAfter };
      if (this.#maybeRetryStatus(attempt, outcome, status, grpc)) return;
    }
    if (this.facts.protocol !== '') {
      const ignored = field(head, UPGRADE_IGNORED) !== undefined;
      if (ignored && !this.maySayIgnored) {
        attempt.stream?.reset('cancel');
        this.upstreamReset(attempt, 'protocol', `an upgrade answered with ${status}`);
        return;
      }
      this.#tunnel = status < 300 && !ignored;
    }
    this.status = status;
    this.grpcStatus = grpc;
    this.upstreamMs = (attempt.headMs || turnMs()) - this.startMs;
    this.details = 'via_upstream';
    // A response of unknown length is a stream: the timeout was for its beginning.
    if (this.#timed && (end || this.facts.protocol !== '' || field(head, 'content-length') === undefined)) {
      this.#endRouteTimeout();
    }
    if (this.responseOps && this.responseOps.length > 0) applyHeaderOps(head, this.responseOps);
    if (this.#vetting) applyHeaderOps(head, this.#vetting.responseOps);
    if (!this.tellsDecisions || attempt.lane?.weft !== true) dropDecisions(head);
    this.tellDecisions(head);
    this.#headSent = true;
    this.body.drop();
    this.down.sendHead(head, end);
    if (end) this.#ended(attempt);
  }

  #maybeRetryStatus(attempt: Attempt, outcome: AttemptOutcome, status: number, grpc: number): boolean {
    if (status < 400 && grpc <= 0) return false;
    if (!this.tryAgain(outcome)) return false;
    // A new attempt is under way; the old one is judged and let go.
    this.attemptOver(attempt, status, grpc);
    attempt.abandoned = true;
    attempt.stream?.reset('cancel');
    return true;
  }

  responseData(attempt: Attempt, chunk: Uint8Array, end: boolean): void {
    this.bytesOut += chunk.length;
    this.#active = true;
    if (!this.down.sendData(chunk, end) && !end) {
      this.#upPaused = true;
      attempt.stream?.pause();
    }
    if (end) this.#ended(attempt);
  }

  responseTrailers(attempt: Attempt, fields: Head): void {
    if (this.facts.grpc) {
      const text = field(fields, 'grpc-status');
      if (text !== undefined) this.grpcStatus = Number(text);
    }
    dropDecisions(fields);
    this.down.sendTrailers(fields);
    this.#ended(attempt);
  }

  #ended(attempt: Attempt): void {
    this.attemptOver(attempt, this.status, this.grpcStatus);
    // An upgraded connection may still carry bytes the other way: they go on, unmeasured.
    if (this.body.ended || !this.#tunnel) {
      attempt.abandoned = true;
      if (!this.body.ended) {
        attempt.stream?.reset('cancel');
        // What the client still sends is read and dropped: held up, its stream would never end.
        this.body.resume();
      }
      this.finish();
    } else {
      this.#upgraded = true;
      this.finish();
    }
  }

  /** An answer of the proxy's own: plain text, or a gRPC status without a body. */
  reply(status: number, body: string, extra?: Head): void {
    if (this.done) return;
    this.status = status;
    if (this.facts.grpc) {
      this.replyGrpc(httpToGrpcStatus(status), body, extra);
      return;
    }
    const typed: Head = body === '' ? [] : ['content-type', 'text/plain'];
    this.answer(status, Buffer.from(body), extra ? [...typed, ...extra] : typed);
  }

  /** An answer that is not the upstream's: a body of whatever kind, with its headers. */
  answer(status: number, bytes: Buffer, extra: Head): void {
    if (this.done) return;
    this.status = status;
    if (this.facts.grpc) {
      this.replyGrpc(
        httpToGrpcStatus(status),
        bytes.toString('utf8'),
        extra.filter((_, i) => extra[i - (i % 2)] !== 'content-type'),
      );
      return;
    }
    const head: Head = [':status', String(status), 'content-length', String(bytes.length), ...extra];
    if (this.responseOps && this.responseOps.length > 0) applyHeaderOps(head, this.responseOps);
    if (this.#vetting) applyHeaderOps(head, this.#vetting.responseOps);
    const none = bytes.length === 0 || this.facts.method === 'HEAD';
    dropDecisions(head);
    this.tellDecisions(head);
    this.#headSent = true;
    this.bytesOut = none ? 0 : bytes.length;
    this.body.resume();
    this.down.sendHead(head, none);
    if (!none) this.down.sendData(bytes, true);
    this.finish();
  }

  protected replyGrpc(code: number, message: string, extra?: Head): void {
    if (this.done) return;
    this.status = 200;
    this.grpcStatus = code;
    const head: Head = [':status', '200', 'content-type', 'application/grpc', 'grpc-status', String(code)];
    if (message) head.push('grpc-message', encodeURIComponent(message).replaceAll('%20', ' '));
    if (extra) head.push(...extra);
    dropDecisions(head);
    this.tellDecisions(head);
    this.#headSent = true;
    this.body.resume();
    this.down.sendHead(head, true);
    this.finish();
  }

  /** Ends downstream without an answer. `status` is for the record. */
  protected refuse(code: ResetCode, status: number): void {
    if (this.done) return;
    this.status = status;
    this.down.reset(code);
    this.finish();
  }

  /** Released once, at the end of the exchange. */
  protected release(): void {}

  /** Tells the observer, once. */
  protected finish(): void {
    if (this.done) return;
    this.done = true;
    this.#vetting?.cancel();
    if (!this.#upgraded) this.core.exchanges.delete(this);
    this.#endRouteTimeout();
    this.#otherTimer?.cancel();
    this.#grpcTimer?.cancel();
    this.#streamTimer?.cancel();
    this.release();
    this.body.release();
    this.report();
  }

  #dropAttempt(code: ResetCode): void {
    const attempt = this.attempt;
    if (!attempt) return;
    attempt.deadline?.cancel();
    if (attempt.abandoned) return;
    attempt.abandoned = true;
    this.attemptCancelled(attempt);
    attempt.stream?.reset(code);
  }
  /** The attempt is let go without a judgement of its endpoint. */
  protected attemptCancelled(_attempt: Attempt): void {}
}

/** Envoy's words for a reset. */
export function reasonOf(code: ResetCode): string {
  switch (code) {
    case 'refused':
      return 'remote refused stream reset';
    case 'connection':
      return 'connection termination';
    case 'protocol':
      return 'protocol error';
    case 'timeout':
      return 'connection timeout';
    default:
      return 'remote reset';
  }
}
