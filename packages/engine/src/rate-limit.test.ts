import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { PartSchema, RateLimitSchema } from '@weft/plan';
import { buildSnapshot, MAX_RATE_CALLERS, rateLimitView, takeRate } from './index.ts';

const ann = 'cluster.local/ns/shop/sa/ann';
const bob = 'cluster.local/ns/shop/sa/bob';

function view(limit: MessageInitShape<typeof RateLimitSchema>) {
  const v = rateLimitView(create(RateLimitSchema, limit), 'cluster.local');
  return (who: string | undefined, now: number, tries = 1): number => {
    let passed = 0;
    for (let i = 0; i < tries; i++) if (takeRate(v, who, now) === 'allow') passed++;
    return passed;
  };
}

test('total: a second at once, then one each 1/N s, never more than N saved', () => {
  const take = view({ total: 10 });
  assert.equal(take(ann, 1000, 50), 10);
  assert.equal(take(ann, 1099, 50), 0);
  assert.equal(take(ann, 1100, 50), 1);
  assert.equal(take(ann, 1500, 50), 4);
  assert.equal(take(ann, 60_000, 50), 10);
  const steady = view({ total: 3 });
  let passed = 0;
  for (let now = 0; now < 100_000; now += 7) passed += steady(ann, now);
  assert.ok(passed >= 300 && passed <= 303, String(passed));
});

test('identity: each caller its own, overrides for some, all without identity one', () => {
  const take = view({
    total: 100,
    identity: 5,
    overrides: [{ requestsPerSecond: 20, accounts: [{ namespace: 'shop', name: 'bob' }] }],
  });
  assert.equal(take(ann, 0, 50), 5);
  assert.equal(take('cluster.local/ns/shop/sa/cid', 0, 50), 5);
  assert.equal(take(bob, 0, 50), 20);
  assert.equal(take('other.domain/ns/shop/sa/bob', 0, 50), 5, 'another trust domain has no part in it');
  assert.equal(take(undefined, 0, 3) + take(undefined, 0, 50), 5);
});

test('fairness: what a caller is refused takes nothing of the total', () => {
  const take = view({ total: 20, identity: 15 });
  assert.equal(take(ann, 0, 1000), 15);
  assert.equal(take(bob, 0, 50), 5, 'what is left of the total');
});

test('callers are bounded: idle ones are forgotten, those beyond share', () => {
  const v = rateLimitView(create(RateLimitSchema, { identity: 1 }), 'cluster.local');
  for (let i = 0; i < MAX_RATE_CALLERS; i++) assert.equal(takeRate(v, `c${i}`, 0), 'allow');
  assert.equal(takeRate(v, 'x', 0), 'allow');
  assert.equal(takeRate(v, 'y', 0), 'identity');
  assert.equal(v.state.callers.size, MAX_RATE_CALLERS);
  assert.equal(takeRate(v, 'y', 1000), 'allow');
  assert.equal(v.state.callers.size, 1);
});

test('accounts outlive plans', () => {
  const build = (total: number, old?: ReturnType<typeof buildSnapshot>) =>
    buildSnapshot(
      [create(PartSchema, { kind: { case: 'inbound', value: { port: 80, rateLimit: { total } } } })],
      [],
      old,
    );
  const first = build(1);
  assert.equal(takeRate(first.rateLimits.get(80)!, ann, 0), 'allow');
  assert.equal(takeRate(first.rateLimits.get(80)!, ann, 0), 'total');
  const second = build(1, first);
  assert.equal(takeRate(second.rateLimits.get(80)!, ann, 0), 'total');
  assert.equal(takeRate(second.rateLimits.get(80)!, ann, 1000), 'allow');
});
