import { BinaryWriter } from '@weft/plan';
import type { Span, SpanSource } from './span.ts';

// Numbers of opentelemetry.proto.trace.v1 and .common.v1, each with its wire type: 0 varint, 1 eight bytes, 2 length.
const field = (number: number, type: 0 | 1 | 2): number => number * 8 + type;
const REQUEST_RESOURCE_SPANS = field(1, 2);
const RESOURCE_SPANS_RESOURCE = field(1, 2);
const RESOURCE_SPANS_SCOPE_SPANS = field(2, 2);
const RESOURCE_ATTRIBUTES = field(1, 2);
const SCOPE_SPANS_SCOPE = field(1, 2);
const SCOPE_SPANS_SPANS = field(2, 2);
const SCOPE_NAME = field(1, 2);
const SPAN_TRACE_ID = field(1, 2);
const SPAN_ID = field(2, 2);
const SPAN_PARENT_ID = field(4, 2);
const SPAN_NAME = field(5, 2);
const SPAN_KIND = field(6, 0);
const SPAN_START = field(7, 1);
const SPAN_END = field(8, 1);
const SPAN_ATTRIBUTES = field(9, 2);
const SPAN_STATUS = field(15, 2);
const STATUS_CODE = field(3, 0);
const KEY = field(1, 2);
const VALUE = field(2, 2);
const STRING_VALUE = field(1, 2);

const SERVER = 2;
const CLIENT = 3;
const ERROR = 2;

/**
 * An ExportTraceServiceRequest (https://opentelemetry.io/docs/specs/otlp/) as protobuf: the body of a POST to `/v1/traces`
 * (`application/x-protobuf`), or the message of gRPC's TraceService/Export.
 */
export function encodeOtlp(spans: readonly Span[], source: SpanSource): Uint8Array {
  const w = new BinaryWriter();
  w.uint32(REQUEST_RESOURCE_SPANS).fork();
  w.uint32(RESOURCE_SPANS_RESOURCE).fork();
  attribute(w, RESOURCE_ATTRIBUTES, 'service.name', source.serviceName);
  w.join();
  w.uint32(RESOURCE_SPANS_SCOPE_SPANS).fork();
  w.uint32(SCOPE_SPANS_SCOPE).fork().uint32(SCOPE_NAME).string('weft').join();
  for (const s of spans) {
    w.uint32(SCOPE_SPANS_SPANS).fork();
    writeSpan(w, s, source);
    w.join();
  }
  w.join();
  w.join();
  return w.finish();
}

function writeSpan(w: BinaryWriter, s: Span, source: SpanSource): void {
  w.uint32(SPAN_TRACE_ID).bytes(fromHex(s.traceparent, 3, 35));
  w.uint32(SPAN_ID).bytes(fromHex(s.traceparent, 36, 52));
  if (s.parentSpanId !== '') w.uint32(SPAN_PARENT_ID).bytes(fromHex(s.parentSpanId, 0, 16));
  w.uint32(SPAN_NAME).string(s.name);
  w.uint32(SPAN_KIND).int32(s.server ? SERVER : CLIENT);
  const start = BigInt(Math.round(s.startWallMs * 1000)) * 1000n;
  w.uint32(SPAN_START).fixed64(start);
  w.uint32(SPAN_END).fixed64(start + BigInt(Math.max(0, Math.round(s.durationMs * 1e6))));
  attributes(w, SPAN_ATTRIBUTES, source.tags);
  attributes(w, SPAN_ATTRIBUTES, s.tags);
  if (s.peerName !== '') attribute(w, SPAN_ATTRIBUTES, 'peer.service', s.peerName);
  if (s.error) w.uint32(SPAN_STATUS).fork().uint32(STATUS_CODE).int32(ERROR).join();
}

function attributes(w: BinaryWriter, number: number, tags: readonly string[]): void {
  for (let i = 0; i + 1 < tags.length; i += 2) attribute(w, number, tags[i], tags[i + 1]);
}

function attribute(w: BinaryWriter, number: number, name: string, value: string): void {
  w.uint32(number).fork();
  w.uint32(KEY).string(name);
  w.uint32(VALUE).fork().uint32(STRING_VALUE).string(value).join();
  w.join();
}

function fromHex(text: string, from: number, end: number): Uint8Array {
  const out = new Uint8Array((end - from) / 2);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(text.slice(from + i * 2, from + i * 2 + 2), 16);
  return out;
}
