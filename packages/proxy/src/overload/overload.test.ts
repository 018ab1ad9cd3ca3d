import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '@weft/base';
import { type MemoryReading, MemorySensor, type MemorySources } from './memory.ts';
import { Overload, shedLargest } from './overload.ts';

const MB = 1024 * 1024;

function kernel(files: Record<string, string>, rssMb = 50, heapMb = 10): MemorySources {
  return {
    read: (path) => files[path],
    rssBytes: () => rssMb * MB,
    heap: () => ({ usedBytes: heapMb * MB, limitBytes: 100 * MB }),
  };
}
const v2 = (dir: string, maxMb: number | 'max', currentMb: number, cachedMb = 0) => ({
  [`/sys/fs/cgroup${dir}/memory.max`]: maxMb === 'max' ? 'max\n' : `${maxMb * MB}\n`,
  [`/sys/fs/cgroup${dir}/memory.current`]: `${currentMb * MB}\n`,
  [`/sys/fs/cgroup${dir}/memory.stat`]: `anon 1\nfile 2\ninactive_file ${cachedMb * MB}\nactive_file 0\n`,
});

test('no limit anywhere is no pressure; a configured limit is judged by resident memory', () => {
  assert.deepEqual(new MemorySensor(0, kernel({})).read(), { memory: 0, heap: 0.1, usedBytes: 50 * MB, limitBytes: 0 });
  assert.equal(new MemorySensor(200 * MB, kernel({})).read().memory, 0.25);
});

test('cgroup v2: own and upper levels, the tightest counts, cached pages do not', () => {
  const own = { '/proc/self/cgroup': '0::/pod/proxy\n' };
  const read = (files: Record<string, string>, rss?: number) =>
    new MemorySensor(0, kernel({ ...own, ...files }, rss)).read();
  assert.equal(read(v2('/pod/proxy', 100, 90, 20)).memory, 0.7);
  assert.equal(read({ ...v2('/pod/proxy', 'max', 90), ...v2('/pod', 200, 100) }).memory, 0.5);
  assert.equal(read({ ...v2('/pod/proxy', 100, 80), ...v2('/pod', 100, 90) }).memory, 0.9);
  assert.equal(read(v2('/pod/proxy', 'max', 90)).limitBytes, 0);
  // In a container the path is the host's and only the root can be seen.
  assert.equal(read(v2('', 100, 60)).memory, 0.6);
});

test('a cgroup that others fill is judged by our own part of it', () => {
  const files = { '/proc/self/cgroup': '0::/\n', ...v2('', 1000, 950) };
  assert.equal(new MemorySensor(0, kernel(files, 50)).read().memory, 0.05);
  assert.equal(new MemorySensor(0, kernel(files, 500)).read().memory, 0.95);
});

test('pages of files are not memory that is short: the kernel takes them back', () => {
  const files = {
    '/proc/self/cgroup': '0::/\n',
    '/proc/self/statm': '9000 1000 400 1 0 1 0\n',
    '/sys/fs/cgroup/memory.max': `${100 * MB}\n`,
    '/sys/fs/cgroup/memory.current': `${95 * MB}\n`,
    '/sys/fs/cgroup/memory.stat': `anon 1\ninactive_file ${10 * MB}\nactive_file ${20 * MB}\n`,
  };
  assert.equal(new MemorySensor(0, kernel(files, 50)).read().memory, 0.3);
  assert.equal(new MemorySensor(0, kernel(files, 80)).read().memory, 0.65);
});

test('cgroup v1, with and without a limit', () => {
  const v1 = (limit: string) => ({
    '/proc/self/cgroup': '5:cpu,cpuacct:/x\n4:memory:/x\n0::/y\n',
    '/sys/fs/cgroup/memory/x/memory.limit_in_bytes': `${limit}\n`,
    '/sys/fs/cgroup/memory/x/memory.usage_in_bytes': `${80 * MB}\n`,
    '/sys/fs/cgroup/memory/x/memory.stat': `cache 1\ntotal_inactive_file ${30 * MB}\n`,
  });
  assert.equal(new MemorySensor(0, kernel(v1(String(100 * MB)))).read().memory, 0.5);
  assert.equal(new MemorySensor(0, kernel(v1('9223372036854771712'))).read().memory, 0);
});

