/** Fails a test that leaves sockets, servers or timers behind. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';

/** What keeps a process alive and a test may have left; pipes and streams of the runner itself do not count. */
function active(): string[] {
  return process.getActiveResourcesInfo().filter((kind) => /^(TCP|TLS|UDP|Timeout|Immediate|ProcessWrap)/.test(kind));
}

/** Call first in a test: after it, nothing of what it opened may be left (waits up to `graceMs` for closes to arrive). */
export function checkLeaks(t: TestContext, graceMs = 2000): void {
  const before = count(active());
  t.after(async () => {
    const deadline = performance.now() + graceMs;
    for (;;) {
      const extra = [...count(active())].filter(([kind, n]) => n > (before.get(kind) ?? 0));
      if (extra.length === 0) return;
      if (performance.now() > deadline)
        assert.fail(`left behind: ${extra.map(([kind, n]) => `${n} ${kind}`).join(', ')}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  });
}

function count(kinds: string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const kind of kinds) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}
