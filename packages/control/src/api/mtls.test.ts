import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { silentLogger, VirtualClock } from '@weft/base';
import { loadFiles } from '@weft/config';
import type { Instance } from '@weft/model';
import { Traffic } from '../audit/traffic.ts';
import type { Mesh } from '../mesh.ts';
import { mtlsState } from './mtls.ts';

const FILES = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: istio-system }
spec: { mtls: { mode: STRICT } }
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: pay, namespace: shop }
spec:
  selector: { matchLabels: { app: pay } }
  mtls: { mode: PERMISSIVE }
  portLevelMtls: { 9090: { mode: DISABLE } }
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: legacy, namespace: shop, labels: { sidecar.istio.io/inject: "false" } }
spec: { command: [x] }
`;

const instance = (workload: string, more: Partial<Instance> = {}): Instance => ({
  ...{ name: `${workload}-0`, workload, namespace: 'shop', serviceAccount: workload, labels: { app: workload } },
  ...{ address: '10.0.0.2', ports: [{ number: 8080 }], injected: true, ready: true, draining: false },
  dialAddress: '10.0.0.2',
  ...more,
});

test('modes with the policy and level that set them, callers by workload or address, and why there is no proxy', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'weft-mtls-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const clock = new VirtualClock(Date.UTC(2026, 0, 10));
  const traffic = new Traffic(dir, clock, silentLogger);
  t.after(() => traffic.stop());
  const instances = [
    instance('pay', { ports: [{ number: 8080 }, { number: 9090 }] }),
    instance('cart'),
    instance('legacy', { injected: false, ports: [] }),
    instance('edge', { gateway: true }),
    instance('other', { namespace: 'other' }),
  ];
  const model = loadFiles([{ path: 'mesh.yaml', text: FILES }]).model;
  const mesh = { model, instances: () => instances } as unknown as Mesh;
  const to = { workload: 'pay', namespace: 'shop' };
  const plain = { source: 'legacy', sourceNamespace: 'shop', address: '10.0.0.9', port: 8080, refused: false, ref: '' };
  const strange = { ...plain, source: '', sourceNamespace: '', address: '10.0.0.8' };
  traffic.addPlaintext(to, { ...plain, requests: 2 });
  clock.advance(1000);
  // Another copy of the same workload: one caller.
  traffic.addPlaintext(to, { ...plain, address: '10.0.0.10', requests: 1 });
  traffic.addPlaintext(to, { ...plain, refused: true, ref: 'r', requests: 4 });
  traffic.addPlaintext(to, { ...strange, requests: 1 });
  const call = {
    port: 8080,
    method: 'GET',
    path: '/',
    denied: false,
    policy: 'none',
    ref: '',
    shadowPolicy: '',
    shadowRef: '',
    audit: '',
  };
  for (const principal of ['cluster.local/ns/shop/sa/cart', ''])
    traffic.addCall(to, { ...call, principal, source: 'cart', sourceNamespace: 'shop', requests: 7 });

  const { workloads } = mtlsState(mesh, traffic, 0, 'shop');
  assert.deepEqual(
    workloads.map((w) => w.workload),
    ['cart', 'legacy', 'pay'],
    'neither gateways nor other namespaces',
  );
  const [cart, legacy, pay] = workloads as [(typeof workloads)[0], (typeof workloads)[0], (typeof workloads)[0]];
  assert.deepEqual(cart.ports, [
    { port: 8080, mode: 'STRICT', policy: 'istio-system/default', where: 'mesh.yaml:1', level: 'mesh' },
  ]);
  assert.deepEqual([legacy.injected, legacy.reason], [false, 'sidecar.istio.io/inject: false on the process']);
  assert.deepEqual(
    pay.ports.map((p) => [p.port, p.mode, p.level]),
    [
      [8080, 'PERMISSIVE', 'workload'],
      [9090, 'DISABLE', 'port'],
    ],
  );
  assert.deepEqual(
    pay.plaintext.map((c) => [c.source || c.address, c.injected, c.requests, c.refused, c.lastMs - c.firstMs]),
    [
      ['shop/legacy', false, 3, 4, 1000],
      ['10.0.0.8', undefined, 1, 0, 0],
    ],
  );
  assert.deepEqual(
    pay.verified.map((v) => [v.principal, v.requests]),
    [['cluster.local/ns/shop/sa/cart', 7]],
  );
  assert.equal(mtlsState(mesh, traffic, 0, '').workloads.length, 4);
  assert.deepEqual(mtlsState(mesh, traffic, clock.wall() + 1, 'shop').workloads[2]?.plaintext, []);
});
