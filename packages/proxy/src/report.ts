/** Sends what was observed to the control plane each second. A report that failed goes again before the next. */
import { create } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import type { Logger } from '@weft/base';
import type { RateDemandOf, RateSharesOf } from '@weft/engine';
import { Reporter, type TelemetryReport, TelemetryReportSchema, TelemetryService } from '@weft/plan';
import type { CallAggregator, EdgeAggregator, EdgeReporter, PlaintextCallers } from '@weft/telemetry';
import type { Channel } from '@weft/xds';

const EVERY_MS = 1000;
const TIMEOUT_MS = 3000;

/** What a proxy has seen and not yet told. */
export interface Seen {
  readonly edges: EdgeAggregator;
  readonly calls: CallAggregator;
  readonly plaintextCallers: PlaintextCallers;
  /** Sources of token keys that lack one, since this was asked last. */
  takeMissingKeys(): string[];
  /** What callers want of rate limits that are shared with other replicas; and the answer to it. */
  takeRateDemands(): RateDemandOf[];
  applyRateShares(shares: readonly RateSharesOf[]): void;
}

export class TelemetryPush {
  #open: () => Channel;
  #seen: Seen;
  #instance: string;
  #logger: Logger;
  #channel: Channel | undefined;
  #sequence = 0n;
  #startMs = BigInt(Date.now());
  #unsent: TelemetryReport | undefined;
  #busy = false;
  #failing = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(instance: string, seen: Seen, open: () => Channel, logger: Logger) {
    this.#instance = instance;
    this.#seen = seen;
    this.#open = open;
    this.#logger = logger;
  }

  start(): void {
    this.#timer = setInterval(() => void this.push(), EVERY_MS);
    this.#timer.unref();
  }

  /** The certificate changed: the next report goes by a new connection. */
  reconnect(): void {
    this.#channel?.close();
    this.#channel = undefined;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.push();
    this.reconnect();
  }

  async push(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      this.#unsent ??= this.#collect();
      if (this.#unsent) {
        this.#channel ??= this.#open();
        const client = createClient(TelemetryService, this.#channel.transport);
        const answer = await client.push(this.#unsent, { timeoutMs: TIMEOUT_MS });
        this.#unsent = undefined;
        this.#seen.applyRateShares(answer.rates);
      }
      this.#failing = false;
    } catch (error) {
      // Once per outage: the control plane's absence is nothing to fill a log with.
      if (!this.#failing) this.#logger.warn({ error: String(error) }, 'telemetry was not delivered; it is kept');
      this.#failing = true;
      this.reconnect();
    } finally {
      this.#busy = false;
    }
  }

  #collect(): TelemetryReport | undefined {
    const { deltas, inFlight } = this.#seen.edges.takeDeltas();
    const calls = this.#seen.calls.takeDeltas();
    const plaintext = this.#seen.plaintextCallers.takeDeltas();
    const missingKeys = this.#seen.takeMissingKeys();
    const rates = this.#seen.takeRateDemands();
    const parts = [deltas, inFlight, calls, plaintext, missingKeys, rates];
    if (parts.every((part) => part.length === 0)) return undefined;
    const common = (e: {
      reporter: EdgeReporter;
      source: string;
      sourceNamespace: string;
      destination: string;
      version: string;
      mtls: boolean;
    }) => ({
      sourceWorkload: e.source,
      sourceNamespace: e.sourceNamespace,
      destinationService: e.destination,
      destinationVersion: e.version,
      reporter: e.reporter === 'source' ? Reporter.SOURCE : Reporter.DESTINATION,
      mtls: e.mtls,
    });
    return create(TelemetryReportSchema, {
      instance: this.#instance,
      sequence: ++this.#sequence,
      startMs: this.#startMs,
      missingKeys,
      rates,
      edges: deltas.map((d) => ({
        ...common(d),
        responseCode: d.code,
        grpcStatus: d.grpcStatus,
        responseFlags: d.flags,
        requests: BigInt(d.requests),
        durationSumMs: d.durationSumMs,
        buckets: d.buckets,
        bytes: BigInt(d.bytes),
      })),
      calls: calls.map(({ source, requests, ...call }) => ({
        ...call,
        sourceWorkload: source,
        requests: BigInt(requests),
      })),
      plaintext: plaintext.map(({ source, requests, ...caller }) => ({
        ...caller,
        sourceWorkload: source,
        requests: BigInt(requests),
      })),
      inFlight: inFlight.map((g) => ({ ...common(g), inFlight: g.inFlight })),
    });
  }
}
