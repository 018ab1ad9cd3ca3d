/** All mesh links of one source identity. */
import type { EndpointView } from '@weft/engine';
import type { LinkDeps } from './link.ts';
import { LinkPool } from './pool.ts';

export class Links {
  #deps: LinkDeps;
  #pools = new Map<string, Map<string, LinkPool>>();

  constructor(deps: LinkDeps) {
    this.#deps = deps;
  }

  /** To the proxy of an endpoint, which has one: at its address, or on another machine, through the entrance of this one. */
  to({ endpoint: e, way }: Pick<EndpointView, 'endpoint' | 'way'>): LinkPool {
    return this.#pool(way || e.address, e.meshPort, e.identity, way !== '');
  }

  /** `identityId`: the SPIFFE id that the peer must prove. */
  #pool(host: string, port: number, identityId: string, byEntrance: boolean): LinkPool {
    let byIdentity = this.#pools.get(host);
    if (!byIdentity) this.#pools.set(host, (byIdentity = new Map()));
    // One proxy address has one mesh port; a changed port makes a new pool and lets the old one run out.
    let pool = byIdentity.get(identityId);
    if (!pool || pool.port !== port) {
      const place = { host, port, identityId, byEntrance };
      pool = new LinkPool(place, this.#deps, (p) => {
        const m = this.#pools.get(host);
        if (m?.get(identityId) === p) m.delete(identityId);
        if (m?.size === 0) this.#pools.delete(host);
      });
      byIdentity.set(identityId, pool);
    }
    return pool;
  }

  rotate(): void {
    for (const m of this.#pools.values()) for (const p of m.values()) p.rotate();
  }
  drain(): void {
    for (const m of this.#pools.values()) for (const p of m.values()) p.drain();
  }
  destroy(): void {
    for (const m of this.#pools.values()) for (const p of m.values()) p.destroy();
    this.#pools.clear();
  }
  counts(): { links: number; streams: number } {
    let links = 0;
    let streams = 0;
    for (const m of this.#pools.values()) {
      for (const p of m.values()) {
        links += p.open;
        streams += p.streams;
      }
    }
    return { links, streams };
  }
}
