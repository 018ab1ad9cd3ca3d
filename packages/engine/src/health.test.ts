/** Active health checks: when endpoints are asked, and what follows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { seededRandom, VirtualClock } from '@weft/base';
import {
  ClusterSchema,
  type Endpoints,
  EndpointsSchema,
  type HealthCheck,
  HealthCheckSchema,
  LbPolicy,
  outboundClusterName,
  type Part,
  PartSchema,
} from '@weft/plan';
import {
  buildSnapshot,
  dueChecks,
  type EndpointView,
  FIRST_CHECK_MS,
  hasHealthy,
  onHealthCheck,
  onResult,
  pickEndpoint,
  putOff,
  type Snapshot,
} from './index.ts';

const seed = 90_210;
console.log(`seed ${seed}`);

const CHECK = create(HealthCheckSchema, {
  ...{ ref: 'check', intervalMs: 60_000, timeoutMs: 15_000, unhealthyThreshold: 3, healthyThreshold: 2 },
  check: { case: 'http', value: { path: '/' } },
});

function clusterPart(
  subset: string,
  init: MessageInitShape<typeof ClusterSchema>,
  check: HealthCheck | undefined = CHECK,
): Part {
  const name = outboundClusterName(80, subset, 'h');
  const subsetLabels: Record<string, string> = subset === '' ? {} : { version: subset };
  const own = { name, host: 'h', port: 80, subset, subsetLabels };
  const value = create(ClusterSchema, { ...init, ...own, healthCheck: check });
  return create(PartSchema, { kind: { case: 'cluster', value } });
}

const WITHOUT = create(PartSchema, {
  kind: { case: 'cluster', value: { name: outboundClusterName(80, '', 'h'), host: 'h', port: 80 } },
});

function endpointsOf(count: number): Endpoints {
  const endpoints = Array.from({ length: count }, (_, i) => ({
    ...{ instance: `i${i}`, address: `10.0.0.${i + 1}`, port: 80, labels: { version: i === 0 ? 'v1' : 'v2' } },
  }));
  return create(EndpointsSchema, { host: 'h', port: 80, endpoints });
}

class Mesh {
  readonly clock = new VirtualClock();
  readonly random = seededRandom(seed);
  snapshot: Snapshot;
  /** Instances whose checks fail. */
  readonly ill = new Set<string>();
  /** Whom was asked, and when. */
  readonly asked: { instance: string; atMs: number }[] = [];
  readonly changes: string[] = [];

  constructor(count: number, init: MessageInitShape<typeof ClusterSchema> = {}, more: Partial<HealthCheck> = {}) {
    const check = { ...CHECK, ...more };
    this.snapshot = buildSnapshot([clusterPart('', init, check), clusterPart('v1', init, check)], [endpointsOf(count)]);
  }

  cluster(subset = '') {
    return this.snapshot.clusters.get(outboundClusterName(80, subset, 'h'))!;
  }

  /** Seconds go by; answers come at once. */
  run(ms: number): void {
    for (const end = this.clock.now() + ms; this.clock.now() < end; ) {
      this.clock.advance(1000);
      const now = this.clock.now();
      dueChecks(this.snapshot, now, this.random, (cluster, endpoint) => {
        const { instance } = endpoint.endpoint;
        this.asked.push({ instance, atMs: now });
        const change = onHealthCheck(this.snapshot, cluster, endpoint, !this.ill.has(instance), now, this.random);
        if (change) this.changes.push(`${instance} ${change}`);
      });
    }
  }

  picks(subset = ''): Set<string> {
    const found = new Set<string>();
    for (let i = 0; i < 300; i++) {
      const e = pickEndpoint(this.snapshot, this.cluster(subset), this.random, this.clock.now());
      found.add(e === 'none' ? 'none' : e.endpoint.instance);
    }
    return found;
  }
}

