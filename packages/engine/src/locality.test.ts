import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { type ClusterSchema, EndpointsSchema, localityCovers, PartSchema } from '@weft/plan';
import {
  acquireRequest,
  acquireRetry,
  buildSnapshot,
  type ClusterView,
  type EndpointView,
  pickEndpoint,
  releaseRetry,
  type Snapshot,
} from './index.ts';

const seed = 11;
console.log(`seed ${seed}`);
const random = seededRandom(seed);
type Init = MessageInitShape<typeof ClusterSchema>;

interface Place {
  at: string;
  labels?: Record<string, string>;
}

function mesh(places: readonly Place[], init: Init, previous?: Snapshot) {
  const value = { name: 'c', host: 'h', port: 80, ...init };
  const parts = [
    create(PartSchema, { kind: { case: 'self', value: { locality: 'eu/a/1', labels: { rack: 'r1', row: 'w1' } } } }),
    create(PartSchema, { kind: { case: 'cluster', value } }),
  ];
  const endpoints = places.map(({ at, labels }, i) => {
    const address = `10.0.0.${i + 1}`;
    return { instance: address, address, port: 80, locality: at, labels };
  });
  const snapshot = buildSnapshot(parts, [create(EndpointsSchema, { host: 'h', port: 80, endpoints })], previous);
  return { snapshot, cluster: snapshot.clusters.get('c') as ClusterView };
}

/** Share of each endpoint in `n` picks. */
function shares(m: ReturnType<typeof mesh>, n = 40_000, nowMs = 0): number[] {
  const seen = m.cluster.endpoints.map(() => 0);
  for (let i = 0; i < n; i++) {
    const picked = pickEndpoint(m.snapshot, m.cluster, random, nowMs);
    assert.notEqual(picked, 'none');
    seen[m.cluster.endpoints.indexOf(picked as EndpointView)]++;
  }
  return seen.map((c) => c / n);
}

function near(actual: readonly number[], expected: readonly number[], n = 40_000): void {
  expected.forEach((p, i) => {
    const sigma = Math.sqrt((p * (1 - p)) / n);
    assert.ok(Math.abs(actual[i] - p) <= 4.5 * sigma + 1e-9, `${actual} instead of ${expected}`);
  });
}

const outlier = { consecutive5xx: 5 };

test('failover: the nearest have all traffic while 5 of 7 are well, then what they cannot carry goes on', () => {
  const m = mesh([{ at: 'eu/a/1' }, { at: 'eu/a/1' }, { at: 'eu/a/2' }, { at: 'eu/b/1' }, { at: 'us/a/1' }], {
    outlier,
    locality: { failover: true },
  });
  near(shares(m), [0.5, 0.5, 0, 0, 0]);
  m.cluster.endpoints[0].state.ejected = true;
  // Half of them well: 1.4 × 50 % stay, the rest goes to the zone's other subzone.
  near(shares(m), [0, 0.7, 0.3, 0, 0]);
  m.cluster.endpoints[1].state.ejected = true;
  near(shares(m), [0, 0, 1, 0, 0]);
  m.cluster.endpoints[2].state.ejected = true;
  near(shares(m), [0, 0, 0, 1, 0]);
  m.cluster.endpoints[3].state.ejected = true;
  near(shares(m), [0, 0, 0, 0, 1]);
  m.cluster.endpoints[4].state.ejected = true;
  assert.equal(pickEndpoint(m.snapshot, m.cluster, random, 0), 'none');
});

test('failover acts only with outlier detection, and may name the region that comes next', () => {
  const places = [{ at: 'eu/a/1' }, { at: 'us/a/1' }, { at: 'ap/a/1' }];
  near(shares(mesh(places, { locality: { failover: true } })), [1 / 3, 1 / 3, 1 / 3]);
  const m = mesh(places, { outlier, locality: { failover: true, failoverRegion: 'ap' } });
  m.cluster.endpoints[0].state.ejected = true;
  near(shares(m), [0, 0, 1]);
});

test('failoverPriority orders by labels', () => {
  const places = [
    { at: '', labels: { rack: 'r2', row: 'w9' } },
    { at: '', labels: { rack: 'r1', row: 'w2' } },
    { at: '', labels: { rack: 'r1', row: 'w1' } },
  ];
  const m = mesh(places, { outlier, locality: { failover: true, failoverPriority: ['rack', 'row'] } });
  near(shares(m), [0, 0, 1]);
  m.cluster.endpoints[2].state.ejected = true;
  near(shares(m), [0, 1, 0]);
});

test('distribute: shares by locality, split by endpoints under a wildcard; an unwell locality gives up its part', () => {
  const m = mesh([{ at: 'eu/a/1' }, { at: 'eu/b/1' }, { at: 'eu/b/2' }, { at: 'us/a/1' }], {
    locality: {
      distribute: [
        { locality: 'eu/a/*', weight: 70 },
        { locality: 'eu/b/*', weight: 30 },
      ],
    },
  });
  near(shares(m), [0.7, 0.15, 0.15, 0]);
  m.cluster.endpoints[1].state.ejected = true;
  near(shares(m), [0.7 / 0.85, 0, 0.15 / 0.85, 0]);
  assert.ok(localityCovers('eu', 'eu/a/1') && localityCovers('*', '') && !localityCovers('eu/a', 'eu/b'));
});

