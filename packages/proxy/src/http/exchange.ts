/**
 * One HTTP exchange through a proxy, whichever way: takes a request from a downstream stream, decides (subclass), sends
 * it upstream in one or more attempts, and passes the response back. Bodies pass as the chunks they came in, with
 * back-pressure each way; up to 64 KiB of the request are kept for a retry until the response begins.
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
import { continueTrace } from '@weft/telemetry';
import { type Head, own, type ResetCode, type Stream, type StreamHandler, UPGRADE_IGNORED } from '@weft/wire';
import type { Core, InFlight } from '../core.ts';
import type { Deadline, TimerOwner } from '../net/timers.ts';
import { DECISION_HEADER, dropDecisions } from '../observe/disclosure.ts';
import {
  type Decisions,
  type EdgeKey,
  noDecisions,
  type PeerInfo,
  type Reporter,
  type RequestRecord,
  type ServiceInfo,
} from '../observe/types.ts';
import type { Lane, UnavailableReason } from '../upstream/lane.ts';
import { Attempt } from './attempt.ts';
import { field, type RequestFacts, stripMeshHeaders } from './headers.ts';
import { sharedRecord } from './record.ts';
import { type CheckedFacts, type Vetted, Vetting } from './vetting.ts';

/** Most requests have no body: one list for all of them, which stays empty. */
const NOTHING: Uint8Array[] = [];
const NOBODY: readonly string[] = [];

export const RETRY_BUFFER_BYTES = 64 * 1024;

/** Requests that run this long are judged again by policies that came since. */
const REJUDGE_AFTER_MS = 1000;

const TIMER_ROUTE = 1;
const TIMER_DELAY = 2;
const TIMER_BACKOFF = 3;
const TIMER_TRY = 4;
const TIMER_GRPC = 5;
const TIMER_STREAM = 6;

/** gRPC's status for a call that took longer than its client allowed. */
const DEADLINE_EXCEEDED = 4;

/** Follows the request beside its attempts; never holds it up. */
export interface RequestCopy {
  /** Begins with what of the request came before. */
  begin(held: readonly Uint8Array[], trailers: Head | undefined, ended: boolean): void;
  data(chunk: Uint8Array, end: boolean): void;
  trailers(fields: Head): void;
  /** The exchange is over: if the request did not end, its rest never comes. */
  cut(): void;
}

export abstract class Exchange implements StreamHandler, TimerOwner, InFlight, Vetted {
  readonly core: Core;
  readonly snapshot: Snapshot;
  readonly down: Stream;
  readonly head: Head;
  place = -1;
  facts!: RequestFacts;
  protected attempts = 0;
  protected attempt: Attempt | undefined;
  protected retry: CompiledRetry | undefined;
  /** How long one attempt may last, its response included; 0: as long as it likes. */
  protected maxStreamMs = 0;
  protected responseOps: readonly HeaderOps[] | undefined;
  protected flags = '';
  details = '';
  protected routeRef = '';
  /** Of a fault that was drawn. */
  protected faultRef = '';
  /** Of a limit on requests that was asked. */
  protected limitRef = '';
  readonly #epoch: bigint;
  protected cluster = '';
  protected upstreamHost = '';
  protected source: PeerInfo | undefined;
  protected destination: PeerInfo | undefined;
  protected service: ServiceInfo | undefined;
  protected edge: EdgeKey | undefined;
  done = false;
  #startMs: number;
  /** When it began, by the wall clock. */
  protected readonly startWallMs: number;
  #upstreamMs = -1;
  #held = NOTHING;
  #heldBytes = 0;
  #keep = true;
  #requestEnded: boolean;
  #trailers: Head | undefined;
  #downPaused = false;
  #upPaused = false;
  #headSent = false;
  /** An upgrade was accepted: the request side may go on when the response has ended. */
  #tunnel = false;
  /** The response of an upgraded connection has ended, its request side goes on. */
  #upgraded = false;
  #status = 0;
  #grpcStatus = -1;
  #bytesIn = 0;
  #bytesOut = 0;
  #routeTimer: Deadline | undefined;
  #otherTimer: Deadline | undefined;
  #grpcTimer: Deadline | undefined;
  #streamTimer: Deadline | undefined;
  #traceparent = '';
  #parentSpan = '';
  #copies: RequestCopy[] | undefined;
  /** Something passed since the last tick. */
  #active = true;
  #idleSinceMs = 0;

