/**
 * The services that this workload calls, by the names of their endpoints: those are asked for by name, so that they come
 * before others'. A request leaves nothing but a flag on its cluster, which is looked at once a second.
 */
import { type Snapshot, takeUse } from '@weft/engine';
import { endpointsName } from '@weft/plan';
import type { WireCounters } from '@weft/wire';
import type { Ticking } from '../net/timers.ts';

export interface ServicesInUseOptions {
  readonly snapshot: () => Snapshot | undefined;
  readonly limits: { readonly namedServices: number; readonly namedServiceIdleMs: number };
  readonly counters: WireCounters;
  /** All names, each time that they are others. */
  readonly onChange: (names: readonly string[]) => void;
}

export class ServicesInUse implements Ticking {
  readonly #options: ServicesInUseOptions;
  /** When each was last seen in use. */
  readonly #seenMs = new Map<string, number>();

  constructor(options: ServicesInUseOptions) {
    this.#options = options;
  }

  get names(): readonly string[] {
    return [...this.#seenMs.keys()];
  }

  tick(nowMs: number): void {
    const { limits, counters, onChange } = this.#options;
    const snapshot = this.#options.snapshot();
    if (!snapshot) return;
    let changed = false;
    const used = new Set<string>();
    for (const cluster of snapshot.clusters.values()) {
      const { host, port } = cluster.cluster;
      if (takeUse(cluster) && host !== '') used.add(endpointsName(host, port));
    }
    for (const [name, seenMs] of this.#seenMs) {
      if (nowMs - seenMs < limits.namedServiceIdleMs || used.has(name)) continue;
      this.#seenMs.delete(name);
      changed = true;
    }
    for (const name of used) {
      const known = this.#seenMs.has(name);
      // The first ones keep their places: names that come and go would cost more than they save.
      if (!known && this.#seenMs.size >= limits.namedServices) {
        counters.count('named_services_full');
        continue;
      }
      this.#seenMs.set(name, nowMs);
      changed ||= !known;
    }
    if (changed) onChange(this.names);
  }
}
