/** Linkerd's policy and Consul's intentions, from files to the engine's decision. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadFiles } from '@weft/config';
import { keySourcesOf } from '@weft/model';
import { decide } from './authz.ts';
import { type LabMesh, meshFromFiles } from './mesh.ts';
import type { TokenQuestion } from './types.ts';

const id = (account: string, namespace = 'shop', domain = 'cluster.local') => `${domain}/ns/${namespace}/sa/${account}`;
const doc = (api: string, kind: string, name: string, spec: string, annotations = '') =>
  `---\napiVersion: ${api}\nkind: ${kind}\nmetadata: {name: ${name}, namespace: shop${annotations && `, annotations: {${annotations}}`}}\nspec: ${spec}\n`;
const proc = (name: string, annotations = '') =>
  doc(
    'weft.dev/v1alpha1',
    'Process',
    name,
    `{command: [x], serviceAccountName: ${name}, ports: [{name: http, containerPort: 8080}, {name: tcp, containerPort: 9000}]}`,
    annotations,
  ).replace('namespace: shop', `namespace: shop, labels: {app: ${name}}`);
const service = (name: string) =>
  doc('v1', 'Service', name, `{selector: {app: ${name}}, ports: [{name: http, port: 80, targetPort: 8080}]}`);
const processes =
  ['pay', 'cart', 'front'].map((n) => proc(n)).join('') + ['pay', 'cart', 'front'].map(service).join('');
const linkerd = (kind: string, name: string, spec: string, version = 'v1alpha1') =>
  doc(`policy.linkerd.io/${version}`, kind, name, spec);
const server = (more = '', port = 'http') =>
  linkerd('Server', 'pay-http', `{podSelector: {matchLabels: {app: pay}}, port: ${port}${more}}`, 'v1beta3');
const policy = (name: string, target: string, refs: string) =>
  linkerd(
    'AuthorizationPolicy',
    name,
    `{targetRef: {group: policy.linkerd.io, ${target}}, requiredAuthenticationRefs: [${refs}]}`,
  );
const account = (name: string, namespace = 'shop') => `{kind: ServiceAccount, name: ${name}, namespace: ${namespace}}`;
const authn = (kind: string, name: string) => `{group: policy.linkerd.io, kind: ${kind}, name: ${name}}`;
const onServer = 'kind: Server, name: pay-http';

function meshOf(text: string): LabMesh {
  const files = [{ path: 'a.yaml', text: processes + text }];
  const errors = loadFiles(files).problems.filter((p) => p.severity === 'error');
  assert.deepEqual(errors, []);
  return meshFromFiles(files);
}

interface Ask {
  from?: string;
  ip?: string;
  port?: number;
  headers?: [string, string][];
  token?: TokenQuestion;
}

/** Decision and who says so, of a request, or with path '' of a connection. */
function ask(mesh: LabMesh, request: string, { from, ip, port = 8080, headers, token }: Ask = {}): string {
  const [method, path] = request.split(' ');
  const answer = decide(mesh, 'shop/pay', {
    ...(from !== undefined && { from }),
    ...(ip !== undefined && { ip }),
    port,
    ...(path && { http: { method, path, ...(headers && { headers }), ...(token && { token }) } }),
  });
  return answer.decision;
}

