/** The shares of rate limits that this proxy was given, as metrics. */
import type { RateSharesOf } from '@weft/engine';
import { type Registry, renderLabels } from '@weft/telemetry';

export class RateShareGauges {
  readonly #registry: Registry;
  readonly #slots = new Map<string, number>();
  #answers: number;

  constructor(registry: Registry) {
    this.#registry = registry;
    this.#answers = registry.eventSlot('rate_limit_shares_received');
  }

  note(answer: readonly RateSharesOf[]): void {
    this.#registry.add(this.#answers, 1);
    for (const { limit, accounts } of answer) {
      const slot = this.#slotOf(limit);
      if (slot === undefined) continue;
      for (const { caller, share } of accounts)
        if (caller === undefined && share !== undefined) this.#registry.values[slot] = share;
    }
  }

  /** Limits are as many as this workload has ports with one; those of earlier plans keep their last value. */
  #slotOf(limit: string): number | undefined {
    const known = this.#slots.get(limit);
    if (known !== undefined || !this.#registry.admitLabelSet()) return known;
    const help = "This proxy's part of a rate limit's total that is shared with other replicas, as last given.";
    const family = this.#registry.family('weft_rate_limit_share', 'gauge', help);
    const slot = this.#registry.addSeries(family, renderLabels(['limit'], [limit]));
    this.#slots.set(limit, slot);
    return slot;
  }
}
