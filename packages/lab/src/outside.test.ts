/** Visitors of gateways, and plaintext to workloads: what the gateway's own tests show of the proxy, explained. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WeftError } from '@weft/base';
import { explain } from './explain.ts';
import { meshFromFiles } from './mesh.ts';
import { readMeshTests } from './mesh-test/read.ts';
import { runMeshTests } from './mesh-test/run.ts';
import type { Question } from './types.ts';

const CERT = btoa('-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n');
const KEY = btoa('-----BEGIN PRIVATE KEY-----\nS0VZ\n-----END PRIVATE KEY-----\n');

const MESH = `
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: edge, namespace: shop, labels: { app: edge } }
spec: { gateway: {} }
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: front, namespace: shop, labels: { app: front } }
spec: { command: [x], ports: [{ name: http, containerPort: 8080 }, { name: tcp-db, containerPort: 7000 }] }
---
apiVersion: v1
kind: Service
metadata: { name: front, namespace: shop }
spec: { selector: { app: front }, ports: [{ name: http, port: 80, targetPort: 8080 }, { name: tcp-db, port: 7000 }] }
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: { name: cert, namespace: shop }
data: { tls.crt: ${CERT}, tls.key: ${KEY} }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gw, namespace: shop }
spec:
  selector: { app: edge }
  servers:
    - { port: { number: 8080, name: http, protocol: HTTP }, hosts: [plain.example.com] }
    - { port: { number: 8443, name: https, protocol: HTTPS }, hosts: [a.example.com], tls: { mode: SIMPLE, credentialName: cert } }
    - { port: { number: 8443, name: pass, protocol: TLS }, hosts: [raw.example.com], tls: { mode: PASSTHROUGH } }
    - { port: { number: 9000, name: tcp, protocol: TCP }, hosts: ["*"] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: shop }
spec:
  hosts: [plain.example.com, a.example.com]
  gateways: [gw]
  http:
    - match: [{ headers: { x-envoy-me: { exact: trusted } } }]
      directResponse: { status: 418 }
    - match: [{ scheme: { exact: https } }]
      route: [{ destination: { host: front, port: { number: 80 } }, headers: { request: { set: { x-edge: tls } } } }]
    - route: [{ destination: { host: front, port: { number: 80 } } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: bytes, namespace: shop }
spec:
  hosts: [raw.example.com]
  gateways: [gw]
  tls: [{ match: [{ sniHosts: [raw.example.com], port: 8443 }], route: [{ destination: { host: front, port: { number: 7000 } } }] }]
  tcp: [{ match: [{ port: 9000 }], route: [{ destination: { host: front, port: { number: 7000 } } }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: edge, namespace: shop }
spec:
  selector: { matchLabels: { app: edge } }
  action: DENY
  rules: [{ to: [{ operation: { paths: [/admin*], ports: ["8080"] } }] }]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: shop }
spec:
  selector: { matchLabels: { app: front } }
  jwtRules:
    - { issuer: me, audiences: [front], jwks: '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}' }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: members, namespace: shop }
spec:
  selector: { matchLabels: { app: front } }
  action: DENY
  rules: [{ to: [{ operation: { paths: [/members], ports: ["8080"] } }], when: [{ key: "request.auth.claims[group]", notValues: [members] }] }]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: front, namespace: shop }
spec: { selector: { matchLabels: { app: front } }, mtls: { mode: STRICT }, portLevelMtls: { 7000: { mode: PERMISSIVE } } }
`;

const mesh = meshFromFiles([{ path: 'mesh.yaml', text: MESH }]);

/** End and details of the only way there is, and where it leads. */
function visit(to: string, question: Partial<Question> = {}): [string, string | number, string] {
  const { ways } = explain(mesh, { from: 'outside', to, ...question });
  assert.equal(ways.length, 1);
  const { end, status, details, cluster } = ways[0]!;
  return [end, status, details || cluster];
}
const host = (name: string): Partial<Question> => ({ headers: [['host', name]] });
const HTTP = 'outbound|80||front.shop.svc.cluster.local';
const TCP = 'outbound|7000||front.shop.svc.cluster.local';

test('a gateway: virtual hosts, policies of its own, and nothing that a stranger says of the mesh', () => {
  assert.deepEqual(visit('shop/edge:8080', host('plain.example.com')), ['allowed', 'application', HTTP]);
  assert.deepEqual(visit('shop/edge:8080', host('plain.example.com:80')), ['allowed', 'application', HTTP]);
  assert.deepEqual(visit('shop/edge:8080', host('other.example.com')), ['unreachable', 404, 'route_not_found']);
  const admin = { ...host('plain.example.com'), path: '/%61dmin' };
  assert.deepEqual(visit('shop/edge:8080', admin).slice(0, 2), ['denied', 403]);
  assert.deepEqual(visit('shop/edge:8080', { ...admin, path: '/a%2Fb' }).slice(0, 2), ['answered', 400]);
  const forged: [string, string][] = [...host('plain.example.com').headers!, ['x-envoy-me', 'trusted']] as [
    string,
    string,
  ][];
  assert.deepEqual(visit('shop/edge:8080', { headers: forged }), ['allowed', 'application', HTTP]);
  const underscore = [...host('plain.example.com').headers!, ['x_a', '1']] as [string, string][];
  assert.deepEqual(visit('shop/edge:8080', { headers: underscore }), ['answered', 400, 'unexpected_underscore']);
});

