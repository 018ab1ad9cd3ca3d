/** Routes of the Gateway API, from files by the plan to the engine's decision, and through real processes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { seededRandom } from '@weft/base';
import { loadFiles } from '@weft/config';
import {
  applyHeaderOps,
  buildSnapshot,
  findGatewayServer,
  findVirtualHost,
  type RouteView,
  routeHttp,
  routeTcp,
  routeTls,
} from '@weft/engine';
import { compile, type Instance, type MeshRuntime, type Model } from '@weft/model';
import { ClientTls } from '@weft/plan';
import { EDGE_HTTP, EDGE_HTTPS, EDGE_NAME, startGatewayMesh } from './gateway-mesh.ts';
import { isRoot, peers, type TestMesh } from './harness.ts';

const EDGE_TCP = 9000;
const base64 = (mesh: TestMesh, file: string): string => readFileSync(join(mesh.folder, file)).toString('base64');

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
const BASE = [
  service('front'),
  service('a'),
  service('b'),
  service('c', 'far'),
  service('raw', 'shop', '{port: 80}'),
  EDGE,
];

function modelOf(...docs: string[]): Model {
  const r = loadFiles([{ path: 'mesh.yaml', text: [...BASE, ...docs].join('---\n') }]);
  assert.ok(r.model, JSON.stringify(r.problems, null, 1));
  return r.model;
}

function snapshotOf(model: Model, name: string) {
  const p = model.processes.find((x) => x.name === name)!;
  const instance: Instance = {
    name: `${name}-0`,
    workload: name,
    namespace: p.namespace,
    serviceAccount: 'default',
    labels: p.labels,
    address: '10.0.0.9',
    dialAddress: '10.0.0.9',
    ports: [],
    injected: true,
    gateway: p.gateway !== undefined,
    ready: true,
    draining: false,
  };
  const domain = 'cluster.local';
  const runtime: MeshRuntime = {
    mesh: 'm',
    trustDomain: domain,
    domain,
    capture: 'transparent',
    instances: [instance],
    vips: new Map(),
  };
  return buildSnapshot(compile(model, runtime, instance).parts.values(), []);
}

/** The port 80 of a service as a client sees it. */
function portOf(model: Model, client: string, host = 'front.shop.svc.cluster.local') {
  return snapshotOf(model, client).services.get(host)!.ports.get(80)!;
}

/** `b` and the like; 404; 500; `302 http://…`; with what the request becomes. */
function ask(view: RouteView, method: string, path: string, headers: string[] = [], authority = 'front'): string {
  const head = [':method', method, ':scheme', 'http', ':authority', authority, ':path', path, ...headers];
  const d = routeHttp(view, head, seededRandom(1));
  if (d.kind === 'none') return '404';
  if (d.kind === 'direct') return `${d.status}`;
  if (d.kind === 'redirect') return `${d.status} ${d.location}`;
  const name = d.clusterName.split('|')[3].split('.')[0];
  const { path: to, authority: host } = d.rewrite ?? {};
  return [name, to, host].filter((x) => x !== undefined).join(' ');
}

const on = (name: string, more = '') => `parentRefs: [{group: "", kind: Service, name: ${name}${more}}]`;
const to = (name: string) => `backendRefs: [{name: ${name}, port: 80}]`;
const http = (rules: string, name = 'r', more = '') =>
  doc('HTTPRoute', name, `{${on('front')}, rules: [${rules}]}`, API, 'shop', more);
const match = (m: string, name: string) => `{matches: [${m}], ${to(name)}}`;

test('a prefix ends with an element of the path; what no rule matches is 404', () => {
  const view = portOf(modelOf(http(match('{path: {value: /shop/}}', 'a'))), 'front');
  assert.equal(ask(view, 'GET', '/shop'), 'a');
  assert.equal(ask(view, 'GET', '/shop?x=1'), 'a');
  assert.equal(ask(view, 'GET', '/shop/1'), 'a');
  assert.equal(ask(view, 'GET', '/shopping'), '404');
  assert.equal(ask(view, 'GET', '/'), '404');
});

