/**
 * Spans of this proxy's requests, for the collector that the plan names: of each sampled request one object, made when
 * the request is over. The collector hears of them by calls of the proxy's own, in batches; what becomes of those touches
 * no request.
 */
import { systemClock } from '@weft/base';
import { speaksHttp2 } from '@weft/engine';
import { type Self, type SpanCollector, SpanProtocol } from '@weft/plan';
import { type BatchFate, encodeOtlp, encodeZipkin, isSampled, SpanExporter, type SpanSource } from '@weft/telemetry';
import type { Head } from '@weft/wire';
import type { Core } from '../core.ts';
import { grpcCallHead, grpcMessage, grpcStatusOf } from '../net/grpc-unary.ts';
import { type SideAnswer, SideCall, type SideFailure } from '../outbound/side-call.ts';
import { SecondBudget } from './second-budget.ts';
import { serviceNameOf, spanOf } from './span.ts';
import type { RequestRecord } from './types.ts';

/** Where a plan says nothing; Istio's default. */
const DEFAULT_SAMPLING = 0.01;
/** gRPC's statuses by which a batch may be sent again (OTLP: cancelled, deadline, exhausted, aborted, range, unavailable, loss). */
const LATER_GRPC = new Set(['1', '4', '8', '10', '11', '14', '15']);
const LATER_HTTP = new Set([408, 429, 502, 503, 504]);

export class Tracer {
  /** Part of new traces that are sampled, 0 to 1. */
  sampling = DEFAULT_SAMPLING;
  /** Applications get B3's fields beside traceparent. */
  givesB3 = false;
  readonly #core: Core;
  #exporter: SpanExporter | undefined;
  /** By what the exporter was made. */
  #key = '';
  #pathLength = 0;
  readonly #visitors: SecondBudget;

  constructor(core: Core) {
    this.#core = core;
    this.#visitors = new SecondBudget(
      () => core.nowMs(),
      () => core.limits.visitorTracesPerSecond,
    );
  }

  /** Takes over what the plan says. What waits for a collector that is replaced is still sent to it, once. */
  configure(self: Self): void {
    const { tracing } = self;
    this.sampling = tracing ? tracing.samplingPercent / 100 : DEFAULT_SAMPLING;
    this.givesB3 = tracing?.collector?.protocol === SpanProtocol.ZIPKIN_JSON;
    this.#pathLength = tracing?.maxPathTagLength ?? 0;
    const source = sourceOf(self, this.#core.options.gateway);
    const key = JSON.stringify([tracing?.collector ?? null, source]);
    if (key === this.#key) return;
    this.#key = key;
    void this.#exporter?.finish();
    this.#exporter = tracing?.collector && this.#exporterTo(tracing.collector, source);
  }

  /** Whether a request with this traceparent is to be recorded. */
  wants(traceparent: string): boolean {
    return this.#exporter !== undefined && isSampled(traceparent);
  }

  /**
   * Whether a trace that a visitor of a gateway began is recorded where he says so. His word costs everybody on the way, and
   * whose collector it is: past the bound chance decides, as where a trace begins here.
   */
  believesVisitor(traceparent: string): boolean {
    if (this.#exporter === undefined || !isSampled(traceparent) || this.#visitors.take()) return true;
    const core = this.#core;
    if (isSampled(core.ids.traceparent(this.sampling))) return true;
    core.observer.count('visitor_traces_not_sampled');
    return false;
  }

  /** A sampled request is over; its decisions are filled in. */
  record(r: RequestRecord): void {
    const core = this.#core;
    if (core.overload.level > 0) core.observer.count('spans_dropped');
    else this.#exporter?.add(spanOf(r, this.#pathLength, core.options.references));
  }

  /** Sends what waits, once. */
  async finish(): Promise<void> {
    await this.#exporter?.finish();
  }

  close(): void {
    this.#exporter?.close();
  }

  #exporterTo(collector: SpanCollector, source: SpanSource): SpanExporter {
    const core = this.#core;
    const encode = collector.protocol === SpanProtocol.ZIPKIN_JSON ? encodeZipkin : encodeOtlp;
    let failing = false;
    return new SpanExporter({
      clock: systemClock,
      random: core.random,
      maxQueued: core.limits.queuedSpans,
      encode: (spans) => encode(spans, source),
      send: (body, tell) => {
        const answered = (answer: SideAnswer | SideFailure): void => {
          const fate = fateOf(answer, collector.protocol === SpanProtocol.OTLP_GRPC);
          // Once an outage.
          if (fate !== 'taken' && !failing) {
            const why = typeof answer === 'string' ? answer : `answered ${answer.status}`;
            core.logger.warn({ collector: authorityOf(collector), why }, 'spans were not delivered');
          }
          failing = fate !== 'taken';
          tell(fate);
        };
        this.#send(collector, body, answered);
      },
      count: (name) => core.observer.count(name),
    });
  }

  #send(collector: SpanCollector, body: Uint8Array, answered: (answer: SideAnswer | SideFailure) => void): void {
    const core = this.#core;
    const { snapshot } = core;
    if (!snapshot) {
      answered('no_cluster');
      return;
    }
    const grpc = collector.protocol === SpanProtocol.OTLP_GRPC;
    const cluster = collector.cluster === '' ? undefined : snapshot.clusters.get(collector.cluster);
    const { host, port } = collector;
    new SideCall(
      core,
      {
        ...{ snapshot, cluster, direct: collector.cluster === '' ? { host, port } : undefined },
        ...{ timeoutMs: collector.timeoutMs, maxAnswerBytes: core.limits.collectorAnswerBytes },
        // Not sampled: the collector's own proxy would tell of what it is told.
        head: [
          ...headOf(collector, body.length),
          ...['traceparent', `${core.ids.traceparent(this.sampling).slice(0, 53)}00`],
        ],
        body: grpc ? grpcMessage(body) : body,
        h2: grpc || (cluster !== undefined && speaksHttp2(cluster, false, false, false)),
      },
      answered,
    ).start();
  }
}

