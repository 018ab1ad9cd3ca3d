import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { HostContext } from './host-context.ts';
import { makeProxyFolders } from './proxy-files.ts';

test('a proxy’s folder is its own, the one that all share can be entered by all', (t) => {
  const base = mkdtempSync(join(tmpdir(), 'weft-folders-'));
  t.after(() => rmSync(base, { recursive: true, force: true }));
  const root = process.getuid?.() === 0;
  const mode = (path: string) => statSync(path).mode & 0o777;
  const make = (shared: string, name: string) => {
    const h = { paths: { workload: (n: string) => join(base, shared, n) } } as unknown as HostContext;
    return makeProxyFolders(h, name);
  };
  const { dir, identity, snapshot } = make('fresh', 'a-0');
  for (const d of [dir, identity, snapshot]) assert.equal(mode(d), 0o700);
  assert.equal(mode(join(base, 'fresh')) & 0o011, 0o011);
  // As an earlier run, or another way of making it, may have left it.
  mkdirSync(join(base, 'shut'), { mode: 0o700 });
  make('shut', 'b-0');
  if (root) assert.equal(mode(join(base, 'shut')), 0o711);
  make('shut', 'b-0'); // Again, as after a restart.
});
