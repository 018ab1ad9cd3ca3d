import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadFiles } from '@weft/config';
import type { Instance } from '@weft/model';
import { auditReport } from './report.ts';
import type { CallSum, EdgeSum } from './traffic.ts';

const edge = (over: Partial<EdgeSum>): EdgeSum => ({
  ...{ reporter: 'source', source: 'cart', sourceNamespace: 'shop', destination: 'pay', mtls: true },
  ...{ requests: 1, bytes: 30, firstMs: 1, lastMs: 2 },
  ...over,
});
const call = (over: Partial<CallSum>): CallSum => ({
  ...{ principal: 'p', source: 'cart', sourceNamespace: 'shop', port: 8080, method: 'GET', path: '/' },
  ...{ denied: false, policy: 'none', ref: '', shadowPolicy: '', shadowRef: '', audit: '', requests: 1 },
  ...{ workload: 'pay', namespace: 'shop', firstMs: 1, lastMs: 2 },
  ...over,
});
const instance = (workload: string, injected = true): Instance => ({
  ...{ name: `${workload}-0`, workload, namespace: 'shop', serviceAccount: workload, labels: { app: workload } },
  ...{ address: '127.0.0.1', dialAddress: '127.0.0.1', ports: [{ number: 8080 }] },
  ...{ injected, ready: true, draining: false },
});
const POLICIES = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: pay, namespace: shop}
spec: {selector: {matchLabels: {app: pay}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: later, namespace: shop, annotations: {istio.io/dry-run: "true"}}
spec: {selector: {matchLabels: {app: cart}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: pay, namespace: shop, labels: {app: pay}}
spec: {command: [x], ports: [{containerPort: 8080}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {command: [x], ports: [{containerPort: 8080}]}
`;

const { model, problems } = loadFiles([{ path: 'a.yaml', text: POLICIES }]);
assert.deepEqual(
  problems.filter((p) => p.severity === 'error'),
  [],
);

test('shares, exceptions, ages, coverage and denials', () => {
  const report = auditReport({
    ...{ nowMs: 10_000, sinceMs: 0, epoch: 3, model, rootNotAfterMs: 50_000, changes: [] },
    instances: [instance('pay'), instance('cart'), instance('plain', false)],
    traffic: {
      edges: [
        edge({ bytes: 90 }),
        edge({ mtls: false, bytes: 10, requests: 4 }),
        // The other end tells of the same plaintext.
        edge({ reporter: 'destination', mtls: false, bytes: 10, requests: 4 }),
        edge({ reporter: 'destination', mtls: false, source: 'unknown', bytes: 0, requests: 9 }),
      ],
      calls: [call({}), call({ denied: true, policy: 'shop/pay', requests: 2 }), call({ denied: true, requests: 5 })],
      dropped: 0,
    },
    certificates: [
      { instance: 'pay-0', serial: 'a1', notBeforeMs: 4000, notAfterMs: 16_000 },
      { instance: 'cart-0', serial: '', notBeforeMs: 0, notAfterMs: 0 },
    ],
  });
  const { edges, edgesUnderMtls, edgeShare, bytes, bytesUnderMtls, byteShare, exceptions } = report.mtls;
  assert.deepEqual([edges, edgesUnderMtls, edgeShare], [3, 1, 1 / 3]);
  assert.deepEqual([bytes, bytesUnderMtls, byteShare], [100, 90, 0.9]);
  assert.deepEqual(
    exceptions.map((e) => [e.source, e.requests]),
    [
      ['unknown', 9],
      ['cart', 4],
    ],
  );
  assert.deepEqual(report.certificates, {
    rootEndsInMs: 40_000,
    workloads: [
      { instance: 'pay-0', serial: 'a1', ageMs: 6000, endsInMs: 6000 },
      { instance: 'cart-0', serial: '', ageMs: null, endsInMs: null },
    ],
  });
  assert.deepEqual(
    report.coverage.map((c) => [c.workload, c.proxy, c.covered, c.policies.map((p) => p.policy), c.mtls[0].mode]),
    [
      ['shop/cart', true, false, ['shop/later'], 'STRICT'],
      ['shop/pay', true, true, ['shop/pay'], 'STRICT'],
      ['shop/plain', false, false, [], 'DISABLE'],
    ],
  );
  assert.deepEqual(
    report.denials.map((d) => [d.workload, d.policy, d.requests]),
    [
      ['shop/pay', 'none', 5],
      ['shop/pay', 'shop/pay', 2],
    ],
  );
});