test('Linkerd: a Server closes its port, policies open it for identities and networks, all of which must hold', () => {
  const text =
    server() +
    policy('cart', onServer, account('cart')) +
    policy('ops', onServer, `${authn('MeshTLSAuthentication', 'ops')}, ${authn('NetworkAuthentication', 'lan')}`) +
    policy('probe', onServer, authn('NetworkAuthentication', 'one')) +
    linkerd(
      'MeshTLSAuthentication',
      'ops',
      '{identities: ["*.ops.serviceaccount.identity.linkerd.cluster.local", "web.shop.serviceaccount.identity.linkerd.cluster.local"]}',
    ) +
    linkerd('NetworkAuthentication', 'lan', '{networks: [{cidr: 10.0.0.0/8, except: [10.9.0.0/16]}]}') +
    linkerd('NetworkAuthentication', 'one', '{networks: [{cidr: 192.0.2.7}]}');
  const mesh = meshOf(text);
  const get = (o: Ask) => ask(mesh, 'GET /x', o);
  const ip = '10.1.2.3';
  assert.deepEqual(
    [
      get({ from: id('cart') }),
      get({ from: id('a', 'ops'), ip }),
      get({ from: id('web'), ip }),
      get({ ip: '192.0.2.7' }),
      ask(mesh, '', { from: id('cart') }),
      ask(mesh, '', { port: 9000 }),
    ],
    Array(6).fill('allow'),
  );
  assert.deepEqual(
    [
      get({ from: id('front') }),
      get({}),
      get({ from: id('cart', 'other') }),
      get({ from: id('cart', 'shop', 'elsewhere') }),
      get({ from: id('a', 'ops'), ip: '192.0.2.9' }),
      get({ from: id('a', 'ops'), ip: '10.9.0.1' }),
      get({ from: id('other'), ip }),
      ask(mesh, '', { from: id('front') }),
    ],
    Array(8).fill('deny'),
  );
  const answer = decide(mesh, 'shop/pay', { from: id('front'), port: 8080, http: { method: 'GET', path: '/' } });
  assert.equal(answer.details, 'rbac_access_denied_matched_policy[shop/pay-http]');
  assert.equal(answer.reference?.resource, 'Server/shop/pay-http');
  assert.equal(answer.considered.length, 4);
  const named = decide(mesh, 'shop/pay', { from: id('cart'), port: 8080, http: { method: 'GET', path: '/' } });
  assert.equal(named.reference?.resource, 'AuthorizationPolicy.policy.linkerd.io/shop/cart');
});

test('Linkerd: of routes the most specific counts, policies of the Server hold for each, and the rest is refused', () => {
  const route = (name: string, matches: string) =>
    linkerd(
      'HTTPRoute',
      name,
      `{parentRefs: [{group: policy.linkerd.io, kind: Server, name: pay-http}], rules: [{matches: [${matches}]}]}`,
      'v1beta3',
    );
  const mesh = meshOf(
    server() +
      route('all', '{path: {value: /}, method: GET}, {path: {type: Exact, value: /post}, method: POST}') +
      route('admin', '{path: {value: /admin}}') +
      policy('all', 'kind: HTTPRoute, name: all', account('cart')) +
      policy('admin', 'kind: HTTPRoute, name: admin', account('front')) +
      policy('root', onServer, account('root')),
  );
  const by = (from: string, request: string) => ask(mesh, request, { from: id(from) });
  assert.deepEqual(
    [
      by('cart', 'GET /x'),
      by('cart', 'POST /post'),
      by('front', 'GET /admin'),
      by('front', 'DELETE /admin/x'),
      by('root', 'GET /admin'),
      by('root', 'GET /x'),
      by('root', ''),
    ],
    Array(7).fill('allow'),
  );
  assert.deepEqual(
    [
      by('cart', 'GET /admin'),
      by('cart', 'GET /x/../admin'),
      by('cart', 'POST /other'),
      by('front', 'GET /x'),
      by('root', 'POST /other'),
      by('cart', ''),
    ],
    Array(6).fill('deny'),
  );
});

const GATEWAY_API = 'gateway.networking.k8s.io';
const apiRoute = (kind: string, name: string, rules: string, parents = 'name: pay-http') =>
  doc(
    `${GATEWAY_API}/v1`,
    kind,
    name,
    `{parentRefs: [{group: policy.linkerd.io, kind: Server, ${parents}}], rules: [${rules}]}`,
  );
const forRoute = (name: string, kind: string, group: string, refs: string) =>
  policy(name, `kind: ${kind}, name: ${name}`, refs).replace('group: policy.linkerd.io', `group: ${group}`);

test('Linkerd: HTTPRoutes of the Gateway API are routes of a Server too, beside its own of the same name', () => {
  const own = linkerd(
    'HTTPRoute',
    'admin',
    '{parentRefs: [{group: policy.linkerd.io, kind: Server, name: pay-http}], rules: [{matches: [{path: {value: /admin/own}}]}]}',
    'v1beta3',
  );
  const text =
    server() +
    own +
    apiRoute('HTTPRoute', 'admin', '{matches: [{path: {value: /admin}, method: GET}]}') +
    forRoute('admin', 'HTTPRoute', GATEWAY_API, account('front')) +
    forRoute('admin', 'HTTPRoute', 'policy.linkerd.io', account('cart')).replace('name: admin', 'name: own');
  const mesh = meshOf(text);
  // It routes nothing.
  assert.deepEqual(loadFiles([{ path: 'a.yaml', text: processes + text }]).model?.apiRoutes, []);
  const by = (from: string, request: string) => ask(mesh, request, { from: id(from) });
  assert.deepEqual([by('front', 'GET /admin/x'), by('cart', 'GET /admin/own')], ['allow', 'allow']);
  const denied = [by('cart', 'GET /admin'), by('front', 'GET /admin/own'), by('front', 'POST /admin')];
  assert.deepEqual([...denied, by('front', 'GET /')], Array(4).fill('deny'));
});

