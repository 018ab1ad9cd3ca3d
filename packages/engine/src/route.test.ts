import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { EndpointsSchema, type HttpRouteSchema, LbPolicy, PartSchema, Protocol } from '@weft/plan';
import {
  applyHeaderOps,
  buildSnapshot,
  type ForwardDecision,
  findService,
  findServiceByAuthority,
  pickEndpoint,
  type RouteDecision,
  resolveName,
  routeHttp,
  routeTcp,
  routeTls,
} from './index.ts';

type RouteInit = MessageInitShape<typeof HttpRouteSchema>;
const HOST = 'pay.shop.svc.cluster.local';
const clusterName = (subset: string): string => `outbound|80|${subset}|${HOST}`;

function parts(http: RouteInit[]) {
  return [
    create(PartSchema, {
      kind: {
        case: 'service',
        value: {
          host: HOST,
          aliases: ['pay', 'pay.shop'],
          addresses: ['10.96.0.1'],
          ports: [
            {
              port: 80,
              protocol: Protocol.HTTP,
              http,
              tcp: [{ ref: 'tcp', clusters: [{ ref: 't0', cluster: clusterName(''), weight: 100 }] }],
            },
          ],
        },
      },
    }),
    ...['', 'v1', 'v2'].map((subset) =>
      create(PartSchema, {
        kind: {
          case: 'cluster',
          value: {
            name: clusterName(subset),
            host: HOST,
            port: 80,
            subset,
            subsetLabels: subset ? { version: subset } : {},
            lb: LbPolicy.UNSPECIFIED,
          },
        },
      }),
    ),
  ];
}

const endpoints = create(EndpointsSchema, {
  host: HOST,
  port: 80,
  endpoints: [
    { instance: 'a', address: '10.0.0.1', port: 8080, labels: { version: 'v1' } },
    { instance: 'b', address: '10.0.0.2', port: 8080, labels: { version: 'v2' } },
  ],
});

function view(http: RouteInit[]) {
  const found = findService(buildSnapshot(parts(http), [endpoints]), '10.96.0.1', 80);
  assert.ok(found);
  return found;
}

function head(path = '/', extra: string[] = [], method = 'GET'): string[] {
  return [':method', method, ':scheme', 'http', ':authority', 'pay.shop:80', ':path', path, ...extra];
}

function forward(d: RouteDecision): ForwardDecision {
  assert.equal(d.kind, 'forward');
  return d as ForwardDecision;
}

const to = (subset: string, weight = 100) => ({ ref: `to-${subset}`, cluster: clusterName(subset), weight });
const random = seededRandom(1);

/** 4.5 standard deviations of a binomial share. */
function near(count: number, n: number, p: number, what: string): void {
  const sigma = Math.sqrt(n * p * (1 - p));
  assert.ok(Math.abs(count - n * p) <= 4.5 * sigma, `${what}: ${count} of ${n}, expected ${n * p} +- ${4.5 * sigma}`);
}

test('an upgrade is matched as the GET that it is', () => {
  const get = {
    ref: 'get',
    match: [{ method: { kind: { case: 'exact' as const, value: 'GET' } } }],
    clusters: [to('v1')],
  };
  const upgrade = [
    ':method',
    'CONNECT',
    ':protocol',
    'websocket',
    ':scheme',
    'http',
    ':authority',
    'pay',
    ':path',
    '/',
  ];
  assert.equal(forward(routeHttp(view([get]), upgrade, random)).ref, 'get');
});

