/** What runs on each of the workload's ports, for the limits of its Sidecar's connection pools. */
import type { Inbound } from '@weft/plan';

export class PortUse {
  readonly #ports = new Map<number, { requests: number; connections: number }>();

  /** False: the port's limit is reached. Each true needs its release. */
  acquire(inbound: Inbound, what: 'requests' | 'connections'): boolean {
    let use = this.#ports.get(inbound.port);
    if (!use) this.#ports.set(inbound.port, (use = { requests: 0, connections: 0 }));
    const limit = (what === 'requests' ? inbound.pool?.maxRequests : inbound.pool?.maxConnections) ?? 0;
    if (limit > 0 && use[what] >= limit) return false;
    use[what]++;
    return true;
  }

  release(inbound: Inbound, what: 'requests' | 'connections'): void {
    const use = this.#ports.get(inbound.port);
    if (use) use[what]--;
  }
}