test('Linkerd: a GRPCRoute of a Server says who may call which methods', () => {
  const mesh = meshOf(
    server() +
      apiRoute('GRPCRoute', 'read', '{matches: [{method: {service: shop.Pay, method: Get}}]}') +
      apiRoute('GRPCRoute', 'all', '{matches: [{method: {service: shop.Pay}}]}') +
      forRoute('read', 'GRPCRoute', GATEWAY_API, account('front')) +
      forRoute('all', 'GRPCRoute', GATEWAY_API, account('cart')) +
      policy('root', onServer, account('root')),
  );
  const by = (from: string, request: string) => ask(mesh, request, { from: id(from) });
  const allowed = [
    by('front', 'POST /shop.Pay/Get'),
    by('cart', 'POST /shop.Pay/Take'),
    by('root', 'POST /shop.Pay/Get'),
  ];
  assert.deepEqual(allowed, Array(3).fill('allow'));
  assert.deepEqual(
    [
      by('front', 'POST /shop.Pay/Take'),
      by('cart', 'POST /shop.Pay/Get'),
      by('front', 'GET /shop.Pay/Get'),
      by('front', 'POST /shop.PayX/Get'),
      by('root', 'POST /shop.Other/Get'),
    ],
    Array(5).fill('deny'),
  );
});

test('Linkerd: what holds where nothing else does, of a Server, a Process and a Namespace', () => {
  const callers: Ask[] = [
    { from: id('x') },
    { from: id('x', 'shop', 'elsewhere') },
    { ip: '10.0.0.1' },
    { ip: '192.0.2.1' },
  ];
  const expected: [string, string][] = [
    ['all-unauthenticated', '++++'],
    ['all-authenticated', '++--'],
    ['cluster-authenticated', '+---'],
    ['deny', '----'],
    ['audit', '++++'],
  ];
  const signs = (mesh: LabMesh) => callers.map((c) => (ask(mesh, 'GET /', c) === 'allow' ? '+' : '-')).join('');
  for (const [name, want] of expected) {
    assert.equal(signs(meshOf(server(`, accessPolicy: ${name}`))), want, name);
    const annotation = `config.linkerd.io/default-inbound-policy: ${name}`;
    const process = processes.replace(proc('pay'), proc('pay', annotation));
    const files = [{ path: 'a.yaml', text: process }];
    assert.equal(signs(meshFromFiles(files)), want, `${name} of a Process`);
    const space = `---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {${annotation}}}\n`;
    assert.equal(signs(meshOf(space)), want, `${name} of a Namespace`);
    // A Server goes before it, on its port alone.
    const open = meshOf(space + server(', accessPolicy: all-unauthenticated'));
    assert.equal(signs(open), '++++');
    assert.equal(ask(open, '', { port: 9000 }), want[3] === '+' ? 'allow' : 'deny');
  }
  const mesh = meshOf(server(', accessPolicy: cluster-unauthenticated'));
  assert.deepEqual([ask(mesh, 'GET /', { ip: '10.0.0.1' }), ask(mesh, 'GET /', { ip: '8.8.8.8' })], ['allow', 'deny']);
});

