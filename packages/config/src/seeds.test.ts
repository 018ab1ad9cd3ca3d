/** The manifests that people published, unchanged, in every combination that one mesh may hold. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { compile, compileEndpoints, type Instance, type MeshRuntime, type Model } from '@weft/model';
import { analyzeFiles, loadFiles } from './index.ts';

const dir = new URL('../../../examples/seeds/', import.meta.url);
const seed = (name: string) => ({ path: `${name}.yaml`, text: readFileSync(new URL(`${name}.yaml`, dir), 'utf8') });
const backing = (name: string, ns: string, versions: string[]) => ({
  path: `${name}-services.yaml`,
  text: [
    `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: ${ns}}\nspec: {selector: {app: ${name}}, ports: [{name: http, port: 80, targetPort: 8080}]}\n`,
    ...versions.map(
      (v, i) =>
        `apiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: ${name}-${i}, namespace: ${ns}, labels: {app: ${name}, version: "${v}"}}\nspec: {command: [run], ports: [{containerPort: 8080}]}\n`,
    ),
  ].join('---\n'),
});

function must(...files: { path: string; text: string }[]): Model {
  const r = loadFiles(files);
  assert.ok(r.model, JSON.stringify(r.problems, null, 1));
  return r.model;
}

function runtimeOf(model: Model): MeshRuntime {
  const instances: Instance[] = model.processes.map((p, i) => ({
    name: `${p.name}-0`,
    workload: p.name,
    namespace: p.namespace,
    serviceAccount: p.serviceAccountName,
    labels: p.labels,
    address: `10.0.0.${i + 1}`,
    dialAddress: `10.0.0.${i + 1}`,
    ports: p.ports.map((x) => ({ number: x.port, name: x.name })),
    injected: true,
    ready: true,
    draining: false,
  }));
  return {
    mesh: 'm',
    trustDomain: 'cluster.local',
    domain: 'cluster.local',
    capture: 'transparent',
    instances,
    vips: new Map(),
  };
}

function routes(model: Model, host: string) {
  const runtime = runtimeOf(model);
  const part = compile(model, runtime, runtime.instances[0]).parts.get(`service/${host}`);
  assert.equal(part?.kind.case, 'service');
  return part.kind.case === 'service' ? part.kind.value.ports[0].http : [];
}

test('canary by weight and by header', () => {
  const services = backing('payment-service', 'default', ['v1', 'v2']);
  const host = 'payment-service.default.svc.cluster.local';
  const weights = routes(must(services, seed('003-payment-subsets'), seed('003-payment-canary-weights')), host);
  assert.deepEqual(
    weights[0].clusters.map((c) => [c.cluster, c.weight]),
    [
      [`outbound|80|stable|${host}`, 95],
      [`outbound|80|canary|${host}`, 5],
    ],
  );
  const [canary, stable] = routes(must(services, seed('003-payment-subsets'), seed('003-payment-canary-header')), host);
  assert.equal(canary.match[0].headers[0].name, 'x-canary-test');
  assert.deepEqual(canary.match[0].headers[0].value?.kind, { case: 'exact', value: 'true' });
  assert.equal(canary.ref, 'VirtualService/default/payment-service#spec.http[0]');
  assert.equal(stable.match.length, 0);
  assert.equal(stable.retry?.attempts, 2);
});

test('fault', () => {
  const model = must(backing('inventory-service', 'default', ['v1']), seed('003-inventory-fault'));
  const fault = routes(model, 'inventory-service.default.svc.cluster.local')[0].fault;
  assert.deepEqual([fault?.delayPercent, fault?.delayMs, fault?.abortPercent, fault?.abortStatus], [10, 3000, 5, 503]);
});

test('mTLS modes, and a rule for every host of a namespace', () => {
  const model = must(
    backing('payments-service', 'production', ['v1']),
    seed('003-peer-authentication-default-permissive'),
    seed('003-peer-authentication-payments-strict'),
    seed('003-destination-rule-default-istio-mutual'),
  );
  const runtime = runtimeOf(model);
  const { parts, references } = compile(model, runtime, runtime.instances[0]);
  const inbound = parts.get('inbound/8080')?.kind;
  assert.equal(inbound?.case === 'inbound' && inbound.value.mtls, 3);
  const cluster = parts.get('cluster/outbound|80||payments-service.production.svc.cluster.local')?.kind;
  assert.equal(cluster?.case === 'cluster' && cluster.value.tls, 2);
  const strict = references.find((r) => r.ref === 'PeerAuthentication/production/payments-strict#spec.mtls.mode');
  assert.deepEqual([strict?.file, strict?.line], ['003-peer-authentication-payments-strict.yaml', 11]);
  const e = compileEndpoints(model, runtime).get(
    'endpoints/payments-service.production.svc.cluster.local:80',
  )?.endpoints;
  assert.deepEqual(
    [e?.[0].identity, e?.[0].port, e?.[0].meshPort],
    ['spiffe://cluster.local/ns/production/sa/default', 8080, 15008],
  );
  assert.ok(must(backing('x', 'production', ['v1']), seed('003-peer-authentication-default-strict')));
});

test('myapp 90/10', () => {
  const model = must(
    backing('myapp', 'default', ['1.4.2', '1.5.0']),
    seed('004-myapp-destination-rule'),
    seed('004-myapp-virtual-service'),
  );
  assert.deepEqual(
    routes(model, 'myapp.default.svc.cluster.local')[0].clusters.map((c) => c.weight),
    [90, 10],
  );
});

test('the other seeds are known and refused, or allowed with a warning; never ignored', () => {
  const other = readdirSync(dir).filter((f) => /telemetry|monitor|kiali/.test(f));
  assert.equal(other.length, 3);
  for (const f of other) {
    const files = [seed(f.replace('.yaml', ''))];
    const refused = loadFiles(files);
    assert.deepEqual([refused.model, refused.problems[0].code], [undefined, 'WEFT-PENDING']);
    const { model, problems } = loadFiles(files, { allowPending: true });
    assert.ok(model);
    assert.deepEqual(
      problems.map((p) => [p.code, p.severity, p.field]),
      [['WEFT-PENDING', 'warning', 'kind']],
    );
  }
});

test('analysis of a namespace: the seeds of production are right, and a rule that contradicts STRICT is not', () => {
  const files = [
    backing('payments-service', 'production', ['v1']),
    seed('003-peer-authentication-default-strict'),
    seed('003-destination-rule-default-istio-mutual'),
    backing('other', 'staging', ['v1']),
  ];
  const found = (more: string) =>
    analyzeFiles([...files, { path: 'more.yaml', text: more }])
      .filter((f) => f.namespace === 'production' && f.severity !== 'info')
      .map((f) => [f.code, f.severity, f.resource]);
  assert.deepEqual(found(''), []);
  for (const mode of ['DISABLE', 'SIMPLE']) {
    const rule = `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: own, namespace: production}\nspec: {host: payments-service, trafficPolicy: {tls: {mode: ${mode}}}}\n`;
    assert.deepEqual(found(rule), [['KIA0207', 'error', 'DestinationRule/own']]);
  }
});

test('5 s for every request of the mesh, and a breaker of 10 failures and 30 s for one service', () => {
  const model = must(backing('payment-service', 'default', ['v1']), {
    path: 'rules.yaml',
    text: [
      'apiVersion: weft.dev/v1alpha1\nkind: MeshDefaults\nmetadata: {name: mesh, namespace: istio-system}\nspec: {timeout: 5s}\n',
      'apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: payment, namespace: default}\nspec: {host: payment-service, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 10, baseEjectionTime: 30s, maxEjectionPercent: 100}}}\n',
    ].join('---\n'),
  });
  const host = 'payment-service.default.svc.cluster.local';
  assert.equal(routes(model, host)[0].timeoutMs, 5000);
  const runtime = runtimeOf(model);
  const part = compile(model, runtime, runtime.instances[0]).parts.get(`cluster/outbound|80||${host}`)?.kind;
  const outlier = part?.case === 'cluster' ? part.value.outlier : undefined;
  assert.deepEqual([outlier?.consecutive5xx, outlier?.baseEjectionMs, outlier?.maxEjectionPercent], [10, 30_000, 100]);
});
