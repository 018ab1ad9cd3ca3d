/** Lines of access logs and of applications → the tree of calls that one request caused, in causal order. */

/** One line of an instance's log, as the state folder holds it. */
export interface LoggedLine {
  readonly instance: string;
  readonly from: 'proxy' | 'application';
  readonly text: string;
}

/** One rule that decided, with its place; '' where the source has no files. */
export interface LoggedDecision {
  /** `route`, `timeout`, `authorization`, … */
  readonly kind: string;
  /** `VirtualService/shop/payment#spec.http[1]`. */
  readonly rule: string;
  readonly place: string;
}

/** What one proxy said of one request: the caller's side (`source`) or the called one's. */
export interface Hop {
  readonly instance: string;
  readonly reporter: 'source' | 'destination';
  readonly requestId: string;
  readonly traceId: string;
  readonly span: string;
  /** Span of the caller; '' where the trace begins here. */
  readonly parent: string;
  readonly startMs: number;
  readonly durationMs: number;
  readonly method: string;
  readonly authority: string;
  readonly path: string;
  readonly status: number;
  readonly grpcStatus: number;
  readonly flags: string;
  readonly details: string;
  readonly cluster: string;
  readonly upstream: string;
  readonly retries: number;
  readonly epoch: number;
  readonly decisions: readonly LoggedDecision[];
  readonly line: string;
  readonly children: Hop[];
  /** Lines that the application of the instance wrote about it. */
  readonly said: SaidLine[];
}

export interface SaidLine {
  readonly instance: string;
  readonly text: string;
  /** Milliseconds since 1970; NaN where the line does not say. */
  readonly timeMs: number;
}

export interface CallTree {
  readonly requestId: string;
  readonly traceIds: readonly string[];
  /** Where nothing of the mesh called before, the earliest first. */
  readonly roots: readonly Hop[];
  /** Lines of applications whose own proxy told of no request. */
  readonly loose: readonly SaidLine[];
}

/** Traces that the proxies' lines of a request id belong to: what is to be looked for beside the id itself. */
export function tracesOf(lines: Iterable<LoggedLine>, requestId: string): Set<string> {
  const traces = new Set<string>();
  for (const line of lines) {
    if (line.from !== 'proxy' || !line.text.includes(requestId)) continue;
    const hop = hopOf(line);
    if (hop?.requestId === requestId && hop.traceId !== '') traces.add(hop.traceId);
  }
  return traces;
}

/** Pure. `lines` may hold others too; of one instance they are in the order in which they were written. */
export function callTree(lines: Iterable<LoggedLine>, requestId: string, traces: ReadonlySet<string>): CallTree {
  const hops: Hop[] = [];
  const said: SaidLine[] = [];
  for (const line of lines) {
    if (line.from === 'application') {
      if (mentions(line.text, requestId) || [...traces].some((t) => line.text.includes(t)))
        said.push({ instance: line.instance, text: line.text, timeMs: timeOf(line.text) });
      continue;
    }
    const hop = hopOf(line);
    if (hop && (hop.requestId === requestId || traces.has(hop.traceId))) hops.push(hop);
  }
  hops.sort((a, b) => a.startMs - b.startMs);
  const spans = new Map(hops.map((h) => [h.span, h]));
  const roots: Hop[] = [];
  for (const hop of hops) {
    const parent = hop.parent === '' ? undefined : spans.get(hop.parent);
    if (parent && !isBelow(parent, hop, spans)) parent.children.push(hop);
    else roots.push(hop);
  }
  const loose: SaidLine[] = [];
  for (const line of said) (ownHop(hops, line)?.said ?? loose).push(line);
  return { requestId, traceIds: [...traces], roots, loose };
}

/** A client that invents span ids could make a circle of them. */
function isBelow(hop: Hop, above: Hop, spans: ReadonlyMap<string, Hop>): boolean {
  let at: Hop | undefined = hop;
  for (let steps = 0; at && steps <= spans.size; steps++) {
    if (at === above) return true;
    at = at.parent === '' ? undefined : spans.get(at.parent);
  }
  return at !== undefined;
}

/** The request that an application's line is about: the one whose span it names, else the last that had come by then. */
function ownHop(hops: readonly Hop[], line: SaidLine): Hop | undefined {
  const own = hops.filter((h) => h.instance === line.instance && h.reporter === 'destination');
  const named = own.find((h) => h.span !== '' && line.text.includes(h.span));
  if (named || own.length === 0) {
    // A job or a visitor of nobody: its own calls are all that is known of it.
    return named ?? hops.find((h) => h.instance === line.instance && h.reporter === 'source');
  }
  const before = own.filter((h) => !(h.startMs > line.timeMs));
  return (Number.isNaN(line.timeMs) ? own[0] : before.at(-1)) ?? own[0];
}

type Json = Readonly<Record<string, unknown>>;

function hopOf({ instance, text }: LoggedLine): Hop | undefined {
  if (!text.startsWith('{"start_time":')) return undefined;
  let json: Json;
  try {
    json = JSON.parse(text) as Json;
  } catch {
    // Cut off where a proxy was killed.
    return undefined;
  }
  const string = (name: string): string => (typeof json[name] === 'string' ? (json[name] as string) : '');
  const number = (name: string): number => (typeof json[name] === 'number' ? (json[name] as number) : 0);
  const [, traceId = '', span = ''] = string('traceparent').split('-');
  const flags = string('response_flags');
  return {
    instance,
    reporter: json.reporter === 'destination' ? 'destination' : 'source',
    requestId: string('request_id'),
    traceId,
    span,
    parent: string('parent_span'),
    startMs: Date.parse(string('start_time')) || 0,
    durationMs: number('duration'),
    method: string('method'),
    authority: string('authority'),
    path: string('path'),
    status: number('response_code'),
    grpcStatus: typeof json.grpc_status === 'number' ? json.grpc_status : -1,
    flags: flags === '-' ? '' : flags,
    details: string('response_code_details'),
    cluster: string('upstream_cluster'),
    upstream: string('upstream_host'),
    retries: number('retries'),
    epoch: number('epoch'),
    decisions: decisionsOf(json.decisions),
    line: text,
    children: [],
    said: [],
  };
}

function decisionsOf(value: unknown): LoggedDecision[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([kind, pair]) =>
    Array.isArray(pair) ? [{ kind, rule: String(pair[0]), place: String(pair[1] ?? '') }] : [],
  );
}

/** As a word of its own: a short id is part of many others. */
function mentions(text: string, id: string): boolean {
  for (let at = text.indexOf(id); at >= 0; at = text.indexOf(id, at + 1)) {
    if (!/[\w-]/.test(text[at - 1] ?? '') && !/[\w-]/.test(text[at + id.length] ?? '')) return true;
  }
  return false;
}

/** When an application's line was written, where it says that: a time at its beginning, or a usual field of JSON. */
function timeOf(text: string): number {
  if (text.startsWith('{')) {
    try {
      const json = JSON.parse(text) as Json;
      for (const name of ['time', 'ts', 'timestamp', '@timestamp']) {
        const value = json[name];
        if (typeof value === 'string') return Date.parse(value);
        // Seconds or milliseconds since 1970.
        if (typeof value === 'number') return value < 1e11 ? value * 1000 : value;
      }
    } catch {
      // It only looks like JSON.
    }
    return Number.NaN;
  }
  const m = /^\W?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)/.exec(text);
  return m ? Date.parse(m[1].replace(',', '.').replace(' ', 'T')) : Number.NaN;
}
