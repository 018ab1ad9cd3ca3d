import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AuthorizationQuestion, decide, meshFromFiles, policiesOf, renderDecision } from './index.ts';

const TEXT = `
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: pay, namespace: shop, labels: {app: pay}}
spec: {command: [x], ports: [{port: 8080, name: http}, {port: 5432, name: tcp-x}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: admin, namespace: shop}
spec:
  selector: {matchLabels: {app: pay}}
  rules:
    - from: [{source: {principals: [cluster.local/ns/shop/sa/a]}}]
      to: [{operation: {ports: ["8080"], paths: [/admin, /admin/*]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-delete, namespace: istio-system}
spec:
  action: DENY
  rules: [{to: [{operation: {ports: ["8080"], methods: [DELETE]}}]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
`;

test('A may call /admin of B: what applies, and what is decided, with the line', () => {
  const mesh = meshFromFiles([{ path: 'mesh.yaml', text: TEXT }]);
  const where = (p: { reference: { line: number } | undefined }) => TEXT.split('\n')[p.reference!.line - 1];
  assert.deepEqual(
    policiesOf(mesh, 'shop/pay').map((p) => [p.policy, p.action, p.rules, where(p)]),
    [
      ['istio-system/no-delete', 'DENY', 1, 'apiVersion: security.istio.io/v1'],
      ['shop/admin', 'ALLOW', 1, 'apiVersion: security.istio.io/v1'],
    ],
  );
  const a = 'cluster.local/ns/shop/sa/a';
  const ask = (from: string | undefined, method: string, path: string) =>
    decide(mesh, 'shop/pay', { ...(from !== undefined && { from }), http: { method, path } });
  const yes = ask(a, 'GET', '/admin/users?x=1');
  assert.equal(yes.decision, 'allow');
  assert.equal(yes.reference?.resource, 'AuthorizationPolicy/shop/admin');
  assert.equal(where(yes), '    - from: [{source: {principals: [cluster.local/ns/shop/sa/a]}}]');
  assert.deepEqual(
    yes.considered.map((c) => [c.policy, c.matched]),
    [
      ['istio-system/no-delete', false],
      ['shop/admin', true],
    ],
  );
  assert.equal(ask(a, 'GET', '/administrator').decision, 'deny');
  assert.equal(ask(a, 'GET', '/x/../%61dmin').decision, 'allow');
  assert.equal(ask(a, 'GET', '/admin%2Fx').details, 'path_with_escaped_slash');
  assert.equal(ask('cluster.local/ns/shop/sa/b', 'GET', '/admin').decision, 'deny');
  const denied = ask(a, 'DELETE', '/admin');
  assert.deepEqual(
    [denied.decision, denied.reference?.resource],
    ['deny', 'AuthorizationPolicy/istio-system/no-delete'],
  );
  const plain = ask(undefined, 'GET', '/admin');
  assert.deepEqual([plain.details, plain.reference?.resource], ['mtls_required', 'PeerAuthentication/shop/default']);
  assert.equal(decide(mesh, 'shop/pay', { from: a, port: 5432 }).decision, 'deny');
  assert.throws(
    () => decide(mesh, 'shop/pay', { from: a, port: 5432, http: { method: 'GET', path: '/' } }),
    /carries TCP/,
  );
});

test('CUSTOM: who is asked, and what is decided if they let it pass', () => {
  const settings = `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: guard, namespace: shop, labels: {app: guard}}
spec: {command: [x], ports: [{port: 8080, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: guard, namespace: shop}
spec: {selector: {app: guard}, ports: [{port: 80, name: http, targetPort: 8080}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "extensionProviders: [{name: guard, envoyExtAuthzHttp: {service: guard.shop.svc.cluster.local, port: 80}}]"}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: asked, namespace: shop}
spec: {selector: {matchLabels: {app: pay}}, action: CUSTOM, provider: {name: guard}, rules: [{to: [{operation: {ports: ["8080"], paths: ["/admin*"]}}]}]}
`;
  const mesh = meshFromFiles([{ path: 'mesh.yaml', text: TEXT + settings }]);
  assert.deepEqual(policiesOf(mesh, 'shop/pay')[0].action, 'CUSTOM');
  const ask = (from: string, method: string, path: string) =>
    decide(mesh, 'shop/pay', { from, http: { method, path } });
  const yes = ask('cluster.local/ns/shop/sa/a', 'GET', '/admin');
  assert.deepEqual([yes.decision, yes.asks], ['allow', ['guard']]);
  assert.deepEqual(
    yes.considered.map((c) => [c.action, c.policy, c.matched]),
    [
      ['CUSTOM', 'shop/asked', true],
      ['DENY', 'istio-system/no-delete', false],
      ['ALLOW', 'shop/admin', true],
    ],
  );
  const no = ask('cluster.local/ns/shop/sa/a', 'DELETE', '/admin');
  assert.deepEqual([no.decision, no.asks], ['deny', ['guard']]);
  assert.equal(ask('cluster.local/ns/shop/sa/a', 'GET', '/other').asks, undefined);
});