test('precedence: path, method, headers, parameters; then the older route, then the name', () => {
  const path = (type: string, value: string) => `path: {type: ${type}, value: ${value}}`;
  const header = 'headers: [{name: X-User, value: me}]';
  const cases: [string[], string, string, string[], string][] = [
    // Less specific rules stand first in every file
    [[http([match('{}', 'a'), match(`{${path('PathPrefix', '/x')}}`, 'b')].join())], 'GET', '/x/y', [], 'b'],
    [
      [http([match(`{${path('PathPrefix', '/x/y')}}`, 'a'), match(`{${path('Exact', '/x')}}`, 'b')].join())],
      'GET',
      '/x',
      [],
      'b',
    ],
    [
      [
        http(
          [match(`{${path('PathPrefix', '/x')}}`, 'a'), match(`{${path('RegularExpression', '/x.*')}}`, 'b')].join(),
        ),
      ],
      'GET',
      '/xy',
      [],
      'b',
    ],
    [[http([match('{}', 'a'), match('{method: POST}', 'b')].join())], 'POST', '/', [], 'b'],
    [[http([match(`{${header}}`, 'a'), match('{method: GET}', 'b')].join())], 'GET', '/', ['x-user', 'me'], 'b'],
    [
      [http([match('{queryParams: [{name: q, value: "1"}]}', 'a'), match(`{${header}}`, 'b')].join())],
      'GET',
      '/?q=1',
      ['x-user', 'me'],
      'b',
    ],
    // The path goes before everything else
    [
      [
        http(
          [
            match(`{method: GET, ${header}, ${path('PathPrefix', '/x')}}`, 'a'),
            match(`{${path('PathPrefix', '/x/y')}}`, 'b'),
          ].join(),
        ),
      ],
      'GET',
      '/x/y',
      ['x-user', 'me'],
      'b',
    ],
    // Within one route the first of two equal rules
    [[http([match('{method: GET}', 'b'), match('{method: GET}', 'a')].join())], 'GET', '/', [], 'b'],
    [
      [
        http(match('{}', 'a'), 'one', ', creationTimestamp: "2024-01-01T00:00:00Z"'),
        http(match('{}', 'b'), 'two', ', creationTimestamp: "2020-01-01T00:00:00Z"'),
      ],
      'GET',
      '/',
      [],
      'b',
    ],
    [[http(match('{}', 'a'), 'z'), http(match('{}', 'b'), 'y')], 'GET', '/', [], 'b'],
  ];
  for (const [docs, method, target, headers, expected] of cases) {
    assert.equal(ask(portOf(modelOf(...docs), 'front'), method, target, headers), expected, docs.join('---\n'));
  }
});

test('matches: patterns, several conditions at once, parameters', () => {
  const view = portOf(
    modelOf(
      http(
        match(
          '{headers: [{name: x-v, type: RegularExpression, value: "v[12]"}, {name: x-t, value: "1"}], queryParams: [{name: q, type: RegularExpression, value: "a+"}]}',
          'a',
        ),
      ),
    ),
    'front',
  );
  assert.equal(ask(view, 'GET', '/?q=aa', ['x-v', 'v1', 'x-t', '1']), 'a');
  assert.equal(ask(view, 'GET', '/?q=ab', ['x-v', 'v1', 'x-t', '1']), '404');
  assert.equal(ask(view, 'GET', '/?q=aa', ['x-v', 'v11', 'x-t', '1']), '404');
  assert.equal(ask(view, 'GET', '/?q=aa', ['x-v', 'v1']), '404');
});