function machine() {
  const log: string[] = [];
  let reading: MemoryReading = { memory: 0, heap: 0, usedBytes: 0, limitBytes: 1000 };
  let now = 0;
  const overload = new Overload({
    nowMs: () => now,
    limits: { overloadPercent: 90, overloadCriticalPercent: 95 },
    read: () => reading,
    count: (name) => void log.push(name),
    logger: silentLogger,
    goaway: () => void log.push('goaway'),
    shed: (bytes) => log.push(`shed ${bytes}`),
    collect: () => void log.push('collect'),
  });
  const at = (memory: number, heap = 0): string => {
    reading = { memory, heap, usedBytes: Math.round(memory * 1000), limitBytes: 1000 };
    log.length = 0;
    now += 250;
    overload.sample();
    return [overload.level, ...log].join(' ');
  };
  return at;
}

test('levels: 0.9 refuses, 0.95 sheds, and each is left only well below where it was entered', () => {
  const at = machine();
  assert.equal(at(0.89), '0');
  assert.equal(at(0.9), '1 overload goaway collect');
  assert.equal(at(0.95), '2 overload_critical shed 100 collect');
  assert.equal(at(0.94), '2');
  assert.equal(at(0.92), '1');
  assert.equal(at(0.86), '1');
  assert.equal(at(0.84), '0');
  assert.equal(at(0.89), '0');
  assert.equal(at(0.1, 0.96), '2 overload overload_critical goaway shed 1 collect', 'the heap counts as well');
});

test('a burst of admissions is looked at before the next sample is due, oftener where much is used', () => {
  let samples = 0;
  let now = 0;
  let memory = 0.5;
  const overload = new Overload({
    limits: { overloadPercent: 90, overloadCriticalPercent: 95 },
    nowMs: () => now,
    read: () => {
      samples++;
      return { memory, heap: 0, usedBytes: 0, limitBytes: 0 };
    },
    count() {},
    logger: silentLogger,
    goaway() {},
    shed: () => 0,
  });
  for (let i = 0; i < 63; i++) overload.admitted();
  assert.equal(samples, 0);
  now = 100;
  overload.admitted();
  assert.equal(samples, 1);
  for (let i = 0; i < 640; i++) overload.admitted();
  assert.equal(samples, 1, 'not more often than each 20 ms');
  now = 120;
  memory = 0.4;
  for (let i = 0; i < 64; i++) overload.admitted();
  assert.equal(samples, 2);
  now = 219;
  for (let i = 0; i < 64; i++) overload.admitted();
  assert.equal(samples, 2, 'nor than each 100 ms, far from the threshold');
  now = 220;
  for (let i = 0; i < 64; i++) overload.admitted();
  assert.equal(samples, 3);
});

test('between two rounds of resets there is time for the first to show', () => {
  const at = machine();
  at(0.99);
  const rounds = Array.from({ length: 12 }, () => at(0.99));
  assert.deepEqual(
    rounds.flatMap((r, i) => (r.includes('shed') ? [i] : [])),
    [3, 7, 11],
  );
});

test('what holds most is reset first, as much as is needed, half of the large ones at most', () => {
  const holders = (sizes: number[]) => {
    const gone: number[] = [];
    return { gone, all: sizes.map((kb) => ({ heldBytes: kb * 1024, shed: () => void gone.push(kb) })) };
  };
  const some = holders([20, 500, 1, 300, 40]);
  assert.equal(shedLargest(some.all, 100 * 1024), 1);
  assert.deepEqual(some.gone, [500]);
  const all = holders([20, 500, 1, 300, 40]);
  assert.equal(shedLargest(all.all, Number.POSITIVE_INFINITY), 2);
  assert.deepEqual(all.gone, [500, 300]);
  assert.equal(shedLargest(holders([1, 2, 3]).all, 1e9), 0, 'small ones are not worth an error');
});
