import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CallAggregator, type CallOutcome, fitsTemplate, foldPath, pathTemplate } from './calls.ts';

const key = { principal: 'td/ns/shop/sa/cart', source: 'cart', sourceNamespace: 'shop', port: 8080 };
const allowed: CallOutcome = { denied: false, policy: 'none', ref: '', shadowPolicy: '', shadowRef: '', audit: '' };

test('ids in a path become {*}, names stay, the query goes', () => {
  const cases: [string, string][] = [
    ['/', '/'],
    ['/charge', '/charge'],
    ['/orders/12345', '/orders/{*}'],
    ['/orders/12345/items/7?x=/9', '/orders/{*}/items/{*}'],
    ['/v2/users/', '/v2/users/'],
    ['/u/123e4567-e89b-12d3-a456-426614174000/x', '/u/{*}/x'],
    ['/blob/deadbeef01', '/blob/{*}'],
    ['/face/decade', '/face/decade'],
    ['/pkg.v1.Service/Method', '/pkg.v1.Service/Method'],
    ['/a/*/{x}', '/a/{*}/{*}'],
    ['//x', '//x'],
    ['*', '*'],
    ['', ''],
    [`/first/${'a/'.repeat(400)}`, '/first/{**}'],
  ];
  for (const [path, template] of cases) {
    assert.equal(pathTemplate(path), template, path);
    // One rule in two forms: a target fits the template that it has, and no other.
    for (const [, other] of cases)
      if (!other.includes('{**}')) assert.equal(fitsTemplate(other, path), other === template, `${path} ${other}`);
  }
  assert.deepEqual([foldPath('/a/b', 1), foldPath('/a', 1), foldPath('/a/b', 2)], ['/a/{**}', '/{**}', '/{**}']);
});

test('calls add up by caller, method, template and what policies said; they are taken once', () => {
  const calls = new CallAggregator();
  const site = calls.site(key);
  assert.equal(calls.site({ ...key }), site);
  assert.notEqual(calls.site({ ...key, port: 9090 }), site);
  for (let i = 0; i < 5; i++) site.record('GET', `/orders/${i}?n=${i}`, allowed);
  site.record('POST', '/orders/1', allowed);
  site.record('GET', '/orders/1', { ...allowed, denied: true, policy: 'shop/p', ref: 'r' });
  site.record('GET', '/orders/1', { ...allowed, shadowPolicy: 'shop/q', shadowRef: 's' });
  const taken = calls.takeDeltas().map((d) => [d.method, d.path, d.policy, d.denied, d.shadowRef, d.requests]);
  assert.deepEqual(taken, [
    ['GET', '/orders/{*}', 'none', false, '', 5],
    ['POST', '/orders/{*}', 'none', false, '', 1],
    ['GET', '/orders/{*}', 'shop/p', true, '', 1],
    ['GET', '/orders/{*}', 'none', false, 's', 1],
  ]);
  assert.deepEqual(calls.takeDeltas(), []);
  site.record('GET', '/orders/1', allowed);
  assert.equal(calls.takeDeltas()[0].requests, 1);
});

test('paths past the limit are folded, first to their first segment, and rows past theirs are not counted', () => {
  const heard: string[] = [];
  const calls = new CallAggregator({ limits: { calls: 12, paths: 3 }, count: (name) => heard.push(name) });
  const site = calls.site(key);
  for (let i = 0; i < 20; i++) site.record('GET', `/${'abcdefghijklmnopqrst'[i]}/name`, allowed);
  const paths = calls.takeDeltas().map((d) => [d.path, d.requests]);
  assert.deepEqual(paths, [
    ['/a/name', 1],
    ['/b/name', 1],
    ['/c/name', 1],
    ['/d/{**}', 1],
    ['/e/{**}', 1],
    ['/f/{**}', 1],
    ['/{**}', 14],
  ]);
  assert.equal(heard.filter((n) => n === 'telemetry_calls_folded').length, 17);
  for (let i = 0; i < 20; i++) site.record(`M${i}`, '/a/name', allowed);
  assert.equal(heard.filter((n) => n === 'telemetry_calls_dropped').length, 15);
  assert.equal(calls.takeDeltas().length, 5);
  for (let i = 0; i < 2; i++) site.record('NEXT', '/a/name', allowed);
  assert.deepEqual(
    calls.takeDeltas().map((d) => [d.method, d.path, d.requests]),
    [['NEXT', '/a/name', 2]],
    'there is room again',
  );
});