test('first match wins; every kind of match', () => {
  const v = view([
    { ref: 'exact', match: [{ uri: { kind: { case: 'exact', value: '/exact' } } }], clusters: [to('v1')] },
    {
      ref: 'regex',
      match: [{ uri: { kind: { case: 'regex', value: '/r/[0-9]+' } } }],
      clusters: [to('v1')],
    },
    {
      ref: 'canary',
      match: [
        {
          ref: 'm0',
          headers: [{ name: 'X-Canary-Test', value: { kind: { case: 'exact', value: 'true' } } }],
          withoutHeaders: [{ name: 'x-not' }],
        },
        { ref: 'm1', queryParams: [{ name: 'v', value: { kind: { case: 'prefix', value: '2' } } }] },
      ],
      clusters: [to('v2')],
    },
    {
      ref: 'case',
      match: [{ uri: { kind: { case: 'prefix', value: '/CaSe' } }, ignoreUriCase: true }],
      clusters: [to('v1')],
    },
    {
      ref: 'auth',
      match: [
        {
          authority: { kind: { case: 'exact', value: 'Pay.shop' } },
          method: { kind: { case: 'exact', value: 'PUT' } },
          scheme: { kind: { case: 'exact', value: 'http' } },
        },
      ],
      clusters: [to('v1')],
    },
  ]);
  const ref = (h: string[]): string => {
    const d = routeHttp(v, h, random);
    return d.kind === 'none' ? 'none' : d.ref;
  };
  assert.equal(ref(head('/exact?x')), 'exact');
  assert.equal(ref(head('/exact/')), 'none');
  assert.equal(ref(head('/r/12')), 'regex');
  assert.equal(ref(head('/r/12/x')), 'none');
  assert.equal(ref(head('/', ['x-canary-test', 'true'])), 'canary');
  assert.equal(ref(head('/', ['x-canary-test', 'true', 'x-not', ''])), 'none');
  assert.equal(ref(head('/', ['x-canary-test', 'true', 'x-canary-test', 'true'])), 'none');
  assert.equal(ref(head('/?a=1&v=%32x')), 'canary');
  assert.equal(forward(routeHttp(v, head('/?v=2'), random)).matchRef, 'm1');
  assert.equal(ref(head('/cAsE/x')), 'case');
  assert.equal(ref(head('/', [], 'PUT')), 'auth');
  assert.equal(routeTcp(v, random)?.destinationRef, 't0');
});

test('a bad regular expression refuses the plan', () => {
  const bad = (value: string) => () => view([{ ref: 'r', match: [{ uri: { kind: { case: 'regex', value } } }] }]);
  assert.throws(bad('(a'), { code: 'engine.regex', message: /^r uri/ });
  assert.throws(bad('a'.repeat(1025)), { code: 'engine.regex' });
});

test('weights and independent faults keep their shares', () => {
  const seed = 20260121;
  console.log(`seed ${seed}`);
  const rnd = seededRandom(seed);
  const fault = { ref: 'f', delayPercent: 10, delayMs: 3000, abortPercent: 5, abortStatus: 503 };
  const v = view([{ ref: 'r', clusters: [to('v1', 90), to('v2', 10)], fault }]);
  const n = 200_000;
  let second = 0;
  const kinds = [0, 0, 0, 0]; // none, delay, abort, both
  for (let i = 0; i < n; i++) {
    const d = forward(routeHttp(v, head(), rnd));
    if (d.destinationRef === 'to-v2') second++;
    kinds[(d.fault?.delayMs ? 1 : 0) + (d.fault?.abortStatus ? 2 : 0)]++;
  }
  near(second, n, 0.1, 'v2');
  near(kinds[0], n, 0.855, 'untouched');
  near(kinds[1], n, 0.095, 'delay only');
  near(kinds[2], n, 0.045, 'abort only');
  near(kinds[3], n, 0.005, 'both');
});