  constructor(core: Core, snapshot: Snapshot, down: Stream, head: Head, end: boolean) {
    this.core = core;
    this.snapshot = snapshot;
    this.down = down;
    this.head = head;
    this.#requestEnded = end;
    this.#epoch = core.epoch;
    this.#startMs = core.nowMs();
    this.startWallMs = core.wallMs();
  }

  protected abstract readonly reporter: Reporter;
  protected abstract readonly downstreamRemote: string;
  protected abstract readonly mtls: boolean;
  protected abstract readonly httpVersion: string;
  protected authzRef = '';
  protected authzPolicy = '';
  /** What policies said of it first, and of what port of the workload. */
  protected verdict: AuthorizationResult | undefined;
  protected ownPort = 0;
  /** Server name of the downstream TLS connection. */
  protected sni = '';

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
    this.authzRef = verdict.ref;
    this.authzPolicy = verdict.policy;
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

  /** Too much of the body has passed to send it again. */
  protected get bodyDropped(): boolean {
    return !this.#keep;
  }
  get keptBody(): readonly Uint8Array[] {
    return this.#held;
  }
  get requestEnded(): boolean {
    return this.#requestEnded;
  }
  get bytesIn(): number {
    return this.#bytesIn;
  }
  get hasBody(): boolean {
    return this.#bytesIn > 0 || !this.#requestEnded;
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
    let bytes = this.#heldBytes + this.down.buffered + (this.attempt?.stream?.buffered ?? 0);
    for (const text of this.head) bytes += text.length;
    return bytes;
  }

