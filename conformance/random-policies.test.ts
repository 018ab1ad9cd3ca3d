/** The short form of the suites that need nobody else's programs runs with every `npm test`. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SuiteContext } from './suite.ts';
import { suite as authorization } from './suites/authorization.ts';

test('5,000 random decisions on random policies are those of a naive reading of the same policies', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'weft-random-policies-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const ctx: SuiteContext = { short: true, dir, log: (line) => t.diagnostic(line), cleanup: (fn) => t.after(fn) };
  const { passed, failed, failures } = await authorization.run(ctx);
  assert.equal(failed, 0, failures.join('\n'));
  assert.ok(passed >= 5000);
});
