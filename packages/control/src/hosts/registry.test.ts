/** What a host may bring into the mesh, and when it is gone. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { silentLogger, VirtualClock } from '@weft/base';
import { loadFiles } from '@weft/config';
import type { ControlConfig } from '../config.ts';
import { Mesh } from '../mesh.ts';
import { State } from '../state.ts';
import { Hosts, type HostsOptions } from './registry.ts';

const group = (name: string) => `---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: { name: ${name}, namespace: shop }
spec:
  metadata: { labels: { app: ${name} } }
  template: { ports: { http: 8080 }, serviceAccount: ${name} }
`;
const base = `apiVersion: v1
kind: Service
metadata: { name: vm, namespace: shop }
spec: { selector: { app: vm }, ports: [{ name: http, port: 80, targetPort: http }] }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: vm, namespace: shop }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: other, namespace: shop }
`;
const trust = { current: { rootPem: 'roots', issuer: 'key' } } as unknown as HostsOptions['trust'];
const entrance = { host: '192.0.2.1', port: 15_443 };
const cart = {
  ...{ name: 'cart-0', workload: 'cart', namespace: 'shop', serviceAccount: 'cart', labels: { app: 'cart' } },
  ...{ address: '10.9.0.2', dialAddress: '10.9.0.2', ports: [{ number: 8080 }] },
  ...{ injected: true, ready: true, draining: false },
};

function made(t: TestContext, more: Partial<HostsOptions> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'weft-hosts-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const clock = new VirtualClock();
  const state = new State(dir, silentLogger);
  const config = { mesh: 'shop', capture: 'transparent', stateDir: dir } as ControlConfig;
  const mesh = new Mesh({ config, state, load: (files) => loadFiles(files), logger: silentLogger, clock });
  const files = (text: string) => {
    mesh.applyFiles({ files: [{ path: 'a.yaml', text }], errors: [] });
    assert.equal(mesh.refused, false, JSON.stringify(mesh.problems));
  };
  files(base + group('vm') + group('other'));
  mesh.putInstance(cart);
  const options = { ...{ mesh, state, trust, clock, logger: silentLogger }, capture: 'transparent' as const, entrance };
  const hosts = new Hosts({ ...options, ...more });
  t.after(() => hosts.stop());
  const join1 = (name = 'vm1') => {
    hosts.add(name, 'shop', 'vm');
    hosts.announce(name, { entrance: { host: '192.0.2.2', port: 15_443 }, capture: 'transparent' });
    hosts.seen(name, ['key']);
  };
  return { dir, clock, state, mesh, hosts, files, join1 };
}

test('the token and the group say what an instance is, not the host', (t) => {
  const { hosts, mesh, join1 } = made(t);
  join1();
  const forged = {
    ...{ namespace: 'bank', serviceAccount: 'admin', labels: { app: 'cart' }, workload: 'cart', gateway: true },
    ...{ network: 'mesh', injected: false, dialAddress: '10.9.0.2', ports: [{ number: 22 }], weight: 1000 },
    ...{ address: '10.20.0.2', ready: true },
  };
  hosts.put('vm1', 'vm1-0', forged);
  assert.deepEqual(mesh.instance('vm1-0'), {
    ...{ name: 'vm1-0', workload: 'vm1', namespace: 'shop', serviceAccount: 'vm', labels: { app: 'vm' } },
    ...{ address: '10.20.0.2', dialAddress: '10.20.0.2', ports: [{ number: 8080, name: 'http' }] },
    ...{ injected: true, gateway: false, ready: true, draining: false, weight: 1 },
    ...{ network: 'vm1', capture: 'transparent' },
  });
  assert.deepEqual(hosts.networks(), { mesh: entrance, vm1: { host: '192.0.2.2', port: 15_443 } });
  assert.deepEqual(hosts.facts('vm1').taken, ['10.9.0.0/16']);
  assert.equal(hosts.facts('vm1').group.name, 'vm');
});

test('a host brings no others, and touches none', (t) => {
  const { hosts, mesh, join1 } = made(t, { maxInstances: 2 });
  join1();
  join1('vm2');
  const at = (address: string) => ({ address, ready: true });
  hosts.put('vm2', 'vm2-0', at('10.30.0.2'));
  assert.throws(() => hosts.put('vm1', 'cart-0', at('10.20.0.2')), /cart-0 is another machine's/);
  assert.throws(() => hosts.put('vm1', 'vm2-0', at('10.20.0.2')), /vm2-0 is another machine's/);
  assert.throws(() => hosts.put('vm1', 'vm2-1', at('10.20.0.2')), /are called vm1-NUMBER/);
  assert.throws(() => hosts.put('vm1', 'vm1-0', at('8.8.8.8')), /8\.8\.8\.8 is no address of a workload/);
  assert.throws(() => hosts.put('vm1', 'vm1-0', at('10.9.0.2')), /10\.9\.0\.2 is in a range of cart-0/);
  assert.throws(() => hosts.put('vm1', 'vm1-0', at('10.30.0.9')), /is in a range of vm2-0/);
  assert.throws(() => hosts.put('vm1', 'vm1-0', { ...at('10.20.0.2'), address6: '2001:db8::1' }), /is no address/);
  for (const name of ['cart-0', 'vm2-0', 'nobody']) assert.throws(() => hosts.own('vm1', name), /has no instance/);
  assert.equal(hosts.counters.refused, 3);
  hosts.put('vm1', 'vm1-0', at('10.20.0.2'));
  hosts.put('vm1', 'vm1-1', at('10.20.0.3'));
  assert.throws(() => hosts.put('vm1', 'vm1-2', at('10.20.0.4')), /has 2 instances, as many as it may/);
  hosts.put('vm1', 'vm1-1', { ...at('10.20.0.3'), ready: false });
  assert.equal(mesh.instance('vm1-1')?.ready, false);
  assert.deepEqual(mesh.instance('cart-0'), cart);
});

test('names, groups and captures that cannot be', (t) => {
  const { hosts, join1 } = made(t);
  for (const name of ['mesh', 'Vm1', '1vm', '', 'a.b', 'x'.repeat(31)])
    assert.throws(() => hosts.add(name, 'shop', 'vm'), /cannot be a host's name/, name);
  assert.throws(
    () => hosts.add('vm1', 'shop', 'none'),
    /no WorkloadGroup shop\/none; there are: shop\/other, shop\/vm|shop\/vm, shop\/other/,
  );
  assert.throws(() => made(t, { entrance: undefined }).hosts.add('vm1', 'shop', 'vm'), /weft up --listen ADDRESS/);
  hosts.add('vm1', 'shop', 'vm');
  assert.throws(() => hosts.put('vm1', 'vm1-0', { address: '10.20.0.2' }), /says first where its entrance is/);
  assert.throws(
    () => hosts.announce('vm1', { entrance: { host: 'x', port: 1 }, capture: 'explicit' }),
    /an IP address and a port/,
  );
  assert.throws(() => hosts.announce('vm1', { entrance, capture: 'none' }), /capture must be/);
  const explicit = made(t, { capture: 'explicit' }).hosts;
  explicit.add('vm1', 'shop', 'vm');
  assert.throws(
    () => explicit.announce('vm1', { entrance, capture: 'transparent' }),
    /run the host with --capture explicit/,
  );
  join1();
});

test('certificates count by number: the last token ends what others gave, a renewal only what was before', (t) => {
  const { hosts, join1, dir } = made(t);
  join1();
  const id = 'spiffe://cluster.local/ns/weft-system/sa/host.vm1';
  const is = (serial: string) => hosts.of({ spiffeId: id, serial });
  assert.equal(is('a'), undefined);
  hosts.certified(id, 'a', undefined);
  assert.equal(is('a'), 'vm1');
  hosts.certified(id, 'b', 'a');
  assert.deepEqual([is('a'), is('b')], ['vm1', 'vm1']);
  hosts.certified(id, 'c', 'b');
  assert.deepEqual([is('a'), is('b'), is('c')], [undefined, 'vm1', 'vm1']);
  assert.deepEqual(new State(dir, silentLogger).hosts.get('vm1')?.serials, ['b', 'c'], 'also after a restart');
  for (const spiffeId of [
    'spiffe://cluster.local/ns/shop/sa/vm',
    `${id}x`,
    'spiffe://other/ns/weft-system/sa/host.vm1',
  ])
    assert.equal(hosts.of({ spiffeId, serial: 'c' }), undefined, spiffeId);
  hosts.add('vm1', 'shop', 'vm');
  assert.equal(is('c'), undefined);
});

test('who is not heard of for the lease is taken out, and who lost its group; calls bring back', (t) => {
  const { clock, hosts, mesh, join1, files } = made(t);
  join1();
  const put = () => hosts.put('vm1', 'vm1-0', { address: '10.20.0.2', ready: true });
  put();
  for (let i = 0; i < 30; i++) {
    clock.advance(2000);
    hosts.seen('vm1', ['key']);
  }
  assert.ok(mesh.instance('vm1-0'));
  assert.deepEqual(hosts.trustStatus('roots')[0], {
    instance: 'host vm1',
    connected: true,
    holdsTrust: false,
    signers: ['key'],
  });
  hosts.facts('vm1');
  assert.equal(hosts.trustStatus('roots')[0]?.holdsTrust, true);
  clock.advance(19_000);
  assert.ok(mesh.instance('vm1-0'));
  assert.equal(hosts.trustStatus('roots')[0]?.connected, false);
  clock.advance(2500);
  assert.equal(mesh.instance('vm1-0'), undefined);
  assert.equal(hosts.counters.lost, 1);
  assert.deepEqual(hosts.trustStatus('roots'), [], 'nobody waits for a machine that is gone and has nothing');
  hosts.seen('vm1', ['key']);
  put();
  assert.ok(mesh.instance('vm1-0'));
  files(base.replace('{ app: vm }', '{ app: other }') + group('other'));
  clock.advance(1000);
  assert.equal(mesh.instance('vm1-0'), undefined);
  assert.throws(put, /no WorkloadGroup shop\/vm/);
  assert.ok(mesh.instance('cart-0'));
});
