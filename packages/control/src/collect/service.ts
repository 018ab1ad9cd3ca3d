/** `weft.control.v1.TelemetryService`: adds up what the proxies saw. */
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from '@connectrpc/connect';
import type { Clock } from '@weft/base';
import { type Instance, label } from '@weft/model';
import { Reporter, TelemetryAckSchema, type TelemetryReport, TelemetryService } from '@weft/plan';
import { type EdgeKey, type EdgeSummary, EdgeTable } from '@weft/telemetry';
import type { Traffic } from '../audit/traffic.ts';
import type { Mesh } from '../mesh.ts';
import { peerOf } from '../peer.ts';
import type { RateShares } from './rate-shares.ts';

const MAX_EDGES_PER_REPORT = 20_000;
const MAX_CALLS_PER_REPORT = 20_000;
const MAX_TEXT = 512;
const MAX_MISSING_KEYS = 100;

export class Collector {
  readonly #mesh: Mesh;
  readonly #clock: Clock;
  readonly #traffic: Traffic;
  readonly #rates: RateShares;
  readonly #table = new EdgeTable();
  /** What destinations say of callers that show no certificate. */
  readonly #plain = new EdgeTable();
  readonly #last = new Map<string, { startMs: bigint; sequence: bigint }>();

  constructor(mesh: Mesh, clock: Clock, traffic: Traffic, rates: RateShares) {
    this.#mesh = mesh;
    this.#rates = rates;
    this.#clock = clock;
    this.#traffic = traffic;
    mesh.onChange(() => {
      for (const name of this.#last.keys()) {
        if (mesh.instance(name)) continue;
        this.#last.delete(name);
        this.#table.forget(name);
        this.#plain.forget(name);
      }
    });
  }

