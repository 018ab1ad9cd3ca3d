/** What a row of the benchmark is. */
import type { Chain, Kind, Stage } from '../stage.ts';

/** One number that a row gives for every peer. */
export interface Figure {
  key: string;
  unit: string;
  digits: number;
  /** What the figure should be, as the report says it. */
  target?: string;
}

/** A figure that a peer cannot have (CPU of no proxies) is left out. */
export type Sample = Readonly<Record<string, number | undefined>>;

export interface Run {
  stage: Stage;
  chain: Chain;
  /** How long to measure. */
  seconds: number;
  quick: boolean;
}

export interface Row {
  name: string;
  /** One line: what is done. */
  what: string;
  kind: Kind;
  /** Names of the peers beside Weft. */
  peers: readonly string[];
  figures: readonly Figure[];
  /** True: every round gets a chain that was just started, and is the only one. */
  fresh?: boolean;
  measure(run: Run): Promise<Sample>;
  /** Adds figures that come of several peers' samples. */
  derive?(samples: ReadonlyMap<string, readonly Sample[]>): Map<string, Sample[]>;
}

export const cpuFigure: Figure = { key: 'cpu', unit: 'µs CPU/request', digits: 1 };
export const p50Figure: Figure = { key: 'p50', unit: 'ms p50', digits: 2 };
export const p99Figure: Figure = { key: 'p99', unit: 'ms p99', digits: 2 };
