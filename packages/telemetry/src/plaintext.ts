/**
 * Who reached a workload without mTLS, and who was refused for it: what STRICT would break. A proxy collects in
 * `PlaintextCallers` and sends what was added each second.
 */

/** What was added of one caller. JSON-safe. */
export interface PlaintextDelta {
  /** Workload at that address, as far as it is known: an address proves nothing. Empty: unknown. */
  source: string;
  sourceNamespace: string;
  address: string;
  /** The called workload's own port. */
  port: number;
  /** The port's PeerAuthentication refused it. */
  refused: boolean;
  /** That rule; empty where none refused. */
  ref: string;
  /** Requests and opaque connections; 0 where only an earlier connection is still open. */
  requests: number;
}

export type PlaintextKey = Omit<PlaintextDelta, 'requests'>;

interface Row {
  readonly key: PlaintextKey;
  total: number;
  lastMs: number;
  requests: number;
  open: number;
}

export const defaultPlaintextCallers = 2000;

export class PlaintextCallers {
  readonly #max: number;
  readonly #count: (name: string) => void;
  readonly #wallMs: () => number;
  #byAddress = new Map<string, Row[]>();
  #rows = 0;

  /** `count` hears `telemetry_plaintext_dropped` for each caller past the limit. */
  constructor(options: { max?: number; count?: (name: string) => void; wallMs?: () => number } = {}) {
    this.#max = options.max ?? defaultPlaintextCallers;
    this.#count = options.count ?? (() => {});
    this.#wallMs = options.wallMs ?? Date.now;
  }

  /** One request, or one connection that is not followed. */
  add(key: PlaintextKey): void {
    const row = this.#row(key);
    if (row) this.#seen(row);
  }

  /** A connection: its caller counts as seen until the function that is returned is called, once. */
  open(key: PlaintextKey): () => void {
    const row = this.#row(key);
    if (!row) return () => {};
    this.#seen(row);
    row.open++;
    return () => {
      row.open--;
    };
  }

  #seen(row: Row): void {
    row.requests++;
    row.total++;
    row.lastMs = this.#wallMs();
  }

  /** All callers that are remembered, told or not, with what they sent and when last (wall time). */
  list(): (PlaintextKey & { total: number; lastMs: number })[] {
    return [...this.#byAddress.values()]
      .flat()
      .map(({ key, total, lastMs, open }) => ({ ...key, total, lastMs: open > 0 ? this.#wallMs() : lastMs }));
  }

  #row(key: PlaintextKey): Row | undefined {
    let rows = this.#byAddress.get(key.address);
    if (rows) {
      for (const row of rows) {
        const k = row.key;
        if (k.port === key.port && k.refused === key.refused && k.ref === key.ref && k.source === key.source)
          return row;
      }
    }
    if (this.#rows >= this.#max) {
      this.#count('telemetry_plaintext_dropped');
      return undefined;
    }
    this.#rows++;
    const row: Row = { key: { ...key }, total: 0, lastMs: 0, requests: 0, open: 0 };
    if (!rows) this.#byAddress.set(key.address, (rows = []));
    rows.push(row);
    return row;
  }

  /** What was added since the last call. A report that is not delivered is lost: keep it. */
  takeDeltas(): PlaintextDelta[] {
    const deltas: PlaintextDelta[] = [];
    const full = this.#rows >= this.#max;
    for (const [address, rows] of this.#byAddress) {
      for (const row of rows) {
        if (row.requests === 0 && row.open === 0) continue;
        deltas.push({ ...row.key, requests: row.requests });
        row.requests = 0;
      }
      if (!full) continue;
      // Callers of long ago make room once there is none.
      const kept = rows.filter((row) => row.open > 0);
      this.#rows -= rows.length - kept.length;
      if (kept.length === 0) this.#byAddress.delete(address);
      else this.#byAddress.set(address, kept);
    }
    return deltas;
  }
}
