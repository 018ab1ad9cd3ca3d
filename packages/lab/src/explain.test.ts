import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WeftError } from '@weft/base';
import { explain } from './explain.ts';
import { explore } from './explore.ts';
import { meshFromFiles } from './mesh.ts';
import type { Question } from './types.ts';

const process = (name: string, version: string, replicas = 1, app = name): string => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: ${name}, namespace: shop, labels: { app: ${app}, version: ${version} } }
spec: { command: [x], serviceAccountName: ${app}, replicas: ${replicas}, ports: [{ name: http, containerPort: 8080 }] }
`;
const service = (name: string, portName = 'http', port = 8080): string => `---
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { selector: { app: ${name} }, ports: [{ name: ${portName}, port: ${port}, targetPort: 8080 }] }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: ${name}, namespace: shop }
`;

const BASE = [
  service('cart'),
  process('cart', 'v1'),
  service('pay'),
  process('pay-v1', 'v1', 3, 'pay'),
  process('pay-v2', 'v2', 1, 'pay'),
  process('pay-v3', 'v3', 0, 'pay'),
  `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: pay, namespace: shop }
spec:
  host: pay
  subsets:
    - { name: v1, labels: { version: v1 } }
    - { name: v2, labels: { version: v2 } }
    - { name: v3, labels: { version: v3 } }
`,
].join('');

const ROUTES = `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: pay, namespace: shop }
spec:
  hosts: [pay]
  http:
    - match: [{ uri: { prefix: /none } }]
      route: [{ destination: { host: pay, subset: v3 } }]
    - match: [{ headers: { x-go: { exact: away } } }]
      redirect: { uri: /there, redirectCode: 302 }
    - fault:
        delay: { percentage: { value: 50 }, fixedDelay: 1s }
        abort: { percentage: { value: 10 }, httpStatus: 418 }
      route:
        - { destination: { host: pay, subset: v1 }, weight: 75 }
        - { destination: { host: pay, subset: v2 }, weight: 25 }
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

function ask(text: string, question: Partial<Question> = {}) {
  const mesh = meshFromFiles([{ path: 'mesh.yaml', text }]);
  const e = explain(mesh, { from: 'shop/cart', to: 'pay:8080', ...question });
  const sum = e.outcomes.reduce((s, o) => s + o.probability, 0);
  assert.ok(Math.abs(sum - 1) < 1e-12, `probabilities sum to ${sum}`);
  return e;
}

const near = (a: number, b: number): void => assert.ok(Math.abs(a - b) < 1e-12, `${a} is not ${b}`);

test('draws: every combination once, with its exact weight, and numbers that lead there', () => {
  const leaves = explore((r) => (r.choose!([1, 3, 0]) === 0 ? 'a' : r.choose!([1, 1]) === 0 ? 'b' : 'c'));
  assert.deepEqual(
    leaves.map((l) => [l.value, l.probability]),
    [
      ['a', 0.25],
      ['b', 0.375],
      ['c', 0.375],
    ],
  );
  assert.deepEqual(leaves[1].draws, [0.625, 0.25]);
});

test('weights, faults and endpoints multiply', () => {
  const { outcomes, steps } = ask(BASE + ROUTES);
  const p = (f: (o: (typeof outcomes)[number]) => boolean) => outcomes.filter(f).reduce((s, o) => s + o.probability, 0);
  near(
    p((o) => o.status === 418),
    0.1,
  );
  near(
    p((o) => o.delayMs === 1000),
    0.5,
  );
  near(
    p((o) => o.subset === 'v1' && o.status === 'application'),
    0.9 * 0.75,
  );
  near(
    p((o) => o.instance === 'pay-v1-2' && o.delayMs === 0),
    0.9 * 0.75 * 0.5 * (1 / 3),
  );
  const tried = steps.filter((s) => s.kind === 'rule').map((s) => [s.reference?.field, s.decision, s.because]);
  assert.deepEqual(tried, [
    ['spec.http[0].match[0]', 'route does not match', 'the path wants prefix "/none", it is "/"'],
    ['spec.http[1].match[0]', 'route does not match', 'header x-go wants exactly "away", there is none'],
    ['spec.http[2]', 'route matches', 'it has no match, so it matches all'],
  ]);
  const line = (BASE + ROUTES).split('\n').findIndex((l) => l.includes('prefix: /none')) + 1;
  const rule = steps.find((s) => s.kind === 'rule');
  assert.deepEqual([rule?.reference?.file, rule?.reference?.line], ['mesh.yaml', line]);
});

