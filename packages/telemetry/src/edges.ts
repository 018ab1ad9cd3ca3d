import { bucketIndex, edgeBuckets, quantile } from './histogram.ts';

/**
 * Who calls whom, as a proxy tells the control plane each second: what was added since the last time, per edge, with a
 * histogram of durations. `EdgeAggregator` collects in the proxy, `EdgeTable` adds up in the control plane.
 */

/** Which end of an edge tells of it. */
export type EdgeReporter = 'source' | 'destination';

/** What was added to one edge and outcome. JSON-safe, so that any transport can carry it. */
export interface EdgeDelta {
  reporter: EdgeReporter;
  /** Workload that calls; `unknown` outside the mesh. */
  source: string;
  sourceNamespace: string;
  /** Host of the destination service. */
  destination: string;
  version: string;
  mtls: boolean;
  /** HTTP status; 0 where none was sent; -1 for TCP connections. */
  code: number;
  /** gRPC status, -1: none. */
  grpcStatus: number;
  flags: string;
  requests: number;
  durationSumMs: number;
  /** Of bodies, or of an opaque connection; both directions. */
  bytes: number;
  /** Pairs of index in `edgeBuckets` and count, flat. */
  buckets: number[];
}

/** What is running on an edge now; sent with the deltas, whole. */
export interface EdgeGauge {
  reporter: EdgeReporter;
  source: string;
  sourceNamespace: string;
  destination: string;
  version: string;
  mtls: boolean;
  inFlight: number;
}

export interface EdgeReport {
  deltas: EdgeDelta[];
  inFlight: EdgeGauge[];
}

export interface EdgeKey {
  source: string;
  sourceNamespace: string;
  destination: string;
  version: string;
  mtls: boolean;
}

/** An edge as a proxy keeps it: a workload that calls itself has two. */
export interface SeenEdgeKey extends EdgeKey {
  reporter: EdgeReporter;
}

export const defaultMaxEdges = 10_000;
/** Outcomes (code, gRPC status, flags) that one edge keeps apart between two pushes. */
const maxOutcomes = 64;

interface Outcome {
  code: number;
  grpcStatus: number;
  flags: string;
  requests: number;
  durationSumMs: number;
  bytes: number;
  counts: Uint32Array;
}

/** One edge in a proxy; the caller keeps it and adds to it. */
export class Edge {
  readonly key: SeenEdgeKey;
  inFlight = 0;
  /** Whether the last report said that something was running, so that the end is said as well. */
  reported = false;
  #outcomes: Outcome[] = [];
  #last: Outcome | undefined;

  constructor(key: SeenEdgeKey) {
    this.key = key;
  }

  record(code: number, grpcStatus: number, flags: string, durationMs: number, bytes = 0): void {
    let o = this.#last;
    if (!o || o.code !== code || o.grpcStatus !== grpcStatus || o.flags !== flags) {
      o = this.#outcome(code, grpcStatus, flags);
      this.#last = o;
    }
    o.requests += 1;
    o.durationSumMs += durationMs;
    o.bytes += bytes;
    o.counts[bucketIndex(edgeBuckets, durationMs)] += 1;
  }

  #outcome(code: number, grpcStatus: number, flags: string, folded = false): Outcome {
    for (const o of this.#outcomes) {
      if (o.code === code && o.grpcStatus === grpcStatus && o.flags === flags) return o;
    }
    // Past the limit only the class of the status is kept, which is what success rates need.
    if (!folded && this.#outcomes.length >= maxOutcomes) {
      const status = grpcStatus < 0 ? -1 : isFailure(200, grpcStatus) ? 2 : 0;
      return this.#outcome(code < 0 ? -1 : Math.floor(code / 100) * 100, status, 'other', true);
    }
    const made: Outcome = {
      code,
      grpcStatus,
      flags,
      requests: 0,
      durationSumMs: 0,
      bytes: 0,
      counts: new Uint32Array(edgeBuckets.length + 1),
    };
    this.#outcomes.push(made);
    return made;
  }

  /** Moves what was recorded into `deltas`. */
  take(deltas: EdgeDelta[]): void {
    for (const o of this.#outcomes) {
      if (o.requests === 0) continue;
      const buckets: number[] = [];
      for (let i = 0; i < o.counts.length; i++) if (o.counts[i] !== 0) buckets.push(i, o.counts[i]);
      const { code, grpcStatus, flags, requests, durationSumMs, bytes } = o;
      deltas.push({ ...this.key, code, grpcStatus, flags, requests, durationSumMs, bytes, buckets });
      o.requests = 0;
      o.durationSumMs = 0;
      o.bytes = 0;
      o.counts.fill(0);
    }
    if (this.#outcomes.length >= maxOutcomes) {
      this.#outcomes = [];
      this.#last = undefined;
    }
  }
}

