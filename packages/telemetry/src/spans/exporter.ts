import { backoffMs, type Clock, type Random, type Timer } from '@weft/base';
import type { Span } from './span.ts';

/** A batch leaves when it has so many spans, or so long after its first one. */
export const SPAN_BATCH = 128;
export const SPAN_FLUSH_MS = 1000;
const BACKOFF_BASE_MS = 1000;
const BACKOFF_MAX_MS = 30_000;

/** What became of a batch: the collector has it, will never take it, or may take it later. */
export type BatchFate = 'taken' | 'refused' | 'later';

export interface SpanExporterOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Spans that may wait, those on their way included; what is past it is dropped. */
  readonly maxQueued: number;
  encode(spans: readonly Span[]): Uint8Array;
  /** Sends one batch; tells once, now or later. */
  send(body: Uint8Array, tell: (fate: BatchFate) => void): void;
  /** `spans_exported` and `spans_dropped` (each span), `spans_export_failed` (each try). */
  count(name: string): void;
}

/**
 * Gathers spans, and sends them in batches, one at a time and in order. A batch that the collector could not take is
 * tried again after 1 to 30 s; who adds spans never waits and never hears of it. Batches wait encoded, so that they hold
 * no more memory than they have bytes.
 */
export class SpanExporter {
  readonly #options: SpanExporterOptions;
  #fresh: Span[] = [];
  #batches: { readonly body: Uint8Array; readonly spans: number }[] = [];
  /** Of all that waits. */
  #queued = 0;
  #flush: Timer | undefined;
  #soon = false;
  #again: Timer | undefined;
  #sending = false;
  #tries = 0;
  /** Nothing more is taken; called when all is gone. */
  #finished: (() => void) | undefined;
  #closed = false;

  constructor(options: SpanExporterOptions) {
    this.#options = options;
  }

  /** Spans that wait. */
  get queued(): number {
    return this.#queued;
  }

  add(span: Span): void {
    if (this.#closed || this.#finished !== undefined || this.#queued >= this.#options.maxQueued) {
      this.#options.count('spans_dropped');
      return;
    }
    this.#queued++;
    this.#fresh.push(span);
    if (this.#fresh.length >= SPAN_BATCH) this.#arm(true);
    else if (this.#flush === undefined) this.#arm(false);
  }

  /** Not at once even where a batch is full: who adds is in the middle of a request. */
  #arm(soon: boolean): void {
    if (soon && this.#soon) return;
    this.#flush?.cancel();
    this.#soon = soon;
    this.#flush = this.#options.clock.after(soon ? 0 : SPAN_FLUSH_MS, () => {
      this.#flush = undefined;
      this.#soon = false;
      this.#seal();
      if (this.#fresh.length > 0) this.#arm(true);
      this.#next();
    });
  }

  #seal(): void {
    if (this.#fresh.length === 0) return;
    const spans = this.#fresh.splice(0, SPAN_BATCH);
    this.#batches.push({ body: this.#options.encode(spans), spans: spans.length });
  }

  #next(): void {
    if (this.#sending || this.#again !== undefined) return;
    const [batch] = this.#batches;
    if (batch === undefined) {
      if (this.#fresh.length === 0) this.#finished?.();
      return;
    }
    this.#sending = true;
    this.#options.send(batch.body, (fate) => {
      this.#sending = false;
      if (!this.#closed) this.#told(fate);
    });
  }

  #told(fate: BatchFate): void {
    const { clock, random, count } = this.#options;
    if (fate !== 'taken') count('spans_export_failed');
    if (fate === 'later' && this.#finished === undefined) {
      const wait = BACKOFF_BASE_MS / 2 + backoffMs(this.#tries++, BACKOFF_BASE_MS, BACKOFF_MAX_MS, random);
      this.#again = clock.after(wait, () => {
        this.#again = undefined;
        this.#next();
      });
      return;
    }
    this.#tries = 0;
    const { spans } = this.#batches.shift()!;
    this.#queued -= spans;
    for (let i = 0; i < spans; i++) count(fate === 'taken' ? 'spans_exported' : 'spans_dropped');
    if (fate === 'later') this.#drop();
    this.#next();
  }

  /** Sends what waits, each batch once, and takes nothing more. Resolves when nothing waits. */
  finish(): Promise<void> {
    return new Promise((resolve) => {
      this.#finished = () => {
        this.close();
        resolve();
      };
      this.#flush?.cancel();
      this.#again?.cancel();
      this.#again = undefined;
      while (this.#fresh.length > 0) this.#seal();
      this.#next();
    });
  }

  /** Drops what waits. */
  close(): void {
    this.#closed = true;
    this.#flush?.cancel();
    this.#again?.cancel();
    this.#drop();
  }

  #drop(): void {
    for (; this.#queued > 0; this.#queued--) this.#options.count('spans_dropped');
    this.#fresh = [];
    this.#batches = [];
  }
}
