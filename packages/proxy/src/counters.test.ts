import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { defaultProxyLimits } from './limits.ts';

const root = join(import.meta.dirname, '../../..');
const told = readFileSync(join(root, 'LIMITS.md'), 'utf8');
const isTold = (name: string): boolean => told.includes(`\`${name}\``);

/** Names that the code counts by. HTTP/1 puts its own word before them. */
function counters(): Map<string, string> {
  const names = new Map<string, string>();
  for (const file of globSync('packages/{wire,proxy}/src/**/*.ts', { cwd: root })) {
    if (file.endsWith('.test.ts')) continue;
    const text = readFileSync(join(root, file), 'utf8');
    const prefix = file.includes('/http1/') ? 'http1_' : '';
    for (const [, name] of text.matchAll(/\bcount\([^'`;]*(?<!=== )'([a-z0-9_]+)'/g)) {
      if (name !== prefix) names.set(name!.startsWith(prefix) ? name! : prefix + name, file);
    }
    for (const [, name] of text.matchAll(/new Refusal\([^'`]*'([a-z0-9_]+)'/g)) names.set(`http1_${name}`, file);
    if (file.endsWith('floods.ts')) {
      for (const [, name] of text.matchAll(/'(http2_[a-z_]+)'/g)) names.set(name!, file);
    }
  }
  return names;
}

test('LIMITS.md tells of every counter of the data path', () => {
  const names = counters();
  assert.ok(names.size > 60, `${names.size} names were found: has the code changed its form?`);
  const missing = [...names].filter(([name]) => !isTold(name)).map(([name, file]) => `${name} (${file})`);
  assert.deepEqual(missing, []);
});

test('LIMITS.md tells of every limit that can be changed', () => {
  const missing = Object.keys(defaultProxyLimits).filter((name) => !isTold(name));
  assert.deepEqual(missing, []);
});
