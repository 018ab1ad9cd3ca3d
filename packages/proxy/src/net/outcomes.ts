/**
 * What detection found on ports without a declared protocol: shown to people, and remembered so that a port whose server
 * speaks first is waited for in full only once. It decides nothing else: every connection is looked at, and what is taken
 * for opaque is judged by the rules for TCP, which are the stricter ones.
 */
import type { WireCounters } from '@weft/wire';
import type { Detected } from './detect.ts';

/** What a client that said nothing for the whole time is counted as. */
export type Finding = Detected | 'silent';

/** The wait on a port on which clients have only ever been silent. */
export const SILENT_AGAIN_MS = 250;

export class Outcome {
  readonly direction: 'inbound' | 'outbound';
  /** The service's; '' for a port of the workload itself. */
  readonly host: string;
  readonly port: number;
  http1 = 0;
  http2 = 0;
  tls = 0;
  tcp = 0;
  silent = 0;
  last: Finding | undefined;

  constructor(direction: 'inbound' | 'outbound', host: string, port: number) {
    this.direction = direction;
    this.host = host;
    this.port = port;
  }

  add(finding: Finding): void {
    this[finding]++;
    this.last = finding;
  }

  waitMs(limitMs: number): number {
    const onlySilent = this.silent > 0 && this.http1 + this.http2 + this.tls + this.tcp === 0;
    return onlySilent ? Math.min(limitMs, SILENT_AGAIN_MS) : limitMs;
  }
}

export class Outcomes {
  #inbound = new Map<number, Outcome>();
  #outbound = new Map<string, Map<number, Outcome>>();
  #size = 0;
  #counters: WireCounters;
  readonly #limits: { readonly detectOutcomes: number };

  constructor(counters: WireCounters, limits: { readonly detectOutcomes: number }) {
    this.#counters = counters;
    this.#limits = limits;
  }

  /** Undefined where there are too many ports to remember. */
  inbound(port: number): Outcome | undefined {
    return this.#inbound.get(port) ?? this.#add(this.#inbound, 'inbound', '', port);
  }

  outbound(host: string, port: number): Outcome | undefined {
    let ports = this.#outbound.get(host);
    const known = ports?.get(port);
    if (known) return known;
    if (!ports && this.#size < this.#limits.detectOutcomes) this.#outbound.set(host, (ports = new Map()));
    return this.#add(ports ?? new Map(), 'outbound', host, port);
  }

  *list(): Generator<Outcome> {
    yield* this.#inbound.values();
    for (const ports of this.#outbound.values()) yield* ports.values();
  }

  #add(
    ports: Map<number, Outcome>,
    direction: 'inbound' | 'outbound',
    host: string,
    port: number,
  ): Outcome | undefined {
    if (this.#size >= this.#limits.detectOutcomes) {
      this.#counters.count('detect_outcomes_full');
      return undefined;
    }
    this.#size++;
    const outcome = new Outcome(direction, host, port);
    ports.set(port, outcome);
    return outcome;
  }
}
