/** Routes of the Gateway API on services: which requests they take, and what becomes of those. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '@weft/base';
import { applyHeaderOps, findVirtualHost, routeHttp, routeTcp, routeTls } from '@weft/engine';
import { API, ask, doc, http, match, modelOf, on, portOf, service, snapshotOf, to } from './gateway-api-documents.ts';

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
