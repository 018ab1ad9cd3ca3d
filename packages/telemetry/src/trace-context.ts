import { type IdSource, sampledByTraceId } from './ids.ts';

/**
 * Trace context: W3C Trace Context (https://www.w3.org/TR/trace-context/) read and written, B3 single and multi
 * (https://github.com/openzipkin/b3-propagation) read, and rewritten where the request came with it.
 */
export interface TraceContext {
  /** 32 lower-case hex digits. */
  traceId: string;
  /** The span that is the parent of what follows; 16 lower-case hex digits. */
  spanId: string;
  /** Undefined: whoever gets it is to decide (B3 without a sampling state). */
  sampled: boolean | undefined;
  /** The caller's span, where this context is a child of one. */
  parentId?: string;
  tracestate?: string;
}

const zeroTrace = '0'.repeat(32);
const zeroSpan = '0'.repeat(16);

function isHex(value: string, from: number, to: number): boolean {
  for (let i = from; i < to; i++) {
    const c = value.charCodeAt(i);
    if (!((c >= 48 && c <= 57) || (c >= 97 && c <= 102))) return false;
  }
  return true;
}

/** The first 55 bytes of the traceparent that isTraceparent saw last. Bytes: they are looked at and changed in place. */
const seen = Buffer.alloc(55) as Buffer & {
  latin1Write(text: string, at: number, count: number): number;
  latin1Slice(from: number, to: number): string;
};
const seenView = new DataView(seen.buffer, seen.byteOffset, seen.length);
const dash = 45;

/** 1 for digits of hex. A table, since what is random is no branch that could be foretold. */
const digits = new Uint8Array(256);
for (const c of Buffer.from('0123456789abcdef', 'latin1')) digits[c] = 1;

function areDigits(from: number, to: number): boolean {
  let all = 1;
  for (let i = from; i < to; i++) all &= digits[seen[i]];
  return all === 1;
}

function isId(from: number, to: number): boolean {
  if (!areDigits(from, to)) return false;
  for (let i = from; i < to; i++) if (seen[i] !== 48) return true;
  return false;
}

/** Whether the value, of a head and so without characters past U+00FF, is valid by the specification. */
function isTraceparent(value: string): boolean {
  if (value.length < 55) return false;
  seen.latin1Write(value, 0, 55);
  if (seen[2] !== dash || seen[35] !== dash || seen[52] !== dash) return false;
  if (!areDigits(0, 2) || !isId(3, 35) || !isId(36, 52) || !areDigits(53, 55)) return false;
  if (seen[0] === 102 && seen[1] === 102) return false; // ff
  // Version 00 has nothing after the flags; a later one may, after a dash, and is read as far as it is known.
  return value.length === 55 || (!isVersion00() && value.charCodeAt(55) === dash);
}

function isVersion00(): boolean {
  return seen[0] === 48 && seen[1] === 48;
}

/** Undefined where the value is not valid by the specification: then a new trace begins. */
export function parseTraceparent(value: string): TraceContext | undefined {
  if (!isTraceparent(value)) return undefined;
  const sampled = (Number.parseInt(value.slice(53, 55), 16) & 1) === 1;
  return { traceId: value.slice(3, 35), spanId: value.slice(36, 52), sampled };
}

/** Where the request stands in its trace. */
export interface TracePlace {
  traceparent: string;
  /** The caller's span; '' where the trace begins here. */
  parentSpanId: string;
}

/** The flag "sampled" of a traceparent that continueTrace gave; false for ''. */
export function isSampled(traceparent: string): boolean {
  // The last of two hex digits; that of a letter's code is odd where the digit is even.
  const c = traceparent.charCodeAt(54);
  return ((c > 57 ? c + 1 : c) & 1) === 1;
}

export function formatTraceparent(context: TraceContext): string {
  return `00-${context.traceId}-${context.spanId}-${context.sampled ? '01' : '00'}`;
}

