/** Which replica a request goes to, through real proxies. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { isRoot, meshOf, request } from './harness.ts';

const HASHED = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: cart
  namespace: shop
spec:
  host: cart
  trafficPolicy:
    loadBalancer:
      consistentHash:
        httpHeaderName: x-user
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: user
  namespace: shop
spec:
  host: user
  trafficPolicy:
    loadBalancer:
      consistentHash:
        httpCookie:
          name: sid
          path: /
          ttl: 60s
        maglev: {}
`;

test('balancing', async (t: TestContext) => {
  const services = { web: { v1: 1 }, cart: { v1: 3 }, user: { v1: 3 } };
  const mesh = await meshOf(t, isRoot ? 'transparent' : 'explicit', services, { 'rules.yaml': HASHED });
  const rows = mesh.ps();
  const web = rows.find((r) => r.workload === 'web')?.address as string;
  const run = async (call: object): Promise<any> => {
    const answer = await request(web, 8080, '/run', call);
    assert.equal(answer.status, 200, answer.text);
    return answer.json;
  };
  const serversOf = (workload: string): Promise<number[]> =>
    Promise.all(
      rows
        .filter((r) => r.workload === workload)
        .map(async (r) => (await request(r.address, 8080, '/state')).json.served as number),
    );

  await t.test('one value of the header, one replica; many values, all replicas', async () => {
    for (const user of ['ann', 'bob']) {
      const before = await serversOf('cart');
      const r = await run({ url: 'http://cart:8080/', count: 60, concurrency: 6, headers: { 'x-user': user } });
      assert.deepEqual(r.statuses, { '200': 60 });
      const grown = (await serversOf('cart')).map((n, i) => n - before[i]).sort((a, b) => b - a);
      assert.deepEqual(grown, [60, 0, 0]);
    }
    const before = await serversOf('cart');
    for (let i = 0; i < 60; i++) await run({ url: 'http://cart:8080/', headers: { 'x-user': `user-${i}` } });
    const grown = (await serversOf('cart')).map((n, i) => n - before[i]);
    assert.ok(
      grown.every((n) => n > 0),
      String(grown),
    );
  });

  await t.test('a caller without the cookie gets one, which leads back to the same replica', async () => {
    const before = await serversOf('user');
    const first = await run({ url: 'http://user:8080/' });
    const cookie = String(first.sample.headers['set-cookie']).split(';')[0];
    assert.match(cookie, /^sid="[0-9a-f]{32}"$/);
    const r = await run({ url: 'http://user:8080/', count: 30, headers: { cookie } });
    assert.deepEqual(r.statuses, { '200': 30 });
    assert.equal(r.sample.headers['set-cookie'], undefined);
    const grown = (await serversOf('user')).map((n, i) => n - before[i]).sort((a, b) => b - a);
    assert.deepEqual(grown, [31, 0, 0]);
  });
});
