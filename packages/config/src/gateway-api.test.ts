/** The Gateway API in files: what is refused or warned of, and with which code, at which field. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, type Instance, type Model } from '@weft/model';
import { loadFiles } from './index.ts';

const API = 'gateway.networking.k8s.io/v1';
const doc = (kind: string, name: string, spec: string, api = API, ns = 'shop', more = '') =>
  `apiVersion: ${api}\nkind: ${kind}\nmetadata: {name: ${name}, namespace: ${ns}${more}}\nspec: ${spec}\n`;
const service = (name: string, ns = 'shop', port = '{name: http, port: 80}') =>
  `${doc('Service', name, `{selector: {app: ${name}}, ports: [${port}]}`, 'v1', ns)}---\n` +
  `apiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: ${name}, namespace: ${ns}, labels: {app: ${name}}}\n` +
  'spec: {command: [run], ports: [{containerPort: 80}]}\n';
const EDGE =
  'apiVersion: weft.dev/v1alpha1\nkind: Process\n' +
  'metadata: {name: edge, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: site}}\nspec: {gateway: {}}\n';
const site = (listeners = '[{name: http, port: 8080, protocol: HTTP}]', more = 'gatewayClassName: weft') =>
  doc('Gateway', 'site', `{${more}, listeners: ${listeners}}`);
const BASE = [
  service('front'),
  service('back'),
  service('other', 'far'),
  service('db', 'shop', '{name: tcp, port: 80}'),
];

function load(...docs: string[]) {
  return loadFiles([{ path: 'mesh.yaml', text: [...BASE, EDGE, ...docs].join('---\n') }]);
}

function found(docs: string[]): string[] {
  return load(...docs).problems.map((p) => `${p.severity} ${p.code} ${p.resource} ${p.field}`);
}

const onFront = 'parentRefs: [{group: "", kind: Service, name: front}]';
const onSite = 'parentRefs: [{name: site}]';
const back = 'backendRefs: [{name: back, port: 80}]';
const http = (spec: string, name = 'r', ns = 'shop') => doc('HTTPRoute', name, `{${spec}}`, API, ns);
const rule = (text: string) => http(`${onFront}, rules: [{${text}}]`);

test('what is right passes in every served version', () => {
  for (const [kind, versions, spec] of [
    ['HTTPRoute', ['v1', 'v1beta1', 'v1alpha2'], `{${onFront}, rules: [{${back}}]}`],
    ['GRPCRoute', ['v1', 'v1alpha2'], `{${onFront}, rules: [{${back}}]}`],
    ['TCPRoute', ['v1alpha2'], `{${onFront}, rules: [{${back}}]}`],
    ['TLSRoute', ['v1alpha2', 'v1alpha3', 'v1'], `{${onFront}, hostnames: [a.test], rules: [{${back}}]}`],
  ] as const) {
    for (const v of versions) {
      const r = load(doc(kind, 'r', spec, `gateway.networking.k8s.io/${v}`));
      assert.deepEqual(r.problems, [], `${kind} ${v}`);
      assert.equal(r.model?.apiRoutes.length, 1);
    }
  }
  assert.match(load(http(onFront).replace('/v1\n', '/v1alpha9\n')).problems[0].message, /not served in/);
});

test('mistakes in one route are refused at their field', () => {
  const table: [string, string, string, RegExp][] = [
    [http('rules: []'), 'WEFT-FIELD', 'spec.parentRefs', /missing/],
    [http('parentRefs: [{kind: Mesh, name: x}]'), 'WEFT-VALUE', 'spec.parentRefs[0].kind', /Gateway .* or a Service/],
    [rule('backendRefs: [{name: back}]'), 'WEFT-FIELD', 'spec.rules[0].backendRefs[0].port', /missing/],
    [
      rule('backendRefs: [{kind: Bucket, name: b, port: 1}]'),
      'WEFT-VALUE',
      'spec.rules[0].backendRefs[0].kind',
      /Service/,
    ],
    [rule('matches: [{path: {value: x}}]'), 'WEFT-VALUE', 'spec.rules[0].matches[0].path.value', /begins with/],
    [rule('matches: [{path: {value: /a//b}}]'), 'WEFT-VALUE', 'spec.rules[0].matches[0].path.value', /\/\//],
    [rule('matches: [{path: {value: /a/../b}}]'), 'WEFT-VALUE', 'spec.rules[0].matches[0].path.value', /\.\./],
    [
      rule('matches: [{path: {type: RegularExpression, value: "(?=a)"}}]'),
      'WEFT-VALUE',
      'spec.rules[0].matches[0].path.value',
      /RE2/,
    ],
    [rule('matches: [{method: get}]'), 'WEFT-VALUE', 'spec.rules[0].matches[0].method', /GET/],
    [
      rule('matches: [{headers: [{name: a, value: "(", type: RegularExpression}]}]'),
      'WEFT-VALUE',
      'spec.rules[0].matches[0].headers[0].value',
      /RE2/,
    ],
    [
      rule('filters: [{type: ExtensionRef, extensionRef: {group: x, kind: Y, name: z}}]'),
      'WEFT-VALUE',
      'spec.rules[0].filters[0].type',
      /not supported: there are no extensions/,
    ],
    [rule('filters: [{type: ExternalAuth}]'), 'WEFT-VALUE', 'spec.rules[0].filters[0].type', /not supported/],
    [
      rule('filters: [{type: CORS, cors: {allowOrigins: [a.test]}}]'),
      'WEFT-VALUE',
      'spec.rules[0].filters[0].cors.allowOrigins[0]',
      /origin such as/,
    ],
    [rule('filters: [{type: URLRewrite}]'), 'WEFT-FIELD', 'spec.rules[0].filters[0]', /needs urlRewrite/],
    [
      rule('filters: [{type: URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {hostname: b}}]'),
      'WEFT-VALUE',
      'spec.rules[0].filters[1]',
      /one filter URLRewrite/,
    ],
    [
      rule('filters: [{type: URLRewrite, urlRewrite: {hostname: a}}, {type: RequestRedirect, requestRedirect: {}}]'),
      'WEFT-VALUE',
      'spec.rules[0].filters[0].urlRewrite',
      /may not stand/,
    ],
    [
      rule(`filters: [{type: RequestRedirect, requestRedirect: {}}], ${back}`),
      'WEFT-VALUE',
      'spec.rules[0].backendRefs',
      /may not stand/,
    ],
    [
      rule('filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]'),
      'WEFT-VALUE',
      'spec.rules[0].filters[0].requestRedirect.statusCode',
      /301, 302/,
    ],
    [
      rule(
        'matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]',
      ),
      'WEFT-VALUE',
      'spec.rules[0].filters[0].urlRewrite.path',
      /needs a match of type PathPrefix/,
    ],
    [
      rule(`timeouts: {request: 1s, backendRequest: 2s}, ${back}`),
      'WEFT-VALUE',
      'spec.rules[0].timeouts.backendRequest',
      /longer/,
    ],
    [rule('timeouts: {request: 1.5s}'), 'WEFT-VALUE', 'spec.rules[0].timeouts.request', /duration/],
    [rule('backendRef: []'), 'WEFT-FIELD', 'spec.rules[0].backendRef', /did you mean backendRefs/],
    [
      doc('GRPCRoute', 'g', `{${onFront}, rules: [{matches: [{method: {service: "a b"}}], ${back}}]}`),
      'WEFT-VALUE',
      'spec.rules[0].matches[0].method.service',
      /gRPC name/,
    ],
    [
      doc('TCPRoute', 't', `{${onFront}, rules: [{backendRefs: [{name: back, port: 80, weight: 0}]}]}`),
      'WEFT-VALUE',
      'spec.rules[0].backendRefs',
      /add up to 0/,
    ],
  ];
  for (const [text, code, field, message] of table) {
    const { problems, model } = load(text);
    const at = problems.find((p) => p.code === code && p.field === field);
    assert.match(at?.message ?? '', message, `${text}\n${JSON.stringify(problems, null, 1)}`);
    assert.equal(model, undefined);
  }
});

test('what a route names must exist, and be allowed', () => {
  const r = 'HTTPRoute/r';
  const table: [string[], string[]][] = [
    [
      [http('parentRefs: [{group: "", kind: Service, name: nix}]')],
      [`error WEFT-NO-SERVICE ${r} spec.parentRefs[0].name`],
    ],
    [
      [http('parentRefs: [{group: "", kind: Service, name: front, port: 81}]')],
      [`error WEFT-NO-PORT ${r} spec.parentRefs[0]`],
    ],
    [[rule('backendRefs: [{name: nix, port: 80}]')], [`error WEFT-NO-SERVICE ${r} spec.rules[0].backendRefs[0].name`]],
    [[rule('backendRefs: [{name: back, port: 9}]')], [`error WEFT-NO-PORT ${r} spec.rules[0].backendRefs[0].port`]],
    [[http('parentRefs: [{group: "", kind: Service, name: db}]')], [`warning WEFT-NO-EFFECT ${r} spec.parentRefs[0]`]],
    [[http(`${onFront}, hostnames: [a.test]`)], [`warning WEFT-NO-EFFECT ${r} spec.hostnames`]],
    [[http(onSite)], [`error WEFT-NO-GATEWAY ${r} spec.parentRefs[0].name`]],
    [[site(), http('parentRefs: [{name: site, sectionName: x}]')], [`error WEFT-NO-LISTENER ${r} spec.parentRefs[0]`]],
    [
      [site(), http('parentRefs: [{name: site, namespace: shop}]', 'r', 'far')],
      [`error WEFT-NOT-ALLOWED ${r} spec.parentRefs[0]`],
    ],
    [
      [
        site('[{name: http, port: 8080, protocol: HTTP, hostname: "*.test"}]'),
        http(`${onSite}, hostnames: [a.example]`),
      ],
      [`warning WEFT-NO-HOST ${r} spec.hostnames`],
    ],
    [
      [site(), doc('TCPRoute', 'r', `{${onSite}, rules: [{${back}}]}`)],
      ['error WEFT-NOT-ALLOWED TCPRoute/r spec.parentRefs[0]'],
    ],
    [[site(undefined, 'gatewayClassName: nix')], ['error WEFT-NO-CLASS Gateway/site spec.gatewayClassName']],
    [
      [
        site(undefined, 'gatewayClassName: mine'),
        `apiVersion: ${API}\nkind: GatewayClass\nmetadata: {name: mine}\nspec: {controllerName: weft.dev/gateway-controller}\n`,
      ],
      [],
    ],
    [
      [site('[{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}]')],
      ['error WEFT-NO-SECRET Gateway/site spec.listeners[0].tls.certificateRefs[0]'],
    ],
    [[site('[{name: a, port: 443, protocol: TLS, tls: {mode: Passthrough}}]')], []],
    [
      [site('[{name: a, port: 443, protocol: HTTPS, tls: {mode: Passthrough}}]')],
      ['error WEFT-VALUE Gateway/site spec.listeners[0].tls.mode'],
    ],
    [
      [site('[{name: a, port: 1, protocol: TCP, hostname: a.test, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}]')],
      [
        'error WEFT-VALUE Gateway/site spec.listeners[0].hostname',
        'error WEFT-VALUE Gateway/site spec.listeners[0].allowedRoutes.kinds[0].kind',
      ],
    ],
    [
      [
        site('[{name: a, port: 1, protocol: TCP}]'),
        doc('TCPRoute', 'r', `{${onSite}, rules: [{${back}}]}`),
        doc('TCPRoute', 's', `{${onSite}, rules: [{${back}}]}`),
      ],
      ['warning WEFT-IGNORED TCPRoute/s spec.parentRefs'],
    ],
  ];
  for (const [docs, expected] of table) assert.deepEqual(found(docs), expected, docs.join('---\n'));
});

test('another namespace is named with its ReferenceGrant only', () => {
  const far = rule('backendRefs: [{name: other, namespace: far, port: 80}]');
  const mirror =
    'filters: [{type: RequestMirror, requestMirror: {backendRef: {name: other, namespace: far, port: 80}}}]';
  const grant = (kind: string, name = '') =>
    doc(
      'ReferenceGrant',
      'g',
      `{from: [{group: gateway.networking.k8s.io, kind: ${kind}, namespace: shop}], to: [{group: "", kind: Service${name}}]}`,
      'gateway.networking.k8s.io/v1beta1',
      'far',
    );
  const refused = ['error WEFT-NO-GRANT HTTPRoute/r spec.rules[0].backendRefs[0]'];
  assert.deepEqual(found([far]), refused);
  assert.deepEqual(found([far, grant('GRPCRoute')]), refused);
  assert.deepEqual(found([far, grant('HTTPRoute', ', name: third')]), refused);
  assert.deepEqual(found([far, grant('HTTPRoute', ', name: other')]), []);
  assert.deepEqual(found([far, grant('HTTPRoute')]), []);
  assert.deepEqual(found([rule(`${mirror}, ${back}`)]), [
    'error WEFT-NO-GRANT HTTPRoute/r spec.rules[0].filters[0].requestMirror.backendRef',
  ]);
});

test('two APIs, and two kinds of route, for one thing', () => {
  const vs = (spec: string) => doc('VirtualService', 'vs', spec, 'networking.istio.io/v1');
  const route = rule(back);
  assert.deepEqual(found([route, vs('{hosts: [front], http: [{route: [{destination: {host: back}}]}]}')]), [
    'warning WEFT-IGNORED VirtualService/vs spec.http',
  ]);
  // They speak of different things
  assert.deepEqual(found([route, vs('{hosts: [front], tcp: [{route: [{destination: {host: back}}]}]}')]), []);
  const grpc = doc('GRPCRoute', 'g', `{${onFront}, rules: [{${back}}]}`);
  assert.deepEqual(found([route, grpc]), ['error WEFT-ROUTE-CONFLICT HTTPRoute/r spec.parentRefs']);
  const onHost = (kind: string, host: string) =>
    doc(kind, 'x', `{${onSite}, hostnames: [${host}], rules: [{${back}}]}`);
  assert.deepEqual(found([site(), onHost('HTTPRoute', 'a.test'), onHost('GRPCRoute', 'b.test')]), []);
  assert.equal(
    found([site(), onHost('HTTPRoute', 'a.test'), onHost('GRPCRoute', 'a.test')])[0].split(' ')[1],
    'WEFT-ROUTE-CONFLICT',
  );
  assert.deepEqual(
    found([site(), vs('{hosts: [a.test], gateways: [site], http: [{route: [{destination: {host: back}}]}]}')]),
    ['error WEFT-NO-GATEWAY VirtualService/vs spec.gateways'],
  );
});

test('BackendTLSPolicy names what exists, and goes before a DestinationRule', () => {
  const policy = (target: string, validation: string, name = 'b') =>
    doc('BackendTLSPolicy', name, `{targetRefs: [{group: "", ${target}}], validation: {${validation}}}`);
  const system = 'hostname: a.test, wellKnownCACertificates: System';
  const b = 'BackendTLSPolicy/b';
  assert.deepEqual(found([policy('kind: Service, name: nix', system)]), [
    `error WEFT-NO-SERVICE ${b} spec.targetRefs[0].name`,
  ]);
  assert.deepEqual(found([policy('kind: Service, name: front, sectionName: x', system)]), [
    `error WEFT-NO-PORT ${b} spec.targetRefs[0].sectionName`,
  ]);
  assert.deepEqual(found([policy('kind: Bucket, name: front', system)]), [
    `error WEFT-VALUE ${b} spec.targetRefs[0].kind`,
  ]);
  assert.deepEqual(found([policy('kind: Service, name: front', 'hostname: a.test')]), [
    `error WEFT-VALUE ${b} spec.validation`,
  ]);
  const ref = 'hostname: a.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: roots}]';
  assert.deepEqual(found([policy('kind: Service, name: front', ref)]), [
    `error WEFT-NO-CONFIGMAP ${b} spec.validation.caCertificateRefs[0].name`,
  ]);
  const front = policy('kind: Service, name: front', system);
  assert.deepEqual(found([front, policy('kind: Service, name: front', system, 'a')]), [
    `warning WEFT-IGNORED ${b} spec.targetRefs[0]`,
  ]);
  const rule = '{host: front, trafficPolicy: {tls: {mode: DISABLE}}}';
  assert.deepEqual(found([front, doc('DestinationRule', 'd', rule, 'networking.istio.io/v1')]), [
    'warning WEFT-IGNORED DestinationRule/d spec.trafficPolicy.tls',
  ]);
});

test('the oldest route is the first, then the alphabet', () => {
  const at = (name: string, created: string, ns = 'shop') =>
    doc('HTTPRoute', name, `{${onFront}}`.replace('name: front', 'name: front, namespace: shop'), API, ns, created);
  const r = load(
    at('b', ''),
    at('c', ', creationTimestamp: "2024-05-01T00:00:00Z"'),
    at('a', ''),
    at('d', ', creationTimestamp: "2023-05-01T00:00:00Z"'),
    at('z', '', 'far'),
  );
  assert.deepEqual(
    r.model?.apiRoutes.map((x) => x.name),
    ['d', 'c', 'z', 'a', 'b'],
  );
});

test('sessions: of a cookie or a header, by the name of the rule where it has none', () => {
  const session = (text: string) => `${back}, sessionPersistence: {${text}}`;
  const { model, problems } = load(
    http(
      `${onFront}, rules: [{${session('')}}, {${session('type: Header, sessionName: X-Session, idleTimeout: 10m')}}, {${session('absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}')}}]`,
    ),
    doc(
      'GRPCRoute',
      'g',
      `{parentRefs: [{group: "", kind: Service, name: other, namespace: far}], rules: [{${session('')}}]}`,
    ),
  );
  assert.deepEqual(
    problems.filter((p) => p.severity === 'error'),
    [],
  );
  const of = (name: string) => model?.apiRoutes.find((r) => r.name === name)?.http.map((r) => r.route.session);
  const none = { header: false, absoluteTimeoutMs: 0, idleTimeoutMs: 0, permanent: false };
  const at = (i: number) => `spec.rules[${i}].sessionPersistence`;
  assert.deepEqual(of('r'), [
    { ...none, field: at(0), name: 'weft-shop-r-0' },
    { ...none, field: at(1), name: 'x-session', header: true, idleTimeoutMs: 600_000 },
    { ...none, field: at(2), name: 'weft-shop-r-2', absoluteTimeoutMs: 3_600_000, permanent: true },
  ]);
  assert.equal(of('g')?.[0]?.name, 'weft-shop-g-0');
  assert.deepEqual(found([rule(session('cookieConfig: {lifetimeType: Permanent}'))]), [
    `error WEFT-FIELD HTTPRoute/r ${at(0)}.absoluteTimeout`,
  ]);
  assert.deepEqual(found([rule(session('type: Header, cookieConfig: {}'))]), [
    `error WEFT-VALUE HTTPRoute/r ${at(0)}.cookieConfig`,
  ]);
  assert.deepEqual(found([rule(session('sessionName: "a b"'))]), [`error WEFT-VALUE HTTPRoute/r ${at(0)}.sessionName`]);
});

test('policies of a service: sessions of routes that have none, and a budget of retries', () => {
  const policy = (spec: string, kind = 'XBackendTrafficPolicy', api = 'gateway.networking.x-k8s.io/v1alpha1') =>
    doc(kind, 'p', `{targetRefs: [{group: "", kind: Service, name: back}], ${spec}}`, api);
  const session = 'sessionPersistence: {sessionName: sid}';
  const own = `${back}, sessionPersistence: {sessionName: own}`;
  const both = 'backendRefs: [{name: back, port: 80}, {name: other, namespace: far, port: 80}]';
  const grant = doc(
    'ReferenceGrant',
    'g',
    '{from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: "", kind: Service}]}',
    `${API}beta1`,
    'far',
  );
  const routes = (policies: string): (string | undefined)[] => {
    const { model, problems } = load(
      policies,
      grant,
      http(
        `${onFront}, rules: [{matches: [{path: {value: /a}}], ${back}}, {matches: [{path: {value: /b}}], ${own}}, {matches: [{path: {value: /c}}], ${both}}]`,
      ),
    );
    assert.ok(model, JSON.stringify(problems, null, 1));
    const plan = planOf(model);
    const service = (host: string) => {
      const part = plan.get(`service/${host}.shop.svc.cluster.local`)?.kind;
      return part?.case === 'service' ? part.value.ports[0].http : [];
    };
    const names = new Map(service('front').map((r) => [r.match[0]?.uri?.kind.value, r.session?.name]));
    return [...['/a', '/b', '/c'].map((p) => names.get(p)), service('back')[0].session?.name];
  };
  assert.deepEqual(routes(policy(session)), ['sid', 'own', undefined, 'sid']);
  assert.deepEqual(routes(policy(session, 'BackendLBPolicy', 'gateway.networking.k8s.io/v1alpha2')), [
    'sid',
    'own',
    undefined,
    'sid',
  ]);
  const { model } = load(policy('retryConstraint: {budget: {percent: 30}}'));
  const cluster = model && planOf(model).get('cluster/outbound|80||back.shop.svc.cluster.local')?.kind;
  assert.equal(cluster?.case === 'cluster' && cluster.value.retryBudget?.percent, 30);
  assert.deepEqual(found([policy('retryConstraint: {minRetryRate: {count: 5, interval: 1s}}')]), [
    'warning WEFT-NO-EFFECT XBackendTrafficPolicy/p spec.retryConstraint.minRetryRate',
  ]);
  assert.deepEqual(found([policy(session).replace('name: back', 'name: gone')]), [
    'error WEFT-NO-SERVICE XBackendTrafficPolicy/p spec.targetRefs[0].name',
  ]);
});

/** The plan of a client in the namespace. */
function planOf(model: Model) {
  const instance: Instance = {
    ...{ name: 'c-0', workload: 'c', namespace: 'shop', serviceAccount: 'c', labels: {}, ports: [], injected: true },
    ...{ address: '10.0.0.9', dialAddress: '10.0.0.9', ready: true, draining: false },
  };
  const runtime = { mesh: 'm', trustDomain: 't', domain: 'cluster.local', capture: 'transparent' as const };
  return compile(model, { ...runtime, instances: [instance], vips: new Map() }, instance).parts;
}