test('a subset without instances: 503, with why', () => {
  const { outcomes, steps } = ask(BASE + ROUTES, { path: '/none/x' });
  assert.deepEqual([outcomes.length, outcomes[0].status, outcomes[0].flags], [1, 503, 'UH']);
  assert.ok(steps.some((s) => s.kind === 'endpoint' && s.because.includes('version=v3')));
});

test('a redirect', () => {
  const { outcomes } = ask(BASE + ROUTES, { headers: [['X-Go', 'away']] });
  assert.deepEqual([outcomes[0].status, outcomes[0].location], [302, 'http://pay:8080/there']);
});

test('the server denies, by which rule', () => {
  const { outcomes } = ask(BASE + DENY, { path: '/admin/x' });
  assert.ok(outcomes.length > 0 && outcomes.every((o) => o.status === 403));
  assert.ok(outcomes[0].from.some((r) => r.resource === 'AuthorizationPolicy/shop/no-admin' && r.line > 0));
  assert.ok(ask(BASE + DENY, { path: '/' }).outcomes.every((o) => o.status === 'application'));
});

test('a connection on an opaque port: connected, and denied by port', () => {
  const text = BASE + service('db', 'tcp-db', 3306) + process('db', 'v1');
  const { outcomes } = ask(text, { to: 'db:3306' });
  assert.deepEqual(
    outcomes.map((o) => [o.probability, o.status, o.instance]),
    [[1, 'connected', 'db-0']],
  );
  const denied = ask(
    text + DENY.replace('{ app: pay }', '{ app: db }').replace('paths: [/admin*]', 'ports: ["8080"]'),
    { to: 'db:3306' },
  );
  assert.deepEqual(denied.outcomes[0].status, 'closed');
});

test('round robin is told as shares', () => {
  const { outcomes } = ask(
    BASE.replace('host: pay\n', 'host: pay\n  trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } }\n'),
  );
  assert.deepEqual(
    outcomes.map((o) => o.probability),
    [0.25, 0.25, 0.25, 0.25],
  );
});

test('questions that name what does not exist say what does', () => {
  const code = (q: Partial<Question>): string => {
    try {
      ask(BASE, q);
    } catch (error) {
      return error instanceof WeftError ? `${error.code}: ${error.message}` : String(error);
    }
    return 'no error';
  };
  assert.match(code({ from: 'shop/nobody' }), /^lab\.from: .*shop\/cart/);
  assert.match(code({ to: 'pay:9' }), /^lab\.to: .*it has 8080/);
  assert.throws(() => meshFromFiles([{ path: 'x.yaml', text: 'kind: [' }]), /x\.yaml:/);
});

test('a fault behind the retry layer is drawn for each try', () => {
  const vs = `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: pay, namespace: shop, annotations: { weft.dev/fault-position: behind-retry } }
spec:
  hosts: [pay]
  http:
    - fault: { abort: { percentage: { value: 50 }, httpStatus: 503 } }
      retries: { attempts: 2, retryOn: 5xx }
      route: [{ destination: { host: pay, subset: v2 } }]
`;
  const { outcomes, steps } = ask(BASE + vs);
  assert.deepEqual(
    outcomes.map((o) => [o.status, o.probability, o.flags]),
    [
      ['application', 0.875, ''],
      [503, 0.125, 'FI,URX'],
    ],
  );
  assert.ok(steps.some((s) => s.kind === 'retry' && s.decision === 'try 3 after 503'));
});

test('faults of connections: a tree of what may happen to one', () => {
  const fault =
    '---\napiVersion: weft.dev/v1alpha1\nkind: TCPFault\nmetadata: { name: bad, namespace: shop }\nspec: { host: db, reset: { percentage: 10 }, blackhole: { percentage: 50 }, bandwidth: { percentage: 20, bytesPerSecond: 500 } }\n';
  const { outcomes, steps } = ask(BASE + service('db', 'tcp-db', 3306) + process('db', 'v1') + fault, {
    to: 'db:3306',
  });
  const of = (details: string) => outcomes.filter((o) => o.details === details).reduce((s, o) => s + o.probability, 0);
  near(of('tcp_fault_reset'), 0.1);
  near(of('tcp_fault_blackhole'), 0.45);
  near(
    outcomes.filter((o) => o.status === 'connected').reduce((s, o) => s + o.probability, 0),
    0.45,
  );
  assert.ok(outcomes.every((o) => o.status === 'connected' || (o.flags === 'FI' && o.status === 'closed')));
  assert.deepEqual(
    steps.filter((s) => s.kind === 'fault').map((s) => s.decision),
    ['reset in 10 %', 'taken and never answered in 50 %', 'at most 500 bytes a second each way in 20 %'],
  );
});