  /** Memory is short, and this exchange is one of those that hold most of it. */
  shed(): void {
    if (this.done) {
      this.core.exchanges.delete(this);
      this.attempt?.stream?.reset('cancel');
      this.down.reset('flow');
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

  /** Lets go of the attempt that runs, with a judgement of nobody. */
  #giveUp(): void {
    const attempt = this.attempt;
    if (attempt && !attempt.abandoned) this.attemptOver(attempt, 0, -1);
    this.#dropAttempt('cancel');
  }

  /** Once a second: gives up what does not move, whoever holds it up. */
  tick(nowMs: number): void {
    if (this.judgedBy !== undefined && !this.#stillAllowed(nowMs)) return;
    const { requestTimeoutMs } = this.core.limits;
    if (requestTimeoutMs > 0 && nowMs - this.#startMs >= requestTimeoutMs && this.#unfinished) {
      this.#requestTimeout();
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
      this.core.exchanges.delete(this);
      this.attempt?.stream?.reset('cancel');
      this.down.reset('timeout');
      return;
    }
    this.#giveUp();
    this.addFlag('SI');
    this.details = 'stream_idle_timeout';
    if (this.#headSent) {
      this.down.reset('timeout');
      this.finish();
    } else this.reply(this.#requestEnded ? 504 : 408, 'stream timeout');
  }

  /**
   * Judges by the policies that hold now what runs since before them; false where they end it. Short requests finish by
   * the decision they were let in with.
   */
  #stillAllowed(nowMs: number): boolean {
    const { snapshot } = this.core;
    if (!snapshot || snapshot.authorization === this.judgedBy || nowMs - this.#startMs < REJUDGE_AFTER_MS) return true;
    const verdict = this.judge(snapshot);
    this.judgedBy = snapshot.authorization;
    if (!verdict || verdict.allow) return true;
    this.core.observer.count('authorization_ended');
    if (this.done) {
      this.core.exchanges.delete(this);
      this.attempt?.stream?.reset('cancel');
      this.down.reset('cancel');
      return false;
    }
    this.authzRef = verdict.ref;
    this.authzPolicy = verdict.policy;
    this.verdict = verdict;
    this.details = verdict.details;
    this.#giveUp();
    if (this.#headSent) {
      this.down.reset('cancel');
      this.finish();
    } else this.reply(403, 'RBAC: access denied');
    return false;
  }

  /** The request is still coming, and is of a kind that ends: tunnels do not, and calls of gRPC may stream for long. */
  get #unfinished(): boolean {
    return !this.#requestEnded && !this.done && this.facts.protocol === '' && !this.facts.grpc;
  }

  /** The client does not finish its request. */
  #requestTimeout(): void {
    this.core.observer.count('request_timeout');
    this.#giveUp();
    this.addFlag('DT');
    this.details = 'request_overall_timeout';
    if (this.#headSent) {
      this.down.reset('timeout');
      this.finish();
    } else this.reply(408, 'request timeout');
  }

  onData(_stream: Stream, chunk: Uint8Array, end: boolean): void {
    this.#active = true;
    if (this.done) {
      // An upgraded connection whose other direction has ended already.
      if (this.#upgraded && !this.attempt?.stream?.sendData(chunk, end)) this.#pauseDown();
      if (end) this.core.exchanges.delete(this);
      return;
    }
    this.#bytesIn += chunk.length;
    if (end) this.#requestEnded = true;
    const stream = this.attempt?.stream;
    if (this.#keep && chunk.length > 0) {
      const kept = own(chunk);
      if (this.#held === NOTHING) this.#held = [kept];
      else this.#held.push(kept);
      this.#heldBytes += chunk.length;
      if (this.#heldBytes > RETRY_BUFFER_BYTES) {
        if (stream) this.#dropHeld();
        else if (this.#heldBytes > (this.#vetting?.bodyWanted ?? 0)) this.#pauseDown();
      }
    }
    this.#vetting?.bodyGrew();
    if (stream && !stream.sendData(chunk, end)) this.#pauseDown();
    if (this.#copies) for (const copy of this.#copies) copy.data(chunk, end);
  }

  protected copyTo(copy: RequestCopy): void {
    if (this.#copies) this.#copies.push(copy);
    else this.#copies = [copy];
    copy.begin(this.#held, this.#trailers, this.#requestEnded);
  }

  onTrailers(_stream: Stream, fields: Head): void {
    if (this.done) return;
    this.#requestEnded = true;
    this.cleanTrailers(fields);
    this.#trailers = fields;
    this.#vetting?.bodyGrew();
    this.attempt?.stream?.sendTrailers(fields);
    if (this.#copies) for (const copy of this.#copies) copy.trailers(fields);
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
      this.attempt?.stream?.resume();
    }
  }

  /** Continues the caller's trace or begins one, and gives the request its id. */
  protected prepareIds(): void {
    const { ids } = this.core;
    if (this.facts.requestId === '') {
      this.facts.requestId = ids.requestId();
      this.head.push('x-request-id', this.facts.requestId);
    }
    const place = continueTrace(this.head, ids, this.core.options.sampling);
    this.#parentSpan = place.parentSpanId;
    this.#traceparent = place.traceparent;
  }

  protected startTimeout(ms: number): void {
    if (ms > 0) this.#routeTimer = this.core.timers.add(ms, this, TIMER_ROUTE);
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
    const ended = this.#requestEnded;
    const stream = lane.request(head, ended && this.#heldBytes === 0 && !this.#trailers, attempt);
    attempt.stream = stream;
    let room = true;
    const last = this.#held.length - 1;
    for (let i = 0; i <= last; i++) {
      if (!stream.sendData(this.#held[i], i === last && ended && !this.#trailers)) room = false;
    }
    if (this.#trailers) {
      // They may have come before it was known what must not stand in them.
      if (this.#vetting) this.cleanTrailers(this.#trailers);
      stream.sendTrailers(this.#trailers);
    }
    if (this.#heldBytes > RETRY_BUFFER_BYTES) this.#dropHeld();
    if (room) this.#resumeDown();
    else this.#pauseDown();
  }

  upstreamDrained(): void {
    this.#active = true;
    this.#resumeDown();
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
    if (!this.retry || !this.#keep || this.#headSent || this.done) return false;
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
    return (m === 'GET' || m === 'HEAD' || m === 'OPTIONS') && !this.hasBody && this.facts.protocol === '';
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
      this.addFlag('UT');
      this.details = 'upstream_per_try_timeout';
      this.reply(504, 'upstream request timeout');
    } else if (id === TIMER_GRPC) {
      this.#grpcDeadline();
    } else if (id === TIMER_STREAM) {
      this.#streamTooLong();
    } else {
      const attempt = this.attempt;
      if (attempt && !attempt.abandoned) this.attemptOver(attempt, 0, -1, 'timeout');
      this.#dropAttempt('cancel');
      this.addFlag('UT');
      this.details = 'upstream_response_timeout';
      if (this.#headSent) {
        this.down.reset('timeout');
        this.finish();
      } else this.reply(504, 'upstream request timeout');
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
    this.addFlag('UMSDR');
    this.details = 'upstream_max_stream_duration_reached';
    if (this.#headSent) {
      this.down.reset('timeout');
      this.finish();
    } else this.reply(408, 'upstream max stream duration reached');
  }

  #grpcDeadline(): void {
    this.#dropAttempt('cancel');
    this.addFlag('DT');
    this.details = 'max_duration_timeout';
    if (this.#headSent) {
      this.#grpcStatus = DEADLINE_EXCEEDED;
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
    if (!this.#headSent && this.retry && this.#keep && !(end && this.facts.protocol !== '')) {
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
    this.#status = status;
    this.#grpcStatus = grpc;
    this.#upstreamMs = (attempt.headMs || this.core.nowMs()) - this.#startMs;
    this.details = 'via_upstream';
    // A response of unknown length is a stream: the timeout was for its beginning.
    if (this.#routeTimer && (end || this.facts.protocol !== '' || field(head, 'content-length') === undefined)) {
      this.#routeTimer.cancel();
    }
    if (this.responseOps && this.responseOps.length > 0) applyHeaderOps(head, this.responseOps);
    if (this.#vetting) applyHeaderOps(head, this.#vetting.responseOps);
    if (!this.tellsDecisions || attempt.lane?.weft !== true) dropDecisions(head);
    this.#tellDecisions(head);
    this.#headSent = true;
    this.#dropHeld();
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
    this.#bytesOut += chunk.length;
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
      if (text !== undefined) this.#grpcStatus = Number(text);
    }
    dropDecisions(fields);
    this.down.sendTrailers(fields);
    this.#ended(attempt);
  }

  #ended(attempt: Attempt): void {
    this.attemptOver(attempt, this.#status, this.#grpcStatus);
    // An upgraded connection may still carry bytes the other way: they go on, unmeasured.
    if (this.#requestEnded || !this.#tunnel) {
      attempt.abandoned = true;
      if (!this.#requestEnded) {
        attempt.stream?.reset('cancel');
        // What the client still sends is read and dropped: held up, its stream would never end.
        this.#resumeDown();
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
    this.#status = status;
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
    this.#status = status;
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
    this.#tellDecisions(head);
    this.#headSent = true;
    this.#bytesOut = none ? 0 : bytes.length;
    this.#resumeDown();
    this.down.sendHead(head, none);
    if (!none) this.down.sendData(bytes, true);
    this.finish();
  }

  protected replyGrpc(code: number, message: string, extra?: Head): void {
    if (this.done) return;
    this.#status = 200;
    this.#grpcStatus = code;
    const head: Head = [':status', '200', 'content-type', 'application/grpc', 'grpc-status', String(code)];
    if (message) head.push('grpc-message', encodeURIComponent(message).replaceAll('%20', ' '));
    if (extra) head.push(...extra);
    dropDecisions(head);
    this.#tellDecisions(head);
    this.#headSent = true;
    this.#resumeDown();
    this.down.sendHead(head, true);
    this.finish();
  }

  /** Ends downstream without an answer. `status` is for the record. */
  protected refuse(code: ResetCode, status: number): void {
    if (this.done) return;
    this.#status = status;
    this.down.reset(code);
    this.finish();
  }

  /** The caller is one of those who are told which rules decided. */
  protected get tellsDecisions(): boolean {
    return false;
  }

  /** Which rules decided, as far as it went. */
  protected decided(d: Decisions): void {
    d.route = this.routeRef;
    d.fault = this.faultRef;
    d.authorization = this.authzRef;
    d.limit = this.limitRef;
  }

  #tellDecisions(head: Head): void {
    const { disclosure } = this.core;
    if (disclosure === undefined || !this.tellsDecisions) return;
    const d = noDecisions();
    this.decided(d);
    const text = this.core.options.references.decisions(d);
    head.push(DECISION_HEADER, disclosure.field(this.reporter, this.#epoch, text));
  }

  addFlag(flag: string): void {
    this.flags = this.flags === '' ? flag : `${this.flags},${flag}`;
  }

  /** Counts the request as running towards its destination; a retry elsewhere takes it along. */
  protected enter(): void {
    if (this.edge) {
      if (this.edge.destination === this.destination) return;
      this.core.observer.inFlight(this.edge, -1);
    }
    this.edge = { reporter: this.reporter, source: this.source, destination: this.destination, service: this.service };
    this.core.observer.inFlight(this.edge, 1);
  }

  /** Released once, at the end of the exchange. */
  protected release(): void {}

  /** Tells the observer, once. */
  protected finish(): void {
    if (this.done) return;
    this.#held = NOTHING;
    this.done = true;
    this.#vetting?.cancel();
    if (!this.#upgraded) this.core.exchanges.delete(this);
    this.#routeTimer?.cancel();
    this.#otherTimer?.cancel();
    this.#grpcTimer?.cancel();
    this.#streamTimer?.cancel();
    this.release();
    if (this.#copies) for (const copy of this.#copies) copy.cut();
    const r: RequestRecord = sharedRecord;
    const f = this.facts;
    r.reporter = this.reporter;
    r.method = f.method;
    r.path = f.path;
    r.authority = f.authority;
    r.protocol = f.grpc ? 'grpc' : 'http';
    r.httpVersion = this.httpVersion;
    r.status = this.#status;
    r.grpcStatus = this.#grpcStatus;
    r.flags = this.flags;
    r.details = this.details;
    r.durationMs = this.core.nowMs() - this.#startMs;
    r.upstreamMs = this.#upstreamMs;
    r.bytesIn = this.#bytesIn;
    r.bytesOut = this.#bytesOut;
    r.requestId = f.requestId;
    r.traceparent = this.#traceparent;
    r.parentSpanId = this.#parentSpan;
    r.userAgent = f.userAgent;
    r.forwardedFor = f.forwardedFor;
    r.sni = this.sni;
    r.startWallMs = this.startWallMs;
    r.source = this.source;
    r.destination = this.destination;
    r.service = this.service;
    r.routeRef = this.routeRef;
    r.authzRef = this.authzRef;
    r.authzPolicy = this.authzPolicy;
    r.verdict = this.verdict;
    r.port = this.ownPort;
    r.cluster = this.cluster;
    r.upstreamHost = this.upstreamHost;
    r.downstreamRemote = this.downstreamRemote;
    r.attempts = this.attempts;
    r.mtls = this.mtls;
    r.epoch = this.#epoch;
    this.decided(r.decisions);
    try {
      this.core.observer.request(r);
      if (this.edge) this.core.observer.inFlight(this.edge, -1);
    } catch (error) {
      this.core.logger.error({ error: String(error) }, 'observer failed');
    }
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

  #dropHeld(): void {
    this.#keep = false;
    this.#held = NOTHING;
    this.#heldBytes = 0;
  }
  #pauseDown(): void {
    if (this.#downPaused || this.#requestEnded) return;
    this.#downPaused = true;
    this.down.pause();
  }
  #resumeDown(): void {
    if (!this.#downPaused) return;
    this.#downPaused = false;
    this.down.resume();
  }
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