test('warm-up: a new endpoint begins at its minimum and grows to its full share', () => {
  const rule: Init = { warmup: { durationMs: 10_000, minimumPercent: 10, aggression: 1 }, lb: 3 };
  const old = mesh([{ at: '' }], rule);
  near(shares(old, 100), [1], 100);
  const m = mesh([{ at: '' }, { at: '' }], rule, old.snapshot);
  near(shares(m, 40_000, 1000), [1 / 1.1, 0.1 / 1.1]);
  near(shares(m, 40_000, 6000), [1 / 1.5, 0.5 / 1.5]);
  near(shares(m, 40_000, 11_000), [0.5, 0.5]);
});

test('retry budget: a part of what runs, but never less than the minimum', () => {
  const { cluster } = mesh([{ at: '' }], { retryBudget: { percent: 20, minRetryConcurrency: 3 } });
  const most = (): number => {
    let n = 0;
    while (acquireRetry(cluster)) n++;
    for (let i = 0; i < n; i++) releaseRetry(cluster);
    return n;
  };
  assert.equal(most(), 3);
  for (let i = 0; i < 50; i++) acquireRequest(cluster);
  assert.equal(most(), 10);
});

test('a retry leaves the localities that were tried, the nearest of the others first, while one is well there', () => {
  const places = ['eu/a/1', 'eu/a/1', 'eu/b/1', 'eu/b/1', 'us/a/1'].map((at) => ({ at }));
  for (const m of [mesh(places, { outlier, locality: { failover: true } }), mesh(places, {})]) {
    const [first, , other, fourth, far] = m.cluster.endpoints;
    const retried = (tried: EndpointView[]): Set<EndpointView | 'none'> => {
      const seen = new Set<EndpointView | 'none'>();
      for (let i = 0; i < 300; i++) seen.add(pickEndpoint(m.snapshot, m.cluster, random, 0, tried, undefined, tried));
      return seen;
    };
    const nearest = m.cluster.groups.length > 1;
    assert.deepEqual(retried([first]), new Set(nearest ? [other, fourth] : [other, fourth, far]));
    assert.deepEqual(retried([first, other]), new Set([far]));
    // Nobody else is left: as without the rule, an endpoint that was not tried.
    const [, second] = m.cluster.endpoints;
    const all = retried([first, other, far]);
    assert.ok(!all.has(first) && (all.has(second) || all.has(fourth)), 'tried again elsewhere');
    other.state.ejected = true;
    fourth.state.ejected = true;
    assert.deepEqual(retried([first]), new Set([far]));
    other.state.ejected = false;
    fourth.state.ejected = false;
  }
});

test('zone-aware: at home as far as home can carry it, the rest where there is room', () => {
  const build = (zones: string[], peers: string[], min = 6, own = 'eu/a/1') => {
    const part = (kind: MessageInitShape<typeof PartSchema>['kind']) => create(PartSchema, { kind });
    const of = (list: string[]) =>
      list.map((zone, i) => {
        const address = `10.1.${list === peers ? 1 : 0}.${i}`;
        return { instance: address, address, port: 80, locality: `eu/${zone}/${i}` };
      });
    const value = { name: 'c', host: 'h', port: 80, locality: { zoneAwareMin: min } };
    const parts = [
      part({ case: 'self', value: { locality: own, services: ['me'] } as never }),
      part({ case: 'cluster', value: value as never }),
    ];
    const sets = [
      create(EndpointsSchema, { host: 'h', port: 80, endpoints: of(zones) }),
      create(EndpointsSchema, { host: 'me', port: 9, endpoints: of(peers) }),
    ];
    const snapshot = buildSnapshot(parts, sets);
    return { snapshot, cluster: snapshot.clusters.get('c') as ClusterView, parts, sets };
  };
  const perZone = (m: ReturnType<typeof build>): number[] => {
    const each = shares(m);
    return ['eu/a', 'eu/b', 'eu/c'].map((zone) =>
      each.reduce((sum, s, i) => sum + (m.cluster.endpoints[i].endpoint.locality.startsWith(zone) ? s : 0), 0),
    );
  };
  const even = [...'aabbcc'];
  near(perZone(build(even, [...'abc'])), [1, 0, 0]);
  // Two thirds of the clients are here, a third of the endpoints: half stays; b has room for a sixth, c for as much.
  near(perZone(build(even, [...'aaaabc'])), [1 / 2, 1 / 4, 1 / 4]);
  // Nobody of the clients is in c, all of b's room is taken.
  near(perZone(build(even, [...'aabb'])), [2 / 3, 0, 1 / 3]);
  for (const off of [
    build(even, [...'abc'], 7),
    build(even, []),
    build([...'aaaaaa'], [...'ab']),
    build(even, [...'abc'], 6, 'eu'),
  ]) {
    assert.equal(off.cluster.groups.length, 1);
  }
  const m = build(even, [...'abc']);
  for (const e of m.cluster.endpoints.slice(0, 2)) e.state.ejected = true;
  near(perZone(m), [0, 1 / 2, 1 / 2]);
  // Clients elsewhere change the shares of the same cluster.
  const more = create(EndpointsSchema, { ...m.sets[1], endpoints: [...m.sets[1].endpoints, ...m.sets[1].endpoints] });
  const next = buildSnapshot(m.parts, [m.sets[0], more], m.snapshot);
  assert.notEqual(next.clusters.get('c'), m.cluster);
  assert.equal(buildSnapshot(m.parts, [m.sets[0], more], next).clusters.get('c'), next.clusters.get('c'));
});
