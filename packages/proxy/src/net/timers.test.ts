import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Deadline, TimerWheel } from './timers.ts';

function fired(wheel: TimerWheel, delays: readonly number[], onFire?: (id: number, all: Deadline[]) => void) {
  const order: number[] = [];
  const all: Deadline[] = [];
  const owner = {
    onTimer(id: number): void {
      order.push(id);
      onFire?.(id, all);
    },
  };
  for (const [i, delay] of delays.entries()) all.push(wheel.add(delay, owner, i));
  return { order, all };
}

async function until(done: () => boolean): Promise<void> {
  for (const end = Date.now() + 30_000; !done(); ) {
    assert.ok(Date.now() < end, 'in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('each deadline fires once and not early, cancelled ones never', async () => {
  const wheel = new TimerWheel();
  const began = performance.now();
  const at: number[] = [];
  const { order, all } = fired(wheel, [60, 1, 30, 30, 30], (id) => {
    at[id] = performance.now() - began;
  });
  all[3].cancel();
  await until(() => order.length === 4);
  wheel.close();
  assert.deepEqual(new Set(order), new Set([0, 1, 2, 4]));
  assert.ok(at[0] >= 60 && at[2] >= 30 && at[1] >= 1);
});

test('what fires may cancel and add deadlines of the same slot', async () => {
  const wheel = new TimerWheel();
  let late = false;
  const { order } = fired(wheel, [30, 30, 30, 30], (id, all) => {
    if (id !== 0) return;
    all[3].cancel();
    wheel.add(0, { onTimer: () => (late = true) });
  });
  await until(() => late && order.length === 3);
  wheel.close();
  assert.deepEqual(order, [0, 1, 2]);
});

test('a cancelled deadline is held by nobody', () => {
  const wheel = new TimerWheel();
  const owner = { onTimer(): void {} };
  const deadline = wheel.add(10_000, owner);
  deadline.cancel();
  deadline.cancel();
  assert.deepEqual([deadline.owner, deadline.next, deadline.previous], [undefined, undefined, undefined]);
  wheel.close();
});

test('an owner that throws does not keep the others from firing', async () => {
  const errors: unknown[] = [];
  const wheel = new TimerWheel((error) => errors.push(error));
  const { order } = fired(wheel, [1, 1, 1], (id) => {
    if (id === 0) throw new Error('broken');
  });
  await until(() => order.length === 3);
  wheel.close();
  assert.equal(errors.length, 1);
});