test('the server name chooses: HTTPS, TLS that is passed on, or nobody', () => {
  const https = explain(mesh, { from: 'outside', to: 'edge:8443', sni: 'a.example.com', ...host('a.example.com') });
  assert.deepEqual(
    https.ways.map((w) => [w.end, w.sent.includes('x-edge')]),
    [['allowed', true]],
  );
  // Without a name of its own the client asks for the host that it wants.
  assert.deepEqual(visit('edge:8443', host('a.example.com')), ['allowed', 'application', HTTP]);
  assert.deepEqual(visit('edge:8443', { sni: 'raw.example.com' }), ['allowed', 'connected', TCP]);
  assert.deepEqual(visit('edge:8443', { sni: 'b.example.com' }), ['denied', 'closed', 'server_name_refused']);
  assert.deepEqual(visit('edge:8443', { tcp: true }), ['denied', 'closed', 'plaintext_refused']);
  assert.deepEqual(visit('edge:9000', { tcp: true }), ['allowed', 'connected', TCP]);
  assert.throws(
    () => visit('edge:1'),
    (e: WeftError) => e.code === 'lab.to' && /8080, 8443, 9000/.test(e.message),
  );
  assert.throws(
    () => visit('edge'),
    (e: WeftError) => e.code === 'lab.to',
  );
});

test('a workload: plaintext where its port takes that', () => {
  assert.deepEqual(visit('front:8080'), ['denied', 'closed', 'mtls_required']);
  assert.deepEqual(visit('front:7000', { tcp: true }).slice(0, 2), ['allowed', 'connected']);
});

test('tokens: an issuer that is believed, for its audience, with its claims', () => {
  const ask = (path: string, token: object | undefined, from = 'edge:8080') => {
    const question = { from: 'outside', to: from, path, ...host('plain.example.com'), ...(token && { token }) };
    const { ways, touched } = explain(mesh, question as Question);
    return [
      ...ways.map((w) => `${w.end} ${w.status}`),
      [...touched].some((r) => r.startsWith('RequestAuthentication/')),
    ];
  };
  const good = { issuer: 'me', subject: 'you', audiences: ['front'] };
  assert.deepEqual(ask('/', undefined), ['allowed application', false]);
  assert.deepEqual(ask('/', good), ['allowed application', true]);
  assert.deepEqual(ask('/', { ...good, issuer: 'them' }), ['denied 401', false]);
  assert.deepEqual(ask('/', { issuer: 'me', subject: 'you' }), ['denied 401', true]);
  assert.deepEqual(ask('/members', good), ['denied 403', true]);
  assert.deepEqual(ask('/members', { ...good, claims: { group: 'guests' } }), ['denied 403', true]);
  assert.deepEqual(ask('/members', { ...good, claims: { group: ['a', 'members'] } }), ['allowed application', true]);
});

test('the same as mesh tests, with full coverage of the gateway', () => {
  const text = `
apiVersion: weft.dev/v1alpha1
kind: MeshTest
metadata: { name: edge, namespace: shop }
spec:
  tests:
    - name: members
      request:
        from: outside
        to: edge:8080
        path: /members
        headers: { host: plain.example.com }
        token: { issuer: me, audiences: [front], claims: { group: [members], level: 3 } }
      expect: { decision: allowed }
    - name: bytes
      request: { from: outside, to: edge:8443, sni: raw.example.com }
      expect: { decision: allowed, to: [{ service: front, share: 100 }] }
`;
  const { tests, problems } = readMeshTests([{ path: 'x', text }]);
  assert.deepEqual(problems, []);
  const { results, coverage } = runMeshTests(mesh, tests);
  assert.deepEqual(
    results.flatMap((r) => r.failures),
    [],
  );
  const covered = (name: string): boolean[] => coverage.rules.filter((r) => r.resource === name).map((r) => r.covered);
  assert.deepEqual(covered('Gateway/shop/gw'), [true, false, true, false]);
  assert.deepEqual(covered('RequestAuthentication/shop/tokens'), [true]);
});

test('a route by a claim of the token', () => {
  const text = `${MESH}---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: visitors, namespace: shop }
spec:
  selector: { matchLabels: { app: edge } }
  jwtRules: [{ issuer: me, forwardOriginalToken: true, jwks: '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}' }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: claims, namespace: shop }
spec:
  hosts: [claims.example.com]
  gateways: [gw]
  http:
    - match: [{ headers: { "@request.auth.claims.group": { exact: staff } } }]
      directResponse: { status: 418 }
    - directResponse: { status: 204 }
`;
  const claimed = meshFromFiles([
    {
      path: 'mesh.yaml',
      text: text.replace('hosts: [plain.example.com]', 'hosts: [plain.example.com, claims.example.com]'),
    },
  ]);
  const ask = (claims: object) => {
    const question = { from: 'outside', to: 'edge:8080', path: '/', ...host('claims.example.com') };
    const token = { issuer: 'me', subject: 'you', claims };
    return explain(claimed, { ...question, token } as Question);
  };
  assert.equal(ask({ group: ['staff'] }).ways[0].status, 418);
  const other = ask({ group: 'guests' });
  assert.equal(other.ways[0].status, 204);
  assert.ok(
    other.steps.some((s) => s.because === '@request.auth.claims.group wants exactly "staff", the token has "guests"'),
    JSON.stringify(other.steps.filter((s) => s.kind === 'rule')),
  );
});
