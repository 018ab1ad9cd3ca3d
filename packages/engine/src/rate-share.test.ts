/** Rate limits that replicas share: the division alone, and with the buckets that it changes, against its published bounds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { PartSchema, RateLimitSchema } from '@weft/plan';
import {
  applyRateShares,
  buildSnapshot,
  changedRate,
  divideRate,
  MAX_REPORTED_CALLERS,
  MAX_SHARED_CALLERS,
  RateDivision,
  rateLimitView,
  SHARE_FLOOR,
  type Snapshot,
  takeRate,
  takeRateDemands,
  UNHEARD_MS,
} from './index.ts';

type Limit = Omit<MessageInitShape<typeof RateLimitSchema>, '$typeName' | '$unknown'>;

const REF = 'HTTPLocalRateLimitPolicy/shop/fair#spec';
const PORT = 80;
const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);
const near = (a: number, b: number, by = 1e-9): void => assert.ok(Math.abs(a - b) <= by, `${a} is not ${b}`);

/** Asks at most `rate` with no more than `depth` at once, as one bucket for all would: the most that was ever ahead. */
class OneBucket {
  readonly rate: number;
  #level = 0;
  #at = 0;
  most = 0;
  count = 0;

  constructor(rate: number) {
    this.rate = rate;
  }

  passed(nowMs: number): void {
    this.#level = Math.max(0, this.#level - ((nowMs - this.#at) * this.rate) / 1000) + 1;
    this.#at = nowMs;
    this.most = Math.max(this.most, this.#level);
    this.count++;
  }
}

class Replica {
  readonly name: string;
  readonly limit: Limit;
  snapshot: Snapshot;

  constructor(name: string, limit: Limit) {
    this.name = name;
    this.limit = limit;
    this.snapshot = this.#build();
  }

  #build(more: Limit = {}): Snapshot {
    const rateLimit = create(RateLimitSchema, { ref: REF, ...this.limit, ...more });
    const part = create(PartSchema, { kind: { case: 'inbound', value: { port: PORT, rateLimit } } });
    return buildSnapshot([part], [], this.snapshot);
  }

  plan(more: Limit): void {
    this.snapshot = this.#build(more);
  }

  take(nowMs: number, caller?: string): boolean {
    return takeRate(this.snapshot.rateLimits.get(PORT)!, caller, nowMs) === 'allow';
  }

  /** A report and its answer; either may get lost. */
  report(division: RateDivision, nowMs: number, lost?: 'report' | 'answer'): void {
    const [demand] = takeRateDemands(this.snapshot, nowMs);
    if (lost === 'report') return;
    const answer = division.answer(this.name, demand!, false, nowMs);
    if (lost !== 'answer') applyRateShares(this.snapshot, [answer], nowMs);
  }

  share(caller?: string): number {
    const { state, equalShare } = this.snapshot.rateLimits.get(PORT)!;
    return (caller === undefined ? state.shared?.total : state.shared?.callers.get(caller)) ?? equalShare;
  }
}

function service(limit: Limit, n: number) {
  const replicas = Array.from({ length: n }, (_, i) => new Replica(`r${i}`, { ...limit, replicas: n }));
  const division = new RateDivision();
  division.members(replicas.map((r) => r.name));
  return { replicas, division };
}

test('a division is max-min fair, leaves nobody without, and gives away all of it', () => {
  near(divideRate([0, 0])[0]!, 0.5);
  // Two want little and get it; the third has the rest.
  const [a, b, c] = divideRate([0.1, 0.2, 5]) as [number, number, number];
  near(a, 0.1);
  near(b, 0.2);
  near(c, 0.7);
  // Alone: all but the others' floor.
  near(divideRate([9, 0, 0])[0]!, 1 - (2 * SHARE_FLOOR) / 3);
  const random = seededRandom(7);
  for (let round = 0; round < 2000; round++) {
    const n = 1 + Math.floor(random.next() * 20);
    const wanted = Array.from({ length: n }, () => (random.next() < 0.3 ? 0 : random.next() ** 3 * 4));
    const shares = divideRate(wanted);
    near(sum(shares), 1);
    const floor = SHARE_FLOOR / n;
    const enough = sum(wanted.map((w) => Math.max(w, floor))) <= 1;
    for (const [i, share] of shares.entries()) {
      assert.ok(share >= floor - 1e-12, `${share} of ${wanted}`);
      if (share >= wanted[i]! - 1e-9) continue;
      assert.ok(!enough, `there was enough for all: ${wanted} got ${shares}`);
      // Who lacks something has no less than anybody else.
      for (const other of shares) assert.ok(other <= share + 1e-9, `${wanted} got ${shares}`);
    }
  }
});

