import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MtlsState, MtlsWorkload } from '@weft/control';
import { calleesFirst, keyOf, losesIdentity, type Member, obstacles } from './leave.ts';

const member = (workload: string): Member => ({ namespace: 'shop', workload, serviceAccount: workload });
const called = (workload: string, by: string[], mode: 'STRICT' | 'PERMISSIVE' = 'PERMISSIVE'): MtlsWorkload => ({
  ...{ namespace: 'shop', workload, instances: 1, injected: true, reason: '', labels: {}, plaintext: [] },
  ports: [{ port: 80, mode, policy: '', where: '', level: '' }],
  verified: by.map((name) => ({ principal: `cluster.local/ns/shop/sa/${name}`, requests: 3, lastMs: 0 })),
});
const state = (...workloads: MtlsWorkload[]): MtlsState => ({ sinceMs: 0, dropped: 0, workloads });

test('who would be refused, and where STRICT would no longer hold', () => {
  const s = state(called('front', []), called('cart', ['front']), called('pay', ['cart', 'front'], 'STRICT'));
  assert.deepEqual(obstacles([member('front')], state(called('cart', ['front'])), 'transparent'), []);
  const front = obstacles([member('front')], s, 'transparent');
  assert.equal(front.length, 1);
  assert.match(front[0]!, /^shop\/front calls shop\/pay, which is STRICT and would refuse it: 3 calls seen/);
  assert.match(
    obstacles([member('front')], s, 'explicit')[0]!,
    /shop\/pay, which is STRICT and would be called around its proxy: 3/,
  );
  assert.equal(obstacles([member('front'), member('cart')], s, 'transparent').length, 2);
  // All together: nobody is left that would refuse, but pay's own policy holds no more.
  const all = obstacles(['front', 'cart', 'pay'].map(member), s, 'transparent');
  assert.equal(all.length, 1);
  assert.match(all[0]!, /^shop\/pay is STRICT on 80: without its proxy/);
});

test('who is called goes before who calls; circles end', () => {
  const s = state(called('a', ['z']), called('b', ['a']), called('z', ['c']), called('c', ['b']));
  const order = (names: string[]) => calleesFirst(names.map(member), s).map((m) => keyOf(m).slice(5));
  assert.deepEqual(order(['a', 'b']), ['b', 'a']);
  assert.deepEqual(order(['z', 'a', 'b']), ['b', 'a', 'z']);
  assert.equal(order(['a', 'b', 'c', 'z']).length, 4);
});

test('who is let in by a policy that may ask for its identity', () => {
  const call = (workload: string, by: string, policy: string, denied = false) => ({
    ...{ namespace: 'shop', workload, principal: `cluster.local/ns/shop/sa/${by}`, policy, denied, requests: 2 },
  });
  const calls = [
    call('pay', 'cart', 'shop/let-cart'),
    call('pay', 'cart', 'shop/let-cart'),
    call('pay', 'front', 'shop/deny', true),
    call('stock', 'cart', 'none'),
    call('cart', 'front', 'shop/let-front'),
  ];
  assert.deepEqual(losesIdentity([member('cart')], calls), [
    'shop/cart is let in to shop/pay by the policy shop/let-cart, which may ask for its identity: 4 calls seen',
  ]);
  assert.deepEqual(losesIdentity([member('cart'), member('pay')], calls), []);
});