test('URLRewrite: the whole path, or a prefix, as the table of the specification has it', () => {
  const rewritten = (value: string, path: string, target: string): string => {
    const filter = `filters: [{type: URLRewrite, urlRewrite: {hostname: new.test, path: ${path}}}]`;
    const view = portOf(modelOf(http(`{matches: [{path: {value: ${value}}}], ${filter}, ${to('a')}}`)), 'front');
    return ask(view, 'GET', target);
  };
  const prefix = (text: string) => `{type: ReplacePrefixMatch, replacePrefixMatch: "${text}"}`;
  for (const [value, text, target, expected] of [
    ['/foo', '/xyz', '/foo/bar', '/xyz/bar'],
    ['/foo', '/xyz/', '/foo/bar', '/xyz/bar'],
    ['/foo/', '/xyz', '/foo/bar', '/xyz/bar'],
    ['/foo/', '/xyz/', '/foo/bar', '/xyz/bar'],
    ['/foo', '/xyz', '/foo', '/xyz'],
    ['/foo', '/xyz', '/foo/', '/xyz/'],
    ['/foo', '', '/foo/bar', '/bar'],
    ['/foo', '', '/foo/', '/'],
    ['/foo', '', '/foo', '/'],
    ['/foo', '/', '/foo/', '/'],
    ['/foo', '/', '/foo', '/'],
    ['/', '/xyz', '/bar?q=1', '/xyz/bar?q=1'],
  ]) {
    assert.equal(rewritten(value, prefix(text), target), `a ${expected} new.test`, `${value} ${text} ${target}`);
  }
  const whole = '{type: ReplaceFullPath, replaceFullPath: /one}';
  assert.equal(rewritten('/foo', whole, '/foo/bar?q=1'), 'a /one?q=1 new.test');
  assert.equal(rewritten('/foo', whole, '/foo'), 'a /one new.test');
  assert.equal(rewritten('/', whole, '/'), 'a /one new.test');
  assert.equal(rewritten('/foo', whole, '/fooo'), '404');
});

test('RequestRedirect: scheme, host, port and path', () => {
  const redirected = (said: string, port = 80, path = '/'): string => {
    const model = modelOf(
      doc('Gateway', 'site', `{gatewayClassName: weft, listeners: [{name: h, port: ${port}, protocol: HTTP}]}`),
      doc(
        'HTTPRoute',
        'r',
        `{parentRefs: [{name: site}], rules: [{matches: [{path: {value: ${path}}}], filters: [{type: RequestRedirect, requestRedirect: {${said}}}]}]}`,
      ),
    );
    const server = [...snapshotOf(model, 'edge').gateways.get(port)!.servers.values()][0];
    return ask(findVirtualHost(server, 'old.test')!, 'GET', '/p?q=1', [], 'old.test');
  };
  assert.equal(redirected('scheme: https'), '302 https://old.test/p?q=1');
  assert.equal(redirected('scheme: https, statusCode: 301'), '301 https://old.test/p?q=1');
  assert.equal(redirected('hostname: new.test'), '302 http://new.test/p?q=1');
  assert.equal(redirected('hostname: new.test', 8080), '302 http://new.test:8080/p?q=1');
  assert.equal(redirected('port: 81'), '302 http://old.test:81/p?q=1');
  const prefix = 'path: {type: ReplacePrefixMatch, replacePrefixMatch: /n}';
  assert.equal(redirected(prefix, 80, '/p'), '302 http://old.test/n?q=1');
  assert.equal(redirected(prefix, 80, '/'), '302 http://old.test/n/p?q=1');
  assert.equal(redirected('path: {type: ReplaceFullPath, replaceFullPath: /n}'), '302 http://old.test/n?q=1');
});

test('weights, headers, mirrors, timeouts and retries reach the plan', () => {
  const view = portOf(
    modelOf(
      http(`{backendRefs: [{name: a, port: 80, weight: 1}, {name: b, port: 80, weight: 3, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-To, value: b}]}}]}, {name: front, port: 80, weight: 0}],
        filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-Add, value: "1"}], remove: [X-Gone]}},
          {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Out, value: "2"}]}},
          {type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 1, denominator: 4}}}],
        timeouts: {request: 10s, backendRequest: 2s}, retry: {attempts: 4, codes: [503], backoff: 100ms}}`),
    ),
    'front',
  );
  const { route } = view.http[0];
  assert.deepEqual(
    route.clusters.map((c) => [c.cluster.split('|')[3].split('.')[0], c.weight]),
    [
      ['a', 1],
      ['b', 3],
    ],
  );
  assert.equal(route.timeoutMs, 10_000);
  assert.deepEqual([route.retry?.attempts, route.retry?.perTryTimeoutMs, route.retry?.backoffBaseMs], [4, 2000, 100]);
  assert.deepEqual(route.retry?.statusCodes, [503]);
  assert.deepEqual(
    route.mirrors.map((m) => m.percent),
    [25],
  );
  const head = [':method', 'GET', ':scheme', 'http', ':authority', 'front', ':path', '/', 'x-gone', '1'];
  // The second of two backends: 3 of 4
  const d = routeHttp(view, head, { next: () => 0.9 } as never);
  assert.equal(d.kind, 'forward');
  if (d.kind !== 'forward') return;
  applyHeaderOps(head, d.requestOps);
  assert.deepEqual(head.slice(8), ['x-to', 'b', 'x-add', '1']);
  assert.deepEqual(
    d.responseOps.flatMap((o) => o.set),
    ['x-out', '2'],
  );
  assert.equal(view.http.length, 1);
});

