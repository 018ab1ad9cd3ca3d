/** From traffic to policies: what is suggested, what a dry run would deny, what is denied at last, and what audit says. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import { localRequest } from '@weft/host';
import { meshOf, type TestMesh } from './harness.ts';

const id = (account: string): string => `cluster.local/ns/shop/sa/${account}`;

/** Statuses, by how many calls got them. */
async function call(mesh: TestMesh, from: string, url: string, count = 1): Promise<Record<string, number>> {
  return (await mesh.ask(from, '/run', { url, count, concurrency: 2 })).json.statuses;
}

/** Asks the control plane, which is cheaper than a command: for what is waited for. */
function control<T>(mesh: TestMesh, path: string): Promise<T> {
  return localRequest<T>(join(mesh.state, mesh.name, 'control.sock'), 'GET', path);
}

function inForce(mesh: TestMesh, epoch: number): Promise<void> {
  return mesh.until(`epoch ${epoch} is in force`, 60_000, async () => {
    const { proxies } = await control<{ proxies: { status: string; epoch: number }[] }>(mesh, '/v1/status');
    return proxies.every((p) => p.status === 'SYNCED' && p.epoch >= epoch);
  });
}

interface Seen {
  workload: string;
  denied: boolean;
  shadowRef: string;
  requests: number;
}

/** Waits until the control plane was told of so many requests of one kind. */
function told(mesh: TestMesh, what: string, requests: number, kind: (c: Seen) => boolean): Promise<void> {
  return mesh.until(what, 60_000, async () => {
    const { calls } = await control<{ calls: Seen[] }>(mesh, '/v1/calls');
    return calls.filter(kind).reduce((n, c) => n + c.requests, 0) === requests;
  });
}

const OTHERS = `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: front, namespace: shop}
spec: {podSelector: {matchLabels: {app: front}}, port: http}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: front, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: front}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: cart}]
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: rest, namespace: shop}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: front}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: pay, namespace: shop}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: front}]
  rules: [{matches: [{path: {value: /pay}}]}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: pay, namespace: shop}
spec:
  targetRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: pay}
  requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: pay}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: pay, namespace: shop}
spec: {identities: [pay.shop.serviceaccount.identity.linkerd.cluster.local]}
---
apiVersion: consul.hashicorp.com/v1alpha1
kind: ServiceIntentions
metadata: {name: cart, namespace: shop}
spec:
  destination: {name: cart}
  sources:
    - name: front
      permissions:
        - {action: deny, http: {pathPrefix: /private}}
        - action: allow
          http: {pathPrefix: /token}
          jwt: {providers: [{name: okta, verifyClaims: [{path: [perms, role], value: admin}]}]}
        - {action: allow, http: {pathPrefix: /}}
    - {name: "*", action: deny}
---
apiVersion: consul.hashicorp.com/v1alpha1
kind: JWTProvider
metadata: {name: okta, namespace: shop}
spec: {issuer: "https://okta.test", jsonWebKeySet: {local: {jwks: KEYS}}}
`;

const okta = generateKeyPairSync('ed25519');

function keySet(): string {
  const keys = [okta.publicKey.export({ format: 'jwk' })];
  return Buffer.from(JSON.stringify({ keys })).toString('base64');
}

