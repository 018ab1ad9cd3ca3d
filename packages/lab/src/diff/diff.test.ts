import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type LabMesh, meshFromFiles } from '../mesh.ts';
import { type DiffOptions, diffMeshes } from './diff.ts';
import { diffJson, renderDiff } from './render.ts';

const app = (name: string, labels = `app: ${name}`): string => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: ${name}, namespace: shop, labels: { ${labels} } }
spec: { command: [x], ports: [{ name: http, containerPort: 8080 }] }
`;
const BASE = `apiVersion: v1
kind: Service
metadata: { name: pay, namespace: shop }
spec: { selector: { app: pay }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
${app('cart')}${app('web')}${app('pay-v1', 'app: pay, version: v1')}${app('pay-v2', 'app: pay, version: v2')}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: pay, namespace: shop }
spec:
  host: pay
  subsets:
    - { name: v1, labels: { version: v1 } }
    - { name: v2, labels: { version: v2 } }
`;
const routes = (http: string): string => `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: pay, namespace: shop }
spec:
  hosts: [pay]
  http:
${http}`;
const SPLIT = (a: number): string => `    - route:
        - { destination: { host: pay, subset: v1 }, weight: ${a} }
        - { destination: { host: pay, subset: v2 }, weight: ${100 - a} }
`;
const CHARGE = (timeout: string): string => `    - match: [{ uri: { exact: /charge }, method: { exact: POST } }]
      timeout: ${timeout}
      route: [{ destination: { host: pay, subset: v1 } }]
`;
const DENY = `---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-admin, namespace: shop }
spec:
  selector: { matchLabels: { app: pay } }
  action: DENY
  rules: [{ to: [{ operation: { paths: [/admin*] } }] }]
`;

const mesh = (path: string, text: string): LabMesh => meshFromFiles([{ path, text }]);

function diff(before: string, after: string, options: DiffOptions = {}) {
  return diffMeshes(mesh('old.yaml', before), mesh('new.yaml', after), options);
}

test('comments, order of files and lines, and names of other files are no change', () => {
  const before = BASE + routes(CHARGE('2s') + SPLIT(90)) + DENY;
  const after = `# a comment\n${BASE}${DENY}${routes(CHARGE('2000ms') + SPLIT(90))}`;
  const found = diff(before, after, { requests: [] });
  assert.equal(found.same, true);
  assert.equal(found.requests?.asked, 0);
  assert.equal(renderDiff(found).split('\n').at(-1), 'nothing is decided otherwise');
});

test('a weight: which field, from where to where, for whom; which requests go elsewhere, with shares', () => {
  const found = diff(BASE + routes(CHARGE('2s') + SPLIT(90)), BASE + routes(CHARGE('2s') + SPLIT(60)), {
    requests: [],
  });
  assert.equal(found.same, false);
  assert.deepEqual(
    found.changes.map((c) => [c.subject, c.name, c.field, c.before, c.after]),
    [
      ['service', 'pay.shop.svc.cluster.local', 'ports[0].http[1].clusters[0].weight', 90, 60],
      ['service', 'pay.shop.svc.cluster.local', 'ports[0].http[1].clusters[1].weight', 10, 40],
    ],
  );
  const [{ references, workloads }] = found.changes;
  assert.equal(references.before?.file, 'old.yaml');
  assert.equal(references.after?.file, 'new.yaml');
  assert.equal(references.after?.resource, 'VirtualService/shop/pay');
  assert.ok(references.after!.line > 30);
  assert.deepEqual(workloads, ['shop/cart', 'shop/pay-v1', 'shop/pay-v2', 'shop/web']);

  // POST /charge was asked too, and goes where it went.
  assert.equal(found.requests!.asked, 8);
  assert.deepEqual(
    found.requests!.changes.map((c) => `${c.question.method} ${c.question.path}`),
    Array(4).fill('GET /'),
  );
  const [{ changes }] = found.requests!.changes;
  assert.equal(changes.length, 1);
  const host = 'pay.shop.svc.cluster.local:80';
  assert.equal(changes[0].aspect, 'destination');
  assert.ok(Math.abs(changes[0].before[`${host} v1 → shop/pay-v1`] - 0.9) < 1e-9);
  assert.ok(Math.abs(changes[0].after[`${host} v2 → shop/pay-v2`] - 0.4) < 1e-9);
  const text = renderDiff(found);
  assert.match(text, /service pay\.shop\.svc\.cluster\.local, for shop\/cart, shop\/pay-v1, shop\/pay-v2, shop\/web\n/);
  assert.match(text, /~ ports\[0\]\.http\[1\]\.clusters\[0\]\.weight 90 → 60\n +old\.yaml:\d+ .* → new\.yaml:\d+ /);
  assert.match(text, /destination +- 90 % .* v1 → shop\/pay-v1, 10 % .* v2 → shop\/pay-v2\n/);
});

test('a route before the others is one that came; the rest is the same at another place', () => {
  const found = diff(BASE + routes(SPLIT(90)), BASE + routes(CHARGE('2s') + SPLIT(90)), { requests: [] });
  assert.deepEqual(
    found.changes.map((c) => [c.field, c.before, c.references.after?.field]),
    [['ports[0].http[0]', undefined, 'spec.http[0]']],
  );
  const [first] = found.requests!.changes;
  assert.deepEqual([first.question.method, first.question.path], ['POST', '/charge']);
  assert.deepEqual(
    first.changes.map((c) => c.aspect),
    ['destination', 'timeout'],
  );
  assert.equal(found.requests!.changes.length, 4);
});

