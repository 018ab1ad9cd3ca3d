/** Sidecar: what a workload takes, and which ports it is told of; EndpointSlices. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, compileEndpoints, type Instance, type MeshRuntime } from '@weft/model';
import { Protocol } from '@weft/plan';
import { loadFiles } from './index.ts';

const doc = (kind: string, name: string, spec: string, api = 'networking.istio.io/v1', more = '') =>
  `---\napiVersion: ${api}\nkind: ${kind}\nmetadata: {name: ${name}, namespace: shop${more}}\n${spec}\n`;
const cart =
  doc(
    'Service',
    'cart',
    'spec: {selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 81, targetPort: 8081}]}',
    'v1',
  ) +
  doc(
    'Process',
    'cart',
    'spec: {command: [run], ports: [{name: http, containerPort: 8080}, {containerPort: 8081}, {containerPort: 9999}]}',
    'weft.dev/v1alpha1',
    ', labels: {app: cart}',
  );
const sidecar = (spec: string) => doc('Sidecar', 's', `spec: ${spec}`);
const load = (text: string) => loadFiles([{ path: 'a.yaml', text: cart + text }]);
const problems = (text: string) => load(text).problems.map((p) => `${p.severity} ${p.code} ${p.field}`);

function planOf(text: string, dialPort?: number) {
  const { model, problems: found } = load(text);
  assert.ok(model, JSON.stringify(found, null, 1));
  const ports = [8080, 8081, 9999].map((number) => ({ number, ...(dialPort && { dialPort: number + dialPort }) }));
  const instance: Instance = {
    ...{ name: 'cart-0', workload: 'cart', namespace: 'shop', serviceAccount: 'default', labels: { app: 'cart' } },
    ...{ address: '10.0.0.9', dialAddress: '10.0.0.9', ports, injected: true, ready: true, draining: false },
  };
  const runtime: MeshRuntime = {
    ...{ mesh: 'm', trustDomain: 'cluster.local', domain: 'cluster.local', capture: 'transparent' as const },
    ...{ instances: [instance], vips: new Map() },
  };
  const { parts } = compile(model, runtime, instance);
  const inbound = [...parts.values()].flatMap((p) => (p.kind.case === 'inbound' ? [p.kind.value] : []));
  const services = [...parts.values()].flatMap((p) => (p.kind.case === 'service' ? [p.kind.value] : []));
  return { inbound, services, endpoints: compileEndpoints(model, runtime) };
}

test('ingress: these ports alone, to where the application listens for them', () => {
  const written = sidecar(
    '{ingress: [{port: {number: 8080, protocol: HTTP2}, defaultEndpoint: "127.0.0.1:9999", connectionPool: {http: {http2MaxRequests: 5}}}, {port: {number: 8081, protocol: TCP}}, {port: {number: 7000, protocol: HTTP}, defaultEndpoint: "0.0.0.0:8080"}], inboundConnectionPool: {tcp: {maxConnections: 7}}}',
  );
  const { inbound } = planOf(written);
  assert.deepEqual(
    inbound.map((i) => [i.port, i.protocol, i.dialAddress, i.dialPort, i.pool?.maxRequests, i.pool?.maxConnections]),
    [
      [7000, Protocol.HTTP, '10.0.0.9', 8080, 0, 7],
      [8080, Protocol.HTTP2, '127.0.0.1', 9999, 5, 0],
      [8081, Protocol.TCP, '10.0.0.9', 8081, 0, 7],
    ],
  );
  // The proxy's own times hold where the pool says none.
  assert.deepEqual([inbound[0].pool?.idleTimeoutMs, inbound[0].pool?.connectTimeoutMs], [0, 0]);
  assert.equal(inbound[1].serviceName, 'cart');
  // Where applications were given other ports, those are dialled.
  assert.deepEqual(
    planOf(written, 10_000).inbound.map((i) => i.dialPort),
    [18080, 19999, 18081],
  );
  assert.deepEqual(
    planOf('').inbound.map((i) => i.port),
    [8080, 8081, 9999],
  );
  assert.equal(planOf('').inbound[0].pool, undefined);
});

test('egress with a port: of the services that it names only that one', () => {
  const ports = (text: string) => planOf(text).services.map((s) => s.ports.map((p) => p.port));
  assert.deepEqual(ports(sidecar('{egress: [{port: {number: 81, protocol: TCP}, hosts: ["./*"]}]}')), [[81]]);
  assert.deepEqual(
    ports(sidecar('{egress: [{port: {number: 81}, hosts: ["./*"]}, {hosts: ["*/cart.shop.svc.cluster.local"]}]}')),
    [[80, 81]],
  );
});

test('mistakes of a Sidecar', () => {
  const ingress = (text: string) => problems(sidecar(`{ingress: [{${text}}]}`));
  assert.deepEqual(ingress('port: {number: 80}'), ['error WEFT-FIELD spec.ingress[0].port.protocol']);
  assert.deepEqual(ingress('port: {number: 80, protocol: QUIC}'), ['error WEFT-VALUE spec.ingress[0].port.protocol']);
  assert.deepEqual(ingress('port: {number: 15006, protocol: TCP}'), ['error WEFT-VALUE spec.ingress[0].port.number']);
  for (const to of ['10.0.0.1:80', 'unix:///a', '127.0.0.1:0'])
    assert.deepEqual(ingress(`port: {number: 80, protocol: TCP}, defaultEndpoint: "${to}"`), [
      'error WEFT-VALUE spec.ingress[0].defaultEndpoint',
    ]);
  assert.deepEqual(ingress('port: {number: 80, protocol: TCP}, tls: {}'), [
    'error WEFT-UNSUPPORTED spec.ingress[0].tls',
  ]);
});

test('EndpointSlices are where a Service without a selector leads', () => {
  const bare = doc('Service', 'db', 'spec: {ports: [{name: pg, port: 5432}]}', 'v1');
  const slice = (name: string, service: string, more: string) =>
    doc('EndpointSlice', name, more, 'discovery.k8s.io/v1', `, labels: {kubernetes.io/service-name: ${service}}`);
  const good = slice(
    'db-1',
    'db',
    'addressType: IPv4\nports: [{name: pg, port: 15432}]\nendpoints: [{addresses: [192.0.2.1]}, {addresses: [192.0.2.2], conditions: {ready: false}}, {addresses: [192.0.2.3], conditions: {ready: false, serving: true, terminating: true}}]',
  );
  const set = planOf(bare + good).endpoints.get('endpoints/db.shop.svc.cluster.local:5432');
  assert.deepEqual(
    set?.endpoints.map((e) => [e.address, e.port, e.draining, e.meshPort]),
    [
      ['192.0.2.1', 15432, false, 0],
      ['192.0.2.3', 15432, true, 0],
    ],
  );
  assert.deepEqual(problems(bare + good), []);
  assert.deepEqual(problems(bare), ['error WEFT-NO-PROVIDER spec']);
  const at = 'metadata.labels.kubernetes.io/service-name';
  assert.deepEqual(problems(slice('c', 'cart', 'addressType: IPv4')), [`warning WEFT-NO-EFFECT ${at}`]);
  assert.deepEqual(problems(slice('c', 'gone', 'addressType: IPv4')), [`error WEFT-NO-SERVICE ${at}`]);
  assert.deepEqual(problems(bare + good + slice('d', 'db', 'ports: [{name: other, port: 1}]')), [
    'warning WEFT-NO-PORT ports',
  ]);
  assert.equal(problems(bare + good.replace('192.0.2.1', 'db.test'))[0], 'error WEFT-VALUE endpoints[0].addresses[0]');
});
