/** Seed 003's manifests, and which of several PeerAuthentications counts: what explain, and so the proxy, makes of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { authenticatePort } from '@weft/engine';
import { explain } from './explain.ts';
import { meshFromFiles } from './mesh.ts';

const workload = (name: string, labels = ''): string => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: ${name}, namespace: production, labels: { app: ${name}${labels} } }
spec: { command: [x], serviceAccountName: ${name}, ports: [{ name: http, containerPort: 8080 }, { name: more, containerPort: 9090 }] }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: ${name}, namespace: production }
---
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: production }
spec:
  selector: { app: ${name} }
  ports: [{ name: http, port: 80, targetPort: 8080 }, { name: http-more, port: 90, targetPort: 9090 }]
`;
const BASE = [
  workload('cart'),
  workload('legacy', ', sidecar.istio.io/inject: "false"'),
  workload('payments-service'),
  workload('orders'),
].join('');

const peerAuthentication = (name: string, spec: string, namespace = 'production', created = ''): string => `---
apiVersion: security.istio.io/v1beta1
kind: PeerAuthentication
metadata: { name: ${name}, namespace: ${namespace}${created && `, creationTimestamp: "${created}"`} }
spec: ${spec}
`;
const destinationRule = (host: string, mode: string): string => `---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: { name: rule, namespace: production }
spec: { host: "${host}", trafficPolicy: { tls: { mode: ${mode} } } }
`;

/** `mtls`, `plaintext` or why not, from cart. */
function way(extra: string, to: string): string {
  const mesh = meshFromFiles([{ path: 'mesh.yaml', text: BASE + extra }]);
  const { outcomes } = explain(mesh, { from: 'production/cart', to: to.includes(':') ? to : `${to}:80` });
  assert.equal(outcomes.length, 1, JSON.stringify(outcomes));
  const { status, mtls, details } = outcomes[0]!;
  return status === 'application' ? (mtls ? 'mtls' : 'plaintext') : details;
}

/** What a caller without a proxy meets at a workload's proxy. */
function plainly(extra: string, to: string): string {
  const mesh = meshFromFiles([{ path: 'mesh.yaml', text: BASE + extra }]);
  const [name, port] = to.split(':') as [string, string | undefined];
  const side = mesh.side(`${name}-0`);
  assert.ok(side, `${name} has a proxy`);
  return authenticatePort(side.snapshot, port === '90' ? 9090 : 8080, { mtls: false }) ? 'plaintext' : 'mtls_required';
}

test('fixture 1: PERMISSIVE takes plaintext and mTLS', () => {
  const permissive = peerAuthentication('default', '{ mtls: { mode: PERMISSIVE } }');
  assert.equal(way(permissive, 'payments-service'), 'mtls');
  assert.equal(plainly(permissive, 'payments-service'), 'plaintext');
});

test('fixture 2: payments-strict refuses plaintext to that workload alone', () => {
  const strict =
    peerAuthentication('default', '{ mtls: { mode: PERMISSIVE } }') +
    peerAuthentication(
      'payments-strict',
      '{ selector: { matchLabels: { app: payments-service } }, mtls: { mode: STRICT } }',
    );
  assert.equal(plainly(strict, 'payments-service'), 'mtls_required');
  assert.equal(plainly(strict, 'orders'), 'plaintext');
  assert.equal(way(strict, 'payments-service'), 'mtls');
});

test('fixture 3: STRICT for the namespace', () => {
  const strict = peerAuthentication('default', '{ mtls: { mode: STRICT } }');
  for (const to of ['payments-service', 'orders']) {
    assert.equal(plainly(strict, to), 'mtls_required');
    assert.equal(way(strict, to), 'mtls');
  }
});

test('fixture 4: ISTIO_MUTUAL for *.production.svc.cluster.local; what takes no mTLS gets nothing', () => {
  const mutual = destinationRule('*.production.svc.cluster.local', 'ISTIO_MUTUAL');
  assert.equal(way(mutual, 'payments-service'), 'mtls');
  assert.equal(way(mutual, 'legacy'), 'mtls_impossible', 'no proxy: never plaintext');
  assert.equal(way('', 'legacy'), 'plaintext', 'auto mTLS: plaintext where there is no proxy');
  const disabled = peerAuthentication('default', '{ mtls: { mode: DISABLE } }');
  assert.equal(way(disabled, 'orders'), 'plaintext', 'auto mTLS follows DISABLE');
  assert.equal(way(mutual + disabled, 'orders'), 'mtls_impossible');
});

test('the port goes before the workload, the workload before the namespace, that before the mesh; the oldest wins', () => {
  const select = 'selector: { matchLabels: { app: orders } }';
  const mesh = peerAuthentication('default', '{ mtls: { mode: STRICT } }', 'istio-system');
  assert.equal(plainly(mesh, 'orders'), 'mtls_required');
  const namespace = mesh + peerAuthentication('default', '{ mtls: { mode: PERMISSIVE } }');
  assert.equal(plainly(namespace, 'orders'), 'plaintext');
  const own = namespace + peerAuthentication('orders', `{ ${select}, mtls: { mode: STRICT } }`);
  assert.equal(plainly(own, 'orders'), 'mtls_required');
  assert.equal(plainly(own, 'payments-service'), 'plaintext');
  const ofPort =
    namespace +
    peerAuthentication('orders', `{ ${select}, mtls: { mode: STRICT }, portLevelMtls: { 9090: { mode: DISABLE } } }`);
  assert.equal(plainly(ofPort, 'orders:80'), 'mtls_required');
  assert.equal(plainly(ofPort, 'orders:90'), 'plaintext');
  // A port without a word has the workload's mode, UNSET the level's above.
  const unset = mesh + peerAuthentication('orders', `{ ${select}, portLevelMtls: { 9090: { mode: UNSET } } }`);
  for (const to of ['orders:80', 'orders:90']) assert.equal(plainly(unset, to), 'mtls_required');
  // The first in the file is the younger one.
  const young = peerAuthentication('a', `{ ${select}, mtls: { mode: STRICT } }`, 'production', '2026-02-01T00:00:00Z');
  const old = peerAuthentication(
    'b',
    `{ ${select}, mtls: { mode: PERMISSIVE } }`,
    'production',
    '2026-01-01T00:00:00Z',
  );
  assert.equal(plainly(young + old, 'orders'), 'plaintext');
});
