import assert from 'node:assert/strict';
import { test } from 'node:test';
import { meshFromFiles } from '../mesh.ts';
import { readMeshTests } from './read.ts';
import { runMeshTests } from './run.ts';

const workload = (name: string, version = 'v1', app = name): string => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: ${name}, namespace: shop, labels: { app: ${app}, version: ${version} } }
spec: { command: [x], serviceAccountName: ${app}, ports: [{ name: http, containerPort: 8080 }] }
`;
const service = (name: string): string => `---
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { selector: { app: ${name} }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: ${name}, namespace: shop }
`;

const MESH = [
  service('cart'),
  workload('cart'),
  service('pay'),
  workload('pay-v1', 'v1', 'pay'),
  workload('pay-v2', 'v2', 'pay'),
  `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: pay, namespace: shop }
spec:
  host: pay
  subsets:
    - { name: v1, labels: { version: v1 } }
    - { name: v2, labels: { version: v2 } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: pay, namespace: shop }
spec:
  hosts: [pay]
  http:
    - match: [{ uri: { exact: /old } }, { uri: { exact: /older } }]
      redirect: { uri: /new, redirectCode: 302 }
    - match: [{ uri: { prefix: /flaky } }]
      fault:
        delay: { percentage: { value: 50 }, fixedDelay: 1s }
        abort: { percentage: { value: 10 }, httpStatus: 418 }
      retries: { attempts: 0 }
      route: [{ destination: { host: pay, subset: v1 } }]
    - match: [{ uri: { prefix: /api } }]
      timeout: 3s
      retries: { attempts: 4, perTryTimeout: 700ms, retryOn: "5xx,reset" }
      rewrite: { uri: /v2 }
      headers:
        request: { set: { x-team: pay }, remove: [x-debug] }
        response: { set: { x-served: "yes" }, remove: [server] }
      mirror: { host: pay, subset: v2 }
      mirrorPercentage: { value: 25 }
      route:
        - { destination: { host: pay, subset: v1 }, weight: 90 }
        - { destination: { host: pay, subset: v2 }, weight: 10 }
        - { destination: { host: cart }, weight: 0 }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-admin, namespace: shop }
