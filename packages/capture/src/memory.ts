/** Memory that this process does not need now, given back to the kernel. */
import { readFileSync, readlinkSync } from 'node:fs';
import { libc } from './sockets.ts';

const MADV_DONTNEED = 4;

/**
 * Gives back to the kernel what malloc keeps of freed memory: after a burst, or after much code was compiled, that can be
 * most of a process, and the limit of a cgroup counts it. False where the C library or the platform has no such call.
 * Takes some milliseconds.
 */
export function trimMemory(): boolean {
  try {
    return libc().mallocTrim?.(0) !== undefined;
  } catch {
    return false;
  }
}

interface Range {
  start: bigint;
  bytes: number;
}

let program: readonly Range[] | undefined;

/**
 * Has the kernel forget which pages of the program's own file are mapped here, 50 MB after a start of Node, most of them
 * for the start alone. What is used comes back by itself from the cache of files, 64 KB at a time (some hundred times
 * 1 µs); the rest is the kernel's to keep or not. False where nothing of it is known.
 */
export function dropProgramPages(): boolean {
  try {
    program ??= programRanges(readFileSync('/proc/self/smaps', 'utf8'), readlinkSync('/proc/self/exe'));
    const { madvise } = libc();
    for (const { start, bytes } of program) madvise(start, bytes, MADV_DONTNEED);
    return program.length > 0;
  } catch {
    return false;
  }
}

/**
 * Where the text and the constants of the program `exe` are, of an smaps: mappings that nobody writes to and that hold no
 * page of their own, so that all of them can be read from the file again (relocated tables cannot).
 */
export function programRanges(smaps: string, exe: string): Range[] {
  const found: Range[] = [];
  let range: Range | undefined;
  for (const line of smaps.split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+\s*(.*)$/.exec(line);
    if (head) {
      const [, from, to, rights, file] = head as unknown as [string, string, string, string, string];
      const start = BigInt(`0x${from}`);
      const constant = rights === 'r-xp' || rights === 'r--p';
      range = constant && file === exe ? { start, bytes: Number(BigInt(`0x${to}`) - start) } : undefined;
    } else if (range && /^Anonymous:\s+0 kB$/.test(line)) {
      found.push(range);
    }
  }
  return found;
}