test('CORS: origins by name and by wildcard', () => {
  const filter =
    'filters: [{type: CORS, cors: {allowOrigins: ["https://*.a.test", "https://b.test"], allowMethods: [PUT], maxAge: 60}}]';
  const view = portOf(modelOf(http(`{${filter}, ${to('a')}}`)), 'front');
  const preflight = (origin: string): string[] => {
    const head = [':method', 'OPTIONS', ':scheme', 'http', ':authority', 'front', ':path', '/', 'origin', origin];
    const d = routeHttp(view, [...head, 'access-control-request-method', 'PUT'], seededRandom(1));
    assert.equal(d.kind, 'direct');
    const answer: string[] = [];
    applyHeaderOps(answer, d.kind === 'direct' ? d.responseOps : []);
    return answer;
  };
  for (const origin of ['https://x.a.test', 'https://x.y.a.test', 'https://b.test']) {
    const said = preflight(origin);
    assert.equal(said[said.indexOf('access-control-allow-origin') + 1], origin);
    assert.equal(said[said.indexOf('access-control-max-age') + 1], '60');
  }
  for (const origin of ['https://a.test', 'http://b.test', 'https://evil.test/.a.test']) {
    const d = routeHttp(
      view,
      [':method', 'GET', ':scheme', 'http', ':authority', 'front', ':path', '/', 'origin', origin],
      seededRandom(1),
    );
    assert.equal(d.kind, 'forward');
    const answer: string[] = [];
    applyHeaderOps(answer, d.kind === 'forward' ? d.responseOps : []);
    assert.equal(answer.includes(origin), false, origin);
  }
});

test('no backend, or none with a weight, is answered with 500', () => {
  for (const rule of ['{}', '{backendRefs: [{name: a, port: 80, weight: 0}]}']) {
    assert.equal(ask(portOf(modelOf(http(rule)), 'front'), 'GET', '/'), '500');
  }
});

test('GRPCRoute: methods are paths, the longest names first', () => {
  const method = (m: string, name: string) => match(`{method: {${m}}}`, name);
  const rules = [
    method('method: Get', 'front'),
    method('service: p.Cart', 'a'),
    method('service: p.Cart, method: Put', 'b'),
    method('type: RegularExpression, service: "q[.].*", method: "[GP]et"', 'b'),
  ].join();
  const view = portOf(modelOf(doc('GRPCRoute', 'g', `{${on('front')}, rules: [${rules}]}`)), 'front');
  assert.equal(ask(view, 'POST', '/p.Cart/Put'), 'b');
  assert.equal(ask(view, 'POST', '/p.Cart/Get'), 'a');
  assert.equal(ask(view, 'POST', '/p.Other/Get'), 'front');
  assert.equal(ask(view, 'POST', '/q.Cart/Pet'), 'b');
  assert.equal(ask(view, 'POST', '/p.Cartoon/Put'), '404');
});

test('producer and consumer: clients of another namespace may have their own route', () => {
  const producer = http(`{${to('a')}}`);
  const consumer = doc(
    'HTTPRoute',
    'mine',
    `{${on('front', ', namespace: shop')}, rules: [${match('{path: {value: /c}}', 'c')}]}`,
    API,
    'far',
  );
  const vs = doc(
    'VirtualService',
    'vs',
    '{hosts: [front], http: [{route: [{destination: {host: b}}]}]}',
    'networking.istio.io/v1',
  );
  const both = modelOf(producer, consumer, vs);
  assert.equal(ask(portOf(both, 'front'), 'GET', '/c'), 'a');
  assert.equal(ask(portOf(both, 'c'), 'GET', '/c'), 'c');
  assert.equal(ask(portOf(both, 'c'), 'GET', '/'), '404');
  // Without a producer's route the VirtualService holds for everybody else
  const one = modelOf(consumer, vs);
  assert.equal(ask(portOf(one, 'front'), 'GET', '/c'), 'b');
  assert.equal(ask(portOf(one, 'c'), 'GET', '/c'), 'c');
});

