/** Routing, faults, retries, timeouts and authorization between real processes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRoot, meshOf, type TestMesh } from './harness.ts';
import { faultsOf, near } from './shares.ts';

const SECURITY = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: payment-callers
  namespace: shop
spec:
  selector:
    matchLabels:
      app: payment
  action: ALLOW
  rules:
    - from:
        - source:
            principals: [cluster.local/ns/shop/sa/cart]
      to:
        - operation:
            paths: [/charge, /set, /slow, /state]
    - from:
        - source:
            principals: [cluster.local/ns/shop/sa/frontend]
      to:
        - operation:
            paths: [/admin]
`;

const traffic = (weightV2: number, subset = 'canary'): string => `
apiVersion: weft.dev/v1alpha1
kind: MeshDefaults
metadata:
  name: default
  namespace: istio-system
spec:
  timeout: 5s
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: payment
  namespace: shop
spec:
  host: payment
  subsets:
    - name: stable
      labels:
        version: v1
    - name: canary
      labels:
        version: v2
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: payment
  namespace: shop
spec:
  hosts:
    - payment
  http:
    - match:
        - headers:
            x-canary-half:
              exact: "true"
      route:
        - destination:
            host: payment
            subset: stable
          weight: 50
        - destination:
            host: payment
            subset: canary
          weight: 50
    - match:
        - headers:
            x-canary-test:
              exact: "true"
      route:
        - destination:
            host: payment
            subset: canary
    - match:
        - headers:
            x-stable-test:
              exact: "true"
      route:
        - destination:
            host: payment
            subset: stable
    - route:
        - destination:
            host: payment
            subset: stable
          weight: ${100 - weightV2}
        - destination:
            host: payment
            subset: ${subset}
          weight: ${weightV2}
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: inventory
  namespace: shop
spec:
  hosts:
    - inventory
  http:
    - match:
        - headers:
            x-chaos-test:
              exact: enabled
      fault:
        delay:
          percentage:
            value: 10
          fixedDelay: 3s
        abort:
          percentage:
            value: 5
          httpStatus: 503
      route:
        - destination:
            host: inventory
    - route:
        - destination:
            host: inventory
`;

const long = process.env.WEFT_LONG === '1';
const status = (mesh: TestMesh) =>
  JSON.parse(mesh.weft('proxy-status', '-o', 'json')) as { epoch: number; proxies: { status: string }[] };

const run = async (mesh: TestMesh, from: string, call: object) => {
  const answer = await mesh.ask(from, '/run', call);
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
};

// As root in namespaces; .ci/run runs the tests as an ordinary user too, and so the other way.
for (const capture of isRoot ? (['transparent'] as const) : (['explicit'] as const)) {
  test(`traffic rules, ${capture} capture`, async (t) => {
    const mesh = await meshOf(
      t,
      capture,
      { frontend: { v1: 1 }, cart: { v1: 1 }, inventory: { v1: 1 }, payment: { v1: 1, v2: 1 } },
      { 'traffic.yaml': traffic(5), 'security.yaml': SECURITY },
    );
    const pay = 'http://payment:8080';

    await t.test('95/5 by weight over 10,000 requests', async () => {
      const r = await run(mesh, 'cart', { url: `${pay}/charge`, count: 10_000, concurrency: 32 });
      assert.deepEqual(r.statuses, { '200': 10_000 }, JSON.stringify(r));
      near(r.versions.v2, 10_000, 0.05, 'canary');
    });

    await t.test('a header decides, and a header with weights splits only its own', async () => {
      const canary = await run(mesh, 'cart', {
        url: `${pay}/charge`,
        count: 500,
        headers: { 'x-canary-test': 'true' },
      });
      assert.deepEqual(canary.versions, { v2: 500 });
      const half = await run(mesh, 'cart', { url: `${pay}/charge`, count: 2000, headers: { 'x-canary-half': 'true' } });
      near(half.versions.v2, 2000, 0.5, 'half');
      const stable = await run(mesh, 'cart', {
        url: `${pay}/charge`,
        count: 500,
        headers: { 'x-stable-test': 'true' },
      });
      assert.deepEqual(stable.versions, { v1: 500 });
    });

    await t.test('faults: 9.5 / 4.5 / 0.5 / 85.5 %, and only under the header', async () => {
      const n = 2000;
      const { address } = mesh.row('cart');
      const call = { url: 'http://inventory:8080/stock', count: n, concurrency: 150 };
      const r = await run(mesh, 'cart', { ...call, headers: { 'x-chaos-test': 'enabled' } });
      const { delayed, aborted, both } = await faultsOf(address, 'inventory');
      near(delayed, n, 0.095, 'delay only');
      near(aborted, n, 0.045, 'abort only');
      near(both, n, 0.005, 'both');
      // What the caller saw is what the proxy says that it did.
      assert.deepEqual(r.statuses, { '200': n - aborted - both, '503': aborted + both });
      assert.ok(r.delayed >= delayed + both, `${r.delayed} of ${delayed + both} were late`);
      const calm = await run(mesh, 'cart', { ...call, count: 500, concurrency: 32 });
      assert.deepEqual(calm.statuses, { '200': 500 });
      assert.deepEqual(await faultsOf(address, 'inventory'), { delayed, aborted, both });
    });

    await t.test('who may call what, and the log says which rule decided', async () => {
      const denied = await run(mesh, 'cart', { url: `${pay}/admin` });
      assert.deepEqual(denied.statuses, { '403': 1 });
      assert.equal(denied.sample.text, 'RBAC: access denied');
      assert.deepEqual((await run(mesh, 'frontend', { url: `${pay}/admin` })).statuses, { '200': 1 });
      assert.deepEqual((await run(mesh, 'frontend', { url: `${pay}/charge` })).statuses, { '403': 1 });
      await mesh.until('an access log line with policy, file and line', 60_000, () =>
        ['payment-v1', 'payment-v2'].some((w) =>
          /"policy":"shop\/payment-callers".*security\.yaml:\d+/.test(mesh.logs(w, true)),
        ),
      );
    });

    await t.test('a handler that takes longer than the timeout of 5 s is a 504, not before', async (t) => {
      const r = await run(mesh, 'cart', { url: `${pay}/slow?sleep=15000` });
      assert.deepEqual(r.statuses, { '504': 1 });
      t.diagnostic(`after ${r.minMs} ms`);
      assert.ok(r.minMs >= 4990 && (!long || r.maxMs <= 5400), `${r.minMs}`);
      await mesh.until('flag UT', 60_000, () => /"response_flags":"UT"/.test(mesh.logs('cart', true)));
    });

    await t.test('the application sees who called, and nothing of the mesh', async () => {
      const r = await run(mesh, 'cart', {
        url: `${pay}/charge`,
        headers: { 'x-forwarded-client-cert': 'By=x;URI=spiffe://evil', 'x-weft-source': 'evil', 'x-weft-port': '1' },
      });
      const seen = JSON.parse(r.sample.text).headers;
      assert.match(seen['x-forwarded-client-cert'], /URI=spiffe:\/\/cluster\.local\/ns\/shop\/sa\/cart/);
      assert.doesNotMatch(JSON.stringify(seen), /evil/);
      assert.match(seen.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/);
      assert.ok(seen['x-request-id']);
      assert.equal(seen['x-weft-port'], undefined);
    });

    await t.test('new weights under 500 requests/s: none fails; a broken file changes nothing', async (t) => {
      const load = run(mesh, 'cart', { url: `${pay}/charge`, count: 100_000, rate: 500 });
      load.catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 1000));
      const { epoch } = status(mesh);
      const written = performance.now();
      mesh.write('traffic.yaml', traffic(100));
      await mesh.until('the new weights are everywhere', 60_000, () => {
        const now = status(mesh);
        return now.epoch > epoch && now.proxies.every((p) => p.status === 'SYNCED');
      });
      const tookMs = performance.now() - written;
      t.diagnostic(`everywhere after ${Math.round(tookMs)} ms, the command that says so included`);
      assert.ok(!long || tookMs < 2500, `${tookMs} ms`);
      const after = await run(mesh, 'cart', { url: `${pay}/charge`, count: 200 });
      assert.deepEqual(after.versions, { v2: 200 });
      await mesh.ask('cart', '/set', { stop: true });
      const r = await load;
      assert.deepEqual(r.statuses, { '200': r.sent }, JSON.stringify(r));
      assert.ok(r.sent > 500, `${r.sent} requests`);
      mesh.write('traffic.yaml', traffic(100, 'nosuch'));
      await mesh.until('the refusal is printed', 60_000, () => /traffic\.yaml:\d+.*nosuch/.test(mesh.output));
      assert.deepEqual((await run(mesh, 'cart', { url: `${pay}/charge`, count: 200 })).versions, { v2: 200 });
    });
  });
}
