/** What is known of an exchange for whoever observes it: told once, when it is over. */
import type { AuthorizationResult } from '@weft/engine';
import { addB3, continueTrace, unsample } from '@weft/telemetry';
import type { Head } from '@weft/wire';
import type { Core } from '../core.ts';
import { turnMs } from '../net/turn.ts';
import { DECISION_HEADER } from '../observe/disclosure.ts';
import {
  type Decisions,
  noDecisions,
  type PeerInfo,
  type Reporter,
  type RequestRecord,
  type Running,
  type ServiceInfo,
} from '../observe/types.ts';
import type { RequestFacts } from './headers.ts';
import type { RequestBody } from './request-body.ts';

/** Filled anew for whoever asks for them. */
const decisions = noDecisions();

/** It is the record of itself: an observer reads of it what it needs, and nothing is written down for others. */
export abstract class ObservedExchange implements RequestRecord {
  readonly core: Core;
  readonly head: Head;
  readonly body: RequestBody;
  facts!: RequestFacts;
  attempts = 0;
  flags = '';
  details = '';
  routeRef = '';
  /** Of a fault that was drawn. */
  protected faultRef = '';
  /** Of a limit on requests that was asked. */
  protected limitRef = '';
  /** What policies said of it first, and of what port of the workload. */
  verdict: AuthorizationResult | undefined;
  port = 0;
  sni = '';
  cluster = '';
  source: PeerInfo | undefined;
  destination: PeerInfo | undefined;
  service: ServiceInfo | undefined;
  #running: Running | undefined;
  readonly startMs: number;
  durationMs = 0;
  upstreamMs = -1;
  status = 0;
  grpcStatus = -1;
  bytesOut = 0;
  readonly epoch: bigint;
  traceparent = '';
  parentSpanId = '';

  constructor(core: Core, head: Head, body: RequestBody) {
    this.core = core;
    this.head = head;
    this.body = body;
    this.epoch = core.epoch;
    this.startMs = turnMs();
  }

  abstract readonly reporter: Reporter;
  abstract readonly downstreamRemote: string;
  abstract readonly mtls: boolean;
  abstract readonly httpVersion: string;
  abstract readonly upstreamHost: string;

  get method(): string {
    return this.facts.method;
  }
  get path(): string {
    return this.facts.path;
  }
  get authority(): string {
    return this.facts.authority;
  }
  get protocol(): 'http' | 'grpc' {
    return this.facts.grpc ? 'grpc' : 'http';
  }
  get requestId(): string {
    return this.facts.requestId;
  }
  get userAgent(): string {
    return this.facts.userAgent;
  }
  get forwardedFor(): string {
    return this.facts.forwardedFor;
  }
  get bytesIn(): number {
    return this.body.bytes;
  }
  get startWallMs(): number {
    return this.core.wallAt(this.startMs);
  }
  get authzRef(): string {
    return this.verdict?.ref ?? '';
  }
  get authzPolicy(): string {
    return this.verdict?.policy ?? '';
  }
  get decisions(): Decisions {
    this.decided(decisions);
    return decisions;
  }

  /** Continues the caller's trace or begins one, and gives the request its id. */
  protected prepareIds(): void {
    const { ids, tracer } = this.core;
    if (this.facts.requestId === '') {
      this.facts.requestId = ids.requestId();
      this.head.push('x-request-id', this.facts.requestId);
    }
    const place = continueTrace(this.head, ids, tracer.sampling);
    if (this.ofVisitor && place.parentSpanId !== '' && !tracer.believesVisitor(place.traceparent))
      unsample(this.head, place);
    if (tracer.givesB3 && this.reporter === 'destination') addB3(this.head, place);
    this.parentSpanId = place.parentSpanId;
    this.traceparent = place.traceparent;
  }

  /** The caller is a stranger at a gateway. */
  protected get ofVisitor(): boolean {
    return false;
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

  /** Adds to the head of an answer what its caller is to hear of the decisions. */
  protected tellDecisions(head: Head): void {
    const { disclosure } = this.core;
    if (disclosure === undefined || !this.tellsDecisions) return;
    const text = this.core.options.references.decisions(this.decisions);
    head.push(DECISION_HEADER, disclosure.field(this.reporter, this.epoch, text));
  }

  addFlag(flag: string): void {
    this.flags = this.flags === '' ? flag : `${this.flags},${flag}`;
  }

  /** Counts the request as running towards its destination; a retry elsewhere takes it along. */
  protected enter(): void {
    const running = this.core.observer.running(this);
    if (running === this.#running) return;
    this.#leave();
    this.#running = running;
    if (running) running.inFlight++;
  }

  #leave(): void {
    if (this.#running) this.#running.inFlight--;
  }

  /** Tells the observer, and the collector of spans. */
  protected report(): void {
    const { observer, tracer } = this.core;
    this.durationMs = turnMs() - this.startMs;
    try {
      this.#leave();
      observer.request(this);
      if (tracer.wants(this.traceparent)) tracer.record(this);
    } catch (error) {
      this.core.logger.error({ error: String(error) }, 'observer failed');
    }
  }
}
