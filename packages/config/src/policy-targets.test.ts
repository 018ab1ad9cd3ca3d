/** Policies that name what they are for: Services, Gateways, GatewayClasses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AuthorizationRequest, compileAuthorization as compiled, decideAuthorization } from '@weft/engine';
import { compileAuthorization, RefTable } from '@weft/model';
import { loadFiles } from './index.ts';

const BASE = `
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: pay, namespace: shop, labels: {app: pay}}
spec: {command: [x], ports: [{port: 8080, name: http}, {port: 8090, name: admin}, {port: 9000, name: raw}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: front, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: front}}
spec: {gateway: {}}
---
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: shop}
spec: {selector: {app: pay}, ports: [{port: 80, name: http, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: raw, namespace: shop}
spec: {selector: {app: pay}, ports: [{port: 90, name: tcp, targetPort: 9000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec: {gatewayClassName: weft, listeners: [{name: http, port: 80, protocol: HTTP}]}
`;

const GATEWAY = 'group: gateway.networking.k8s.io';
const policy = (spec: string, namespace = 'shop', kind = 'AuthorizationPolicy', name = 'p'): string =>
  `---\napiVersion: security.istio.io/v1\nkind: ${kind}\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: ${spec}\n`;

function load(...docs: string[]) {
  const { model, problems } = loadFiles([
    { path: 'base.yaml', text: BASE },
    { path: 'p.yaml', text: docs.join('') },
  ]);
  return {
    model,
    problems: problems.filter((p) => p.file === 'p.yaml').map((p) => `${p.severity} ${p.code} ${p.field}`),
  };
}

const PAY = {
  ...{ namespace: 'shop', labels: { app: 'pay' } },
  ports: [
    { number: 8080, name: 'http' },
    { number: 8090, name: 'admin' },
    { number: 9000, name: 'raw' },
  ],
};
const FRONT = { namespace: 'shop', labels: { 'gateway.networking.k8s.io/gateway-name': 'front' } };

function allows(docs: string[], workload: typeof PAY | typeof FRONT, destPort: number, path?: string): boolean {
  const { model, problems } = load(...docs);
  assert.deepEqual(
    problems.filter((p) => p.startsWith('error')),
    [],
  );
  const plan = compiled([compileAuthorization(model!, workload, new RefTable(model!))]);
  const request: AuthorizationRequest = {
    ...{ remoteIp: '10.0.0.1', localIp: '10.0.0.2', destPort },
    ...(path !== undefined && { head: [':method', 'GET', ':authority', 'pay', ':path', path] }),
  };
  return decideAuthorization(plan, request).allow;
}

test('a Service: just the ports by which it reaches the workload, others stay as they are', () => {
  const service = 'targetRefs: [{kind: Service, name: pay}]';
  const only = policy(`{${service}, rules: [{to: [{operation: {paths: [/ok]}}]}]}`);
  assert.equal(allows([only], PAY, 8080, '/ok'), true);
  assert.equal(allows([only], PAY, 8080, '/other'), false);
  assert.equal(allows([only], PAY, 8090, '/other'), true);
  assert.equal(allows([only], PAY, 9000), true);
  const deny = policy(`{${service}, action: DENY, rules: [{}]}`);
  assert.equal(allows([deny], PAY, 8080, '/ok'), false);
  assert.equal(allows([deny], PAY, 8090, '/ok'), true);
  const nothing = policy(`{${service}}`);
  assert.equal(allows([nothing], PAY, 8080, '/ok'), false);
  assert.equal(allows([nothing], PAY, 8090, '/ok'), true);
  // Another policy is for the whole workload: what it leaves closed stays closed.
  const admin = policy(
    '{selector: {matchLabels: {app: pay}}, rules: [{to: [{operation: {ports: ["8090"]}}]}]}',
    'shop',
    undefined,
    'q',
  );
  assert.equal(allows([only, admin], PAY, 8080, '/ok'), true);
  assert.equal(allows([only, admin], PAY, 8090, '/x'), true);
  assert.equal(allows([only, admin], PAY, 9000), false);
  const both = policy(
    '{targetRefs: [{kind: Service, name: raw}], rules: [{from: [{source: {namespaces: [shop]}}]}]}',
    'shop',
    undefined,
    'q',
  );
  assert.equal(allows([only, both], PAY, 9000), false);
  assert.equal(allows([only, both], PAY, 8080, '/ok'), true);
  assert.equal(allows([only, both], PAY, 8090, '/x'), true);
  const ports = policy(
    `{${service}, action: DENY, rules: [{to: [{operation: {ports: ["8080"]}}, {operation: {ports: ["8090"]}}]}]}`,
  );
  assert.equal(allows([ports], PAY, 8080, '/ok'), false);
  assert.equal(allows([ports], PAY, 8090, '/ok'), true);
});

test('a Gateway and a GatewayClass: the gateways that serve it, and no other workload', () => {
  const gateway = policy(`{targetRefs: [{${GATEWAY}, kind: Gateway, name: front}], action: DENY, rules: [{}]}`);
  assert.equal(allows([gateway], FRONT, 80, '/'), false);
  assert.equal(allows([gateway], PAY, 8080, '/'), true);
  const all = policy(
    `{targetRefs: [{${GATEWAY}, kind: GatewayClass, name: weft}], action: DENY, rules: [{}]}`,
    'istio-system',
  );
  assert.equal(allows([all], FRONT, 80, '/'), false);
  assert.equal(allows([all], PAY, 8080, '/'), true);
  const jwt = policy(
    `{targetRefs: [{kind: Service, name: pay}], jwtRules: [{issuer: i, jwks: '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}'}]}`,
    ...(['shop', 'RequestAuthentication'] as const),
  );
  const { model, problems } = load(jwt);
  assert.deepEqual(problems, []);
  const tokens = (w: typeof PAY | typeof FRONT) => compileAuthorization(model!, w, new RefTable(model!)).tokens;
  assert.deepEqual(
    tokens(PAY).map((t) => t.ports),
    [[8080]],
  );
  assert.deepEqual(tokens(FRONT), []);
});

test('targets that are not there, or are none, are refused with what there is', () => {
  const target = (t: string, namespace = 'shop') =>
    load(policy(`{targetRefs: [${t}], rules: [{}]}`, namespace)).problems;
  const at = 'spec.targetRefs[0]';
  assert.deepEqual(target('{kind: Service, name: gone}'), [`error WEFT-NO-TARGET ${at}.name`]);
  assert.deepEqual(target(`{${GATEWAY}, kind: Gateway, name: gone}`), [`error WEFT-NO-TARGET ${at}.name`]);
  assert.deepEqual(target(`{${GATEWAY}, kind: GatewayClass, name: gone}`, 'istio-system'), [
    `error WEFT-NO-TARGET ${at}.name`,
  ]);
  assert.deepEqual(target(`{${GATEWAY}, kind: GatewayClass, name: weft}`), [`error WEFT-VALUE ${at}.kind`]);
  assert.deepEqual(target('{kind: Service, name: pay}', 'other'), [`error WEFT-NO-TARGET ${at}.name`]);
  assert.deepEqual(target('{group: networking.istio.io, kind: ServiceEntry, name: x}'), [
    `error WEFT-VALUE ${at}.kind`,
  ]);
  assert.deepEqual(target('{kind: Service, name: pay, namespace: other}'), [`error WEFT-VALUE ${at}.namespace`]);
  const two = load(
    policy('{selector: {matchLabels: {app: pay}}, targetRefs: [{kind: Service, name: pay}], rules: [{}]}'),
  );
  assert.deepEqual(two.problems, ['error WEFT-VALUE spec.selector']);
  // TCP behind the Service.
  const raw = load(policy('{targetRefs: [{kind: Service, name: raw}], rules: [{to: [{operation: {paths: [/a]}}]}]}'));
  assert.deepEqual(raw.problems, ['error WEFT-TCP-POLICY spec.rules[0].to[0].operation.paths']);
});