export class EdgeAggregator {
  readonly #maxEdges: number;
  readonly #count: (name: string) => void;
  #edges: Edge[] = [];
  #index = new Map<string, Map<string, Map<string, Edge[]>>>();
  #other: Edge | undefined;

  /** `count` hears `telemetry_edges_folded` for each look-up past the limit. */
  constructor(options: { maxEdges?: number; count?: (name: string) => void } = {}) {
    this.#maxEdges = options.maxEdges ?? defaultMaxEdges;
    this.#count = options.count ?? (() => {});
  }

  /** Finds or makes an edge: once per (peer, service), the caller keeps it. */
  edge(key: SeenEdgeKey): Edge {
    const bySource = this.#index.get(key.source);
    const byDestination = bySource?.get(key.destination);
    const list = byDestination?.get(key.version);
    if (list) {
      for (const e of list) {
        const { mtls, sourceNamespace, reporter } = e.key;
        if (mtls === key.mtls && sourceNamespace === key.sourceNamespace && reporter === key.reporter) return e;
      }
    }
    if (this.#edges.length >= this.#maxEdges) {
      this.#count('telemetry_edges_folded');
      this.#other ??= new Edge({
        reporter: 'source',
        source: 'other',
        sourceNamespace: 'other',
        destination: 'other',
        version: 'other',
        mtls: false,
      });
      return this.#other;
    }
    const edge = new Edge({ ...key });
    this.#edges.push(edge);
    const destinations = bySource ?? new Map<string, Map<string, Edge[]>>();
    if (!bySource) this.#index.set(key.source, destinations);
    const versions = byDestination ?? new Map<string, Edge[]>();
    if (!byDestination) destinations.set(key.destination, versions);
    if (list) list.push(edge);
    else versions.set(key.version, [edge]);
    return edge;
  }

  /** What was added since the last call, and what is running now. A report that is not delivered is lost: keep it. */
  takeDeltas(): EdgeReport {
    const report: EdgeReport = { deltas: [], inFlight: [] };
    for (const edge of this.#other ? [...this.#edges, this.#other] : this.#edges) {
      edge.take(report.deltas);
      if (edge.inFlight === 0 && !edge.reported) continue;
      edge.reported = edge.inFlight !== 0;
      report.inFlight.push({ ...edge.key, inFlight: edge.inFlight });
    }
    return report;
  }
}

/** One line of the table of edges: the shape of `GET /v1/edges` and of the CLI's live table. */
export interface EdgeSummary extends EdgeKey {
  /** Since the table was made. */
  requests: number;
  failures: number;
  /** In the window asked for. */
  requestsPerSecond: number;
  /** 0 to 1; NaN (null in JSON) without requests in the window. */
  successRate: number;
  p50Ms: number;
  p90Ms: number;
  p99Ms: number;
  inFlight: number;
}

/** A failure as the mesh counts it: no answer, a 5xx, or a gRPC status that is the server's fault. */
export function isFailure(code: number, grpcStatus: number, flags = ''): boolean {
  // A TCP connection fails where a flag says why (UF, UH, NR, …).
  if (code === -1) return flags !== '';
  if (code === 0 || code >= 500) return true;
  // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
  return grpcStatus === 2 || grpcStatus === 4 || (grpcStatus >= 12 && grpcStatus <= 15);
}

function addSparse(counts: Float64Array, pairs: readonly number[]): void {
  for (let i = 0; i + 1 < pairs.length; i += 2) if (pairs[i] < counts.length) counts[pairs[i]] += pairs[i + 1];
}

interface Slice {
  requests: number;
  failures: number;
  counts: Float64Array;
}

interface Row {
  key: EdgeKey;
  requests: number;
  failures: number;
  counts: Float64Array;
  /** A ring, one slice per second. */
  ring: (Slice & { second: number })[];
  inFlight: Map<string, number>;
}

const ringSeconds = 60;

/** What the table takes of a report. */
export interface EdgeAdditions {
  deltas: Omit<EdgeDelta, 'reporter'>[];
  inFlight: Omit<EdgeGauge, 'reporter'>[];
}

