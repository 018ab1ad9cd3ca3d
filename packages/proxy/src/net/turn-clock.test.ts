import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { TimerWheel } from './timers.ts';
import { timePassed, turnMs } from './turn.ts';

/** Works until the clock has moved. */
function work(ms: number): void {
  const from = performance.now();
  while (performance.now() - from < ms);
}

test('the clock of a turn stands until the turn ends, or somebody says that it took long', async () => {
  const first = turnMs();
  work(5);
  assert.equal(turnMs(), first);
  const now = performance.now();
  timePassed(now);
  assert.equal(turnMs(), now);
  await nextTurn();
  await nextTurn();
  work(1);
  const later = turnMs();
  assert.ok(later > now && performance.now() >= later, `${later}`);
  // Said in a turn that has not looked at the clock yet, it is looked at when it is asked for.
  await nextTurn();
  await nextTurn();
  timePassed(1);
  assert.ok(turnMs() > later);
});

test('what a timer brings sees the time at which it came', async (t) => {
  const wheel = new TimerWheel();
  t.after(() => wheel.close());
  const begun = performance.now();
  const seen = await new Promise<number>((resolve) => {
    wheel.add(30, { onTimer: () => resolve(turnMs()) });
    // Timers that are due at once come in one turn: the first looks at the clock and takes its time.
    const busy = (): void => {
      if (performance.now() - begun > 200) return;
      turnMs();
      work(5);
      setTimeout(busy, 0);
    };
    busy();
  });
  assert.ok(seen - begun >= 30, `${seen - begun}`);
});