test('timeouts, denials and faults of requests; policies by their name', () => {
  const before = BASE + routes(CHARGE('2s') + SPLIT(100));
  const after = BASE + routes(CHARGE('3s') + SPLIT(100)) + DENY;
  const found = diff(before, after, { requests: [] });
  assert.ok(
    found.changes.some((c) => c.subject === 'authorization' && c.references.after?.resource.endsWith('/no-admin')),
  );
  const of = (path: string) =>
    found.requests!.changes.find((c) => c.question.path === path && c.question.from === 'shop/web');
  assert.deepEqual(of('/charge')?.changes, [{ aspect: 'timeout', before: { '2000 ms': 1 }, after: { '3000 ms': 1 } }]);
  const [denied] = of('/adminx')!.changes;
  assert.deepEqual(denied.before, { 'the application answers': 1 });
  assert.match(Object.keys(denied.after)[0], /^403 \(denied/);
  assert.equal(
    of('/adminx')!.decidedBy.after.some((r) => r.resource === 'AuthorizationPolicy/shop/no-admin'),
    true,
  );
  assert.equal(of('/'), undefined);
});

test('requests of mesh tests are asked as they are; a namespace narrows; workloads come and go; JSON says all of it', () => {
  const asked = [{ name: 'canary', question: { from: 'shop/web', to: 'pay:80', path: '/x' } }];
  const before = BASE + routes(SPLIT(90));
  const after = BASE.replace(app('cart'), '') + app('new') + routes(SPLIT(50));
  const found = diff(before, after, { requests: asked });
  assert.deepEqual([found.added, found.removed], [['shop/new'], ['shop/cart']]);
  assert.deepEqual([found.requests!.asked, found.requests!.changes[0].test], [1, 'canary']);
  assert.equal(diff(before, after, { namespace: 'other' }).same, true);
  const json = JSON.parse(JSON.stringify(diffJson(found)));
  assert.equal(json.same, false);
  assert.equal(json.changes[0].references.before.file, 'old.yaml');
  assert.equal(json.requests.changes[0].changes[0].aspect, 'destination');
  // Who is gone cannot be asked; it is said.
  const gone = diff(before, after, { requests: [{ name: '', question: { from: 'shop/cart', to: 'pay:80' } }] });
  assert.match(gone.requests!.unanswered[0].because, /no workload "shop\/cart"/);
});

test('labels and copies of workloads are a change of endpoints; requests that have nowhere to go', () => {
  const before = BASE + routes(SPLIT(90));
  const labels = diff(before, before.replace('app: pay, version: v2', 'app: pay, version: v2, tier: slow'));
  const change = labels.changes.find((c) => c.subject === 'endpoints');
  assert.deepEqual([change?.field, change?.before, change?.after], ['shop/pay-v2.labels.tier', undefined, 'slow']);

  const none = before.replace(/(version: v2 } }\nspec: { )/, '$1replicas: 0, ');
  const found = diff(before, none, { requests: [] });
  assert.ok(found.changes.some((c) => c.subject === 'endpoints' && c.field === 'shop/pay-v2' && c.after === undefined));
  const outcome = found.requests!.changes[0].changes.find((c) => c.aspect === 'outcome')!;
  assert.ok(Math.abs(outcome.after['503 (unreachable, no_healthy_upstream)'] - 0.1) < 1e-9, JSON.stringify(outcome));
});

test('visitors of a gateway: each host is asked', () => {
  const gateway = (host: string): string => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: entry, namespace: shop, labels: { istio: entry } }
spec: { gateway: {}, ports: [{ name: http, containerPort: 8088 }] }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: entry, namespace: shop }
spec:
  selector: { istio: entry }
  servers: [{ port: { number: 8088, name: http, protocol: HTTP }, hosts: ["*.example.com"] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: outside, namespace: shop }
spec:
  hosts: [${host}]
  gateways: [entry]
  http:
    - match: [{ uri: { prefix: /api } }]
      route: [{ destination: { host: pay, subset: v1 } }]
`;
  const found = diff(BASE + gateway('a.example.com'), BASE + gateway('b.example.com'), { requests: [] });
  const by = found.requests!.changes.map(
    (c) => `${c.question.from} ${c.question.to} ${c.question.path} ${JSON.stringify(c.question.headers)}`,
  );
  assert.deepEqual(by.sort(), [
    'outside shop/entry:8088 /api [["host","a.example.com"]]',
    'outside shop/entry:8088 /api [["host","b.example.com"]]',
  ]);
  assert.match(JSON.stringify(found.requests!.changes[0].changes), /404/);
});

test('past their number requests are not asked, and it is said', () => {
  const options = { requests: [], maxRequests: 3 };
  const found = diff(BASE + routes(SPLIT(90)), BASE + routes(SPLIT(50)), options);
  assert.deepEqual([found.requests?.asked, found.requests?.leftOut], [3, 1]);
  assert.match(renderDiff(found), /\n1 more were not asked: narrow it with -n, or name mesh tests\n/);
});
