/** Mirroring as a user writes it: a VirtualService sends all requests to v1 and a copy of each to v2. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRoot, meshOf } from './harness.ts';

const RULES = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: pay
  namespace: shop
spec:
  host: pay
  subsets:
    - name: v1
      labels:
        version: v1
    - name: v2
      labels:
        version: v2
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: pay
  namespace: shop
spec:
  hosts: [pay]
  http:
    - route:
        - destination:
            host: pay
            subset: v1
      mirror:
        host: pay
        subset: v2
      mirrorPercentage:
        value: 100
`;

test('every request is answered by v1 and copied to v2, through the mesh', async (t) => {
  const capture = isRoot ? 'transparent' : 'explicit';
  const mesh = await meshOf(t, capture, { client: { v1: 1 }, pay: { v1: 1, v2: 1 } }, { 'rules.yaml': RULES });
  const run = async (): Promise<any> => {
    const call = { count: 20, method: 'POST', url: 'http://pay:8080/x', body: 'a body' };
    return (await mesh.ask('client', '/run', call)).json;
  };
  let sent = 20;
  const result = await run();
  assert.deepEqual(result.statuses, { 200: 20 });
  assert.deepEqual(result.versions, { v1: 20 });
  const posts = async (workload: string): Promise<number> => (await mesh.ask(workload, '/state')).json.posts;
  await mesh.until('20 copies', 60_000, async () => (await posts('pay-v2')) === 20);
  assert.equal(await posts('pay-v1'), 20);
  await mesh.until('the copies in the log', 60_000, () => /pay-shadow:8080/.test(mesh.logs('pay-v2', true)));

  // v2 fails and hangs: nobody hears of it.
  await mesh.ask('pay-v2', '/set', { fail: 500, sleepMs: 6000 });
  sent += 20;
  const failing = await run();
  assert.deepEqual(failing.statuses, { 200: 20 });
  assert.ok(failing.maxMs < 6000, `the slowest took ${failing.maxMs} ms`);
  await mesh.until('the rest of the copies', 60_000, async () => (await posts('pay-v2')) === sent);
});