test('a parent names one port of a service', () => {
  const two = service('two', 'shop', '{name: http-a, port: 80}, {name: http-b, port: 81}');
  const route = (more: string) => doc('HTTPRoute', 'r', `{${on('two', more)}, rules: [{${to('a')}}]}`);
  for (const more of [', port: 81', ', sectionName: http-b']) {
    const view = snapshotOf(modelOf(two, route(more)), 'front').services.get('two.shop.svc.cluster.local')!;
    assert.deepEqual(
      [80, 81].map((p) => ask(view.ports.get(p)!, 'GET', '/')),
      ['two', 'a'],
    );
  }
});

test('TCPRoute and TLSRoute on a service', () => {
  const view = portOf(
    modelOf(
      doc('TCPRoute', 't', `{${on('raw')}, rules: [{${to('a')}}]}`, 'gateway.networking.k8s.io/v1alpha2'),
      doc('TLSRoute', 's', `{${on('raw')}, hostnames: [one.test, "*.two.test"], rules: [{${to('b')}}]}`),
    ),
    'front',
    'raw.shop.svc.cluster.local',
  );
  const random = seededRandom(1);
  assert.equal(routeTcp(view, random)?.clusterName, 'outbound|80||a.shop.svc.cluster.local');
  for (const name of ['one.test', 'x.two.test']) {
    assert.equal(routeTls(view, name, random)?.clusterName, 'outbound|80||b.shop.svc.cluster.local');
  }
  assert.equal(routeTls(view, 'three.test', random), undefined);
});

test('on a Gateway: hostnames meet, allowedRoutes and sectionName choose, the listener of a name answers alone', () => {
  const listener = (name: string, rest: string) => `{name: ${name}, port: 80, protocol: HTTP, ${rest}}`;
  const gateway = doc(
    'Gateway',
    'site',
    `{gatewayClassName: istio, listeners: [${[
      listener('wide', 'hostname: "*.test", allowedRoutes: {namespaces: {from: All}}'),
      listener('own', 'hostname: own.test'),
      listener(
        'chosen',
        'hostname: chosen.org, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: c}}}}',
      ),
    ].join()}]}`,
  );
  const route = (name: string, hosts: string, backend: string, ns = 'shop', section = '') =>
    doc(
      'HTTPRoute',
      name,
      `{parentRefs: [{name: site, namespace: shop${section}}], hostnames: [${hosts}], rules: [{${to(backend)}}]}`,
      API,
      ns,
    );
  const model = modelOf(
    'apiVersion: v1\nkind: Namespace\nmetadata: {name: far, labels: {team: c}}\n',
    gateway,
    route('r1', 'x.test, other.example', 'a'),
    route('r2', '"*.test"', 'b', 'shop', ', sectionName: wide'),
    route('r3', 'chosen.org', 'c', 'far'),
  );
  const server = [...snapshotOf(model, 'edge').gateways.get(80)!.servers.values()][0];
  const at = (host: string): string => {
    const view = findVirtualHost(server, host);
    return view ? ask(view, 'GET', '/', [], host) : 'none';
  };
  assert.equal(at('x.test'), 'a');
  assert.equal(at('y.test'), 'b');
  assert.equal(at('own.test'), '404');
  assert.equal(at('chosen.org'), 'c');
  assert.equal(at('other.example'), 'none');
});

const PEM = (what: string) => `-----BEGIN ${what}-----\\nYQ==\\n-----END ${what}-----\\n`;

