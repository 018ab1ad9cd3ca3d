/** What running processes cost, from /proc. */
import { readdirSync, readFileSync } from 'node:fs';
import { WeftError } from '@weft/base';

/** Linux gives CPU time to user space in hundredths of a second. */
const TICK_MS = 10;

export interface ProcessMemory {
  rssBytes: number;
  /** Like RSS, but a page that n processes share counts 1/n. */
  pssBytes: number;
}

/** Memory of one process. Throws WeftError `usage` where it cannot be read: gone, another user's, or not Linux. */
export function processMemory(pid: number): ProcessMemory {
  const file = `/proc/${pid}/smaps_rollup`;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new WeftError('memory', `the memory of process ${pid} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
  const field = (name: string): number => {
    const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text);
    if (!match) throw new WeftError('memory', `${file} has no ${name}`);
    return Number(match[1]) * 1024;
  };
  return { rssBytes: field('Rss'), pssBytes: field('Pss') };
}

/** CPU time, user and system, in ms, that each process group used so far: its processes, and children they waited for. */
export function groupCpuMs(groups: readonly number[]): Map<number, number> {
  const used = new Map<number, number>(groups.map((g) => [g, 0]));
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    let stat: string;
    try {
      stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    } catch {
      continue; // It ended meanwhile.
    }
    // After the name, which may hold anything: state, parent, group, … user, system, children's user and system.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const before = used.get(Number(fields[2]));
    if (before === undefined) continue;
    const ticks = [11, 12, 13, 14].reduce((sum, i) => sum + Number(fields[i]), 0);
    used.set(Number(fields[2]), before + ticks * TICK_MS);
  }
  return used;
}
