/** Rate limits from YAML to the ports of a workload's plan. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, type Instance, sharedRateLimits } from '@weft/model';
import { analyzeFiles, loadFiles } from './index.ts';

const base = `apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {command: [run], ports: [{containerPort: 80, name: http}, {containerPort: 81}]}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: cart-http, namespace: shop}
spec: {podSelector: {matchLabels: {app: cart}}, port: http, accessPolicy: all-unauthenticated}
`;
const policy = (
  spec: string,
  name = 'fair',
  kind = 'HTTPLocalRateLimitPolicy',
  api = 'policy.linkerd.io/v1alpha1',
  annotations = '',
) =>
  `---\napiVersion: ${api}\nkind: ${kind}\nmetadata: {name: ${name}, namespace: shop, annotations: {${annotations}}}\nspec: ${spec}\n`;
const target = 'targetRef: {group: policy.linkerd.io, kind: Server, name: cart-http}';

const instanceOf = (name: string, labels: Record<string, string>, injected = true): Instance => ({
  ...{ name, workload: 'cart', namespace: 'shop', serviceAccount: 'cart', labels },
  ...{ address: '10.0.0.9', dialAddress: '10.0.0.9', injected, ready: true, draining: false },
  ports: [{ number: 80, name: 'http' }, { number: 81 }],
});

function inbound(text: string, labels: Record<string, string> = { app: 'cart' }, others: Instance[] = []) {
  const { model, problems } = loadFiles([{ path: 'a.yaml', text: base + text }]);
  assert.ok(model, JSON.stringify(problems, null, 1));
  const instance = instanceOf('cart-0', labels);
  const instances = [instance, ...others];
  const { parts, references } = compile(
    model,
    {
      ...{ mesh: 'm', trustDomain: 'cluster.local', domain: 'cluster.local', capture: 'transparent' },
      ...{ instances, vips: new Map() },
    },
    instance,
  );
  return {
    shared: sharedRateLimits(model, instances),
    references: references.map((r) => r.ref),
    port: (n: number) => {
      const kind = parts.get(`inbound/${n}`)?.kind;
      assert.ok(kind?.case === 'inbound');
      return kind.value;
    },
  };
}

test('a policy holds for the port of its Server, on the workloads that it selects', () => {
  const text = policy(
    `{${target}, total: {requestsPerSecond: 100}, identity: {requestsPerSecond: 20}, overrides: [{requestsPerSecond: 50, clientRefs: [{kind: ServiceAccount, name: web}, {kind: ServiceAccount, namespace: ops, name: probe}]}]}`,
  );
  const { port, references } = inbound(text);
  const limit = port(80).rateLimit!;
  assert.deepEqual([limit.total, limit.identity, limit.overrides[0].requestsPerSecond], [100, 20, 50]);
  assert.deepEqual(
    limit.overrides[0].accounts.map((a) => `${a.namespace}/${a.name}`),
    ['shop/web', 'ops/probe'],
  );
  assert.ok(references.includes(limit.ref), limit.ref);
  assert.equal(port(81).rateLimit, undefined);
  assert.equal(port(80).connectionLimit, undefined);
  assert.equal(inbound(text, { app: 'other' }).port(80).rateLimit, undefined);
  const tcp = policy(
    `{${target}, total: {connectionsPerSecond: 7}}`,
    'c',
    'TCPLocalRateLimitPolicy',
    'weft.dev/v1alpha1',
  );
  assert.equal(inbound(tcp).port(80).connectionLimit?.total, 7);
});

test('what is wrong is said', () => {
  const problems = (text: string) =>
    loadFiles([{ path: 'a.yaml', text: base + text }]).problems.map((p) => `${p.code} ${p.field}`);
  assert.deepEqual(problems(policy(`{${target.replace('cart-http', 'gone')}, total: {requestsPerSecond: 1}}`)), [
    'WEFT-NO-TARGET spec.targetRef.name',
  ]);
  assert.deepEqual(problems(policy(`{${target}}`)), ['WEFT-VALUE spec']);
  assert.deepEqual(problems(policy(`{${target}, total: {requestsPerSecond: 5}, identity: {requestsPerSecond: 6}}`)), [
    'WEFT-VALUE spec.identity.requestsPerSecond',
  ]);
  const open = base.replace(', accessPolicy: all-unauthenticated', '');
  assert.deepEqual(
    analyzeFiles([{ path: 'a.yaml', text: open }]).flatMap((p) => (p.code === 'WEFT-CLOSED' ? [p.severity] : [])),
    ['warning'],
  );
});

test('by an annotation the rates are those of all replicas that the Server selects', () => {
  const spec = `{${target}, total: {requestsPerSecond: 90}}`;
  const scoped = (annotations: string) => policy(spec, 'fair', undefined, undefined, annotations);
  const others = [
    instanceOf('cart-1', { app: 'cart', version: 'v2' }),
    instanceOf('cart-2', { app: 'cart' }),
    instanceOf('web-0', { app: 'web' }),
    instanceOf('cart-3', { app: 'cart' }, false),
    { ...instanceOf('cart-4', { app: 'cart' }), ports: [{ number: 82 }] },
    { ...instanceOf('cart-5', { app: 'cart' }), namespace: 'bank' },
  ];
  const all = inbound(scoped('weft.dev/rate-limit-scope: service'), { app: 'cart' }, others);
  const limit = all.port(80).rateLimit!;
  assert.deepEqual([limit.total, limit.replicas], [90, 3]);
  assert.deepEqual([...all.shared], [[limit.ref, ['cart-0', 'cart-1', 'cart-2']]]);
  for (const own of ['', 'weft.dev/rate-limit-scope: replica']) {
    const each = inbound(scoped(own), { app: 'cart' }, others);
    assert.equal(each.port(80).rateLimit!.replicas, 0);
    assert.equal(each.shared.size, 0);
  }
  const problems = (annotations: string) =>
    analyzeFiles([{ path: 'a.yaml', text: base + scoped(annotations) }])
      .filter((p) => p.severity === 'error')
      .map((p) => p.message);
  assert.match(problems('weft.dev/rate-limit-scope: services').join(), /is "services"; it may be service, replica/);
  for (const key of ['weft.dev/rate-limit-scop', 'weft.dev/ratelimit-scope'])
    assert.match(problems(`${key}: service`).join(), /is not known; there are weft.dev\/rate-limit-scope/);
  const misplaced = base.replace(
    '{name: cart-http,',
    '{name: cart-http, annotations: {weft.dev/rate-limit-scope: service},',
  );
  assert.deepEqual(
    analyzeFiles([{ path: 'a.yaml', text: misplaced + scoped('') }]).flatMap((p) =>
      p.code === 'IST0107' ? [`${p.severity} ${p.resource}`] : [],
    ),
    ['warning Server/cart-http'],
  );
});
