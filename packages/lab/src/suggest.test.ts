import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadFiles } from '@weft/config';
import { decide } from './authz.ts';
import { meshFromFiles } from './mesh.ts';
import { type SeenCall, suggestionYaml, suggestPolicies } from './suggest.ts';

const id = (sa: string) => `cluster.local/ns/shop/sa/${sa}`;
const seen = (over: Partial<SeenCall>): SeenCall => ({
  ...{ namespace: 'shop', workload: 'payment-v1', principal: id('cart'), source: 'cart', port: 8080 },
  ...{ method: 'GET', path: '/charge', denied: false, requests: 1 },
  ...over,
});
const workload = (name: string, labels: Record<string, string>) => ({
  ...{ namespace: 'shop', workload: name, labels, injected: true },
});
const workloads = [
  workload('payment-v1', { app: 'payment', version: 'v1' }),
  workload('payment-v2', { app: 'payment', version: 'v2' }),
  workload('cart', { app: 'cart' }),
  workload('db', { role: 'db' }),
];
const calls = [
  seen({ requests: 3 }),
  seen({ workload: 'payment-v2', requests: 4 }),
  seen({ method: 'POST', requests: 2 }),
  seen({ path: '/orders/{*}', requests: 5 }),
  seen({ principal: id('front'), source: 'front', path: '/orders/{*}' }),
  seen({ principal: id('front'), source: 'front', path: '/secret', denied: true, requests: 99 }),
  seen({ principal: '', source: 'unknown', path: '/healthz', requests: 7 }),
  seen({ method: 'OPTIONS', path: '*' }),
  seen({ workload: 'db', port: 5432, method: '', path: '', requests: 6 }),
];
const process = (name: string, labels: string, port: string) => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: ${name}, namespace: shop, labels: ${labels}}
spec: {command: [x], ports: [${port}]}
`;
const processes =
  process('payment-v1', '{app: payment, version: v1}', '{name: http, containerPort: 8080}') +
  process('payment-v2', '{app: payment, version: v2}', '{name: http, containerPort: 8080}') +
  process('cart', '{app: cart}', '{name: http, containerPort: 8080}') +
  process('db', '{role: db}', '{name: tcp, containerPort: 5432}');

test('the policies say the callers, methods and paths that were seen, each with its count', () => {
  const s = suggestPolicies('shop', calls, workloads);
  assert.deepEqual(
    s.policies.map((p) => [p.name, p.matchLabels, p.workloads, p.requests]),
    [
      ['db-observed', { role: 'db' }, ['db'], 6],
      ['payment-observed', { app: 'payment' }, ['payment-v1', 'payment-v2'], 22],
    ],
  );
  assert.deepEqual(s.unseen, ['cart']);
  assert.match(s.uncovered.join(), /OPTIONS \* to payment-v1/);
  const text = suggestionYaml('shop', s, 'today');
  assert.match(text, /"\/charge" # 9\n/);
  assert.match(text, /# 9 requests of cart\n/);
  assert.doesNotMatch(text, /secret/);
});

test('as a file they load without a problem, and decide so: what was seen passes, all else does not', () => {
  const text = suggestionYaml('shop', suggestPolicies('shop', calls, workloads), 'today');
  const dry = meshFromFiles([{ path: 'a.yaml', text: processes + text }]);
  assert.equal(
    decide(dry, 'shop/payment-v1', { from: id('x'), http: { method: 'GET', path: '/x' } }).decision,
    'allow',
  );
  const files = [{ path: 'a.yaml', text: processes + text.replaceAll('istio.io/dry-run: "true"', 'x: y') }];
  assert.deepEqual(loadFiles(files).problems, []);
  const mesh = meshFromFiles(files);
  const ask = (from: string | undefined, method: string, path: string, to = 'shop/payment-v2') =>
    decide(mesh, to, { ...(from !== undefined && { from: id(from) }), port: 8080, http: { method, path } }).decision;
  assert.deepEqual(
    [
      ask('cart', 'GET', '/charge'),
      ask('cart', 'POST', '/charge'),
      ask('cart', 'GET', '/orders/77'),
      ask('front', 'GET', '/orders/77?x=1'),
      ask(undefined, 'GET', '/healthz'),
      ask('front', 'GET', '/anything', 'shop/cart'),
    ],
    Array(6).fill('allow'),
  );
  assert.deepEqual(
    [
      ask('front', 'GET', '/charge'),
      ask('front', 'GET', '/secret'),
      ask('cart', 'DELETE', '/charge'),
      ask('cart', 'POST', '/orders/77'),
      ask('cart', 'GET', '/orders/77/items'),
      ask('cart', 'GET', '/healthz'),
      ask(undefined, 'GET', '/charge'),
    ],
    Array(7).fill('deny'),
  );
  const tcp = (from: string) => decide(mesh, 'shop/db', { from: id(from), port: 5432 }).decision;
  assert.deepEqual([tcp('cart'), tcp('front')], ['allow', 'deny']);
});

test('what a caller chose cannot leave its quotes', () => {
  const path = '/x"\n---\nkind: Secret # ';
  const more = seen({ path: '*', method: 'X\nkind: Secret', source: 'x\nkind: Secret' });
  const s = suggestPolicies('shop', [seen({ path, source: 'a\n---\nb' }), more], workloads);
  const { problems, model } = loadFiles([{ path: 'a.yaml', text: processes + suggestionYaml('shop', s, 'today') }]);
  assert.deepEqual(problems, []);
  assert.deepEqual(model?.authorizationPolicies[0].rules[0].to[0].paths, [path]);
});
