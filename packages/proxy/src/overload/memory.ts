/**
 * How full the memory is that this process may use: the limit of its cgroups (v1 and v2) or a configured one, and V8's
 * limit of the heap. Reads a few small files of the kernel; cheap enough for a few times a second.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { getHeapStatistics } from 'node:v8';

export interface MemoryReading {
  /** Used of what may be used, 0 to 1; 0 where there is no limit. */
  readonly memory: number;
  readonly heap: number;
  /** Of the tightest limit. */
  readonly usedBytes: number;
  /** 0: none. */
  readonly limitBytes: number;
}

/** Where the process's limits stand, and how they are read; replaced in tests. */
export interface MemorySources {
  /** Text of a file; undefined where there is none. */
  read(path: string): string | undefined;
  rssBytes(): number;
  heap(): { usedBytes: number; limitBytes: number };
}

export const systemMemory: MemorySources = {
  read(path) {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  },
  rssBytes: () => process.memoryUsage.rss(),
  heap() {
    const { used_heap_size, heap_size_limit } = getHeapStatistics();
    return { usedBytes: used_heap_size, limitBytes: heap_size_limit };
  },
};

/** Names of one version's files, and of the pages of files that the kernel takes back before it kills. */
interface Level {
  limit: string;
  usage: string;
  stat: string;
  cached: readonly string[];
}

const ROOT = '/sys/fs/cgroup';

/** The memory cgroups of this process, its own first, then those above. */
function levels(sources: MemorySources): Level[] {
  const found: Level[] = [];
  for (const line of (sources.read('/proc/self/cgroup') ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    const v2 = controllers === '';
    if (!v2 && !controllers.split(',').includes('memory')) continue;
    const root = v2 ? ROOT : join(ROOT, 'memory');
    // Inside a container the path may be the host's, of which only the root can be seen: that is its own cgroup.
    for (let at = path; ; at = at.slice(0, at.lastIndexOf('/'))) {
      const dir = join(root, at);
      const level = v2
        ? {
            limit: 'memory.max',
            usage: 'memory.current',
            stat: 'memory.stat',
            cached: ['inactive_file', 'active_file'],
          }
        : {
            limit: 'memory.limit_in_bytes',
            usage: 'memory.usage_in_bytes',
            stat: 'memory.stat',
            cached: ['total_inactive_file', 'total_active_file'],
          };
      const { limit, usage, stat, cached } = level;
      if (sources.read(join(dir, limit)) !== undefined)
        found.push({ limit: join(dir, limit), usage: join(dir, usage), stat: join(dir, stat), cached });
      if (at === '' || at === '/') break;
    }
  }
  return found;
}

const LIMITS_MS = 1000;

/** Version 1 says "no limit" by a number near 2^63. */
const NO_LIMIT = 2 ** 60;

export class MemorySensor {
  #sources: MemorySources;
  #configuredBytes: number;
  #levels: readonly Level[];
  /** Bytes, of each level. */
  #limits: readonly number[] = [];
  #limitsReadMs = Number.NEGATIVE_INFINITY;

  /** `configuredBytes`: a limit for this process alone, beside those of its cgroups; 0: none. */
  constructor(configuredBytes: number, sources: MemorySources = systemMemory) {
    this.#sources = sources;
    this.#configuredBytes = configuredBytes;
    this.#levels = levels(sources);
  }

  /** `nowMs` (monotonic): limits are read again after a second, since they hardly ever change. */
  read(nowMs = Number.POSITIVE_INFINITY): MemoryReading {
    if (nowMs - this.#limitsReadMs >= LIMITS_MS) {
      this.#limitsReadMs = nowMs;
      this.#limits = this.#levels.map((level) => Number(this.#sources.read(level.limit)));
    }
    const rss = this.#sources.rssBytes();
    let usedBytes = rss;
    let limitBytes = this.#configuredBytes;
    let memory = limitBytes > 0 ? rss / limitBytes : 0;
    for (const [i, level] of this.#levels.entries()) {
      const limit = this.#limits[i];
      if (!(limit > 0 && limit < NO_LIMIT)) continue; // "max"
      const used = this.#used(level, rss);
      if (used / limit <= memory && limitBytes > 0) continue;
      memory = used / limit;
      usedBytes = used;
      limitBytes = limit;
    }
    const heap = this.#sources.heap();
    return { memory, heap: heap.limitBytes > 0 ? heap.usedBytes / heap.limitBytes : 0, usedBytes, limitBytes };
  }

  /** Of a cgroup that others fill, only our own part counts: to refuse requests here would free nothing of theirs. */
  #used(level: Level, rss: number): number {
    const own = this.#own(rss);
    const usage = Number(this.#sources.read(level.usage));
    if (!(usage > 0)) return own;
    const stat = this.#sources.read(level.stat) ?? '';
    let held = usage;
    for (const name of level.cached) held -= bytesOf(stat, name);
    return own * 2 >= held ? Math.max(held, own) : own;
  }

  /** What of our memory is no file's: the program's own pages, a third of it, are shared and can be read again. */
  #own(rss: number): number {
    const [, resident, shared] = (this.#sources.read('/proc/self/statm') ?? '').split(' ').map(Number);
    return resident > 0 && shared >= 0 ? (rss * (resident - shared)) / resident : rss;
  }
}

/** Of a line `name value`; 0 where there is none. */
function bytesOf(stat: string, name: string): number {
  const at = stat.startsWith(`${name} `) ? 0 : stat.indexOf(`\n${name} `) + 1;
  return at === 0 && !stat.startsWith(`${name} `) ? 0 : Number.parseInt(stat.slice(at + name.length + 1), 10) || 0;
}