spec:
  selector: { matchLabels: { app: pay } }
  action: DENY
  rules:
    - to: [{ operation: { paths: [/v2/admin] } }]
    - to: [{ operation: { methods: [TRACE] } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: nobody, namespace: shop }
spec:
  selector: { matchLabels: { app: not-there } }
  rules: [{}]
`,
].join('');

const HEAD = `apiVersion: weft.dev/v1alpha1
kind: MeshTest
metadata: { name: pay, namespace: shop }
spec:
  tests:
`;

/** Lines of what is asked and expected → the failures of the only test, `line: message`. */
function failuresOf(request: string, expect: string): string[] {
  const text = `${HEAD}    - name: a test\n      request: { from: cart, to: pay, ${request} }\n      expect:\n${expect
    .split('\n')
    .map((l) => `        ${l}`)
    .join('\n')}\n`;
  const { tests, problems } = readMeshTests([{ path: 'pay.mesh-test.yaml', text }]);
  assert.deepEqual(problems, []);
  const [result] = runMeshTests(mesh, tests).results;
  // The first line of what is expected is line 9.
  return result!.failures.map((f) => `${f.line - 8}: ${f.message}`);
}
const mesh = meshFromFiles([{ path: 'mesh.yaml', text: MESH }]);

test('what is so passes: destinations, timeout, retries, rewrite, headers, mirror, mTLS', () => {
  const expect = `decision: allowed
by: [VirtualService/pay, DestinationRule/nope]
to: [{ subset: v1, share: 90 }, { service: pay.shop, subset: v2, workload: pay-v2, share: 10 }]
mirrors: [{ subset: v2, share: 25 }]
timeout: 3s
retries: { attempts: 4, perTryTimeout: 700ms, retryOn: "reset, 5xx" }
mtls: true
sent: { path: /v2/charge?n=1, host: pay:80, headers: { X-Team: pay }, without: [x-debug] }
response: { headers: { x-served: "yes" }, without: [server] }`;
  const failures = failuresOf('path: /api/charge?n=1, headers: { x-debug: a }', expect);
  assert.deepEqual(failures, ['2: there is no DestinationRule/shop/nope; did you mean DestinationRule/shop/pay?']);
});

test('what is not so fails where it is written, with what is so instead', () => {
  const expect = `decision: denied
by: AuthorizationPolicy/no-admin
status: 403
to:
  - { subset: v1, share: 80 }
mirrors: []
timeout: 4s
retries: 3
mtls: false
sent: { path: /, headers: { x-team: x }, without: [x-team] }
response: { headers: { x-served: "no" }, without: [x-served] }
location: /x`;
  assert.deepEqual(failuresOf('path: /api', expect), [
    '1: denied is expected, and 100 % of the requests are allowed (VirtualService/shop/pay#spec.http[2].route[0]; VirtualService/shop/pay#spec.http[2].route[1])',
    '2: AuthorizationPolicy/shop/no-admin does not decide 100 % of the requests; what does: VirtualService/shop/pay#spec.http[2], VirtualService/shop/pay#spec.http[2].match[0], VirtualService/shop/pay#spec.http[2].route[0], VirtualService/shop/pay#spec.http[2].route[1]',
    '3: status: 403 is expected; it is what the application answers',
    '12: location: /x is expected; it is none',
    '5: 80 % to subset v1 are expected; it is 90 %',
    '4: 10 % of the requests go to outbound|80|v2|pay.shop.svc.cluster.local, which is not expected',
    '6: requests are copied to outbound|80|v2|pay.shop.svc.cluster.local, which is not expected',
    '7: timeout: 4s is expected; it is 3s',
    '8: retries: 3 is expected; it is 4',
    '9: mtls: no mTLS is expected; it is mTLS',
    '10: sent.path: / is expected; it is /v2',
    '10: sent.headers.x-team: x is expected; it is pay',
    '10: no x-team is expected, and there is one',
    '11: response.headers.x-served: no is expected; it is yes',
    '11: no x-served is expected, and there is one',
  ]);
});

test('a fault that nobody expects fails a test, one that is expected is compared', () => {
  const flaky = 'path: /flaky';
  assert.deepEqual(failuresOf(flaky, 'decision: allowed'), [
    '0: 50 % of the requests are delayed by 1s, and no fault.delay is expected',
    '0: 10 % of the requests are ended by a fault with 418, and no fault.abort is expected',
  ]);
  const good = 'delay: { percentage: 50, fixedDelay: 1s }, abort: { percentage: 10, httpStatus: 418 }';
  assert.deepEqual(failuresOf(flaky, `decision: allowed\nfault: { ${good} }`), []);
  const wrong = 'delay: { percentage: 50, fixedDelay: 2s }, abort: { percentage: 10, grpcStatus: 14 }';
  assert.deepEqual(failuresOf(flaky, `fault: { ${wrong} }`), [
    '1: 50 % delayed by 2s are expected; it is 50 % by 1s',
    '1: 10 % ended by the fault are expected; it is 10 % with 418',
  ]);
  assert.deepEqual(failuresOf('path: /api', 'retries:\n  perTryTimeout: 1s\n  retryOn: ""'), [
    '2: retries.perTryTimeout: 1s is expected; it is 700ms',
    '3: retries.retryOn: defaults is expected; it is 5xx,reset',
  ]);
  assert.equal(failuresOf('path: /api', `fault: { ${good} }`).length, 2);
});

test('denied, redirected, sent nowhere', () => {
  const by = (text: string): string => `decision: denied\nby: AuthorizationPolicy/shop/no-admin#${text}\nstatus: 403`;
  assert.deepEqual(failuresOf('path: /api/admin', by('spec.rules[0]')), []);
  assert.equal(failuresOf('path: /api/admin', by('spec.rules[1]')).length, 1);
  assert.equal(failuresOf('path: /api/admin', by('spec.rule')).length, 1, 'half a name is none');
  assert.deepEqual(failuresOf('path: /old', 'decision: answered\nstatus: 302\nlocation: http://pay:80/new'), []);
  assert.deepEqual(failuresOf('path: /none', 'decision: unreachable\nstatus: 404'), []);
  assert.deepEqual(failuresOf('path: /none', 'to: [{ service: pay }]'), ['1: no request is sent to anybody']);
});