test('Istio and Linkerd on one workload: both must let it pass', () => {
  const istio = (rule: string, action = 'ALLOW') =>
    doc(
      'security.istio.io/v1',
      'AuthorizationPolicy',
      'cart',
      `{selector: {matchLabels: {app: pay}}, action: ${action}, rules: [${rule}]}`,
    );
  const paths = (p: string) => `{to: [{operation: {ports: ["8080"], paths: ["${p}"]}}]}`;
  // The same kind and name as Linkerd's: another API, another resource.
  const text = server() + policy('cart', onServer, account('cart'));
  const both = meshOf(text + istio(paths('/ok')));
  const by = (mesh: LabMesh, from: string, path: string) => ask(mesh, `GET ${path}`, { from: id(from) });
  assert.deepEqual(
    [by(both, 'cart', '/ok'), by(both, 'cart', '/no'), by(both, 'front', '/ok')],
    ['allow', 'deny', 'deny'],
  );
  const denied = meshOf(text + istio(paths('/no'), 'DENY'));
  assert.deepEqual([by(denied, 'cart', '/no'), by(denied, 'cart', '/ok')], ['deny', 'allow']);
});

const intentions = (name: string, destination: string, sources: string) =>
  doc(
    'consul.hashicorp.com/v1alpha1',
    'ServiceIntentions',
    name,
    `{destination: {name: ${destination}}, sources: [${sources}]}`,
  );

test('Consul: one intention counts between two services, that of the highest precedence', () => {
  const any = intentions('any', '"*"', '{name: "*", action: deny}, {name: front, action: allow}');
  const pay = intentions('pay', 'pay', '{name: cart, action: allow}, {name: front, action: deny}');
  const mesh = meshOf(any + pay);
  const by = (m: LabMesh, from: string) => ask(m, 'GET /', { from: id(from) });
  assert.deepEqual([by(mesh, 'cart'), by(mesh, 'front'), by(mesh, 'other')], ['allow', 'deny', 'deny']);
  assert.equal(ask(mesh, 'GET /'), 'deny', 'nobody in particular');
  assert.equal(ask(mesh, '', { from: id('cart'), port: 9000 }), 'allow');
  // A destination by its name goes before any, whatever its source.
  const wide = meshOf(
    intentions('any', '"*"', '{name: cart, action: deny}') + intentions('pay', 'pay', '{name: "*", action: allow}'),
  );
  assert.deepEqual([by(wide, 'cart'), by(wide, 'other')], ['allow', 'allow']);
  assert.equal(ask(wide, 'GET /', { from: id('cart', 'shop', 'elsewhere') }), 'deny', 'of another trust domain');
  const other = meshOf(intentions('cart', 'cart', '{name: front, action: allow}'));
  assert.equal(by(other, 'anybody'), 'allow', 'nothing is said of pay');
});

test('Consul: permissions from the top down, whatever the spelling of a request; what none allows is refused', () => {
  const permissions = `[
    {action: deny, http: {pathPrefix: /admin}},
    {action: deny, http: {pathPrefix: /, header: [{name: x-debug, exact: "on"}]}},
    {action: allow, http: {pathExact: /post, methods: [POST, PUT]}},
    {action: allow, http: {pathRegex: "/v[0-9]+/.*", methods: [GET], header: [{name: x-team, prefix: a, ignoreCase: true}, {name: x-old, present: true, invert: true}]}},
    {action: allow, http: {pathPrefix: /ok}}]`;
  const all = intentions('all', '"*"', '{name: "*", action: allow}');
  const mesh = meshOf(intentions('pay', 'pay', `{name: cart, permissions: ${permissions}}`) + all);
  const by = (request: string, ...headers: [string, string][]) => ask(mesh, request, { from: id('cart'), headers });
  assert.deepEqual(
    [
      by('POST /post'),
      by('PUT /post'),
      by('GET /ok/x'),
      by('GET /v2/a', ['x-team', 'Alpha']),
      ask(mesh, 'GET /admin', { from: id('front') }),
    ],
    Array(5).fill('allow'),
  );
  assert.deepEqual(
    [
      by('GET /admin'),
      by('GET /ok/../admin'),
      by('GET /%61dmin'),
      by('GET /post'),
      by('GET /v2/a'),
      by('GET /v2/a', ['x-team', 'beta']),
      by('GET /v2/a', ['x-team', 'alpha'], ['x-team', 'beta']),
      by('GET /v2/a', ['x-team', 'alpha'], ['x-old', '']),
      by('GET /ok', ['x-debug', 'on']),
      by('GET /ok', ['x-debug', 'off'], ['x-debug', 'on']),
      by('GET /else'),
      ask(mesh, '', { from: id('cart'), port: 9000 }),
    ],
    Array(12).fill('deny'),
  );
  const answer = decide(mesh, 'shop/pay', { from: id('cart'), port: 8080, http: { method: 'GET', path: '/admin/x' } });
  assert.equal(answer.reference?.resource, 'ServiceIntentions/shop/pay');
  assert.equal(answer.reference?.field, 'spec.sources[0].permissions[0]');
});

