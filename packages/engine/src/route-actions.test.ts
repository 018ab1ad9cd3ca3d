import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { DerivePort, HttpRouteSchema } from '@weft/plan';
import { compileHttpRoutes } from './compile.ts';
import { applyHeaderOps, routeHttp } from './index.ts';

type RouteInit = MessageInitShape<typeof HttpRouteSchema>;

function decide(route: RouteInit, path: string, ...more: string[]) {
  const compiled = compileHttpRoutes([create(HttpRouteSchema, { ref: 'r', ...route })]);
  const view = { ...compiled, host: 'pay', clusters: new Map(), pinned: undefined };
  const pseudo = [':method', 'GET', ':scheme', 'http', ':authority', 'pay.test:8080', ':path', path];
  return routeHttp(view, [...pseudo, ...more], seededRandom(1));
}

const exact = (value: string) => ({ kind: { case: 'exact' as const, value } });
const prefix = (value: string) => ({ kind: { case: 'prefix' as const, value } });
const clusters = [{ ref: 'd', cluster: 'c', weight: 1 }];

test('rewrites by regular expression: groups, every place, the query stays, the result is canonical', () => {
  const path = (regex: string, substitution: string, from: string): string | undefined => {
    const decision = decide({ clusters, rewrite: { regex, substitution } }, from);
    assert.equal(decision.kind, 'forward');
    return decision.kind === 'forward' ? decision.rewrite?.path : undefined;
  };
  assert.equal(path('^/v(\\d+)/(.*)$', '/\\2/\\1', '/v7/pay?v1/x=1'), '/pay/7?v1/x=1');
  assert.equal(path('a', 'b', '/a/aa'), '/b/bb');
  assert.equal(
    path('/x', '/$1\\\\', '/x'),
    '/$1/',
    'a dollar is text, and so is a doubled backslash, which canonical paths have as a slash',
  );
  assert.equal(path('^/x', '', '/x/../../etc'), '/etc', 'no climbing');
  assert.equal(path('/none', '/y', '/x'), '/x');
});

test('redirects replace a prefix, and take their port from the scheme or the request', () => {
  const location = (
    redirect: RouteInit['redirect'],
    uri: ReturnType<typeof exact | typeof prefix> = prefix('/old'),
  ): string => {
    const decision = decide({ match: [{ uri }], redirect }, '/old/a?b=1');
    return decision.kind === 'redirect' ? decision.location : decision.kind;
  };
  assert.equal(location({ prefixRewrite: '/new' }), 'http://pay.test:8080/new/a?b=1');
  assert.equal(location({ prefixRewrite: '/new' }, exact('/old/a')), 'http://pay.test:8080/new?b=1');
  assert.equal(location({ scheme: 'https' }), 'https://pay.test/old/a?b=1');
  const derived = DerivePort.FROM_REQUEST_PORT;
  assert.equal(location({ scheme: 'https', derivePort: derived }), 'https://pay.test:8080/old/a?b=1');
  assert.equal(location({ derivePort: DerivePort.FROM_PROTOCOL_DEFAULT }), 'http://pay.test/old/a?b=1');
  assert.equal(location({ authority: 'new.test', derivePort: derived }), 'http://new.test:8080/old/a?b=1');
});

test('CORS: preflights of allowed origins are answered, their requests get the fields, others are left alone', () => {
  const cors = {
    allowOrigins: [exact('https://shop.test'), prefix('https://dev.')],
    allowMethods: ['GET', 'PUT'],
    allowHeaders: ['x-token'],
    exposeHeaders: ['x-total'],
    maxAgeSeconds: 600,
    allowCredentials: true,
  };
  const ask = (method: string, origin: string, policy = {}): [string, string[]] => {
    const more = ['origin', origin, 'access-control-request-method', 'PUT'];
    const route = create(HttpRouteSchema, { ref: 'r', clusters, cors: { ...cors, ...policy } });
    const view = { ...compileHttpRoutes([route]), host: 'pay', clusters: new Map(), pinned: undefined };
    const head = [':method', method, ':authority', 'pay', ':path', '/', ...more];
    const decision = routeHttp(view, head, seededRandom(1));
    const answer: string[] = [];
    if (decision.kind !== 'none') applyHeaderOps(answer, decision.responseOps);
    return [decision.kind, answer];
  };
  const shop = ['access-control-allow-origin', 'https://shop.test', 'access-control-allow-credentials', 'true'];
  assert.deepEqual(ask('OPTIONS', 'https://shop.test'), [
    'direct',
    [
      ...shop,
      ...['access-control-allow-methods', 'GET,PUT', 'access-control-allow-headers', 'x-token'],
      ...['access-control-max-age', '600'],
    ],
  ]);
  assert.deepEqual(ask('GET', 'https://shop.test'), ['forward', [...shop, 'access-control-expose-headers', 'x-total']]);
  assert.equal(ask('GET', 'https://dev.x.test')[1][1], 'https://dev.x.test');
  assert.deepEqual(ask('GET', 'https://evil.test'), ['forward', []]);
  assert.deepEqual(ask('OPTIONS', 'https://evil.test'), ['forward', []]);
  assert.deepEqual(ask('OPTIONS', 'https://evil.test', { ignoreUnmatchedPreflights: true }), ['direct', []]);
});
