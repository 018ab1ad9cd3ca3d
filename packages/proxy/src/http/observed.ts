/** What is known of an exchange for whoever observes it: told once, when it is over. */
import type { AuthorizationResult } from '@weft/engine';
import { addB3, continueTrace, unsample } from '@weft/telemetry';
import type { Head } from '@weft/wire';
import type { Core } from '../core.ts';
import { DECISION_HEADER } from '../observe/disclosure.ts';
import {
  type Decisions,
  type EdgeKey,
  noDecisions,
  type PeerInfo,
  type Reporter,
  type RequestRecord,
  type ServiceInfo,
} from '../observe/types.ts';
import type { RequestFacts } from './headers.ts';
import { sharedRecord } from './record.ts';
import type { RequestBody } from './request-body.ts';

export abstract class ObservedExchange {
  readonly core: Core;
  readonly head: Head;
  readonly body: RequestBody;
  facts!: RequestFacts;
  protected attempts = 0;
  /** Envoy's response flags, and its words for how it ended. */
  protected flags = '';
  details = '';
  protected routeRef = '';
  /** Of a fault that was drawn. */
  protected faultRef = '';
  /** Of a limit on requests that was asked. */
  protected limitRef = '';
  protected authzRef = '';
  protected authzPolicy = '';
  /** What policies said of it first, and of what port of the workload. */
  protected verdict: AuthorizationResult | undefined;
  protected ownPort = 0;
  /** Server name of the downstream TLS connection. */
  protected sni = '';
  protected cluster = '';
  protected upstreamHost = '';
  protected source: PeerInfo | undefined;
  protected destination: PeerInfo | undefined;
  protected service: ServiceInfo | undefined;
  protected edge: EdgeKey | undefined;
  protected readonly startMs: number;
  /** When it began, by the wall clock. */
  protected readonly startWallMs: number;
  /** From its beginning to the response's head; -1: there was none. */
  protected upstreamMs = -1;
  protected status = 0;
  protected grpcStatus = -1;
  protected bytesOut = 0;
  readonly #epoch: bigint;
  #traceparent = '';
  #parentSpan = '';

  constructor(core: Core, head: Head, body: RequestBody) {
    this.core = core;
    this.head = head;
    this.body = body;
    this.#epoch = core.epoch;
    this.startMs = core.nowMs();
    this.startWallMs = core.wallMs();
  }

  protected abstract readonly reporter: Reporter;
  protected abstract readonly downstreamRemote: string;
  protected abstract readonly mtls: boolean;
  protected abstract readonly httpVersion: string;

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
    this.#parentSpan = place.parentSpanId;
    this.#traceparent = place.traceparent;
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

  /** Tells the observer, and the collector of spans. */
  protected report(): void {
    const r: RequestRecord = sharedRecord;
    const f = this.facts;
    r.reporter = this.reporter;
    r.method = f.method;
    r.path = f.path;
    r.authority = f.authority;
    r.protocol = f.grpc ? 'grpc' : 'http';
    r.httpVersion = this.httpVersion;
    r.status = this.status;
    r.grpcStatus = this.grpcStatus;
    r.flags = this.flags;
    r.details = this.details;
    r.durationMs = this.core.nowMs() - this.startMs;
    r.upstreamMs = this.upstreamMs;
    r.bytesIn = this.body.bytes;
    r.bytesOut = this.bytesOut;
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
    const { observer, tracer } = this.core;
    const traced = tracer.wants(this.#traceparent);
    if (traced || observer.readsDecisions !== false) this.decided(r.decisions);
    try {
      observer.request(r);
      if (traced) tracer.record(r);
      if (this.edge) observer.inFlight(this.edge, -1);
    } catch (error) {
      this.core.logger.error({ error: String(error) }, 'observer failed');
    }
  }
}