test('who does not exist fails the test at its line', () => {
  const text = `${HEAD}    - name: a
      request:
        from: nobody
        to: pay
      expect: { decision: allowed }
    - name: b
      request:
        from: cart
        to: pay:81
      expect: { decision: allowed }
`;
  const { tests } = readMeshTests([{ path: 'x', text }]);
  const { results, failed } = runMeshTests(mesh, tests);
  assert.equal(failed, 2);
  assert.deepEqual(
    results.map((r) => r.failures.map((f) => [f.line, f.message.split(';')[0]])),
    [[[8, 'no workload "shop/nobody"']], [[14, 'pay.shop.svc.cluster.local has no port 81']]],
  );
});

test('files are strict: every mistake with its line', () => {
  const text = `apiVersion: weft.dev/v1alpha1
kind: MeshTest
metadata: { name: a }
spec:
  tests:
    - name: one
      request: { from: cart, to: pay, verb: GET }
      expect: { decision: maybe }
    - name: two
      request: { from: cart }
      expect:
        by: pay
        timeout: 3
        to: [{ share: 101 }]
---
apiVersion: weft.dev/v1alpha1
kind: MeshTest
metadata: { name: b }
spec:
  tests:
    - name: same
      request: { from: cart, to: pay }
      expect: {}
    - name: same
      request: { from: cart, to: pay }
      expect: { status: 200 }
---
apiVersion: weft.dev/v2
kind: Test
metadata: { name: c }
spec: { tests: [] }
`;
  const { problems } = readMeshTests([{ path: 'a.mesh-test.yaml', text }]);
  assert.deepEqual(
    problems.map((p) => [p.line, p.field]),
    [
      [7, 'spec.tests[0].request.verb'],
      [8, 'spec.tests[0].expect.decision'],
      [10, 'spec.tests[1].request.to'],
      [12, 'spec.tests[1].expect.by'],
      [13, 'spec.tests[1].expect.timeout'],
      [14, 'spec.tests[1].expect.to[0].share'],
      [23, 'spec.tests[0].expect'],
      [24, 'spec.tests[1].name'],
      [28, 'apiVersion'],
      [29, 'kind'],
      [31, 'spec.tests'],
    ],
  );
  assert.equal(readMeshTests([{ path: 'a', text: 'a: [b\nc: d' }]).problems.length, 1);
});

test('coverage: rules, matches and policies without a test, and what no test could reach', () => {
  const text = `${HEAD}    - name: a
      request: { from: cart, to: pay, path: /old }
      expect: { decision: answered }
    - name: b
      request: { from: cart, to: pay, path: /api/admin }
      expect: { decision: denied }
`;
  const { coverage } = runMeshTests(mesh, readMeshTests([{ path: 'x', text }]).tests);
  const missed = coverage.rules.filter((r) => !r.covered).map((r) => `${r.resource}#${r.field}`);
  const pay = 'VirtualService/shop/pay#spec.http';
  assert.deepEqual(missed, [
    `${pay}[0].match[1]`,
    `${pay}[1]`,
    `${pay}[1].match[0]`,
    `${pay}[1].fault`,
    `${pay}[1].retries`,
    `${pay}[1].route[0]`,
    'AuthorizationPolicy/shop/no-admin#spec.rules[1]',
    'AuthorizationPolicy/shop/nobody#',
  ]);
  assert.match(coverage.rules.find((r) => r.resource.endsWith('nobody'))!.because, /no proxy has it/);
  assert.equal(coverage.covered, coverage.rules.length - missed.length);
  // A destination with weight 0 asks for no test.
  assert.ok(!coverage.rules.some((r) => r.field === 'spec.http[2].route[2]'));
  assert.ok(coverage.rules.some((r) => r.resource === 'DestinationRule/shop/pay' && r.field === 'spec.subsets[1]'));
});