test('a rate limit of the called side is told with what it allows', () => {
  const api = 'apiVersion: policy.linkerd.io';
  const server = `---\n${api}/v1beta3\nkind: Server\nmetadata: { name: pay, namespace: shop }\nspec: { podSelector: { matchLabels: { app: pay } }, port: http, accessPolicy: all-unauthenticated }\n`;
  const limit = `---\n${api}/v1alpha1\nkind: HTTPLocalRateLimitPolicy\nmetadata: { name: fair, namespace: shop }\nspec: { targetRef: { group: policy.linkerd.io, kind: Server, name: pay }, total: { requestsPerSecond: 100 }, identity: { requestsPerSecond: 10 } }\n`;
  const { steps } = ask(BASE + server + limit, {});
  const step = steps.find((s) => s.kind === 'limit' && s.side === 'server');
  assert.match(step?.decision ?? '', /: 100 requests a second in all, 10 of one caller$/);
  assert.equal(step?.reference?.resource, 'HTTPLocalRateLimitPolicy/shop/fair');
  const scope = limit.replace('name: fair,', 'name: fair, annotations: { weft.dev/rate-limit-scope: service },');
  const shared = ask(BASE + server + scope, {}).steps.find((s) => s.kind === 'limit' && s.side === 'server');
  assert.match(shared?.decision ?? '', /, of its 4 replicas together$/);
  assert.match(shared?.because ?? '', /429; each replica has 1\/4, until it is divided by what their callers want$/);
});

test('how long a try may last and a connection may take, and where retries go', () => {
  const rule =
    '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: other, namespace: shop, annotations: { weft.dev/max-stream-duration: 1m } }\nspec: { host: db }\n' +
    '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: db, namespace: shop }\nspec: { hosts: [db], http: [{ retries: { attempts: 1, retryRemoteLocalities: true }, route: [{ destination: { host: db } }] }] }\n';
  const db = service('db', 'http', 80).replace('name: db,', 'name: db, annotations: { weft.dev/fail-fast: 3s },');
  const { steps } = ask(BASE + db + process('db', 'v1') + rule, { to: 'db:80' });
  const said = steps.filter((s) => s.side === 'client').map((s) => `${s.kind}: ${s.decision}`);
  for (const line of [
    'timeout: each try with its response at most 60000 ms',
    'limit: waits 3000 ms for a connection, then refuses others at once',
    'retry: at most 1, waits from 25 ms to 250 ms, in other localities while one is well there',
  ])
    assert.ok(said.includes(line), JSON.stringify(said));
});

test('health checks: what is asked, and who is out for it', () => {
  const check = `---
apiVersion: weft.dev/v1alpha1
kind: HealthCheck
metadata: { name: pay, namespace: shop }
spec: { host: pay, interval: 5s, http: { path: /healthz } }
`;
  const mesh = meshFromFiles([{ path: 'mesh.yaml', text: BASE + check }]);
  const [cart] = mesh.instances.filter((i) => i.workload === 'cart');
  for (const { state } of mesh.side(cart.name)!.snapshot.clusters.get('outbound|8080||pay.shop.svc.cluster.local')!
    .endpoints)
    state.unhealthy = true;
  const { steps, outcomes } = explain(mesh, { from: 'shop/cart', to: 'pay:8080' });
  const said = steps.find((s) => s.decision === 'asked by GET /healthz each 5000 ms');
  assert.equal(said?.reference?.resource, 'HealthCheck/shop/pay');
  const out = steps.filter((s) => s.kind === 'endpoint' && s.because === 'it fails its health checks');
  assert.equal(out.length, 4);
  assert.equal(out[0].reference?.resource, 'HealthCheck/shop/pay');
  assert.deepEqual([outcomes[0].status, outcomes[0].flags], [503, 'UH']);
});

test('responses that a fault slows down are outcomes of their own', () => {
  const slow = ROUTES.replace(
    'namespace: shop }',
    "namespace: shop, annotations: { weft.dev/fault-bandwidth: '5000@40%' } }",
  );
  const { outcomes, steps } = ask(BASE + slow);
  const share = outcomes.filter((o) => o.bytesPerSecond === 5000).reduce((sum, o) => sum + o.probability, 0);
  // Of those that no abort ends.
  assert.ok(Math.abs(share - 0.9 * 0.4) < 1e-12, String(share));
  assert.ok(
    steps.some((s) => s.kind === 'fault' && s.decision === "the response's body at 5000 bytes a second in 40 %"),
  );
});
