/** Addresses of names outside of the mesh (ServiceEntry, resolution DNS): asked again when their time to live is over. */
import { promises as dns } from 'node:dns';
import type { Clock, Timer } from '@weft/base';

export interface Answer {
  readonly addresses: readonly string[];
  readonly ttlMs: number;
}

export type Lookup = (name: string) => Promise<Answer>;

/** Istio's dnsRefreshRate: where nobody says how long an answer holds. */
const REFRESH_MS = 60_000;
/** Nothing is asked more often, whatever its time to live. */
const LEAST_MS = 5_000;
/** After a failure; the addresses that were known stay. */
const RETRY_MS = 5_000;

/** DNS itself, for the time to live; what it does not know may stand in the hosts file. */
export async function systemLookup(name: string): Promise<Answer> {
  const resolver = new dns.Resolver({ timeout: 2000, tries: 2 });
  const asked = await Promise.allSettled([
    resolver.resolve4(name, { ttl: true }),
    resolver.resolve6(name, { ttl: true }),
  ]);
  const records = asked.flatMap((a) => (a.status === 'fulfilled' ? a.value : []));
  if (records.length > 0) {
    const ttlMs = 1000 * Math.min(...records.map((r) => r.ttl));
    return { addresses: records.map((r) => r.address), ttlMs };
  }
  const found = await dns.lookup(name, { all: true });
  return { addresses: found.map((a) => a.address), ttlMs: REFRESH_MS };
}

export class NameResolver {
  readonly #lookup: Lookup;
  readonly #clock: Clock;
  readonly #onChange: (name: string) => void;
  readonly #addresses = new Map<string, readonly string[]>();
  readonly #timers = new Map<string, Timer>();
  #wanted: ReadonlySet<string> = new Set();
  #failures = 0;

  constructor(clock: Clock, onChange: (name: string) => void, lookup: Lookup = systemLookup) {
    this.#clock = clock;
    this.#onChange = onChange;
    this.#lookup = lookup;
  }

  /** What is known now, by name, in a fixed order. */
  get addresses(): ReadonlyMap<string, readonly string[]> {
    return this.#addresses;
  }

  get failures(): number {
    return this.#failures;
  }

  /** Looks up these names from now on, and no others. */
  want(names: Iterable<string>): void {
    this.#wanted = new Set(names);
    for (const [name, timer] of this.#timers) {
      if (this.#wanted.has(name)) continue;
      timer.cancel();
      this.#timers.delete(name);
      this.#addresses.delete(name);
    }
    for (const name of this.#wanted) if (!this.#timers.has(name)) this.#later(name, 0);
  }

  stop(): void {
    this.want([]);
  }

  #later(name: string, ms: number): void {
    const timer = this.#clock.after(ms, () => void this.#ask(name, timer));
    this.#timers.set(name, timer);
  }

  async #ask(name: string, timer: Timer): Promise<void> {
    let answer: Answer | undefined;
    try {
      answer = await this.#lookup(name);
    } catch {
      this.#failures++;
    }
    // It may not be wanted any more, or be asked for anew.
    if (this.#timers.get(name) !== timer) return;
    this.#later(name, answer ? Math.max(LEAST_MS, answer.ttlMs) : RETRY_MS);
    if (!answer || answer.addresses.length === 0) return;
    const addresses = [...new Set(answer.addresses)].sort();
    if (addresses.join() === this.#addresses.get(name)?.join()) return;
    this.#addresses.set(name, addresses);
    this.#onChange(name);
  }
}