const KEYS = JSON.stringify({
  keys: [{ kty: 'OKP', crv: 'Ed25519', x: Buffer.alloc(32, 1).toString('base64url') }],
});
const provider = (name: string, issuer: string, more = '', keys = Buffer.from(KEYS).toString('base64')) =>
  doc(
    'consul.hashicorp.com/v1alpha1',
    'JWTProvider',
    name,
    `{issuer: "${issuer}", jsonWebKeySet: {local: {jwks: ${keys}}}${more}}`,
  );
const withToken = (text: string, jwt: string) => text.replace('spec: {', `spec: {jwt: ${jwt}, `);

test('Consul: intentions may ask for a token beside the identity, and for what it says', () => {
  const permissions = `[
    {action: allow, http: {pathPrefix: /admin}, jwt: {providers: [{name: okta, verifyClaims: [{path: [perms, role], value: admin}]}, {name: auth0}]}},
    {action: allow, http: {pathPrefix: /}}]`;
  const mesh = meshOf(
    provider('okta', 'https://okta.test', ', audiences: [pay]') +
      provider('auth0', 'https://auth0.test') +
      // The same issuer for another audience: its tokens are none of okta's.
      provider('cart', 'https://okta.test', ', audiences: [cart]') +
      intentions('pay', 'pay', `{name: cart, permissions: ${permissions}}`) +
      withToken(
        intentions(
          'front',
          'front',
          '{name: cart, action: allow}, {name: pay, action: deny}, {name: "*", action: allow}',
        ),
        '{providers: [{name: cart}]}',
      ),
  );
  const okta = (role: unknown, aud = 'pay'): TokenQuestion => ({
    ...{ issuer: 'https://okta.test', audiences: [aud], claims: { perms: { role } } },
  });
  const by = (request: string, token?: TokenQuestion) =>
    ask(mesh, request, { from: id('cart'), ...(token && { token }) });
  assert.deepEqual(
    [by('GET /admin', okta('admin')), by('GET /admin', { issuer: 'https://auth0.test' }), by('GET /x')],
    Array(3).fill('allow'),
  );
  assert.deepEqual(
    [
      by('GET /admin'),
      by('GET /admin', okta('user')),
      by('GET /admin', okta(['admin'])),
      by('GET /admin', okta('admin', 'cart')),
      by('GET /admin', { issuer: 'https://auth1.test' }),
      by('GET /./admin'),
      ask(mesh, 'GET /admin', { from: id('front'), token: okta('admin') }),
      ask(mesh, '', { from: id('cart'), port: 9000 }),
    ],
    Array(8).fill('deny'),
  );
  // For all sources of a destination: who is denied stays so, and a connection has no token.
  const front = (from: string, token?: TokenQuestion, request = 'GET /') => {
    const [method, path] = request.split(' ');
    const http = path ? { http: { method, path, ...(token && { token }) } } : {};
    return decide(mesh, 'shop/front', { from: id(from), port: 8080, ...http }).decision;
  };
  const good = okta('x', 'cart');
  assert.deepEqual([front('cart', good), front('other', good)], ['allow', 'allow']);
  assert.deepEqual(
    [front('cart'), front('other'), front('pay', good), front('cart', okta('x')), front('cart', good, '')],
    Array(5).fill('deny'),
  );
});

