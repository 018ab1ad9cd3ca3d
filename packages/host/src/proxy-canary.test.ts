import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WeftError } from '@weft/base';
import { type CanaryInstance, canaryCount, canaryWeights, ProxyCanaries } from './proxy-canary.ts';
import type { ProxyProgram } from './specs.ts';

const OWN: ProxyProgram = { command: ['own'], version: '1.0.0+own' };
const NEXT: ProxyProgram = { command: ['next'], version: '1.1.0+next' };
const KEY = 'shop/payment';

type Fake = CanaryInstance & { program: ProxyProgram; weight: number; spec: { namespace: string; name: string } };

/** A workload of `count` instances; `broken`: what a new instance with that program fails by. */
function workload(count: number) {
  let made = 0;
  let nowMs = 0;
  const said: string[] = [];
  const fresh = (program: ProxyProgram, weight = 1): Fake => ({
    ...{ name: `payment-${made++}`, program, weight },
    spec: { namespace: 'shop', name: 'payment' },
  });
  const all = Array.from({ length: count }, () => fresh(OWN));
  const host = { broken: undefined as ProxyProgram | undefined, onReplace: () => {} };
  const canaries = new ProxyCanaries<Fake>(Promise.resolve(OWN), {
    build: () => Promise.resolve(NEXT),
    instances: () => [...all],
    async replace(old, program, weight) {
      if (program === host.broken) throw new WeftError('proxy-start', 'it ended at its start');
      all.splice(all.indexOf(old), 1);
      all.push(fresh(program, weight));
      host.onReplace();
    },
    say: (_name, line) => said.push(line),
    now: () => nowMs,
  });
  const of = (program: ProxyProgram) => all.filter((i) => i.program === program);
  return { all, canaries, host, said, of, fresh, pass: (ms: number) => (nowMs += ms) };
}

const total = (list: readonly Fake[]) => list.reduce((sum, i) => sum + i.weight, 0);

test('how many instances a share is: whole ones, at least one with it and one without', () => {
  for (const [all, percent, count] of [
    [1, 10, 0],
    [1, 100, 1],
    [2, 10, 1],
    [2, 99, 1],
    [4, 50, 2],
    [10, 14, 1],
    [10, 16, 2],
    [10, 99, 9],
    [10, 100, 10],
  ] as const)
    assert.equal(canaryCount(all, percent), count, `${percent} % of ${all}`);
});

test('weights make the share right where whole instances cannot, and a workload weighs what it did', () => {
  for (const all of [2, 3, 7, 10])
    for (const percent of [1, 10, 33, 50, 90]) {
      const count = canaryCount(all, percent);
      const { canary, own } = canaryWeights(all, count, percent);
      assert.ok(Math.abs(count * canary - (all * percent) / 100) < 1e-9);
      assert.ok(Math.abs(count * canary + (all - count) * own - all) < 1e-9);
    }
  assert.deepEqual(canaryWeights(3, 3, 100), { canary: 1, own: 1 });
});

test('a share, another share, promoted: each instance once, and new ones run what was promoted', async () => {
  const { canaries, of, all } = workload(4);
  const begun = await canaries.begin(KEY, '/opt/next', 10);
  assert.deepEqual(
    [begun.state, begun.version, begun.instances.length, begun.instancesPercent],
    ['canary', NEXT.version, 1, 25],
  );
  assert.ok(Math.abs(total(of(NEXT)) - 0.4) < 1e-9 && Math.abs(total(of(OWN)) - 3.6) < 1e-9);
  assert.equal(await canaries.programOf(KEY), OWN, 'a new instance runs the own one while it is tried');
  await assert.rejects(canaries.begin(KEY, '/opt/other', 20), /is tried for shop\/payment already/);

  await canaries.begin(KEY, undefined, 60);
  assert.equal(of(NEXT).length, 2);
  assert.ok(Math.abs(total(of(NEXT)) - 2.4) < 1e-9);
  await canaries.begin(KEY, undefined, 20);
  assert.equal(of(NEXT).length, 1);

  const kept = of(NEXT)[0];
  const promoted = await canaries.promote(KEY);
  assert.deepEqual([promoted.state, promoted.instances.length], ['promoted', 4]);
  assert.ok(all.includes(kept!) && all.every((i) => i.weight === 1));
  assert.equal(await canaries.programOf(KEY), NEXT);
  await assert.rejects(canaries.promote(KEY), /none can be promoted/);
  await canaries.revert(KEY);
  assert.equal(of(OWN).length, 4);
  assert.equal(await canaries.programOf(KEY), OWN);
  await assert.rejects(canaries.revert(KEY), /own program already/);
});

