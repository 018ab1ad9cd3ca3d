import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostsFile } from './hosts-file.ts';

test('names of services with the addresses of those that are ready; short names in their own namespace alone', () => {
  const cart = {
    name: 'cart',
    namespace: 'shop',
    ports: [80],
    targetPorts: [80],
    protocols: [1],
    selector: { app: 'cart' },
  };
  const none = { ...cart, name: 'none', selector: {} };
  const instance = (address: string, more: object = {}) => ({
    ...{ spec: { namespace: 'shop', labels: { app: 'cart', version: 'v1' } }, state: 'ready' as const, address },
    ...more,
  });
  const instances = [
    instance('10.0.0.2'),
    instance('10.0.0.3'),
    instance('10.0.0.4', { state: 'draining' }),
    instance('10.0.0.5', { spec: { namespace: 'other', labels: { app: 'cart' } } }),
    instance('10.0.0.6', { spec: { namespace: 'shop', labels: { app: 'pay' } } }),
  ];
  const own = hostsFile('shop', [cart, none], instances).trim().split('\n').slice(2);
  assert.deepEqual(own, [
    '10.0.0.2 cart.shop.svc.cluster.local cart.shop.svc cart.shop cart',
    '10.0.0.3 cart.shop.svc.cluster.local cart.shop.svc cart.shop cart',
  ]);
  const others = hostsFile('edge', [cart], instances.slice(0, 1)).trim().split('\n').slice(2);
  assert.deepEqual(others, ['10.0.0.2 cart.shop.svc.cluster.local cart.shop.svc cart.shop']);
});