test('mistakes have a place: what does not exist, what cannot be, what would say nothing', () => {
  const problem = (text: string) => {
    const { problems } = loadFiles([{ path: 'a.yaml', text: processes + text }]);
    const first = problems.find((p) => p.severity === 'error');
    const line = (processes + text).split('\n')[(first?.line ?? 0) - 1];
    assert.ok(line?.startsWith('spec:'), `${first?.message}: ${line}`);
    return `${first?.code} ${first?.field}`;
  };
  const wrong = proc('odd', 'config.linkerd.io/default-inbound-policy: all');
  const annotated = loadFiles([{ path: 'a.yaml', text: wrong.slice(4) }]).problems;
  assert.deepEqual(
    [
      problem(policy('p', onServer, '')),
      problem(server() + policy('p', onServer, authn('MeshTLSAuthentication', 'no'))),
      problem(server() + policy('p', 'kind: GRPCRoute, name: x', '')),
      problem(server() + policy('p', 'kind: Pod, name: x', '')),
      problem(server() + forRoute('x', 'GRPCRoute', GATEWAY_API, '')),
      problem(server() + apiRoute('HTTPRoute', 'r', '{backendRefs: [{name: pay, port: 80}]}')),
      problem(server() + apiRoute('HTTPRoute', 'r', '{}', 'name: pay-http, port: 80')),
      problem(server() + apiRoute('HTTPRoute', 'r', '{}', 'name: pay-http}, {group: "", kind: Service, name: pay')),
      problem(server() + apiRoute('GRPCRoute', 'r', '{}', 'name: other')),
      problem(server() + apiRoute('HTTPRoute', 'r', '{}') + apiRoute('GRPCRoute', 'g', '{}')),
      problem(server() + policy('p', onServer, `${account('a')}, ${account('b')}`)),
      problem(linkerd('MeshTLSAuthentication', 'm', '{identities: [cart.shop]}')),
      problem(linkerd('MeshTLSAuthentication', 'm', '{}')),
      problem(linkerd('NetworkAuthentication', 'n', '{networks: [{cidr: 10.0.0.0/99}]}')),
      problem(linkerd('HTTPRoute', 'r', '{parentRefs: [{kind: Service, name: pay}]}', 'v1beta3')),
      problem(server(', accessPolicy: nobody')),
      problem(server('', 'htpp')),
      annotated.map((p) => `${p.code} ${p.line}`).join(),
      problem(intentions('i', 'nobody', '{name: cart, action: allow}')),
      problem(intentions('i', 'pay', '{name: nobody, action: allow}')),
      problem(intentions('i', 'pay', '{name: cart}')),
      problem(intentions('i', 'pay', '{name: cart, action: allow}, {name: cart, action: deny}')),
      problem(intentions('i', 'pay', '{name: cart, action: allow, peer: x}')),
      problem(withToken(intentions('i', 'pay', '{name: cart, action: allow}'), '{providers: [{name: okta}]}')),
      problem(
        provider('okta', 'x') +
          intentions(
            'i',
            'pay',
            '{name: cart, permissions: [{action: deny, http: {pathPrefix: /}, jwt: {providers: [{name: okta}]}}]}',
          ),
      ),
      problem(provider('okta', 'x', '', 'e30=')),
      problem(provider('okta', 'x', '', 'no')),
      problem(provider('okta', 'x', ', locations: [{}]')),
      problem(provider('okta', 'x').replace('{local: {jwks', '{local: {filename')),
      problem(provider('okta', 'x').replace(/local: \{.*?\}/, 'remote: {uri: "ftp://x"}')),
      problem(provider('okta', 'x').replace(/local: \{.*?\}/, '')),
      problem(intentions('i', 'pay', '{name: cart, permissions: [{action: allow, http: {header: [{name: x}]}}]}')),
    ],
    [
      'WEFT-NO-TARGET spec.targetRef.name',
      'WEFT-NO-TARGET spec.requiredAuthenticationRefs[0].name',
      'WEFT-VALUE spec.targetRef.group',
      'WEFT-VALUE spec.targetRef.kind',
      'WEFT-NO-TARGET spec.targetRef.name',
      'WEFT-UNSUPPORTED spec.rules[0].backendRefs',
      'WEFT-VALUE spec.parentRefs[0].port',
      'WEFT-VALUE spec.parentRefs[1].kind',
      'WEFT-NO-TARGET spec.parentRefs[0].name',
      'WEFT-ROUTE-CONFLICT spec.parentRefs',
      'WEFT-VALUE spec.requiredAuthenticationRefs[1]',
      'WEFT-VALUE spec.identities[0]',
      'WEFT-FIELD spec',
      'WEFT-VALUE spec.networks[0].cidr',
      'WEFT-VALUE spec.parentRefs[0].kind',
      'WEFT-VALUE spec.accessPolicy',
      'WEFT-NO-TARGET spec.port',
      'WEFT-VALUE 3',
      'WEFT-NO-TARGET spec.destination.name',
      'WEFT-NO-TARGET spec.sources[0].name',
      'WEFT-FIELD spec.sources[0]',
      'WEFT-VALUE spec.sources[1]',
      'WEFT-UNSUPPORTED spec.sources[0].peer',
      'WEFT-NO-TARGET spec.jwt.providers[0].name',
      'WEFT-VALUE spec.sources[0].permissions[0].jwt',
      'WEFT-VALUE spec.jsonWebKeySet.local.jwks',
      'WEFT-VALUE spec.jsonWebKeySet.local.jwks',
      'WEFT-FIELD spec.locations[0]',
      'WEFT-UNSUPPORTED spec.jsonWebKeySet.local.filename',
      'WEFT-VALUE spec.jsonWebKeySet.remote.uri',
      'WEFT-FIELD spec.jsonWebKeySet',
      'WEFT-FIELD spec.sources[0].permissions[0].http.header[0]',
    ],
  );
});

