import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LogFile, tail } from './output.ts';

test('the last lines of a log are there also when its file has just been set aside', () => {
  const dir = mkdtempSync(join(tmpdir(), 'weft-log-'));
  try {
    const path = join(dir, 'a.log');
    assert.deepEqual(tail(path, 5), []);
    const log = new LogFile(path);
    // The ninth line passes 10 MiB: the tenth and what follows stand in a new file.
    const text = (n: number) => `${n} ${'x'.repeat(1.2 * 1024 * 1024)}`;
    for (let n = 1; n <= 11; n++) log.line(text(n));
    log.close();
    const numbers = (lines: number) => tail(path, lines).map((l) => Number.parseInt(l, 10));
    assert.deepEqual(numbers(2), [10, 11]);
    assert.deepEqual(numbers(5), [7, 8, 9, 10, 11]);
    assert.deepEqual(numbers(100), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