function b3(traceId: string, spanId: string, sampling: string | undefined): TraceContext | undefined {
  const trace = traceId.toLowerCase();
  const span = spanId.toLowerCase();
  if ((trace.length !== 32 && trace.length !== 16) || span.length !== 16) return undefined;
  if (!isHex(trace, 0, trace.length) || !isHex(span, 0, 16)) return undefined;
  const full = trace.padStart(32, '0');
  if (full === zeroTrace || span === zeroSpan) return undefined;
  const sampled = sampling === undefined ? undefined : sampling === '1' || sampling === 'd' || sampling === 'true';
  return { traceId: full, spanId: span, sampled };
}

/** `{trace id}-{span id}[-{sampling}[-{parent}]]`. A lone decision (`0`, `1`, `d`) carries no context: undefined. */
export function parseB3Single(value: string): TraceContext | undefined {
  const parts = value.split('-', 5);
  if (parts.length < 2 || parts.length > 4) return undefined;
  return b3(parts[0], parts[1], parts[2]);
}

/**
 * Reads the caller's context from a head (flat array of lower-case names and values): traceparent first, then b3, then
 * x-b3-*. Two traceparent fields are none (W3C 3.2.2.3); tracestate fields join in order, and count only with a traceparent.
 */
export function readTraceContext(head: readonly string[]): TraceContext | undefined {
  let traceparent: string | undefined;
  let twice = false;
  let tracestate: string | undefined;
  let single: string | undefined;
  let b3Trace: string | undefined;
  let b3Span: string | undefined;
  let b3Sampled: string | undefined;
  let b3Debug = false;
  for (let i = 0; i + 1 < head.length; i += 2) {
    const name = head[i];
    const first = name.charCodeAt(0);
    if (first !== 116 && first !== 98 && first !== 120) continue; // t, b, x
    const value = head[i + 1];
    if (name === 'traceparent') {
      twice = traceparent !== undefined;
      traceparent = value;
    } else if (name === 'tracestate') tracestate = tracestate === undefined ? value : `${tracestate},${value}`;
    else if (name === 'b3') single = value;
    else if (name === 'x-b3-traceid') b3Trace = value;
    else if (name === 'x-b3-spanid') b3Span = value;
    else if (name === 'x-b3-sampled') b3Sampled = value;
    else if (name === 'x-b3-flags') b3Debug = value === '1';
  }
  if (traceparent !== undefined && !twice) {
    const context = parseTraceparent(traceparent);
    if (context) {
      if (tracestate !== undefined) context.tracestate = tracestate;
      return context;
    }
  }
  if (single !== undefined) {
    const context = parseB3Single(single);
    if (context) return context;
  }
  if (b3Trace !== undefined && b3Span !== undefined) return b3(b3Trace, b3Span, b3Debug ? 'd' : b3Sampled);
  return undefined;
}

/** The same trace, one span further; the caller's decision on sampling is kept. */
export function childTrace(parent: TraceContext, ids: IdSource): TraceContext {
  const child: TraceContext = {
    traceId: parent.traceId,
    spanId: ids.spanId(),
    sampled: parent.sampled,
    parentId: parent.spanId,
  };
  if (parent.tracestate !== undefined) child.tracestate = parent.tracestate;
  return child;
}

/**
 * Puts the context into a head in place: one traceparent, and B3 fields brought up to date where the head has them.
 * A tracestate that did not belong to a valid traceparent is taken off.
 */
export function writeTraceContext(
  head: string[],
  context: TraceContext,
  traceparent = formatTraceparent(context),
): void {
  let written = false;
  let undecided = false;
  let to = 0;
  for (let i = 0; i + 1 < head.length; i += 2) {
    const name = head[i];
    let value = head[i + 1];
    const first = name.charCodeAt(0);
    if (first !== 116 && first !== 98 && first !== 120 && to === i) {
      // Nothing of ours, and it stays where it is.
      to += 2;
      continue;
    }
    if (name === 'traceparent') {
      if (written) continue;
      written = true;
      value = traceparent;
    } else if (name === 'tracestate') {
      if (context.tracestate === undefined) continue;
    } else if (name === 'b3') {
      const parent = context.parentId === undefined ? '' : `-${context.parentId}`;
      value = `${context.traceId}-${context.spanId}-${context.sampled ? '1' : '0'}${parent}`;
    } else if (name === 'x-b3-traceid') {
      value = context.traceId;
      undecided = !has(head, 'x-b3-sampled') && !has(head, 'x-b3-flags');
    } else if (name === 'x-b3-spanid') value = context.spanId;
    else if (name === 'x-b3-parentspanid') value = context.parentId ?? value;
    head[to++] = name;
    head[to++] = value;
  }
  if (to !== head.length) head.length = to;
  if (!written) head.push('traceparent', traceparent);
  // Decided now: who comes next is not to decide otherwise.
  if (undecided) head.push('x-b3-sampled', context.sampled ? '1' : '0');
}