test('rewrite, redirect, direct response, header operations', () => {
  const rewritten = (match: string | undefined, uri: string, path: string): string | undefined => {
    const m = match === undefined ? [] : [{ uri: { kind: { case: 'prefix' as const, value: match } } }];
    return forward(routeHttp(view([{ match: m, rewrite: { uri }, clusters: [to('v1')] }]), head(path), random)).rewrite
      ?.path;
  };
  assert.equal(rewritten('/api/', '/', '/api/x?q=1'), '/x?q=1');
  assert.equal(rewritten('/api', '/', '/api/x'), '/x');
  assert.equal(rewritten('/api', '/', '/api../admin'), '/admin');
  assert.equal(rewritten('/api', '/v2', '/api'), '/v2');
  assert.equal(rewritten(undefined, '/v2/', '/x'), '/v2/x');
  const exact = { uri: { kind: { case: 'exact' as const, value: '/old' } } };
  const whole = view([{ match: [exact], rewrite: { uri: '/new', authority: 'b' }, clusters: [to('v1')] }]);
  assert.deepEqual(forward(routeHttp(whole, head('/old?q'), random)).rewrite, { path: '/new?q', authority: 'b' });

  const location = (redirect: NonNullable<RouteInit['redirect']>): string => {
    const d = routeHttp(view([{ redirect }]), head('/x?y'), random);
    assert.equal(d.kind, 'redirect');
    return d.kind === 'redirect' ? `${d.status} ${d.location}` : '';
  };
  assert.equal(location({ scheme: 'https' }), '301 https://pay.shop/x?y');
  assert.equal(location({ uri: '/z', authority: 'other', code: 302 }), '302 http://other/z?y');
  assert.equal(location({ port: 8443, scheme: 'https' }), '301 https://pay.shop:8443/x?y');
  const direct = routeHttp(view([{ directResponse: { status: 418, body: 'tea' } }]), head(), random);
  assert.ok(direct.kind === 'direct' && direct.status === 418 && direct.body === 'tea');

  const d = forward(
    routeHttp(
      view([
        {
          headers: {
            requestRemove: ['X-Gone', ':path'],
            requestSet: [
              { name: 'X-Set', value: '1' },
              { name: 'host', value: 'new' },
            ],
            requestAdd: [{ name: 'x-add', value: '2' }],
          },
          clusters: [{ ...to('v1'), headers: { requestSet: [{ name: 'x-set', value: 'dest' }] } }],
        },
      ]),
      head(),
      random,
    ),
  );
  const h = head('/', ['x-gone', 'a', 'x-set', 'b', 'x-set', 'c', 'x-add', '1', 'x-gone', 'd']);
  applyHeaderOps(h, d.requestOps);
  assert.deepEqual(h.slice(4), [':authority', 'new', ':path', '/', 'x-set', '1', 'x-add', '1', 'x-add', '2']);
});

test('a cluster that the plan does not have is told from a missing route', () => {
  const d = forward(routeHttp(view([{ clusters: [{ cluster: 'outbound|80|v9|x', weight: 1 }] }]), head(), random));
  assert.equal(d.cluster, undefined);
  assert.equal(d.clusterName, 'outbound|80|v9|x');
  assert.equal(routeHttp(view([]), head(), random).kind, 'none');
});

test('services by authority and name; headless ones keep the address that was dialled', () => {
  const list = parts([{ ref: 'r', timeoutMs: 7, clusters: [to('v1', 100)] }]);
  const snapshot = buildSnapshot(list, [endpoints]);
  for (const name of ['pay', 'PAY.shop.', HOST, '10.96.0.1', 'pay:80'])
    assert.equal(findServiceByAuthority(snapshot, name, 80)?.service.host, HOST, name);
  for (const name of ['pay:81', 'nobody', 'constructor', '__proto__', 'a b'])
    assert.equal(findServiceByAuthority(snapshot, name, 80), undefined, name);
  assert.deepEqual(resolveName(snapshot, 'Pay.')?.addresses, ['10.96.0.1']);

  const service = list[0].kind.case === 'service' ? list[0].kind.value : undefined;
  assert.ok(service);
  // By instance address of an ordinary service: that instance, without the service's routes.
  const plain = forward(routeHttp(findService(snapshot, '10.0.0.2', 8080)!, head(), random));
  assert.equal(plain.timeoutMs, 0);
  assert.notEqual(plain.cluster, undefined);
  assert.equal(
    (pickEndpoint(snapshot, plain.cluster!, random, 0) as { endpoint: { instance: string } }).endpoint.instance,
    'b',
  );
  // Headless: routes apply, the instance stays.
  service.headless = true;
  service.addresses = [];
  const second = buildSnapshot(list, [endpoints]);
  const routed = forward(routeHttp(findService(second, '10.0.0.2', 80)!, head(), random));
  assert.equal(routed.timeoutMs, 7);
  const picked = pickEndpoint(second, routed.cluster!, random, 0);
  assert.ok(picked !== 'none' && picked.endpoint.instance === 'b');
  assert.deepEqual(resolveName(second, 'pay.shop')?.addresses, ['10.0.0.1', '10.0.0.2']);
  assert.deepEqual(resolveName(second, 'b.pay.shop')?.addresses, ['10.0.0.2']);
  assert.equal(resolveName(second, 'c.pay.shop'), undefined);
});