test('HTTPS listeners: the certificate of a Secret, of another namespace with its ReferenceGrant', () => {
  const secret = (name: string, ns: string) =>
    `apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: ${name}, namespace: ${ns}}\n` +
    `stringData: {tls.crt: "${PEM('CERTIFICATE')}", tls.key: "${PEM('PRIVATE KEY')}"}\n`;
  const listener = (host: string, ref: string) =>
    `{name: ${host[0]}, port: 443, protocol: HTTPS, hostname: ${host}, tls: {certificateRefs: [{${ref}}]}}`;
  const gateway = doc(
    'Gateway',
    'site',
    `{gatewayClassName: weft, listeners: [${listener('a.test', 'name: one')}, ${listener('b.test', 'name: two, namespace: far')}]}`,
  );
  const route = doc('HTTPRoute', 'r', `{parentRefs: [{name: site, sectionName: b}], rules: [{${to('b')}}]}`);
  const grant = doc(
    'ReferenceGrant',
    'g',
    '{from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}], to: [{group: "", kind: Secret}]}',
    API,
    'far',
  );
  const docs = [gateway, route, secret('one', 'shop'), secret('two', 'far')];
  const refused = loadFiles([{ path: 'mesh.yaml', text: [...BASE, ...docs].join('---\n') }]);
  assert.deepEqual(
    refused.problems.map((p) => [p.code, p.field]),
    [['WEFT-NO-GRANT', 'spec.listeners[1].tls.certificateRefs']],
  );
  const snapshot = snapshotOf(modelOf(...docs, grant), 'edge');
  const port = snapshot.gateways.get(443)!;
  const found = ['a.test', 'b.test'].map((name) => {
    const server = findGatewayServer(port, name)!;
    const view = findVirtualHost(server, name);
    return [server.server.tls?.secret, view && ask(view, 'GET', '/', [], name)];
  });
  assert.deepEqual(found, [
    ['secret/shop/one', '404'],
    ['secret/far/two', 'b'],
  ]);
  assert.deepEqual([...snapshot.secrets.keys()].sort(), ['secret/far/two', 'secret/shop/one']);
});

test('BackendTLSPolicy: clients begin TLS with its name and CA; a port named goes first; before a DestinationRule', () => {
  const policy = (name: string, target: string, validation: string) =>
    doc('BackendTLSPolicy', name, `{targetRefs: [{group: "", kind: Service, ${target}}], validation: {${validation}}}`);
  const two = service('two', 'shop', '{name: http-a, port: 80}, {name: http-b, port: 81}');
  const rule = doc(
    'DestinationRule',
    'd',
    '{host: two, trafficPolicy: {tls: {mode: DISABLE}}}',
    'networking.istio.io/v1',
  );
  const model = modelOf(
    two,
    policy('all', 'name: two', 'hostname: all.test, wellKnownCACertificates: System'),
    policy(
      'named',
      'name: two, sectionName: http-b',
      'hostname: b.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: roots}], subjectAltNames: [{type: URI, uri: "spiffe://x/y"}, {type: Hostname, hostname: z.test}]',
    ),
    `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: roots, namespace: shop}\ndata: {ca.crt: "${PEM('CERTIFICATE')}"}\n`,
    rule,
  );
  const { clusters } = snapshotOf(model, 'front');
  const of = (port: number) => {
    const { tls, tlsRef, origination: o } = clusters.get(`outbound|${port}||two.shop.svc.cluster.local`)!.cluster;
    return [tls, tlsRef, o?.sni, o?.subjectAltNames, o?.caPem.split('\n')[0]];
  };
  assert.deepEqual(of(80), [ClientTls.SIMPLE, 'BackendTLSPolicy/shop/all#spec.validation', 'all.test', [], '']);
  assert.deepEqual(of(81), [
    ClientTls.SIMPLE,
    'BackendTLSPolicy/shop/named#spec.validation',
    'b.test',
    ['spiffe://x/y', 'z.test'],
    '-----BEGIN CERTIFICATE-----',
  ]);
});

