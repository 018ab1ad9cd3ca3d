/** Test files run beside each other: where two listened at the same addresses, one of them would fail by chance. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const root = join(import.meta.dirname, '../..');

test('no loopback network is used by two test files of packages', () => {
  const users = new Map<string, string>();
  for (const file of readdirSync(join(root, 'packages'), { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.test.ts') || file.includes('node_modules')) continue;
    const text = readFileSync(join(root, 'packages', file), 'utf8');
    for (const network of new Set(text.match(/\b127\.\d+\.\d+/g))) {
      if (network === '127.0.0') continue;
      assert.equal(users.get(network), undefined, `${network}.* is used by ${users.get(network)} and by ${file}`);
      users.set(network, file);
    }
  }
  assert.ok(users.size > 50);
});
