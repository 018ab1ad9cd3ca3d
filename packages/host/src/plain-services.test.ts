import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plainServices } from './plain-services.ts';

test('each port of a service leads to the applications of those that are ready', () => {
  const cart = {
    ...{ name: 'cart', namespace: 'shop', ports: [80, 81], targetPorts: [8080, 'admin'], protocols: [1, 4] },
    selector: { app: 'cart' },
  };
  const spec = (ports: { number: number; name?: string }[], more: object = {}) => ({
    ...{ name: 'cart-v1', namespace: 'shop', labels: { app: 'cart' }, ports },
    ...more,
  });
  const both = spec([{ number: 8080 }, { number: 9000, name: 'admin' }]);
  const instances = [
    { name: 'a', spec: both, state: 'ready' as const, address: '192.0.2.2' },
    { name: 'b', spec: spec([{ number: 8080 }]), state: 'ready' as const, address: '192.0.2.3' },
    { name: 'c', spec: both, state: 'draining' as const, address: '192.0.2.4' },
    { name: 'd', spec: spec([], { namespace: 'other' }), state: 'ready' as const, address: '192.0.2.5' },
    { name: 'e', spec: spec([], { labels: { app: 'pay' } }), state: 'ready' as const, address: '192.0.2.6' },
  ];
  const [{ ports }, none] = plainServices([cart, { ...cart, selector: {} }], instances);
  const seen = ports.map((p) => [p.port, p.protocol, p.endpoints.map((e) => `${e.instance} ${e.address}:${e.port}`)]);
  assert.deepEqual(seen, [
    [80, 1, ['a 192.0.2.2:8080', 'b 192.0.2.3:8080']],
    [81, 4, ['a 192.0.2.2:9000']],
  ]);
  assert.deepEqual(
    none.ports.map((p) => p.endpoints),
    [[], []],
  );
});