test('a rate that changes makes no request of its own, in either direction', () => {
  const full = (rate: number) => changedRate(0, rate, rate, 5000);
  assert.equal(full(10), 5000);
  // What an empty account of 10/s could let through are 10; at 40/s it still is 10, and at 2/s it is 2.
  const tokens = (at: number, rate: number) => (1000 - (at - 5000)) / (1000 / rate);
  near(tokens(changedRate(0, 10, 40, 5000), 40), 10);
  near(tokens(changedRate(0, 10, 2, 5000), 2), 2);
  near(tokens(changedRate(5600, 10, 40, 5000), 40), 4);
  near(tokens(changedRate(6000, 10, 40, 5000), 40), 0);
  // Less than one a second: one at once, the next when its time has come.
  const view = rateLimitView(create(RateLimitSchema, { ref: REF, total: 1, replicas: 4 }), 'cluster.local');
  const allowed = (nowMs: number) => takeRate(view, undefined, nowMs) === 'allow';
  assert.deepEqual([0, 1, 3999, 4000, 4001].map(allowed), [true, false, false, true, false]);
});

test('shares in force never exceed the whole, whatever gets lost, is late or is said twice', () => {
  const random = seededRandom(11);
  for (let round = 0; round < 30; round++) {
    const n = 2 + Math.floor(random.next() * 6);
    const { replicas, division } = service({ total: 1000, identity: 300 }, n);
    let hot = 0;
    for (let nowMs = 0; nowMs < 40_000; nowMs += 100) {
      if (random.next() < 0.02) hot = Math.floor(random.next() * n);
      for (const [i, r] of replicas.entries()) {
        const tries = i === hot ? 40 : Math.floor(random.next() * 8);
        for (let k = 0; k < tries; k++) r.take(nowMs, random.next() < 0.6 ? 'ann' : 'bob');
        if ((nowMs / 100 + i) % 10 !== 0) continue;
        const lost = random.next() < 0.15 ? 'report' : random.next() < 0.15 ? 'answer' : undefined;
        r.report(division, nowMs, lost);
        for (const caller of [undefined, 'ann', 'bob'])
          assert.ok(sum(replicas.map((x) => x.share(caller))) <= 1 + 1e-9, `${caller} at ${nowMs}`);
      }
    }
  }
});

test('an answer that was thought lost and comes twice counts with the larger of both', () => {
  const { replicas, division } = service({ total: 100 }, 2);
  const [a, b] = replicas as [Replica, Replica];
  const ask = (r: Replica, wanted: number, share: number, again = false) =>
    division.answer(r.name, { limit: REF, accounts: [{ wanted, share }] }, again, 10_000).accounts[0]!.share!;
  ask(a, 1, 0.3);
  ask(b, 0, 0.3);
  const grown = ask(a, 5, 0.3);
  assert.ok(grown > 0.6);
  // The same report by another way, with what was in force when it was written.
  ask(a, 5, 0.3, true);
  assert.ok(ask(b, 5, 0.3) <= 1 - grown + 1e-9);
});

test('one bucket for all would have let the same through: what moves between replicas adds nothing', () => {
  for (const seed of [1, 2, 3]) {
    const random = seededRandom(seed);
    const total = 200;
    const { replicas, division } = service({ total }, 4);
    const one = new OneBucket(total);
    let hot = 0;
    const wants = [600, 20, 0, 0];
    for (let nowMs = 0; nowMs < 60_000; nowMs++) {
      if (nowMs % 10_000 === 0) hot = Math.floor(random.next() * 4);
      for (const [i, r] of replicas.entries()) {
        const rate = wants[(i + hot) % 4]! / 1000;
        if (random.next() < rate && r.take(nowMs)) one.passed(nowMs);
        if (nowMs % 1000 === i * 250) r.report(division, nowMs, random.next() < 0.05 ? 'answer' : undefined);
      }
    }
    assert.ok(one.most <= total + 1e-6, `seed ${seed}: ${one.most} ahead`);
    // Three times as much is wanted as may pass: what is missing is the floor of the others, and the seconds after a move.
    assert.ok(one.count > 0.7 * total * 60, `seed ${seed}: ${one.count}`);
  }
});