test('unchanged parts keep their compiled form', () => {
  const list = parts([{ ref: 'r', clusters: [to('v1')] }]);
  const one = buildSnapshot(list, [endpoints]);
  const two = buildSnapshot(list, [endpoints], one);
  assert.equal(two.clusters.get(clusterName('v1')), one.clusters.get(clusterName('v1')));
  assert.equal(findService(two, '10.96.0.1', 80)!.http, findService(one, '10.96.0.1', 80)!.http);
  const moved = create(EndpointsSchema, { ...endpoints, endpoints: [...endpoints.endpoints] });
  const three = buildSnapshot(list, [moved], two);
  const [before, after] = [two, three].map((s) => s.clusters.get(clusterName('v1'))!);
  assert.notEqual(before, after);
  assert.equal(before.state, after.state);
  assert.equal(before.endpoints[0].state, after.endpoints[0].state);
});

test('TLS by server name: the most specific name, whatever the order; no route is no destination', () => {
  const tls = [
    { ref: 'any', sniHosts: ['*.example.com'], clusters: [to('v1')] },
    { ref: 'one', sniHosts: ['A.example.com', 'b.test'], clusters: [to('v2')] },
    { ref: 'late', sniHosts: ['b.test'], clusters: [to('v1')] },
    { ref: 'deep', sniHosts: ['*.x.example.com'], clusters: [to('v2')] },
  ];
  const part = create(PartSchema, {
    kind: { case: 'service', value: { host: HOST, addresses: ['10.96.0.1'], ports: [{ port: 80, tls }] } },
  });
  const port = findService(buildSnapshot([...parts([]).slice(1), part], [endpoints]), '10.96.0.1', 80);
  assert.ok(port);
  const at = (name: string): string | undefined => routeTls(port, name, random)?.ref;
  assert.deepEqual(
    ['a.example.com', 'c.EXAMPLE.com', 'y.x.example.com', 'b.test', 'example.com', '.example.com', ''].map(at),
    ['one', 'any', 'deep', 'one', undefined, undefined, undefined],
  );
});

test('connections by the address that was dialled', () => {
  const to = (subset: string) => [{ ref: `to ${subset}`, cluster: clusterName(subset), weight: 1 }];
  const tcp = [
    { ref: 'v1', clusters: to('v1'), destinationSubnets: ['10.96.1.0/24', '10.96.2.7'] },
    { ref: 'v2', clusters: to('v2'), destinationSubnets: ['fd00::/8'] },
    { ref: 'rest', clusters: to('') },
  ];
  const tls = [
    { ref: 'by name and address', sniHosts: ['a.test'], destinationSubnets: ['10.96.1.0/24'], clusters: to('v1') },
    { ref: 'by name', sniHosts: ['a.test'], clusters: to('v2') },
  ];
  const service = create(PartSchema, {
    kind: { case: 'service', value: { host: HOST, addresses: ['10.96.2.7'], ports: [{ port: 80, tcp, tls }] } },
  });
  const snapshot = buildSnapshot([service, ...parts([]).slice(1)], []);
  const view = findService(snapshot, '10.96.2.7', 80)!;
  const random = seededRandom(1);
  const of = (address?: string) => routeTcp(view, random, address)?.ref;
  assert.deepEqual(['10.96.1.200', '10.96.2.7', '10.96.2.8', 'fd12::1', 'pay.shop', undefined].map(of), [
    'v1',
    'v1',
    'rest',
    'v2',
    'v1',
    'v1',
  ]);
  assert.equal(routeTls(view, 'A.test', random, '10.96.1.1')?.ref, 'by name and address');
  assert.equal(routeTls(view, 'a.test', random, '10.96.3.1')?.ref, 'by name');
});
