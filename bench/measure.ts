/** What the kernel says of processes: CPU time and memory. */
import { readdirSync, readFileSync } from 'node:fs';

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

export interface Memory {
  rssBytes: number;
  /** Like RSS, but a page shared by n processes counts 1/n. */
  pssBytes: number;
}

/** Memory of one process. */
export function memory(pid: number): Memory {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const field = (name: string): number => {
    const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text);
    if (!match) throw new Error(`/proc/${pid}/smaps_rollup has no ${name}`);
    return Number(match[1]) * 1024;
  };
  return { rssBytes: field('Rss'), pssBytes: field('Pss') };
}

/** Memory of the process that has more of it, in MB. */
export function largerMemory(pids: readonly number[]): { rss: number; pss: number } {
  const all = pids.map(memory);
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
