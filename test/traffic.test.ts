/** Routing, faults, retries, timeouts and authorization between real processes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRoot, meshOf, type TestMesh } from './harness.ts';

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

/** |k − np| within 4.5 standard deviations. */
function near(k: number | undefined, n: number, p: number, what: string): void {
  const sigma = Math.sqrt(n * p * (1 - p));
  assert.ok(
    Math.abs((k ?? 0) - n * p) <= 4.5 * sigma,
    `${what}: ${k} of ${n}, expected ${p * 100} % ± ${(450 * sigma) / n}`,
  );
}

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
      const call = { url: 'http://inventory:8080/stock', count: n, concurrency: 400 };
      const r = await run(mesh, 'cart', { ...call, headers: { 'x-chaos-test': 'enabled' } });
      near(r.delayed - r.delayedFailed, n, 0.095, 'delay only');
      near((r.statuses['503'] ?? 0) - r.delayedFailed, n, 0.045, 'abort only');
      near(r.delayedFailed, n, 0.005, 'both');
      near((r.statuses['200'] ?? 0) - (r.delayed - r.delayedFailed), n, 0.855, 'untouched');
      const calm = await run(mesh, 'cart', { ...call, count: 500, concurrency: 32 });
      assert.deepEqual([calm.statuses, calm.delayed], [{ '200': 500 }, 0]);
    });

    await t.test('who may call what, and the log says which rule decided', async () => {
      const denied = await run(mesh, 'cart', { url: `${pay}/admin` });
      assert.deepEqual(denied.statuses, { '403': 1 });
      assert.equal(denied.sample.text, 'RBAC: access denied');
      assert.deepEqual((await run(mesh, 'frontend', { url: `${pay}/admin` })).statuses, { '200': 1 });
      assert.deepEqual((await run(mesh, 'frontend', { url: `${pay}/charge` })).statuses, { '403': 1 });
      await mesh.until('an access log line with policy, file and line', 5000, () =>
        ['payment-v1', 'payment-v2'].some((w) =>
          /"policy":"shop\/payment-callers".*security\.yaml:\d+/.test(mesh.logs(w, true)),
        ),
      );
    });

    await t.test('a handler of 6 s is a 504 after 5.0 to 5.2 s', async () => {
      const r = await run(mesh, 'cart', { url: `${pay}/slow?sleep=6000` });
      assert.deepEqual(r.statuses, { '504': 1 });
      assert.ok(r.minMs >= 4990 && r.maxMs <= 5400, `${r.minMs}`);
      await mesh.until('flag UT', 5000, () => /"response_flags":"UT"/.test(mesh.logs('cart', true)));
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

    await t.test(
      'new weights under 500 requests/s: within a second, none fails; a broken file changes nothing',
      async () => {
        const load = run(mesh, 'cart', { url: `${pay}/charge`, count: 2500, rate: 500 });
        await new Promise((resolve) => setTimeout(resolve, 1500));
        mesh.write('traffic.yaml', traffic(100));
        await new Promise((resolve) => setTimeout(resolve, 1000));
        const after = await run(mesh, 'cart', { url: `${pay}/charge`, count: 200 });
        assert.deepEqual(after.versions, { v2: 200 });
        const r = await load;
        assert.deepEqual(r.statuses, { '200': 2500 }, JSON.stringify(r));
        mesh.write('traffic.yaml', traffic(100, 'nosuch'));
        await mesh.until('the refusal is printed', 5000, () => /traffic\.yaml:\d+.*nosuch/.test(mesh.output));
        assert.deepEqual((await run(mesh, 'cart', { url: `${pay}/charge`, count: 200 })).versions, { v2: 200 });
      },
    );
  });
}