test('who wants it gets it within three reports; who wants nothing has something to start with', () => {
  const { replicas, division } = service({ total: 300 }, 3);
  const round = (second: number, wants: readonly number[]) => {
    for (let ms = 0; ms < 1000; ms++) {
      for (const [i, r] of replicas.entries()) if ((ms * wants[i]!) % 1000 < wants[i]!) r.take(second * 1000 + ms);
    }
    for (const r of replicas) r.report(division, (second + 1) * 1000);
  };
  for (let s = 0; s < 3; s++) round(s, [1000, 0, 0]);
  near(replicas[0]!.share(), 1 - (2 * SHARE_FLOOR) / 3);
  near(replicas[1]!.share(), SHARE_FLOOR / 3);
  for (let s = 3; s < 6; s++) round(s, [1000, 1000, 0]);
  // The second one is not starved by the first: both want more than there is.
  near(replicas[0]!.share(), replicas[1]!.share(), 1e-6);
  assert.ok(replicas[1]!.share() > 0.45);
  // A pause of a second does not cost all of it.
  const had = replicas[1]!.share();
  round(6, [1000, 0, 0]);
  assert.ok(replicas[1]!.share() > had / 4, String(replicas[1]!.share()));
});

test('a caller that always meets one replica has its whole rate there; nobody else loses for it', () => {
  const limit = {
    total: 1000,
    identity: 60,
    overrides: [{ requestsPerSecond: 120, accounts: [{ namespace: 'shop', name: 'bob' }] }],
  };
  const bob = 'cluster.local/ns/shop/sa/bob';
  const { replicas, division } = service(limit, 3);
  const buckets = new Map([
    ['ann', new OneBucket(60)],
    [bob, new OneBucket(120)],
    ['cid', new OneBucket(60)],
  ]);
  const late = new Map<string, number>();
  for (let nowMs = 0; nowMs < 20_000; nowMs++) {
    const ask = (i: number, caller: string) => {
      if (!replicas[i]!.take(nowMs, caller)) return;
      buckets.get(caller)!.passed(nowMs);
      if (nowMs >= 10_000) late.set(caller, (late.get(caller) ?? 0) + 1);
    };
    if (nowMs % 4 === 0) ask(0, 'ann');
    if (nowMs % 4 === 1) ask(1, bob);
    // Everywhere, and never too much: nobody needs to be told of it.
    if (nowMs % 100 === 50) ask(((nowMs / 50) % 3) | 0, 'cid');
    for (const [i, r] of replicas.entries()) if (nowMs % 1000 === i * 300) r.report(division, nowMs);
  }
  for (const [caller, bucket] of buckets) assert.ok(bucket.most <= bucket.rate + 1e-6, `${caller}: ${bucket.most}`);
  assert.ok(late.get('ann')! > 0.9 * 600, String(late.get('ann')));
  assert.ok(late.get(bob)! > 0.9 * 1200, String(late.get(bob)));
  assert.equal(late.get('cid'), 100);
  assert.equal(division.callers, 2);
  // They leave: all have 1/3 again, and nothing more is said of them.
  for (let s = 20; s < 45; s++) for (const r of replicas) r.report(division, s * 1000);
  assert.equal(division.callers, 0);
  for (const r of replicas) near(r.share('ann'), 1 / 3);
  assert.deepEqual(
    takeRateDemands(replicas[0]!.snapshot, 46_000)[0]!.accounts.map((a) => a.caller),
    [undefined],
  );
});

test('a replica that comes has 1/n until the others have made room: at most that much too much, until their next report', () => {
  const { replicas, division } = service({ total: 100 }, 2);
  const [a, b] = replicas as [Replica, Replica];
  for (let s = 1; s < 5; s++)
    for (const r of replicas) {
      for (let k = 0; k < 400; k++) r.take(s * 1000);
      r.report(division, s * 1000);
    }
  near(a.share() + b.share(), 1);
  const c = new Replica('r2', { total: 100, replicas: 3 });
  division.members(['r0', 'r1', 'r2']);
  for (const r of replicas) r.plan({ replicas: 3 });
  const all = [a, b, c];
  assert.ok(sum(all.map((r) => r.share())) <= 1 + 1 / 3 + 1e-9);
  for (const r of all) for (let k = 0; k < 400; k++) r.take(5000);
  c.report(division, 5100);
  assert.ok(c.share() <= 1 / 3 + 1e-9, 'it does not grow');
  a.report(division, 5200);
  b.report(division, 5300);
  assert.ok(sum(all.map((r) => r.share())) <= 1 + 1e-9, 'each has reported once');
  // It goes: what it had is free, and the others have it with their next reports.
  division.members(['r0', 'r1']);
  for (let s = 6; s < 9; s++)
    for (const r of replicas) {
      for (let k = 0; k < 400; k++) r.take(s * 1000);
      r.report(division, s * 1000);
    }
  near(a.share() + b.share(), 1);
});

