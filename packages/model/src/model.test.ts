import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endpointsName } from '@weft/plan';
import {
  compileAuthorization,
  compileEndpoints,
  hostCovers,
  injected,
  type MeshRuntime,
  type Model,
  mtlsFor,
  type PeerAuthenticationModel,
  portProtocol,
  RefTable,
  resolveHost,
} from './index.ts';

const source = { file: 'a.yaml', line: 1 };
const meta = (kind: string, name: string, namespace: string) => ({
  kind,
  name,
  namespace,
  labels: {},
  annotations: {},
  source,
});
const empty: Model = {
  namespaces: [],
  serviceAccounts: [],
  services: [],
  serviceAliases: [],
  workloadEntries: [],
  workloadGroups: [],
  sidecars: [],
  endpointSlices: [],
  processes: [],
  virtualServices: [],
  destinationRules: [],
  gateways: [],
  apiRoutes: [],
  referenceGrants: [],
  gatewayClasses: [],
  backendTlsPolicies: [],
  backendPolicies: [],
  configMaps: [],
  secrets: [],
  peerAuthentications: [],
  authorizationPolicies: [],
  requestAuthentications: [],
  meshDefaults: [],
  meshConfigs: [],
  servers: [],
  linkerdAuthorizations: [],
  meshTlsAuthentications: [],
  networkAuthentications: [],
  inboundRoutes: [],
  jwtProviders: [],
  serviceIntentions: [],
  tcpFaults: [],
  healthChecks: [],
  decisionHeaders: [],
  httpRateLimits: [],
  tcpRateLimits: [],
  positions: new Map(),
  rootNamespace: 'istio-system',
  domain: 'cluster.local',
};

test('PeerAuthentication: port over workload over namespace over mesh; UNSET inherits', () => {
  const pa = (name: string, ns: string, rest: Partial<PeerAuthenticationModel>): PeerAuthenticationModel => ({
    ...meta('PeerAuthentication', name, ns),
    created: '',
    selector: undefined,
    mode: 'UNSET',
    portLevel: new Map(),
    ...rest,
  });
  const model: Model = {
    ...empty,
    peerAuthentications: [
      pa('mesh', 'istio-system', { mode: 'STRICT' }),
      pa('own', 'shop', { selector: { app: 'a' }, portLevel: new Map([[81, 'DISABLE']]) }),
      pa('late', 'shop', { selector: { app: 'a' }, mode: 'DISABLE' }),
      pa('ns', 'shop', { mode: 'PERMISSIVE' }),
    ],
  };
  const at = (ns: string, app: string, port: number) => {
    const d = mtlsFor(model, { namespace: ns, labels: { app } }, port);
    return `${d.mode} ${d.policy?.name}`;
  };
  assert.equal(at('shop', 'a', 81), 'DISABLE own');
  assert.equal(at('shop', 'a', 80), 'PERMISSIVE ns');
  assert.equal(at('other', 'a', 80), 'STRICT mesh');
  assert.equal(mtlsFor(empty, { namespace: 'x', labels: {} }, 1).mode, 'PERMISSIVE');
});

test('AuthorizationPolicy: root, namespace and selector', () => {
  const az = (name: string, ns: string, selector: Record<string, string> | undefined) => ({
    ...meta('AuthorizationPolicy', name, ns),
    selector,
    action: 'ALLOW' as const,
    rules: [],
    dryRun: false,
    provider: '',
  });
  const model: Model = {
    ...empty,
    authorizationPolicies: [
      az('root', 'istio-system', undefined),
      az('mine', 'shop', { app: 'a' }),
      az('other', 'b', undefined),
    ],
  };
  const names = (app: string) =>
    compileAuthorization(model, { namespace: 'shop', labels: { app } }, new RefTable(model)).policies.map(
      (p) => p.name,
    );
  assert.deepEqual(names('a'), ['root', 'mine']);
  assert.deepEqual(names('b'), ['root']);
});

test('injection', () => {
  const decide = (ns: Record<string, string>, wl: Record<string, string>) =>
    injected(
      { ...empty, namespaces: [{ ...meta('Namespace', 'shop', ''), labels: ns }] },
      { namespace: 'shop', labels: wl, annotations: {} },
    ).injected;
  assert.equal(decide({}, {}), true);
  assert.equal(decide({ 'istio-injection': 'disabled', 'istio.io/rev': 'x' }, {}), false);
  assert.equal(decide({ 'istio-injection': 'disabled' }, { 'sidecar.istio.io/inject': 'true' }), true);
  assert.equal(decide({ 'istio-injection': 'enabled' }, { 'sidecar.istio.io/inject': 'false' }), false);
  assert.equal(decide({ 'linkerd.io/inject': 'disabled' }, {}), false);
  assert.equal(decide({ 'linkerd.io/inject': 'disabled' }, { 'linkerd.io/inject': 'enabled' }), true);
});

test('hosts and protocols', () => {
  assert.equal(resolveHost('Payment', 'shop', 'cluster.local'), 'payment.shop.svc.cluster.local');
  assert.equal(resolveHost('a.b.', 'shop', 'cluster.local'), 'a.b');
  assert.ok(hostCovers('*.b.c', 'a.b.c') && !hostCovers('*.b.c', 'b.c'));
  assert.equal(portProtocol(undefined, 'grpc-api', 1), 'grpc');
  assert.equal(portProtocol('http', 'tcp', 1), 'http');
  assert.equal(portProtocol(undefined, '', 3306), 'tcp');
  assert.equal(portProtocol(undefined, 'web', 80), 'detect');
});

test('an instance with an uneven share weighs that in its services, and the others what they did', () => {
  const port = { name: 'http', port: 80, targetPort: 8080, transport: 'TCP', protocol: 'http' };
  const service = { ...meta('Service', 'pay', 'shop'), selector: { app: 'pay' }, ports: [port] };
  const model = { ...empty, services: [service] } as unknown as Model;
  const instance = (n: number, weight?: number) => ({
    ...{ name: `pay-${n}`, workload: 'pay', namespace: 'shop', serviceAccount: 'pay', labels: { app: 'pay' } },
    ...{ address: `10.0.0.${n + 1}`, dialAddress: `10.0.0.${n + 1}`, ports: [{ number: 8080 }] },
    ...{ injected: true, ready: true, draining: false, ...(weight !== undefined && { weight }) },
  });
  const weights = (...given: (number | undefined)[]) => {
    const instances = given.map((w, i) => instance(i, w));
    const runtime = { domain: 'cluster.local', trustDomain: 'cluster.local', instances, vips: new Map() };
    const all = compileEndpoints(model, runtime as unknown as MeshRuntime);
    return all.get(endpointsName('pay.shop.svc.cluster.local', 80))?.endpoints.map((e) => e.weight);
  };
  assert.deepEqual(weights(undefined, 1), [1, 1]);
  assert.deepEqual(weights(0.2, 1.8, undefined), [200, 1800, 1000]);
  assert.deepEqual(weights(0.0001, 2), [1, 2000], 'never nothing');
});