function token(role: string): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'EdDSA' })}.${part({ iss: 'https://okta.test', perms: { role } })}`;
  return `${text}.${sign(null, Buffer.from(text), okta.privateKey).toString('base64url')}`;
}

test('policies from observed traffic, in dry run first; those of Linkerd and Consul; the audit of it all', async (t) => {
  const mesh = await meshOf(t, 'explicit', { cart: { v1: 1 }, front: { v1: 1 }, pay: { v1: 1 } });
  const pay = 'http://pay:8080';
  assert.deepEqual(await call(mesh, 'cart', `${pay}/charge/17`, 3), { '200': 3 });
  assert.deepEqual(await call(mesh, 'cart', `${pay}/charge/18`, 2), { '200': 2 });
  assert.deepEqual(await call(mesh, 'front', `${pay}/admin`), { '200': 1 });
  await told(mesh, 'the calls are known', 6, (c) => c.workload === 'pay');
  const yaml = mesh.weft('authz', 'suggest', '-n', 'shop');
  const lines = yaml.split('\n').map((l) => l.trim());
  const [cart, front] = [lines.indexOf('# 5 requests of cart'), lines.indexOf('# 1 request of front')];
  assert.ok(cart > 0 && front > cart, yaml);
  assert.ok(lines.indexOf(`- "${id('cart')}"`) < front && lines.indexOf(`- "${id('front')}"`) > front, yaml);
  assert.ok(lines.includes('- "/charge/{*}" # 5') && lines.includes('- "/admin" # 1'), yaml);

  mesh.write('policies.yaml', yaml);
  await inForce(mesh, 2);
  assert.deepEqual(await call(mesh, 'cart', `${pay}/charge/19`), { '200': 1 });
  assert.deepEqual(await call(mesh, 'cart', `${pay}/admin`, 4), { '200': 4 }, 'a dry run refuses nobody');
  await told(mesh, 'the dry run tells of it', 4, (c) => c.shadowRef !== '');
  assert.throws(
    () => mesh.weft('authz', 'dry-run', '-n', 'shop', '-o', 'json'),
    ({ status, stdout }: { status: number; stdout: string }) => {
      const [{ principal, workload, method, path, requests, allowed }, ...more] = JSON.parse(stdout).denied;
      assert.deepEqual([status, more], [1, []]);
      assert.deepEqual([principal, workload, method, path], [id('cart'), 'pay', 'GET', '/admin']);
      return requests === 4 && allowed === true;
    },
  );

  mesh.write('policies.yaml', yaml.replaceAll('istio.io/dry-run: "true"', 'weft.dev/note: "in force"'));
  await inForce(mesh, 3);
  assert.deepEqual(await call(mesh, 'cart', `${pay}/charge/20`), { '200': 1 });
  assert.deepEqual(await call(mesh, 'cart', `${pay}/admin`, 2), { '403': 2 });
  assert.deepEqual(await call(mesh, 'front', `${pay}/admin`), { '200': 1 });

  mesh.write('others.yaml', OTHERS.replace('KEYS', keySet()));
  await inForce(mesh, 4);
  assert.deepEqual(await call(mesh, 'cart', 'http://front:8080/x'), { '200': 1 }, 'Linkerd lets cart');
  assert.deepEqual(await call(mesh, 'pay', 'http://front:8080/x'), { '403': 1 }, 'and nobody else');
  assert.deepEqual(await call(mesh, 'pay', 'http://front:8080/pay'), { '200': 1 }, 'but on its own route');
  assert.deepEqual(await call(mesh, 'front', 'http://cart:8080/x'), { '200': 1 }, 'Consul lets front');
  assert.deepEqual(await call(mesh, 'front', 'http://cart:8080/private'), { '403': 1 }, 'but not there');
  assert.deepEqual(await call(mesh, 'pay', 'http://cart:8080/x'), { '403': 1 }, 'whom no intention allows');
  const url = 'http://cart:8080/token';
  const bearing = async (role: string) => {
    const headers = { authorization: `Bearer ${token(role)}` };
    return (await mesh.ask('front', '/run', { url, headers, count: 1 })).json.statuses;
  };
  assert.deepEqual(await bearing('admin'), { '200': 1 }, 'with a token of the provider');
  assert.deepEqual(await bearing('user'), { '403': 1 }, 'that says what it is to say');

  await told(mesh, 'the denials are known', 6, (c) => c.denied);
  await mesh.until('the log tells of a denial', 60_000, () =>
    /"event":"authorization-denied","policy":"none","ref":"AuthorizationPolicy\//.test(mesh.logs('pay', true)),
  );
  const report = JSON.parse(mesh.weft('audit', 'report', '--since', '30d', '-o', 'json'));
  assert.deepEqual(report.denials.map((d: { rule: string }) => d.rule.split('#')[0]).sort(), [
    ...['AuthorizationPolicy/shop/pay-observed', 'HTTPRoute.policy.linkerd.io/shop/rest'],
    ...['ServiceIntentions/shop/cart', 'ServiceIntentions/shop/cart', 'ServiceIntentions/shop/cart'],
  ]);
  const { workload, principal, method, path, policy, requests } = report.denials[0];
  const most = ['shop/pay', id('cart'), 'GET', '/admin', 'none', 2];
  assert.deepEqual([workload, principal, method, path, policy, requests], most);
  assert.deepEqual([report.mtls.edges, report.mtls.edgesUnderMtls, report.mtls.exceptions], [6, 6, []]);
  assert.ok(report.mtls.bytes > 0 && report.mtls.byteShare === 1);
  assert.equal(report.certificates.workloads.length, 3);
  for (const c of report.certificates.workloads) assert.ok(c.serial !== '' && c.ageMs < 3_600_000 && c.endsInMs > 0);
  assert.deepEqual(
    report.coverage.map((c: { workload: string; covered: boolean }) => [c.workload, c.covered]),
    ['cart', 'front', 'pay'].map((w) => [`shop/${w}`, true]),
  );
  assert.deepEqual(
    report.changes.map((c: { epoch: number; actor: { uid: number } }) => [c.epoch, c.actor.uid]),
    [1, 2, 3, 4].map((epoch) => [epoch, process.getuid!()]),
  );
  const of = (epoch: number) => report.changes[epoch - 1].resources;
  const added = of(2).find((r: { resource: string }) => r.resource.endsWith('/pay-observed'));
  assert.deepEqual([added.change, added.file.endsWith('policies.yaml')], ['added', true]);
  assert.equal(yaml.split('\n')[added.line - 1], 'apiVersion: security.istio.io/v1');
  assert.ok(of(3).length > 0 && of(3).every((r: { change: string }) => r.change === 'changed'));
});
