/** What a row of the benchmark is. */
import type { Chain, Kind, Stage } from '../stage.ts';

/** One number that a row gives for every peer. */
export interface Figure {
  key: string;
  unit: string;
  digits: number;
  target?: Target;
}

/** What a figure should be. */
export interface Target {
  text: string;
  /** `of` gives a peer's figure of this row; undefined where a peer that counts was not measured. */
  met(of: (peer: string) => number | undefined): boolean | undefined;
}

/** At most so much, whatever the peers do. */
export function atMost(limit: number, text: string): Target {
  return {
    text,
    met: (of) => {
      const ours = of('weft');
      return ours === undefined ? undefined : ours <= limit;
    },
  };
}

/** At most (or with `atLeast`: at least) so many times a peer's. */
export function timesPeer(factors: Readonly<Record<string, number>>, atLeast = false): Target {
  const word = atLeast ? 'at least' : 'at most';
  return {
    text: `${word} ${Object.entries(factors)
      .map(([peer, factor]) => `${factor} × ${peer}`)
      .join(', ')}`,
    met: (of) => {
      const ours = of('weft');
      let all: boolean | undefined = true;
      for (const [peer, factor] of Object.entries(factors)) {
        const theirs = of(peer);
        if (ours === undefined || theirs === undefined) all = all && undefined;
        else if (atLeast ? ours < theirs * factor : ours > theirs * factor) return false;
      }
      return all;
    },
  };
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
  /** With `fresh`: a chain for each of these numbers of rules, whose samples are put together. */
  rules?: readonly number[];
  /** With `fresh`: each proxy is kept in a memory cgroup of this size. */
  proxyMemoryBytes?: number;
  measure(run: Run): Promise<Sample>;
  /** Adds figures that come of several peers' samples. */
  derive?(samples: ReadonlyMap<string, readonly Sample[]>): Map<string, Sample[]>;
}

export const cpuFigure: Figure = { key: 'cpu', unit: 'µs CPU/request', digits: 1 };
export const p50Figure: Figure = { key: 'p50', unit: 'ms p50', digits: 2 };
export const p99Figure: Figure = { key: 'p99', unit: 'ms p99', digits: 2 };
/** The p99 of a row that has Envoy beside it. */
export const p99BesideEnvoy: Figure = { ...p99Figure, target: timesPeer({ envoy: 1.15 }) };