  routes(router: ConnectRouter): void {
    router.service(TelemetryService, {
      push: (report, context) => {
        const { instance, again } = this.#add(report, context);
        return create(TelemetryAckSchema, { rates: this.#rates.answer(instance, report.rates, again) });
      },
    });
  }

  edges(window: number | 'all'): EdgeSummary[] {
    const now = this.#clock.now();
    const rows = this.#table.summaries(now, window);
    for (const seen of this.#plain.summaries(now, window))
      if (!rows.some((row) => sameEdge(row, seen))) rows.push(seen);
    return rows.sort(byEdge);
  }

  /** Whose report it is, and whether it was taken in before. */
  #add(report: TelemetryReport, context: HandlerContext): { instance: string; again: boolean } {
    const peer = peerOf(context);
    const instance = this.#mesh.instance(report.instance);
    if (!instance || this.#mesh.identityOf(instance) !== peer) {
      throw new ConnectError(
        `${peer} may not report for ${JSON.stringify(report.instance.slice(0, 200))}`,
        Code.PermissionDenied,
      );
    }
    if (report.edges.length + report.inFlight.length > MAX_EDGES_PER_REPORT) {
      throw new ConnectError(
        `a report may hold ${MAX_EDGES_PER_REPORT} edges, not ${report.edges.length}`,
        Code.InvalidArgument,
      );
    }
    if (report.calls.length > MAX_CALLS_PER_REPORT) {
      throw new ConnectError(
        `a report may hold ${MAX_CALLS_PER_REPORT} kinds of calls, not ${report.calls.length}`,
        Code.InvalidArgument,
      );
    }
    if (report.plaintext.length > MAX_CALLS_PER_REPORT) {
      throw new ConnectError(
        `a report may hold ${MAX_CALLS_PER_REPORT} callers without mTLS, not ${report.plaintext.length}`,
        Code.InvalidArgument,
      );
    }
    const last = this.#last.get(instance.name);
    if (last && last.startMs === report.startMs && report.sequence <= last.sequence)
      return { instance: instance.name, again: true }; // its answer was lost
    // Only what the configuration names is fetched, and not more often than it is good for.
    for (const source of report.missingKeys.slice(0, MAX_MISSING_KEYS)) this.#mesh.keySets.missing(source);
    this.#last.set(instance.name, { startMs: report.startMs, sequence: report.sequence });
    for (const [table, belongs] of [
      [this.#table, counts],
      [this.#plain, countsIfAlone],
    ] as const) {
      const deltas = report.edges.filter(belongs).map((e) => ({
        ...keyOf(e, instance),
        code: e.responseCode,
        grpcStatus: e.grpcStatus,
        flags: e.responseFlags.slice(0, MAX_TEXT),
        requests: Number(e.requests),
        durationSumMs: e.durationSumMs,
        bytes: Number(e.bytes),
        buckets: e.buckets,
      }));
      const inFlight = report.inFlight.filter(belongs).map((g) => ({ ...keyOf(g, instance), inFlight: g.inFlight }));
      table.add(instance.name, { deltas, inFlight }, this.#clock.now());
      const reporter = belongs === counts ? 'source' : 'destination';
      for (const { source, sourceNamespace, destination, mtls, requests, bytes } of deltas)
        this.#traffic.addEdge({ reporter, source, sourceNamespace, destination, mtls, requests, bytes });
    }
    const text = (value: string): string => value.slice(0, MAX_TEXT);
    for (const c of report.calls) {
      this.#traffic.addCall(instance, {
        principal: text(c.principal),
        source: text(c.sourceWorkload) || 'unknown',
        sourceNamespace: text(c.sourceNamespace) || 'unknown',
        port: c.port,
        method: text(c.method),
        path: text(c.path),
        denied: c.denied,
        policy: text(c.policy),
        ref: text(c.ref),
        shadowPolicy: text(c.shadowPolicy),
        shadowRef: text(c.shadowRef),
        audit: text(c.audit),
        requests: Number(c.requests),
      });
    }
    for (const p of report.plaintext) {
      const { address, port, refused } = p;
      // A proxy is not told of workloads that have none.
      const caller =
        p.sourceWorkload === ''
          ? this.#mesh.instances().find((i) => i.address === address || i.address6 === address)
          : undefined;
      this.#traffic.addPlaintext(instance, {
        source: caller?.workload ?? text(p.sourceWorkload),
        sourceNamespace: caller?.namespace ?? text(p.sourceNamespace),
        address: address.slice(0, 64),
        ...{ port, refused },
        ref: text(p.ref),
        requests: Number(p.requests),
      });
    }
    return { instance: instance.name, again: false };
  }
}

/**
 * Every request inside the mesh is reported by both of its ends. The source's word counts, as it also knows of what never
 * arrived; the destination's only for callers without a proxy.
 */
function counts(e: { reporter: Reporter; sourceWorkload: string }): boolean {
  return e.reporter === Reporter.SOURCE || e.sourceWorkload === '' || e.sourceWorkload === 'unknown';
}

/** A workload that calls in plaintext: its own proxy may have seen it, or have been passed by. */
function countsIfAlone(e: { reporter: Reporter; sourceWorkload: string; mtls: boolean }): boolean {
  return !counts(e) && !e.mtls;
}

function sameEdge(a: EdgeKey, b: EdgeKey): boolean {
  return (
    a.source === b.source &&
    a.sourceNamespace === b.sourceNamespace &&
    a.destination === b.destination &&
    a.version === b.version &&
    a.mtls === b.mtls
  );
}

function byEdge(a: EdgeKey, b: EdgeKey): number {
  const order = (x: string, y: string) => (x < y ? -1 : x > y ? 1 : 0);
  return order(a.source, b.source) || order(a.destination, b.destination) || order(a.version, b.version);
}

/** A proxy speaks for its own end: its name there is ours, not the report's. */
function keyOf(
  e: {
    reporter: Reporter;
    sourceWorkload: string;
    sourceNamespace: string;
    destinationService: string;
    destinationVersion: string;
    mtls: boolean;
  },
  instance: Instance,
): EdgeKey {
  const source = e.reporter === Reporter.SOURCE;
  return {
    source: source ? instance.workload : e.sourceWorkload.slice(0, MAX_TEXT) || 'unknown',
    sourceNamespace: source ? instance.namespace : e.sourceNamespace.slice(0, MAX_TEXT) || 'unknown',
    destination: e.destinationService.slice(0, MAX_TEXT),
    version: source ? e.destinationVersion.slice(0, MAX_TEXT) : (label(instance.labels, 'version') ?? ''),
    mtls: e.mtls,
  };
}
