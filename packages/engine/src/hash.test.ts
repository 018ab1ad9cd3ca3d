import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { type ClusterSchema, EndpointsSchema, LbPolicy, PartSchema } from '@weft/plan';
import {
  affinityHash,
  buildSnapshot,
  type ClusterView,
  type EndpointView,
  hashText,
  NO_HASH,
  newAffinityCookie,
  pickEndpoint,
  type Snapshot,
} from './index.ts';

const seed = 5;
console.log(`seed ${seed}`);
const random = seededRandom(seed);

type Init = MessageInitShape<typeof ClusterSchema>;

function mesh(addresses: readonly string[], init: Init, weights: readonly number[] = [], previous?: Snapshot) {
  const part = create(PartSchema, { kind: { case: 'cluster', value: { name: 'c', host: 'h', port: 80, ...init } } });
  const endpoints = addresses.map((address, i) => ({ instance: address, address, port: 80, weight: weights[i] ?? 1 }));
  const snapshot = buildSnapshot([part], [create(EndpointsSchema, { host: 'h', port: 80, endpoints })], previous);
  return { snapshot, cluster: snapshot.clusters.get('c') as ClusterView };
}

type Mesh = ReturnType<typeof mesh>;

const addresses = (n: number): string[] => Array.from({ length: n }, (_, i) => `10.1.${i >> 8}.${(i & 255) + 1}`);
const keys = Array.from({ length: 20_000 }, (_, i) => hashText(`user-${i}`));

function owner(m: Mesh, hash: number): EndpointView {
  const picked = pickEndpoint(m.snapshot, m.cluster, random, 0, undefined, hash);
  assert.notEqual(picked, 'none');
  return picked as EndpointView;
}

const byHeader: Init = { hash: { key: { case: 'header', value: 'x-user' } } };
const tables: [string, Init][] = [
  ['ring hash', { ...byHeader, lb: LbPolicy.RING_HASH }],
  ['maglev', { ...byHeader, lb: LbPolicy.MAGLEV }],
];

for (const [name, init] of tables) {
  test(`${name}: one key, one endpoint; few keys move when one leaves, and only its own when one is ejected`, () => {
    const before = mesh(addresses(10), init);
    const owners = keys.map((k) => owner(before, k).endpoint.address);
    assert.deepEqual(
      keys.map((k) => owner(before, k).endpoint.address),
      owners,
    );

    const gone = before.cluster.endpoints[3];
    gone.state.ejected = true;
    for (const [i, k] of keys.entries()) {
      const now = owner(before, k).endpoint.address;
      if (owners[i] === gone.endpoint.address) assert.notEqual(now, gone.endpoint.address);
      else assert.equal(now, owners[i]);
    }
    gone.state.ejected = false;

    const after = mesh(
      addresses(10).filter((a) => a !== gone.endpoint.address),
      init,
    );
    let moved = 0;
    for (const [i, k] of keys.entries()) {
      if (owners[i] !== gone.endpoint.address && owner(after, k).endpoint.address !== owners[i]) moved++;
    }
    // Few: the others' points on the ring grow from 103 to 114 each, and Maglev trades some keys for equal shares.
    assert.ok(moved <= keys.length * 0.1, `${moved} of other endpoints' keys moved`);
  });

  test(`${name}: shares follow the weights`, () => {
    const m = mesh(addresses(4), init, [1, 1, 2, 4]);
    const seen = new Map<string, number>();
    for (const k of keys) {
      const { address } = owner(m, k).endpoint;
      seen.set(address, (seen.get(address) ?? 0) + 1);
    }
    // 1024 points: a share of p has a standard deviation of about p/sqrt(1024 p); Maglev's are equal but for the keys.
    const tolerance = name === 'maglev' ? 0.02 : 0.06;
    [1, 1, 2, 4].forEach((w, i) => {
      const share = (seen.get(addresses(4)[i]) ?? 0) / keys.length;
      assert.ok(Math.abs(share - w / 8) < tolerance, `${addresses(4)[i]}: ${share}, expected ${w / 8}`);
    });
  });
}

test('maglev gives every endpoint nearly the same number of slots', () => {
  const m = mesh(addresses(7), { ...byHeader, lb: LbPolicy.MAGLEV });
  const seen = new Map<string, number>();
  for (let slot = 0; slot < 65_537; slot++) {
    const { address } = owner(m, slot).endpoint;
    seen.set(address, (seen.get(address) ?? 0) + 1);
  }
  const counts = [...seen.values()];
  assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, String(counts));
});

test('the key: header, query parameter, caller, cookie; without it the endpoint is drawn', () => {
  const of = (key: NonNullable<Init['hash']>['key']) =>
    mesh(addresses(3), { lb: LbPolicy.RING_HASH, hash: { key } }).cluster;
  const head = [':method', 'GET', ':path', '/a?user=ann&x=1', 'cookie', 'a=1', 'cookie', 'sid="s1"', 'x-user', 'bob'];
  const hash = (key: NonNullable<Init['hash']>['key'], h: string[] = head): number =>
    affinityHash(of(key), h, '10.9.9.9');
  assert.equal(hash({ case: 'header', value: 'x-user' }), hashText('bob'));
  assert.equal(hash({ case: 'queryParam', value: 'user' }), hashText('ann'));
  assert.equal(hash({ case: 'sourceIp', value: true }), hashText('10.9.9.9'));
  assert.equal(hash({ case: 'cookie', value: { name: 'sid', path: '' } as never }), hashText('s1'));
  assert.equal(hash({ case: 'header', value: 'x-other' }), NO_HASH);
  assert.equal(affinityHash(mesh(addresses(3), {}).cluster, head, '10.9.9.9'), NO_HASH);

  const m = mesh(addresses(3), { ...byHeader, lb: LbPolicy.RING_HASH });
  const seen = new Set<string>();
  for (let i = 0; i < 200; i++) seen.add(owner(m, NO_HASH).endpoint.address);
  assert.equal(seen.size, 3);
});

test('a cookie with a ttl is made where the caller has none, and leads to the same endpoint again', () => {
  const cluster = (ttlMs?: number) =>
    mesh(addresses(5), {
      lb: LbPolicy.RING_HASH,
      hash: { key: { case: 'cookie', value: { name: 'sid', path: '/shop', ttlMs } } },
    }).cluster;
  const made = newAffinityCookie(cluster(60_000), random);
  assert.match(made?.setCookie ?? '', /^sid="[0-9a-f]{32}"; Max-Age=60; Path=\/shop; HttpOnly$/);
  const pair = made?.setCookie.split(';')[0] as string;
  assert.equal(affinityHash(cluster(60_000), ['cookie', `a=b; ${pair}`], ''), made?.hash);
  assert.doesNotMatch(newAffinityCookie(cluster(0), random)?.setCookie ?? '', /Max-Age/);
  assert.equal(newAffinityCookie(cluster(), random), undefined);
  const value = { name: 'sid', path: '', ttlMs: 0, attributes: ['SameSite=Lax', 'Secure'] };
  const more = mesh(addresses(5), { lb: LbPolicy.RING_HASH, hash: { key: { case: 'cookie', value } } }).cluster;
  assert.match(
    newAffinityCookie(more, random)?.setCookie ?? '',
    /^sid="[0-9a-f]{32}"; HttpOnly; SameSite=Lax; Secure$/,
  );
});