test('the first check comes soon, the next ones each interval, with jitter; one at a time', () => {
  const m = new Mesh(2, {}, { jitterPercent: 20 });
  m.run(FIRST_CHECK_MS + 1000);
  assert.deepEqual(new Set(m.asked.map((a) => a.instance)), new Set(['i0', 'i1']));
  m.run(3_600_000);
  for (const instance of ['i0', 'i1']) {
    const times = m.asked.filter((a) => a.instance === instance).map((a) => a.atMs);
    const gaps = times.slice(1).map((t, i) => t - times[i]);
    assert.ok(
      gaps.every((g) => g >= 48_000 && g <= 73_000),
      String(gaps),
    );
    assert.ok(new Set(gaps).size > 5, 'they differ');
    assert.ok(gaps.length > 50, String(gaps.length));
  }
  // One that runs is not asked again, whatever the time; one that was put off is asked at the next look.
  const [endpoint] = m.cluster().endpoints;
  const asked: EndpointView[] = [];
  const look = () => dueChecks(m.snapshot, m.clock.now(), m.random, (_c, e) => void asked.push(e));
  m.clock.advance(100_000);
  look();
  m.clock.advance(1_000_000);
  look();
  assert.equal(asked.filter((e) => e === endpoint).length, 1);
  putOff(endpoint, m.clock.now());
  look();
  assert.equal(asked.filter((e) => e === endpoint).length, 2);
});

test('out after so many failures in a row, in after so many successes; subsets too', () => {
  const m = new Mesh(3);
  m.ill.add('i0');
  m.run(11_000);
  m.run(60_000);
  assert.deepEqual(m.picks(), new Set(['i0', 'i1', 'i2']), 'two failures are none');
  m.run(60_000);
  assert.deepEqual(m.changes, ['i0 out']);
  assert.deepEqual(m.picks(), new Set(['i1', 'i2']));
  assert.deepEqual(m.picks('v1'), new Set(['none']));
  assert.equal(hasHealthy(m.cluster('v1')), false);
  m.ill.clear();
  m.run(60_000);
  assert.deepEqual(m.picks('v1'), new Set(['none']), 'one success is none');
  m.run(60_000);
  assert.deepEqual(m.changes, ['i0 out', 'i0 in']);
  assert.deepEqual(m.picks('v1'), new Set(['i0']));
});

test('a new plan keeps what is known; a plan without the check forgets it', () => {
  const m = new Mesh(2);
  m.ill.add('i0');
  m.run(200_000);
  assert.deepEqual(m.picks(), new Set(['i1']));
  const parts = [clusterPart('', { lb: LbPolicy.RANDOM })];
  // A subset that is new knows it too.
  m.snapshot = buildSnapshot([...parts, clusterPart('v1', {}), clusterPart('v2', {})], [endpointsOf(2)], m.snapshot);
  assert.deepEqual([m.picks(), m.picks('v1'), m.picks('v2')], [new Set(['i1']), new Set(['none']), new Set(['i1'])]);
  const before = m.cluster();
  m.snapshot = buildSnapshot([WITHOUT], [endpointsOf(2)], m.snapshot);
  assert.deepEqual(m.picks(), new Set(['i0', 'i1']));
  // A check that was under way says nothing any more.
  for (let i = 0; i < 5; i++) onHealthCheck(m.snapshot, before, before.endpoints[0], false, m.clock.now(), m.random);
  assert.deepEqual(m.picks(), new Set(['i0', 'i1']));
});

test('it stands beside outlier detection: neither brings back what the other put out', () => {
  const m = new Mesh(2, { outlier: { ref: 'o', consecutive5xx: 1, maxEjectionPercent: 100, baseEjectionMs: 1000 } });
  m.ill.add('i0');
  m.run(200_000);
  const [bad, good] = m.cluster().endpoints;
  onResult(good, m.cluster(), { status: 500 }, m.clock.now(), m.random);
  assert.deepEqual(m.picks(), new Set(['none']));
  m.ill.clear();
  m.run(130_000);
  assert.deepEqual([bad.state.unhealthy, good.state.ejected], [false, true]);
  assert.deepEqual(m.picks(), new Set(['i0']));
});

test('a panic threshold: where fewer are well all are taken to be', () => {
  const m = new Mesh(4, {}, { panicPercent: 50 });
  for (const i of ['i0', 'i1']) m.ill.add(i);
  m.run(200_000);
  assert.deepEqual(m.picks(), new Set(['i2', 'i3']), 'half is enough');
  m.ill.add('i2');
  m.run(200_000);
  assert.deepEqual(m.picks(), new Set(['i0', 'i1', 'i2', 'i3']));
});