test('a Server that closes nothing is told of', () => {
  const warned = (text: string) =>
    loadFiles([{ path: 'a.yaml', text: processes + text }]).problems.map((p) => `${p.severity} ${p.code} ${p.field}`);
  assert.deepEqual(warned(server()), []);
  assert.deepEqual(warned(server('', '9000')), []);
  assert.deepEqual(warned(server('', '9001')), ['warning WEFT-NO-TARGET spec.port']);
  assert.deepEqual(warned(server().replace('app: pay', 'app: pai')), ['warning WEFT-NO-TARGET spec.podSelector']);
});

test('Consul: the name of a JWTProvider holds for the whole mesh; what is done otherwise here is said', () => {
  const twice = provider('okta', 'x') + provider('okta', 'y').replace('namespace: shop', 'namespace: other');
  const [problem] = loadFiles([{ path: 'a.yaml', text: twice }]).problems;
  assert.deepEqual([problem.code, problem.field, problem.severity], ['WEFT-VALUE', 'metadata.name', 'error']);
  const text = provider('okta', 'x', ', cacheConfig: {size: 7}').replace(
    /local: \{.*?\}/,
    'remote: {uri: "https://keys.test/k", cacheDuration: 1h, retryPolicy: {numRetries: 3}}',
  );
  const { problems, model } = loadFiles([{ path: 'a.yaml', text }]);
  assert.deepEqual(
    problems.map((p) => `${p.severity} ${p.code} ${p.field}`),
    [
      'warning WEFT-NO-EFFECT spec.jsonWebKeySet.remote.cacheDuration',
      'warning WEFT-NO-EFFECT spec.jsonWebKeySet.remote.retryPolicy',
      'warning WEFT-NO-EFFECT spec.cacheConfig.size',
    ],
  );
  assert.deepEqual(
    keySourcesOf(model!).map((k) => k.url),
    ['https://keys.test/k'],
  );
});

test('an alias of the trust domain is the trust domain', () => {
  const settings = `---
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: mesh, namespace: istio-system}
spec: {meshConfig: {trustDomainAliases: [former]}}
`;
  const text =
    settings +
    server(', accessPolicy: cluster-authenticated') +
    intentions('pay', 'pay', '{name: cart, action: allow}');
  const by = (from: string) => ask(meshOf(text), 'GET /', { from });
  assert.deepEqual([by(id('cart')), by(id('cart', 'shop', 'former'))], ['allow', 'allow']);
  assert.deepEqual([by(id('cart', 'shop', 'other')), by(id('front', 'shop', 'former'))], ['deny', 'deny']);
  // A policy of a Server stands beside each of its routes, and is written by every name once.
  const routes =
    '{parentRefs: [{group: policy.linkerd.io, kind: Server, name: pay-http}], rules: [{matches: [{path: {value: /a}}, {path: {value: /b}}]}]}';
  const routed = meshOf(
    settings + server() + policy('cart', onServer, account('cart')) + linkerd('HTTPRoute', 'r', routes, 'v1beta3'),
  );
  const considered = decide(routed, 'shop/pay', {
    from: id('x'),
    port: 8080,
    http: { method: 'GET', path: '/b' },
  }).considered;
  const names = considered.flatMap((c) => c.because.match(/[a-z.]+\/ns\/shop\/sa\/cart/g) ?? []);
  assert.deepEqual([...new Set(names)].sort(), [id('cart'), id('cart', 'shop', 'former')]);
  assert.equal(names.length, 2 * considered.filter((c) => c.policy === 'shop/cart').length);
});