function authorityOf({ host, port }: SpanCollector): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** `bytes`: of a body that is not gRPC's. */
function headOf(collector: SpanCollector, bytes: number): Head {
  const { protocol, path } = collector;
  const authority = authorityOf(collector);
  if (protocol === SpanProtocol.OTLP_GRPC)
    return grpcCallHead(authority, '/opentelemetry.proto.collector.trace.v1.TraceService/Export');
  const type = protocol === SpanProtocol.ZIPKIN_JSON ? 'application/json' : 'application/x-protobuf';
  const to = [':method', 'POST', ':scheme', 'http', ':authority', authority, ':path', path];
  return [...to, 'content-type', type, 'content-length', String(bytes)];
}

function fateOf(answer: SideAnswer | SideFailure, grpc: boolean): BatchFate {
  if (answer === 'too_long') return 'refused';
  if (typeof answer === 'string') return 'later';
  const { status } = answer;
  if (status < 200 || status > 299) return LATER_HTTP.has(status) ? 'later' : 'refused';
  if (!grpc) return 'taken';
  const code = grpcStatusOf(answer.head, answer.trailers) ?? '';
  return code === '0' ? 'taken' : LATER_GRPC.has(code) ? 'later' : 'refused';
}

/** Whose spans they are, in the words of Istio's dashboards. */
function sourceOf(self: Self, gateway: boolean): SpanSource {
  const { address, instance, namespace, domain, tracing } = self;
  const kind = gateway ? 'router' : 'sidecar';
  const tags = [
    'component',
    'proxy',
    'node_id',
    `${kind}~${address}~${instance}.${namespace}~${namespace}.svc.${domain}`,
  ];
  if (!tracing?.withoutIstioTags) {
    tags.push('istio.canonical_service', self.canonicalService, 'istio.canonical_revision', self.canonicalRevision);
    tags.push('istio.mesh_id', self.mesh, 'istio.namespace', namespace, 'istio.cluster_id', self.cluster);
  }
  return { serviceName: serviceNameOf(self), address, tags };
}
