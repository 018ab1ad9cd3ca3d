/** What other meshes' users suffer from, and what Weft answers by construction: shown on files, without a proxy. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { analyzeFiles, loadFiles } from '@weft/config';
import { compile, type Instance, type MeshRuntime, type Model } from '@weft/model';
import { decide, explain, meshFromFiles, meshOf } from './index.ts';

const doc = (api: string, kind: string, name: string, body: string): string =>
  `---\napiVersion: ${api}\nkind: ${kind}\nmetadata: { name: ${name}, namespace: shop }\n${body}\n`;
const service = (name: string, ports: string): string =>
  doc('v1', 'Service', name, `spec: { selector: { app: ${name} }, ports: [${ports}] }`);
const workload = (name: string, app: string, version: string): string =>
  `---\napiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: { name: ${name}, namespace: shop, labels: { app: ${app}, version: ${version} } }\nspec: { command: [x], ports: [{ containerPort: 8080 }] }\n`;
const HTTP = '{ name: http, port: 80, targetPort: 8080 }';
const CART = service('cart', HTTP) + workload('cart', 'cart', 'v1');
const PAY = service('pay', HTTP) + workload('pay-v1', 'pay', 'v1') + workload('pay-v2', 'pay', 'v2');
const net = (kind: string, name: string, spec: string) => doc('networking.istio.io/v1', kind, name, `spec: ${spec}`);
const TO_V2 = net(
  'VirtualService',
  'pay',
  '{ hosts: [pay], http: [{ route: [{ destination: { host: pay, subset: v2 } }] }] }',
);
const SUBSETS = net(
  'DestinationRule',
  'pay',
  '{ host: pay, subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }] }',
);
const file = (text: string, path = 'mesh.yaml') => ({ path, text });

function instancesOf(model: Model, change: (i: Instance) => Partial<Instance> = () => ({})): MeshRuntime {
  const instances = model.processes.map((p, n): Instance => {
    const instance: Instance = {
      name: `${p.name}-0`,
      workload: p.name,
      namespace: p.namespace,
      serviceAccount: p.serviceAccountName,
      labels: p.labels,
      address: `10.0.0.${n + 1}`,
      dialAddress: `10.0.0.${n + 1}`,
      ports: p.ports.map((x) => ({ number: x.port, name: x.name })),
      injected: true,
      ready: true,
      draining: false,
    };
    return { ...instance, ...change(instance) };
  });
  const vips = new Map(
    model.services.map((s, n) => [`${s.name}.${s.namespace}.svc.cluster.local`, [`10.1.0.${n + 1}`]]),
  );
  return { mesh: 'm', trustDomain: 'cluster.local', domain: 'cluster.local', capture: 'transparent', instances, vips };
}

function must(text: string): Model {
  const { model, problems } = loadFiles([file(text)]);
  assert.ok(model, JSON.stringify(problems));
  return model;
}

test('503 without a fault of the application: requests that nobody began are sent again by themselves', () => {
  const answer = explain(meshFromFiles([file(CART + PAY)]), { from: 'shop/cart', to: 'pay', method: 'POST' });
  const retry = answer.steps.find((s) => s.kind === 'retry' && s.side === 'client');
  assert.ok(retry, JSON.stringify(answer.steps));
  assert.match(`${retry.decision} ${retry.because}`, /connect-failure/);
  assert.doesNotMatch(`${retry.decision} ${retry.because}`, /5xx|gateway-error|\b503\b/);
});

test('a route and the subset it names are one plan, in whatever order they are written; without it nothing is taken in', () => {
  for (const text of [TO_V2 + SUBSETS, SUBSETS + TO_V2]) {
    const model = must(CART + PAY + text);
    const runtime = instancesOf(model);
    const { parts } = compile(model, runtime, runtime.instances[0]);
    const part = parts.get('service/pay.shop.svc.cluster.local')?.kind;
    assert.ok(part?.case === 'service');
    for (const c of part.value.ports[0].http.flatMap((r) => r.clusters)) {
      assert.ok(parts.has(`cluster/${c.cluster}`), `${c.cluster} comes with its route`);
    }
  }
  const { model, problems } = loadFiles([file(CART + PAY + TO_V2)]);
  assert.equal(model, undefined);
  assert.deepEqual(
    problems.map((p) => [p.code, p.field]),
    [['WEFT-NO-SUBSET', 'spec.http[0].route[0].destination.subset']],
  );
});

test('a route to a version that does not exist is refused with the versions that do', () => {
  const { model, problems } = loadFiles([file(CART + PAY + SUBSETS + TO_V2.replace('subset: v2', 'subset: v3'))]);
  assert.equal(model, undefined);
  assert.match(problems[0].message, /no subset "v3"\. Subsets: v1, v2/);
  assert.ok(problems[0].line > 1);
});

test('no misspelled, misplaced or powerless field is taken in silence', () => {
  const wrong: readonly (readonly [string, RegExp])[] = [
    [TO_V2.replace('route:', 'rout:'), /unknown field "rout"; did you mean route/],
    [TO_V2.replace('hosts: [pay]', 'hosts: [pay], timeout: 5s'), /unknown field "timeout"/],
    [SUBSETS.replace('version: v2', 'version: 2'), /write it in quotes/],
    [TO_V2.replace('VirtualService', 'VirtualServices'), /Did you mean VirtualService/],
  ];
  for (const [text, message] of wrong) {
    const { model, problems } = loadFiles([
      file(CART + PAY + (text === SUBSETS ? '' : SUBSETS.replace('name: pay', 'name: other')) + text),
    ]);
    assert.equal(model, undefined, text);
    assert.ok(
      problems.some((p) => message.test(p.message) && p.file === 'mesh.yaml' && p.line > 1),
      JSON.stringify(problems),
    );
  }
});

const ONLY_GET = doc(
  'security.istio.io/v1',
  'AuthorizationPolicy',
  'only-get',
  'spec:\n  selector: { matchLabels: { app: pay } }\n  rules:\n    - to: [{ operation: { methods: [GET] } }]',
);

test('a denial names the policies that were asked, and where they stand', () => {
  const text = CART + PAY + ONLY_GET;
  const denied = decide(meshFromFiles([file(text)]), 'shop/pay-v1', { http: { method: 'POST', path: '/' } });
  assert.equal(denied.decision, 'deny');
  assert.deepEqual(
    denied.considered.map((c) => [c.policy, c.matched]),
    [['shop/only-get', false]],
  );
  const line = denied.considered[0].reference?.line ?? 0;
  assert.match(text.split('\n')[line - 1], /methods: \[GET\]/);
});

test('every rule that acted on a request is named, with its line', () => {
  const text = CART + PAY + SUBSETS + TO_V2 + ONLY_GET;
  const { outcomes, steps } = explain(meshFromFiles([file(text)]), { from: 'shop/cart', to: 'pay', method: 'GET' });
  assert.deepEqual(
    outcomes.map((o) => [o.probability, o.status, o.subset]),
    [[1, 'application', 'v2']],
  );
  const named = new Set(steps.flatMap((s) => (s.reference ? [s.reference.resource] : [])));
  for (const resource of ['VirtualService/shop/pay', 'DestinationRule/shop/pay', 'AuthorizationPolicy/shop/only-get']) {
    assert.ok(named.has(resource), `${resource}: ${[...named]}`);
  }
  for (const s of steps) if (s.reference?.file) assert.ok(s.reference.line > 0);
});

test('a protocol that was not declared is told of; two declarations that contradict are an error', () => {
  const undeclared = analyzeFiles([
    file(service('pay', '{ name: web, port: 80, targetPort: 8080 }') + workload('pay', 'pay', 'v1')),
  ]);
  assert.deepEqual(
    undeclared.map((f) => [f.code, f.severity]),
    [['IST0118', 'info']],
  );
  const both = loadFiles([file(PAY.replace('name: http,', 'name: http, appProtocol: tcp,'))]);
  assert.equal(both.model, undefined);
  assert.match(both.problems[0].message, /the name "http" says http/);
  assert.equal(both.problems[0].field, 'spec.ports[0].appProtocol');
  const narrower = loadFiles([file(PAY.replace('name: http,', 'name: http, appProtocol: kubernetes.io/h2c,'))]);
  assert.ok(narrower.model);
  const step = explain(meshFromFiles([file(CART + PAY)]), { from: 'shop/cart', to: 'pay' }).steps.find(
    (s) => s.kind === 'protocol',
  );
  assert.match(`${step?.decision}`, /http/i);
});

test('ports whose server speaks first are opaque without being declared', () => {
  const text = CART + service('db', '{ name: db, port: 3306 }') + workload('db', 'db', 'v1');
  const { steps, outcomes } = explain(meshFromFiles([file(text)]), { from: 'shop/cart', to: 'db' });
  assert.match(`${steps.find((s) => s.kind === 'protocol')?.decision}`, /tcp/i);
  assert.deepEqual(
    outcomes.map((o) => o.status),
    ['connected'],
  );
});

test('one port in many services, also opaque and headless ones: the address that was dialled decides', () => {
  const one = (name: string, more = '') =>
    doc(
      'v1',
      'Service',
      name,
      `spec: { ${more}selector: { app: ${name} }, ports: [{ name: tcp, port: 9000, targetPort: 8080 }] }`,
    ) + workload(name, name, 'v1');
  const model = must(CART + one('red') + one('blue') + one('plain', 'clusterIP: None, '));
  const runtime = instancesOf(model);
  const mesh = meshOf(model, runtime);
  for (const [to, instance] of [
    ['10.1.0.2:9000', 'red-0'],
    ['10.1.0.3:9000', 'blue-0'],
    ['plain:9000', 'plain-0'],
  ]) {
    const { outcomes } = explain(mesh, { from: 'shop/cart', to, tcp: true });
    assert.deepEqual(
      outcomes.map((o) => [o.instance, o.status, o.probability]),
      [[instance, 'connected', 1]],
      to,
    );
  }
});

test('retries that may do a thing twice are told of, and are no default', () => {
  const route = (retryOn: string) =>
    net(
      'VirtualService',
      'pay',
      `{ hosts: [pay], http: [{ route: [{ destination: { host: pay } }], retries: { attempts: 3, retryOn: "${retryOn}" } }] }`,
    );
  const codes = (text: string) => analyzeFiles([file(CART + PAY + text)]).map((f) => f.code);
  assert.deepEqual(codes(route('5xx')), ['WEFT-RETRY-UNSAFE']);
  assert.deepEqual(codes(route('503')), ['WEFT-RETRY-UNSAFE']);
  assert.deepEqual(codes(route('connect-failure,refused-stream,reset-before-request')), []);
  assert.deepEqual(codes(''), []);
});

test('no healthy upstream: each endpoint is listed, with why it is out', () => {
  const model = must(CART + PAY);
  const mesh = meshOf(
    model,
    instancesOf(model, (i) => {
      if (i.workload === 'pay-v1') return { draining: true };
      return i.workload === 'pay-v2' ? { ready: false } : {};
    }),
  );
  const { outcomes, steps } = explain(mesh, { from: 'shop/cart', to: 'pay' });
  assert.deepEqual(
    outcomes.map((o) => [o.status, o.flags]),
    [[503, 'UH']],
  );
  const out = steps.filter((s) => s.kind === 'endpoint').map((s) => `${s.decision}: ${s.because}`);
  assert.ok(
    out.some((s) => /pay-v1-0.*drain/.test(s)),
    JSON.stringify(out),
  );
  assert.ok(
    out.some((s) => /pay-v2-0.*ready/.test(s)),
    JSON.stringify(out),
  );

  const relabelled = must(CART + PAY + SUBSETS + TO_V2);
  const none = explain(
    meshOf(
      relabelled,
      instancesOf(relabelled, (i) => (i.workload === 'pay-v2' ? { labels: { app: 'pay', version: 'v9' } } : {})),
    ),
    { from: 'shop/cart', to: 'pay' },
  );
  assert.equal(none.outcomes[0].status, 503);
  const why = none.steps.filter((s) => s.kind === 'endpoint').map((s) => `${s.decision}: ${s.because}`);
  for (const name of ['pay-v1-0', 'pay-v2-0']) {
    assert.ok(
      why.some((s) => s.startsWith(`${name} is out`) && s.includes('not those of the subset')),
      JSON.stringify(why),
    );
  }
});
