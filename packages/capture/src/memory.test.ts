import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { dropProgramPages, programRanges, trimMemory } from './memory.ts';

const linux = process.platform === 'linux';

function smaps(...mappings: [head: string, anonymousKb: number][]): string {
  return mappings
    .map(([head, kb]) => `${head}\nSize: 8 kB\nRss: 8 kB\nAnonymous:   ${kb} kB\nVmFlags: rd mr\n`)
    .join('');
}

test('the program: its text and constants, and nothing that was written to', () => {
  const text = smaps(
    ['00400000-00402000 r--p 00000000 fe:00 17                  /opt/my node/bin/node', 0],
    ['00402000-00408000 r-xp 00002000 fe:00 17                  /opt/my node/bin/node', 0],
    ['00408000-00409000 r--p 00008000 fe:00 17                  /opt/my node/bin/node', 4],
    ['00409000-0040a000 rw-p 00009000 fe:00 17                  /opt/my node/bin/node', 0],
    ['7f0000000000-7f0000004000 rw-p 00000000 00:00 0 ', 0],
    ['7f1000000000-7f1000004000 r-xp 00000000 fe:00 18           /usr/lib/libc.so.6', 0],
    ['7f2000000000-7f2000004000 r--s 00000000 fe:00 17           /opt/my node/bin/node', 0],
  );
  assert.deepEqual(programRanges(text, '/opt/my node/bin/node'), [
    { start: 0x400000n, bytes: 0x2000 },
    { start: 0x402000n, bytes: 0x6000 },
  ]);
});

test('pages of the program that only its start needed go, and it runs on', { skip: !linux && 'Linux only' }, () => {
  const resident = (): number => {
    let bytes = 0;
    let mine = false;
    for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
      if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) mine = line.endsWith(process.execPath);
      else if (mine && line.startsWith('Rss:')) bytes += Number(/\d+/.exec(line)![0]) * 1024;
    }
    return bytes;
  };
  const before = resident();
  assert.equal(dropProgramPages(), true);
  const after = resident();
  assert.ok(after < before / 2, `${before} bytes before, ${after} after`);
  // Parts of it that were not used since.
  assert.equal(new Intl.NumberFormat('de').format(1234.5), '1.234,5');
  assert.deepEqual(JSON.parse(JSON.stringify({ a: [1, 'b'] })), { a: [1, 'b'] });
  trimMemory();
});
