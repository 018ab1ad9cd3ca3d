/**
 * Bucket bounds, the search in them, and quantiles. Counts are per bucket (not cumulative), the last one is +Inf. Bounds are
 * not frozen: V8 keeps the numbers of a frozen array as objects, each somewhere else.
 */

/** Istio's bounds, for milliseconds and for bytes alike (they are Envoy's defaults). */
export const istioBuckets: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
];

/**
 * Finer bounds in milliseconds for what proxies push each second: from 0.1 ms to 2 min, each 1.25 times the one before,
 * so that a quantile read from them is at most 25 % off, where Istio's bounds may be off by a factor of five.
 */
export const edgeBuckets: readonly number[] = Array.from({ length: 64 }, (_, i) =>
  Number((0.1 * 1.25 ** i).toPrecision(4)),
);

/** Index of the bucket that `value` falls in: the first whose bound is not below it, or `bounds.length` for +Inf. */
export function bucketIndex(bounds: readonly number[], value: number): number {
  let low = 0;
  let high = bounds.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (value <= bounds[middle]) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * The `p` quantile (0 to 1) of counts per bucket, interpolated within its bucket as Prometheus' histogram_quantile does.
 * NaN where there is no observation; the last bound where the quantile falls in +Inf.
 */
export function quantile(p: number, counts: ArrayLike<number>, bounds: readonly number[] = edgeBuckets): number {
  let total = 0;
  for (let i = 0; i < counts.length; i++) total += counts[i];
  if (total === 0) return Number.NaN;
  const rank = Math.min(1, Math.max(0, p)) * total;
  let seen = 0;
  for (let i = 0; i < counts.length; i++) {
    const n = counts[i];
    if (n === 0) continue;
    if (seen + n >= rank) {
      if (i >= bounds.length) return bounds[bounds.length - 1];
      const lower = i === 0 ? 0 : bounds[i - 1];
      return lower + (bounds[i] - lower) * Math.max(0, (rank - seen) / n);
    }
    seen += n;
  }
  return bounds[bounds.length - 1];
}