test('a Gateway and a service of real processes', async (t) => {
  const EDGE_LABEL = 'gateway.networking.k8s.io/gateway-name';
  const gateway = await startGatewayMesh(isRoot ? 'transparent' : 'explicit', {
    prepare: (mesh) => {
      mesh.write('services.yaml', `${peers({ front: { v1: 1 }, back: { v1: 1 }, canary: { v2: 1 } })}`);
      mesh.write(
        'gateway.yaml',
        `apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: ingress, namespace: shop, labels: {app: ingress, ${EDGE_LABEL}: site}}
spec: {gateway: {}, serviceAccountName: ingress}
---
${[
  doc(
    'Gateway',
    'site',
    `{gatewayClassName: weft, listeners: [{name: http, port: ${EDGE_HTTP}, protocol: HTTP, hostname: "*.test"},
      {name: bytes, port: ${EDGE_TCP}, protocol: TCP},
      {name: ended, port: ${EDGE_HTTPS}, protocol: TLS, hostname: ${EDGE_NAME}, tls: {mode: Terminate, certificateRefs: [{name: edge}]}}]}`,
  ),
  `apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: edge, namespace: shop}
data: {tls.crt: ${base64(mesh, 'edge.crt')}, tls.key: ${base64(mesh, 'edge.key')}}
`,
  doc(
    'TCPRoute',
    'bytes',
    '{parentRefs: [{name: site, sectionName: bytes}], rules: [{backendRefs: [{name: back, port: 8080}]}]}',
  ),
  doc(
    'TLSRoute',
    'ended',
    `{parentRefs: [{name: site}], hostnames: [${EDGE_NAME}], rules: [{backendRefs: [{name: canary, port: 8080}]}]}`,
  ),
  doc(
    'HTTPRoute',
    'edge',
    `{parentRefs: [{name: site}], hostnames: [shop.test], rules: [
      {matches: [{path: {value: /api}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}, {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-edge, value: "1"}]}}], backendRefs: [{name: front, port: 8080}]},
      {matches: [{path: {value: /old}}], filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /new}}}]}]}`,
  ),
  doc(
    'HTTPRoute',
    'mesh',
    `{${on('back')}, rules: [{backendRefs: [{name: back, port: 8080}]}, {matches: [{headers: [{name: x-canary, value: "true"}]}], backendRefs: [{name: canary, port: 8080}]}]}`,
  ),
].join('---\n')}`,
      );
    },
  });
  t.after(() => gateway.close());
  const curl = (path: string, ...args: string[]) =>
    execFileSync('curl', ['-s', '-i', '--max-time', '60', ...args, `http://${gateway.address}:${EDGE_HTTP}${path}`], {
      encoding: 'utf8',
    });
  const site = ['-H', 'host: shop.test'];
  const there = curl('/api/hello', ...site);
  assert.match(there, /^HTTP\/1.1 200/);
  assert.match(there, /x-edge: 1/i);
  assert.match(curl('/old/x', ...site), /^HTTP\/1.1 302[\s\S]*location: http:\/\/shop\.test:\d+\/new\r/i);
  assert.match(curl('/apis', ...site), /^HTTP\/1.1 404/);
  assert.match(curl('/api', '-H', 'host: else.example'), /^HTTP\/1.1 404/);
  // Connections: what is in them is the application's, and TLS may end at the gateway.
  const served = (url: string, ...args: string[]): { name: string } =>
    JSON.parse(execFileSync('curl', ['-s', '--max-time', '60', ...args, url], { encoding: 'utf8' }));
  assert.equal(served(`http://${gateway.address}:${EDGE_TCP}/`).name, 'back');
  const named = [
    '--resolve',
    `${EDGE_NAME}:${EDGE_HTTPS}:${gateway.address}`,
    '--cacert',
    join(gateway.mesh.folder, 'edge.crt'),
  ];
  assert.equal(served(`https://${EDGE_NAME}:${EDGE_HTTPS}/`, ...named).name, 'canary');
  assert.throws(() =>
    served(`https://other.test:${EDGE_HTTPS}/`, '-k', '--resolve', `other.test:${EDGE_HTTPS}:${gateway.address}`),
  );
  // From service to service; the rule without a condition stands first and is the less specific one.
  const asked = async (headers: Record<string, string>): Promise<any> => {
    const call = { count: 5, url: 'http://back:8080/x', headers };
    return (await gateway.mesh.ask('front', '/run', call)).json;
  };
  const plain = await asked({});
  assert.deepEqual([plain.statuses, plain.versions], [{ 200: 5 }, { v1: 5 }]);
  const canary = await asked({ 'x-canary': 'true' });
  assert.deepEqual([canary.statuses, canary.versions], [{ 200: 5 }, { v2: 5 }]);
});
