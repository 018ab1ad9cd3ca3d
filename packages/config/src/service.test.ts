/** Kubernetes Services: every field that matters to a mesh, from files to the plan of a client. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, type Instance, type Labels, type MeshRuntime, type Model } from '@weft/model';
import { type Cluster, LbPolicy, Protocol, type Service } from '@weft/plan';
import { loadFiles } from './index.ts';

const service = (name: string, spec: string, ns = 'shop') =>
  `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: ${ns}}\nspec: {${spec}}\n`;
const own = 'selector: {app: a}, ports: [{name: http, port: 80}]';
const PROCESS =
  'apiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: a, namespace: shop, labels: {app: a}}\n' +
  'spec: {command: [run], ports: [{containerPort: 80}]}\n';
const rule = (policy: string) =>
  `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: shop}\nspec: {host: a, trafficPolicy: {loadBalancer: {${policy}}}}\n`;

const load = (...docs: string[]) => loadFiles([{ path: 'a.yaml', text: [PROCESS, ...docs].join('---\n') }]);
const found = (...docs: string[]) => load(...docs).problems.map((p) => `${p.severity} ${p.code} ${p.field}`);

function planOf(docs: string[], labels: Labels = {}, namespace = 'shop'): { services: Service[]; cluster: Cluster } {
  const { model, problems } = load(...docs);
  assert.ok(model, JSON.stringify(problems));
  const client: Instance = {
    name: 'c-0',
    workload: 'c',
    namespace,
    serviceAccount: 'default',
    labels,
    address: '10.0.0.9',
    dialAddress: '10.0.0.9',
    ports: [],
    injected: true,
    ready: true,
    draining: false,
  };
  const domain = 'cluster.local';
  const runtime: MeshRuntime = {
    mesh: 'm',
    trustDomain: domain,
    domain,
    capture: 'transparent',
    instances: [client],
    vips: new Map(),
  };
  const parts = [...compile(model as Model, runtime, client).parts.values()];
  const cluster = parts.flatMap(({ kind }) => (kind.case === 'cluster' ? [kind.value] : []))[0];
  return { services: parts.flatMap(({ kind }) => (kind.case === 'service' ? [kind.value] : [])), cluster };
}

test('what a mesh cannot keep is refused, what means nothing in it is warned of', () => {
  const table: [string, string[]][] = [
    [
      `${own}, type: LoadBalancer, externalTrafficPolicy: Local, allocateLoadBalancerNodePorts: false`,
      ['warning WEFT-NO-EFFECT spec.type'],
    ],
    [
      'selector: {app: a}, type: NodePort, ports: [{name: http, port: 80, nodePort: 30080}]',
      ['warning WEFT-NO-EFFECT spec.type'],
    ],
    [`${own}, externalTrafficPolicy: Local`, ['error WEFT-VALUE spec.externalTrafficPolicy']],
    [
      `${own}, type: LoadBalancer, loadBalancerSourceRanges: [10.0.0.0/8]`,
      ['error WEFT-UNSUPPORTED spec.loadBalancerSourceRanges', 'warning WEFT-NO-EFFECT spec.type'],
    ],
    [`${own}, externalIPs: [1.2.3.4]`, ['error WEFT-UNSUPPORTED spec.externalIPs']],
    [`${own}, internalTrafficPolicy: Cluster, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack`, []],
    [`${own}, internalTrafficPolicy: Local`, ['error WEFT-VALUE spec.internalTrafficPolicy']],
    [`${own}, trafficDistribution: PreferSameNode`, ['error WEFT-VALUE spec.trafficDistribution']],
    [`${own}, ipFamilyPolicy: RequireDualStack`, []],
    [`${own}, ipFamilies: [IPv6, IPv4]`, []],
    [`${own}, ipFamilies: [IPv6, IPv6]`, ['error WEFT-VALUE spec.ipFamilies']],
    [`${own}, ipFamilies: [IPv6, IPv4], ipFamilyPolicy: SingleStack`, ['error WEFT-VALUE spec.ipFamilyPolicy']],
    [`${own}, ipFamilies: [IPv6], clusterIP: 10.96.0.7`, ['error WEFT-VALUE spec.clusterIP']],
    [`${own}, clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7]`, []],
    [`${own}, clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, "fd00::7"]`, []],
    [`${own}, clusterIP: 10.96.0.7, clusterIPs: ["fd00::7"]`, ['error WEFT-VALUE spec.clusterIPs']],
    [`${own}, clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 10.96.0.8]`, ['error WEFT-VALUE spec.clusterIPs']],
    [`${own}, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}`, ['error WEFT-VALUE spec.sessionAffinityConfig']],
    [
      `${own}, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}`,
      ['warning WEFT-NO-EFFECT spec.sessionAffinityConfig'],
    ],
    [`${own}, externalName: b`, ['error WEFT-VALUE spec.externalName']],
    ['type: ExternalName', ['error WEFT-VALUE spec.type']],
    ['type: ExternalName, externalName: "*.x"', ['error WEFT-VALUE spec.externalName']],
    ['type: ExternalName, externalName: db.example.com', ['error WEFT-NO-SERVICE spec.externalName']],
    [
      'type: ExternalName, externalName: b.shop.svc.cluster.local, selector: {app: a}',
      ['error WEFT-VALUE spec.selector'],
    ],
  ];
  const b = service('b', own);
  for (const [spec, expected] of table) assert.deepEqual(found(b, service('x', spec)), expected, spec);
});

test('sessionAffinity ClientIP hashes the address, unless a rule says how to choose', () => {
  const a = service('a', `${own}, sessionAffinity: ClientIP`);
  const plain = planOf([a]).cluster;
  assert.deepEqual([plain.lb, plain.hash?.key.case], [LbPolicy.RING_HASH, 'sourceIp']);
  assert.equal(plain.lbRef, 'Service/shop/a#spec.sessionAffinity');
  const ruled = planOf([a, rule('simple: ROUND_ROBIN')]).cluster;
  assert.deepEqual([ruled.lb, ruled.hash], [LbPolicy.ROUND_ROBIN, undefined]);
  // A rule about something else leaves it
  assert.equal(planOf([a, rule('warmup: {duration: 5s}')]).cluster.hash?.key.case, 'sourceIp');
});

test('trafficDistribution puts near endpoints first, unless a rule speaks of localities', () => {
  const a = service('a', `${own}, trafficDistribution: PreferClose`);
  const eu = { 'topology.kubernetes.io/region': 'eu', 'topology.kubernetes.io/zone': 'b' };
  assert.equal(planOf([a], eu).cluster.locality?.failover, true);
  assert.equal(planOf([service('a', own)], eu).cluster.locality, undefined);
  assert.equal(planOf([a, rule('localityLbSetting: {enabled: false}')], eu).cluster.locality, undefined);
});

test('ExternalName is another name of a service of the mesh', () => {
  const docs = [service('a', own), service('old', 'type: ExternalName, externalName: a.shop.svc.cluster.local', 'far')];
  const [here, ...more] = planOf(docs).services;
  assert.deepEqual(more, []);
  assert.deepEqual(here.aliases, ['a', 'a.shop', 'a.shop.svc', 'old.far', 'old.far.svc', 'old.far.svc.cluster.local']);
  assert.ok(planOf(docs, {}, 'far').services[0].aliases.includes('old'));
});

test('appProtocol goes before the name of the port', () => {
  const [a] = planOf([
    service(
      'a',
      'selector: {app: a}, ports: [{name: x1, port: 80, appProtocol: kubernetes.io/h2c}, {name: x2, port: 81, appProtocol: tcp}, {name: grpc-x3, port: 82}]',
    ),
  ]).services;
  assert.deepEqual(
    a.ports.map((p) => p.protocol),
    [Protocol.HTTP2, Protocol.TCP, Protocol.GRPC],
  );
});

test('families and given addresses, as far as they are written', () => {
  const table: [string, number[] | undefined, string[] | undefined][] = [
    ['', undefined, undefined],
    ['ipFamilies: [IPv6]', [6], undefined],
    ['ipFamilies: [IPv6], ipFamilyPolicy: PreferDualStack', [6, 4], undefined],
    ['ipFamilyPolicy: RequireDualStack', [4, 6], undefined],
    ['clusterIP: "fd00::7"', [6], undefined],
    ['clusterIP: "fd00::7", clusterIPs: ["fd00::7", 10.96.0.7]', [6, 4], ['fd00::7', '10.96.0.7']],
  ];
  for (const [spec, families, clusterIPs] of table) {
    const { model } = load(service('x', `${own}${spec && `, ${spec}`}`));
    const found = model?.services.find((s) => s.name === 'x');
    assert.deepEqual([found?.families, found?.clusterIPs], [families, clusterIPs], spec);
  }
});