/** Adds up the reports of all proxies. Only those of one side may go in, or every request counts twice. */
export class EdgeTable {
  #rows: Row[] = [];
  #index = new Map<string, Map<string, Row[]>>();
  readonly #maxEdges: number;

  constructor(options: { maxEdges?: number } = {}) {
    this.#maxEdges = options.maxEdges ?? defaultMaxEdges;
  }

  /** `proxy` names the reporter, so that its in-flight numbers replace the ones it sent before. `nowMs` is monotonic. */
  add(proxy: string, report: EdgeAdditions, nowMs: number): void {
    const second = Math.floor(nowMs / 1000);
    for (const d of report.deltas) {
      const row = this.#row(d);
      if (!row) continue;
      const failed = isFailure(d.code, d.grpcStatus, d.flags) ? d.requests : 0;
      row.requests += d.requests;
      row.failures += failed;
      addSparse(row.counts, d.buckets);
      let slice = row.ring[second % ringSeconds];
      if (!slice || slice.second !== second) {
        slice = { second, requests: 0, failures: 0, counts: new Float64Array(edgeBuckets.length + 1) };
        row.ring[second % ringSeconds] = slice;
      }
      slice.requests += d.requests;
      slice.failures += failed;
      addSparse(slice.counts, d.buckets);
    }
    for (const g of report.inFlight) {
      const row = this.#row(g);
      if (!row) continue;
      if (g.inFlight === 0) row.inFlight.delete(proxy);
      else row.inFlight.set(proxy, g.inFlight);
    }
  }

  /** A proxy is gone: what it had in flight is no more. */
  forget(proxy: string): void {
    for (const row of this.#rows) row.inFlight.delete(proxy);
  }

  #row(key: EdgeKey): Row | undefined {
    let destinations = this.#index.get(key.source);
    let list = destinations?.get(key.destination);
    const found = list?.find(
      (r) => r.key.version === key.version && r.key.mtls === key.mtls && r.key.sourceNamespace === key.sourceNamespace,
    );
    if (found || this.#rows.length >= this.#maxEdges) return found;
    const { source, sourceNamespace, destination, version, mtls } = key;
    const row: Row = {
      key: { source, sourceNamespace, destination, version, mtls },
      requests: 0,
      failures: 0,
      counts: new Float64Array(edgeBuckets.length + 1),
      ring: [],
      inFlight: new Map(),
    };
    this.#rows.push(row);
    if (!destinations) this.#index.set(source, (destinations = new Map()));
    if (!list) destinations.set(destination, (list = []));
    list.push(row);
    return row;
  }

  /**
   * All edges, sorted by source, destination and version; rates, success and quantiles over the last `windowMs`
   * (1 s to 59 s), or with 'all' success and quantiles since the table was made (the rate is of the last 10 s then).
   */
  summaries(nowMs: number, window: number | 'all' = 10_000): EdgeSummary[] {
    const all = window === 'all';
    const windowMs = all ? 10_000 : window;
    const seconds = Math.min(ringSeconds - 1, Math.max(1, Math.round(windowMs / 1000)));
    const now = Math.floor(nowMs / 1000);
    const out: EdgeSummary[] = [];
    for (const row of this.#rows) {
      const counts = all ? row.counts : new Float64Array(edgeBuckets.length + 1);
      let requests = 0;
      let failures = 0;
      // The running second is left out of the rate: it is not over.
      for (const slice of row.ring) {
        if (!slice || slice.second >= now || slice.second < now - seconds) continue;
        requests += slice.requests;
        failures += slice.failures;
        if (!all) for (let i = 0; i < counts.length; i++) counts[i] += slice.counts[i];
      }
      let inFlight = 0;
      for (const n of row.inFlight.values()) inFlight += n;
      // Only tried: the request went on to another version, and is counted there.
      if (row.requests === 0 && inFlight === 0) continue;
      out.push({
        ...row.key,
        requests: row.requests,
        failures: row.failures,
        requestsPerSecond: requests / seconds,
        successRate: all ? 1 - row.failures / row.requests : 1 - failures / requests,
        p50Ms: quantile(0.5, counts),
        p90Ms: quantile(0.9, counts),
        p99Ms: quantile(0.99, counts),
        inFlight,
      });
    }
    const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
    return out.sort(
      (a, b) => order(a.source, b.source) || order(a.destination, b.destination) || order(a.version, b.version),
    );
  }
}
