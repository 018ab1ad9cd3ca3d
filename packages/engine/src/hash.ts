/** Consistent hashing: the same key goes to the same endpoint as long as it is there, and few keys move when one leaves. */
import type { EndpointView } from './views.ts';

/** Slots of a Maglev table (Istio: a prime below 5000011). */
export const DEFAULT_MAGLEV_SLOTS = 65_537;
/** Points of a ring, at least (Istio's minimumRingSize). */
export const DEFAULT_RING_POINTS = 1024;
/** Points of a ring, at most, whatever the weights. */
const MOST_RING_POINTS = 1 << 20;

/** MurmurHash3 (32 bits, little endian) of a string's UTF-16 units: two bytes each, so that no text needs encoding. */
export function hashText(text: string, seed = 0): number {
  let h = seed | 0;
  const { length } = text;
  const even = length & ~1;
  for (let i = 0; i < even; i += 2) {
    h ^= scramble(text.charCodeAt(i) | (text.charCodeAt(i + 1) << 16));
    h = (h << 13) | (h >>> 19);
    h = (Math.imul(h, 5) + 0xe6546b64) | 0;
  }
  if (even < length) h ^= scramble(text.charCodeAt(even));
  h ^= length * 2;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function scramble(k: number): number {
  const x = Math.imul(k, 0xcc9e2d51);
  return Math.imul((x << 15) | (x >>> 17), 0x1b873593);
}

/** Finds the endpoint of a hash. */
export interface HashTable {
  /** The fit endpoint that the hash belongs to; undefined where none is fit. */
  find(hash: number, fit: (endpoint: EndpointView) => boolean): EndpointView | undefined;
}

function nameOf({ endpoint }: EndpointView): string {
  return `${endpoint.address}:${endpoint.port}`;
}

/**
 * Ketama ring: each endpoint has points in proportion to its weight; a hash belongs to the first point at or after it.
 * An unfit endpoint's keys go to the next fit one along the ring, so that only they move.
 */
export function ringTable(endpoints: readonly EndpointView[], minimum: number): HashTable {
  const total = endpoints.reduce((sum, e) => sum + e.weight, 0);
  const lightest = Math.min(...endpoints.map((e) => e.weight));
  // Whole points for the lightest endpoint as well, as Envoy scales it.
  const scale = Math.min(
    Math.ceil((lightest / total) * (minimum || DEFAULT_RING_POINTS)) * (total / lightest),
    MOST_RING_POINTS,
  );
  const points: { at: number; endpoint: EndpointView }[] = [];
  for (const endpoint of endpoints) {
    const name = nameOf(endpoint);
    const count = Math.max(1, Math.round((endpoint.weight / total) * scale));
    for (let i = 0; i < count; i++) points.push({ at: hashText(`${name}_${i}`), endpoint });
  }
  points.sort((a, b) => a.at - b.at);
  const at = Uint32Array.from(points, (p) => p.at);
  const owner = points.map((p) => p.endpoint);
  return {
    find(hash, fit) {
      let low = 0;
      let high = at.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (at[middle] < hash) low = middle + 1;
        else high = middle;
      }
      return firstFit(owner, low, fit);
    },
  };
}

/** Maglev (Eisenbud et al., NSDI 2016, 3.4): nearly equal shares, and a table in which few slots change. */
export function maglevTable(endpoints: readonly EndpointView[], slots: number): HashTable {
  const size = slots || DEFAULT_MAGLEV_SLOTS;
  const names = endpoints.map(nameOf);
  const offset = names.map((n) => hashText(n) % size);
  const skip = names.map((n) => (hashText(n, 1) % (size - 1)) + 1);
  const heaviest = Math.max(...endpoints.map((e) => e.weight));
  const next = new Uint32Array(endpoints.length);
  const due = new Float64Array(endpoints.length);
  const owner = new Array<EndpointView | undefined>(size).fill(undefined);
  let filled = 0;
  for (let turn = 1; filled < size; turn++) {
    for (let i = 0; i < endpoints.length && filled < size; i++) {
      // A lighter endpoint takes its turn less often.
      if (turn * endpoints[i].weight < due[i]) continue;
      due[i] += heaviest;
      let slot: number;
      do slot = (offset[i] + skip[i] * next[i]++) % size;
      while (owner[slot] !== undefined);
      owner[slot] = endpoints[i];
      filled++;
    }
  }
  const table = owner as EndpointView[];
  return { find: (hash, fit) => firstFit(table, hash % size, fit) };
}

/** The first fit owner from a place on, around the end. Gives up when all have been seen. */
function firstFit(
  owner: readonly EndpointView[],
  from: number,
  fit: (endpoint: EndpointView) => boolean,
): EndpointView | undefined {
  for (let i = 0; i < owner.length; i++) {
    const at = from + i;
    const endpoint = owner[at < owner.length ? at : at - owner.length];
    if (fit(endpoint)) return endpoint;
  }
  return undefined;
}
