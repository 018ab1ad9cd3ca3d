/** Waiting, and doing several things at the same time. */
import { systemClock } from '@weft/base';

export function pause(ms: number): Promise<void> {
  return new Promise((done) => systemClock.after(ms, done));
}

/** `fn` of all items, `width` at a time; after a failure nothing new begins. */
export async function inParallel<T>(items: readonly T[], width: number, fn: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  let failed = false;
  const worker = async () => {
    while (next < items.length && !failed) {
      try {
        await fn(items[next++]!);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
}