function has(head: readonly string[], name: string): boolean {
  for (let i = 0; i < head.length; i += 2) if (head[i] === name) return true;
  return false;
}

/**
 * Adds B3's fields to a head that continueTrace has written and that has none, for applications that pass on nothing else:
 * Istio's proxies give them with a Zipkin collector. Where the head came with B3, it is up to date already.
 */
export function addB3(head: string[], { traceparent, parentSpanId }: TracePlace): void {
  if (has(head, 'x-b3-traceid') || has(head, 'b3')) return;
  head.push('x-b3-traceid', traceparent.slice(3, 35), 'x-b3-spanid', traceparent.slice(36, 52));
  if (parentSpanId !== '') head.push('x-b3-parentspanid', parentSpanId);
  if (!has(head, 'x-b3-sampled')) head.push('x-b3-sampled', isSampled(traceparent) ? '1' : '0');
}

/** Takes the decision to record back from a head that continueTrace has written, wherever it stands. */
export function unsample(head: string[], place: TracePlace): void {
  place.traceparent = `${place.traceparent.slice(0, 53)}00`;
  const decided = has(head, 'x-b3-sampled');
  for (let i = 0; i + 1 < head.length; i += 2) {
    const name = head[i];
    if (name === 'traceparent') head[i + 1] = place.traceparent;
    else if (name === 'x-b3-sampled' || name === 'x-b3-flags') {
      // Flags without "debug" leave it open.
      if (!decided) head[i] = 'x-b3-sampled';
      head[i + 1] = '0';
    } else if (name === 'b3') head[i + 1] = `${place.traceparent.slice(3, 52)}-0-${place.parentSpanId}`;
  }
}

const place: TracePlace = { traceparent: '', parentSpanId: '' };

/**
 * Continues the trace that a head belongs to by one span, or begins one (sampled for `fraction` of them), and writes it
 * into the head. What it returns is valid until the next call.
 */
export function continueTrace(head: string[], ids: IdSource, fraction: number): TracePlace {
  let at = -1;
  for (let i = 0; i + 1 < head.length; i += 2) {
    const name = head[i];
    const first = name.charCodeAt(0);
    if (first !== 116 && first !== 98 && first !== 120) continue; // t, b, x
    if (name === 'traceparent') {
      if (at >= 0) return continueAny(head, ids, fraction);
      at = i + 1;
    } else if (name === 'tracestate' || name === 'b3' || name.startsWith('x-b3-')) {
      return continueAny(head, ids, fraction);
    }
  }
  if (at < 0) {
    place.traceparent = ids.traceparent(fraction);
    place.parentSpanId = '';
    head.push('traceparent', place.traceparent);
    return place;
  }
  // Nearly always a field of version 00, which a proxy before this one wrote: only its span changes.
  const value = head[at];
  if (value.length !== 55 || !isTraceparent(value) || !isVersion00()) return continueAny(head, ids, fraction);
  ids.writeSpanId(seenView, 36);
  place.traceparent = seen.latin1Slice(0, 55);
  place.parentSpanId = value.slice(36, 52);
  head[at] = place.traceparent;
  return place;
}

/** Every form, with what belongs to it. */
function continueAny(head: string[], ids: IdSource, fraction: number): TracePlace {
  const parent = readTraceContext(head);
  if (parent) parent.sampled ??= sampledByTraceId(parent.traceId, fraction);
  const context = parent ? childTrace(parent, ids) : parseTraceparent(ids.traceparent(fraction))!;
  place.traceparent = formatTraceparent(context);
  place.parentSpanId = context.parentId ?? '';
  writeTraceContext(head, context, place.traceparent);
  return place;
}
