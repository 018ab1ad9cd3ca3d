/** What the kernel says of processes: CPU time and memory. */
import { readdirSync, readFileSync } from 'node:fs';
import { processMemory } from '@weft/host';

/**
 * CPU time that processes used so far, user and system, in µs. From the scheduler's own nanoseconds of each thread; a
 * thread that ends takes its time with it, so compare readings of processes whose threads stay.
 */
export function cpuUs(pids: readonly number[]): number {
  let ns = 0;
  for (const pid of pids) {
    for (const tid of readdirSync(`/proc/${pid}/task`)) {
      ns += Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ')[0]);
    }
  }
  return ns / 1000;
}

/** Memory of the process that has more of it, in MB. */
export function largerMemory(pids: readonly number[]): { rss: number; pss: number } {
  const all = pids.map(processMemory);
  return {
    rss: Math.max(...all.map((m) => m.rssBytes)) / 1e6,
    pss: Math.max(...all.map((m) => m.pssBytes)) / 1e6,
  };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