test('a scale keeps the share', async () => {
  const { canaries, all, of, fresh } = workload(2);
  await canaries.begin(KEY, '/opt/next', 40);
  for (let i = 0; i < 3; i++) all.push(fresh(OWN));
  await canaries.settle(KEY);
  assert.equal(of(NEXT).length, 2);
  assert.ok(Math.abs(total(of(NEXT)) - 2) < 1e-9);
  all.splice(1);
  await canaries.settle(KEY);
  assert.deepEqual([of(NEXT).length, all[0]!.weight], [0, 1], 'the only one is the own');
});

test('what cannot be tried is refused, and a proxy that does not start leaves all as it was', async () => {
  const one = workload(1);
  await assert.rejects(one.canaries.begin(KEY, '/opt/next', 10), /has one instance.*weft scale shop\/payment 2/);
  await assert.rejects(one.canaries.begin(KEY, '/opt/next', 0), /from 1 to 100/);
  await assert.rejects(one.canaries.begin(KEY, undefined, 100), /say which one with --program/);
  await assert.rejects(one.canaries.revert(KEY), /own program already/);
  const { canaries, host, all, of, said } = workload(3);
  let left = 1;
  host.onReplace = () => {
    if (--left === 0) host.broken = NEXT;
  };
  await assert.rejects(
    canaries.begin(KEY, '/opt/next', 66),
    /it ended at its start: all proxies of shop\/payment are as before/,
  );
  assert.deepEqual([of(OWN).length, total(all)], [3, 3]);
  assert.match(said.join('\n'), /1\.1\.0\+next is reverted: it ended at its start/);
  host.broken = undefined;
  assert.equal((await canaries.begin(KEY, '/opt/next', 34)).state, 'canary', 'it may be tried again');
});

test('how often it may end can be said', async () => {
  const { canaries, of } = workload(2);
  await assert.rejects(canaries.begin(KEY, '/opt/next', 10, 0), /1 to 1000 times/);
  await canaries.begin(KEY, '/opt/next', 10, 1);
  assert.match(canaries.ended(of(NEXT)[0]!)!, /ended 1 time within/);
});

test('a proxy that ends three times within a minute is reverted by itself, with all that run it', async () => {
  const { canaries, all, of, pass, said } = workload(4);
  await canaries.begin(KEY, '/opt/next', 50);
  const [first, second] = of(NEXT);
  const own = of(OWN)[0]!;
  for (let i = 0; i < 5; i++) assert.equal(canaries.ended(own), undefined, 'not of those that run the own one');
  assert.equal(canaries.ended(first!), undefined);
  assert.equal(canaries.ended(second!), undefined);
  pass(61_000);
  assert.equal(canaries.ended(first!), undefined, 'the former ones are forgotten');
  pass(1000);
  assert.equal(canaries.ended(first!), undefined);
  const because = canaries.ended(second!);
  assert.match(because!, /ended 3 times within 60 s/);
  await Promise.resolve();
  assert.equal(second!.program, OWN, 'it comes back as the own one');
  const after = await canaries.revert(KEY, because);
  assert.deepEqual([after.state, after.because, after.ends], ['reverted', because, 5]);
  assert.deepEqual([of(OWN).length, total(all), all.includes(second!), all.includes(first!)], [4, 4, true, false]);
  assert.equal(said.filter((l) => l.includes('is reverted: proxies of')).length, 1);
  assert.equal(canaries.ended(second!), undefined);
});
