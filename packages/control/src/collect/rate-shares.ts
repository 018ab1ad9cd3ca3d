/** Rate limits that replicas share: divides each by what its replicas report, in the answer to each report. */
import type { Clock } from '@weft/base';
import { type RateDemandOf, RateDivision, type RateSharesOf } from '@weft/engine';
import { sharedRateLimits } from '@weft/model';
import type { Mesh } from '../mesh.ts';

/** Accounts of one limit that a report may name: the total, callers with a share and callers that may get one. */
const MAX_ACCOUNTS = 201;
const MAX_CALLER = 1024;

export interface SharedLimit {
  /** As plans name it. */
  readonly limit: string;
  /** Callers whose own rates are divided too. */
  readonly callers: number;
  /** Parts of the total: the most that may be in force at each replica, and what its callers want. */
  readonly replicas: readonly { readonly name: string; readonly share: number; readonly wanted: number }[];
}

export class RateShares {
  readonly #mesh: Mesh;
  readonly #clock: Clock;
  readonly #limits = new Map<string, RateDivision>();
  /** Who shares what, as of the last change. */
  #members: ReadonlyMap<string, readonly string[]> | undefined;
  /** Of limits that are no more. */
  #refusedBefore = 0;
  #sent = 0;

  constructor(mesh: Mesh, clock: Clock) {
    this.#mesh = mesh;
    this.#clock = clock;
    mesh.onChange(({ kind }) => {
      if (kind === 'epoch' || kind === 'instance') this.#members = undefined;
    });
  }

  /** `again`: the report was answered before. What the replica does not share is not answered. */
  answer(instance: string, demands: readonly RateDemandOf[], again: boolean): RateSharesOf[] {
    if (demands.length === 0) return [];
    const members = this.#current();
    const answer: RateSharesOf[] = [];
    for (const [limit, names] of members) {
      const demand = names.includes(instance) ? demands.find((d) => d.limit === limit) : undefined;
      const division = this.#limits.get(limit);
      if (!demand || !division) continue;
      const accounts = demand.accounts.filter((a) => (a.caller?.length ?? 0) <= MAX_CALLER).slice(0, MAX_ACCOUNTS);
      answer.push(division.answer(instance, { limit, accounts }, again, this.#clock.now()));
      this.#sent++;
    }
    return answer;
  }

  list(): SharedLimit[] {
    this.#current();
    return [...this.#limits].map(([limit, division]) => ({
      limit,
      callers: division.callers,
      replicas: division.totals(),
    }));
  }

  get counters(): { limits: number; sent: number; callersRefused: number } {
    let callersRefused = this.#refusedBefore;
    for (const division of this.#limits.values()) callersRefused += division.refused;
    return { limits: this.#limits.size, sent: this.#sent, callersRefused };
  }

  #current(): ReadonlyMap<string, readonly string[]> {
    if (this.#members) return this.#members;
    const { model } = this.#mesh;
    const members = model ? sharedRateLimits(model, this.#mesh.instances()) : new Map<string, string[]>();
    for (const [limit, division] of this.#limits) {
      if (members.has(limit)) continue;
      this.#refusedBefore += division.refused;
      this.#limits.delete(limit);
    }
    for (const [limit, names] of members) {
      let division = this.#limits.get(limit);
      if (!division) this.#limits.set(limit, (division = new RateDivision()));
      division.members(names);
    }
    this.#members = members;
    return members;
  }
}
