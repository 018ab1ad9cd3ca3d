import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { HttpRouteSchema } from '@weft/plan';
import { compileHttpRoutes } from './compile.ts';
import { type RouteView, routeHttp } from './index.ts';

type RouteInit = MessageInitShape<typeof HttpRouteSchema>;

function viewOf(routes: RouteInit[]): RouteView {
  const compiled = compileHttpRoutes(routes.map((r) => create(HttpRouteSchema, r)));
  return { ...compiled, host: 'pay', clusters: new Map(), pinned: undefined };
}

function refOf(view: RouteView, head: string[]): string {
  const decision = routeHttp(view, head, seededRandom(1));
  return decision.kind === 'none' ? 'none' : decision.ref;
}

const answer = { directResponse: { status: 200, body: '' } };
const exact = (value: string) => ({ kind: { case: 'exact' as const, value } });
const prefix = (value: string) => ({ kind: { case: 'prefix' as const, value } });
const regex = (value: string) => ({ kind: { case: 'regex' as const, value } });
const filler: RouteInit[] = Array.from({ length: 40 }, (_, i) => ({
  ref: `f${i}`,
  match: [{ uri: prefix(`/filler/${i}/`) }],
  ...answer,
}));
const get = (path: string, ...more: string[]): string[] => [
  ...[':method', 'GET', ':scheme', 'http', ':authority', 'pay:80', ':path', path],
  ...more,
];

test('among many routes the first in order wins, however each is found', () => {
  const view = viewOf([
    ...filler,
    { ref: 'header', match: [{ headers: [{ name: 'x-tier', value: exact('gold') }] }], ...answer },
    { ref: 'regex', match: [{ uri: regex('/api/[0-9]+') }], ...answer },
    { ref: 'exact', match: [{ uri: exact('/api/list') }, { uri: exact('/api/7') }], ...answer },
    { ref: 'folded', match: [{ uri: prefix('/API/Up'), ignoreUriCase: true }], ...answer },
    { ref: 'host', match: [{ authority: exact('pay') }, { authority: exact('pay:81') }], ...answer },
    { ref: 'prefix', match: [{ uri: prefix('/api') }], ...answer },
    { ref: 'post', match: [{ uri: prefix('/'), method: exact('POST') }], ...answer },
    { ref: 'all', ...answer },
    { ref: 'never', match: [{ uri: exact('/late') }], ...answer },
  ]);
  assert.ok(view.index, 'so many are indexed');
  assert.equal(refOf(view, get('/filler/7/x')), 'f7');
  assert.equal(refOf(view, get('/filler/3')), 'host');
  assert.equal(refOf(view, get('/filler/39/x?y', 'x-tier', 'gold')), 'f39');
  assert.equal(refOf(view, get('/api/list', 'x-tier', 'gold')), 'header');
  assert.equal(
    refOf(view, get('/api/list', 'x-tier', 'gold', 'x-tier', 'gold')),
    'exact',
    'two fields are "gold,gold"',
  );
  assert.equal(refOf(view, get('/api/7')), 'regex', 'before the exact one, since it is written before');
  assert.equal(refOf(view, get('/api/list?q=1')), 'exact');
  assert.equal(refOf(view, get('/api/upper')), 'folded');
  assert.equal(refOf(view, get('/api/other')), 'host', 'an authority also matches without its port');
  const other = (path: string, method = 'GET'): string[] => [':method', method, ':authority', 'else', ':path', path];
  assert.equal(refOf(view, other('/api/other')), 'prefix');
  assert.equal(refOf(view, other('/x', 'POST')), 'post');
  assert.equal(refOf(view, other('/late')), 'all');
});

test('an indexed table decides as one that tries each route, on random rules and requests', () => {
  const seed = 20_260;
  const random = seededRandom(seed);
  const one = <T>(list: readonly T[]): T => list[Math.floor(random.next() * list.length)];
  const words = ['/', '/a', '/a/b', '/a/bc', '/A/b', '/ab', '/b', '/b/a/', '/b/a/x', ''];
  for (let round = 0; round < 40; round++) {
    const rules: RouteInit[] = Array.from({ length: 30 }, (_, i) => {
      const match = Array.from({ length: Math.floor(random.next() * 3) + 1 }, () => ({
        uri: random.next() < 0.7 ? one([exact, prefix])(one(words)) : random.next() < 0.3 ? regex('/a.*') : undefined,
        ignoreUriCase: random.next() < 0.3,
        authority: random.next() < 0.2 ? exact(one(['pay', 'pay:80', 'else'])) : undefined,
        method: random.next() < 0.3 ? exact(one(['GET', 'POST'])) : undefined,
        headers: random.next() < 0.4 ? [{ name: one(['x', 'y']), value: exact(one(['1', '2', '1,2'])) }] : [],
      }));
      return { ref: `r${i}`, match, ...answer };
    });
    const view = viewOf(rules);
    assert.ok(view.index);
    const plain: RouteView = { ...view, index: undefined };
    for (let n = 0; n < 100; n++) {
      const fields = [one(['x', 'y', 'z']), one(['1', '2']), one(['x', 'z']), one(['1', '2'])];
      const head = get(one(words.slice(0, -1)) + one(['', '?q', 'c']), ...fields);
      assert.equal(refOf(view, head), refOf(plain, head), `seed ${seed}, round ${round}: ${head.join(' ')}`);
    }
  }
});