test('a division that begins anew believes what is in force, and gives nothing more before it has heard of all', () => {
  const { replicas, division } = service({ total: 100 }, 3);
  const [a, b, c] = replicas as [Replica, Replica, Replica];
  const busy = (who: readonly Replica[], nowMs: number) => {
    for (const r of who) for (let k = 0; k < 400; k++) r.take(nowMs);
  };
  for (let s = 1; s < 5; s++) {
    busy([a], s * 1000);
    for (const r of replicas) r.report(division, s * 1000);
  }
  assert.ok(a.share() > 0.9);
  // The one that has nearly all of it is not heard of for a while.
  const anew = new RateDivision();
  anew.members(['r0', 'r1', 'r2']);
  const start = 60_000;
  for (let ms = start; ms < start + UNHEARD_MS; ms += 1000) {
    busy([b, c], ms);
    b.report(anew, ms);
    c.report(anew, ms);
    assert.ok(sum(replicas.map((r) => r.share())) <= 1 + 1e-9);
  }
  // It is: everybody has a third of it soon.
  for (let s = 70; s < 74; s++) {
    busy(replicas, s * 1000);
    for (const r of replicas) {
      r.report(anew, s * 1000);
      assert.ok(sum(replicas.map((x) => x.share())) <= 1 + 1e-9);
    }
  }
  for (const r of replicas) near(r.share(), 1 / 3, 1e-6);
});

test('what reports and divisions name is bounded, and nonsense does no harm', () => {
  const { replicas, division } = service({ identity: 10 }, 2);
  const [a] = replicas as [Replica];
  for (let i = 0; i < 3 * MAX_REPORTED_CALLERS; i++) for (let k = 0; k < 20; k++) a.take(0, `c${i}`);
  const [demand] = takeRateDemands(a.snapshot, 1000);
  assert.equal(demand!.accounts.length, MAX_REPORTED_CALLERS);
  const more = Array.from({ length: MAX_SHARED_CALLERS + 7 }, (_, i) => ({ caller: `x${i}`, wanted: 5 }));
  const answer = division.answer('r0', { limit: REF, accounts: more }, false, 1000);
  assert.equal(answer.accounts.length, MAX_SHARED_CALLERS);
  assert.equal(division.refused, 7);
  const odd = service({ total: 10 }, 2);
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, -5, 1e300]) {
    const accounts = [{ wanted: value, share: value }];
    for (const { share } of odd.division.answer('r0', { limit: REF, accounts }, false, 0).accounts)
      assert.ok(share! >= 0 && share! <= 1, `${value}: ${share}`);
    applyRateShares(odd.replicas[0]!.snapshot, [{ limit: REF, accounts: [{ share: value }] }], 0);
    assert.ok(odd.replicas[0]!.share() > 0 && odd.replicas[0]!.share() <= 1);
  }
});

test('a plan that shares no more, or shares another limit, forgets shares; another rate keeps them', () => {
  const { replicas, division } = service({ total: 100 }, 2);
  const [a] = replicas as [Replica];
  for (let s = 1; s < 5; s++)
    for (const r of replicas) {
      if (r === a) for (let k = 0; k < 400; k++) r.take(s * 1000);
      r.report(division, s * 1000);
    }
  const share = a.share();
  assert.ok(share > 0.9);
  a.plan({ total: 50, replicas: 2 });
  assert.equal(a.share(), share);
  a.plan({ ref: 'another', replicas: 2 });
  assert.equal(a.share(), 0.5);
  a.plan({ replicas: 0 });
  assert.equal(a.share(), 1);
  assert.deepEqual(takeRateDemands(a.snapshot, 9000), []);
});