test('a decision as people read it: lines of 100 columns, what decided, and where it is written', () => {
  const mesh = meshFromFiles([{ path: 'a/folder/mesh.yaml', text: TEXT }]);
  const shown = (question: AuthorizationQuestion) => {
    const text = renderDecision(question, decide(mesh, 'shop/pay', question), (file) => file.slice(2));
    for (const line of text.split('\n')) assert.ok(line.length <= 100, line);
    return text;
  };
  const from = 'cluster.local/ns/shop/sa/an-account-whose-name-is-long-but-not-without-end';
  const denied = shown({ from, http: { method: 'GET', path: '/admin/a-path-that-is-not-short-either' } });
  assert.match(denied, /\ndeny: no rule of the ALLOW policies matches/);
  assert.match(denied, /\n {10}folder\/mesh.yaml:\d+ {2}AuthorizationPolicy\/shop\/admin\n/);
  assert.match(denied, /\[none\]$/);
  const byRule = shown({ from, http: { method: 'DELETE', path: '/' } });
  assert.match(byRule, /\ndeny: rule 0 of istio-system\/no-delete matches\n/);
  assert.match(shown({ http: { method: 'GET', path: '/' } }), /deny: the port takes mTLS alone; .*--from/);
  const a = 'cluster.local/ns/shop/sa/a';
  assert.match(shown({ from: a, port: 8080, http: { method: 'GET', path: '/admin' } }), /\nallow\n/);
});

test('whatever is allowed, denied or asked of one workload changes nothing for another', () => {
  const process = (name: string) =>
    `---\napiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: ${name}, namespace: shop, labels: {app: ${name}}}\nspec: {command: [x], ports: [{port: 8080, name: http}]}\n`;
  const policy = (name: string, app: string, action: string, rules: string) =>
    `---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ${name}, namespace: shop}\nspec: {selector: {matchLabels: {app: ${app}}}, action: ${action}, rules: ${rules}}\n`;
  const own = [
    '',
    policy('own', 'pay', 'ALLOW', '[{to: [{operation: {ports: ["8080"], paths: [/admin]}}]}]'),
    policy('own', 'pay', 'DENY', '[{from: [{source: {namespaces: [other]}}]}]'),
  ];
  const others = [
    policy('all', 'cart', 'ALLOW', '[{}]'),
    policy('none', 'cart', 'ALLOW', '[]').replace(', rules: []', ''),
    policy('denied', 'cart', 'DENY', '[{}]'),
    policy('admins', 'cart', 'ALLOW', '[{to: [{operation: {ports: ["8080"], paths: [/admin, "/*"]}}]}]'),
    `---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: s, namespace: shop}\nspec: {podSelector: {matchLabels: {app: cart}}, port: http}\n`,
  ];
  const callers = [undefined, 'cluster.local/ns/shop/sa/a', 'cluster.local/ns/other/sa/a'];
  for (const before of own) {
    const verdicts = (more: string): string[] => {
      const text = process('pay') + process('cart') + before + more;
      const mesh = meshFromFiles([{ path: 'a.yaml', text: text.slice(4) }]);
      return callers.flatMap((from) =>
        ['/', '/admin', '/admin/x'].map((path) => {
          const asked = { ...(from !== undefined && { from }), http: { method: 'GET', path } };
          return decide(mesh, 'shop/pay', asked).decision;
        }),
      );
    };
    const wanted = verdicts('');
    for (const more of others) assert.deepEqual(verdicts(more), wanted, more);
  }
});
