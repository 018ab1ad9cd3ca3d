/** Peak EWMA, failure accrual, and outliers by rate, against their definitions. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { type ClusterSchema, EndpointsSchema, LbPolicy, PartSchema } from '@weft/plan';
import {
  buildSnapshot,
  type EndpointOutcome,
  type EndpointView,
  failsFast,
  observeLatency,
  onEnd,
  onResult,
  onStart,
  peakEwmaLoad,
  pickEndpoint,
  sweep,
  waitedInVain,
  wasConnected,
} from './index.ts';

const seed = 4711;
console.log(`seed ${seed}`);
const random = seededRandom(seed);

function mesh(count: number, init: MessageInitShape<typeof ClusterSchema>) {
  const part = create(PartSchema, { kind: { case: 'cluster', value: { name: 'c', host: 'h', port: 80, ...init } } });
  const endpoints = Array.from({ length: count }, (_, i) => ({
    instance: `i${i}`,
    address: `10.0.0.${i + 1}`,
    port: 80,
  }));
  const snapshot = buildSnapshot([part], [create(EndpointsSchema, { host: 'h', port: 80, endpoints })]);
  const cluster = snapshot.clusters.get('c')!;
  return {
    snapshot,
    cluster,
    all: cluster.endpoints,
    pick: (now = 0, exclude?: EndpointView[], hash?: number) =>
      pickEndpoint(snapshot, cluster, random, now, exclude, hash),
    result: (e: EndpointView, outcome: EndpointOutcome, now: number) => onResult(e, cluster, outcome, now, random),
  };
}

test('peak EWMA: of two drawn the one of less load, so that shares are those of two choices', () => {
  const m = mesh(4, { lb: LbPolicy.PEAK_EWMA });
  m.all.forEach((e, i) => {
    m.result(e, { status: 200, latencyMs: 10 * (i + 1) }, 0);
  });
  const n = 60_000;
  const got = [0, 0, 0, 0];
  for (let i = 0; i < n; i++) got[m.all.indexOf(m.pick() as EndpointView)]++;
  // Of the pairs that can be drawn, the k-th best wins those with worse ones: 2 (n - k) / (n (n - 1)).
  for (const [k, p] of [1 / 2, 1 / 3, 1 / 6].entries())
    assert.ok(Math.abs(got[k] - n * p) <= 4.5 * Math.sqrt(n * p * (1 - p)), `${got}`);
  assert.equal(got[3], 0);
  for (let i = 0; i < 3; i++) onStart(m.all[0]); // 10 ms x 4 is as much as 40 ms x 1, and more than 30 ms x 1
  const first = Array.from({ length: 3000 }, () => m.pick()).filter((e) => e === m.all[1]).length;
  assert.ok(Math.abs(first - 1500) <= 4.5 * Math.sqrt(750), String(first));
});

test('peak EWMA: a peak counts at once and is forgotten with 10 s; nothing seen is 30 ms', () => {
  const { all, result } = mesh(1, { lb: LbPolicy.PEAK_EWMA });
  const { state } = all[0];
  assert.equal(peakEwmaLoad(state, 0), 30);
  observeLatency(state, 20, 0);
  observeLatency(state, 100, 1000);
  assert.equal(state.ewmaMs, 100);
  observeLatency(state, 20, 11_000);
  assert.ok(Math.abs(state.ewmaMs - (100 / Math.E + 20 * (1 - 1 / Math.E))) < 1e-9);
  assert.ok(Math.abs(peakEwmaLoad(state, 21_000) - state.ewmaMs / Math.E) < 1e-9);
  const before = state.ewmaMs;
  result(all[0], { status: 0, local: 'connect', latencyMs: 0 }, 22_000);
  assert.equal(state.ewmaMs, before, 'what never answered was not fast');
});

const accrual = { maxFailures: 3, minPenaltyMs: 1000, maxPenaltyMs: 3000, jitter: 0 };

test('failure accrual: opens, probes with one request, doubles, closes', () => {
  const m = mesh(2, { failureAccrual: accrual });
  const [bad, good] = m.all;
  const fail = (now: number) => m.result(bad, { status: 503 }, now);
  assert.deepEqual([fail(0), fail(0)], [false, false]);
  m.result(bad, { status: 200 }, 0);
  assert.deepEqual([fail(0), fail(0), fail(0)], [false, false, true]);
  for (let i = 0; i < 50; i++) assert.equal(m.pick(999), good);
  assert.equal(m.pick(1000, [good]), good, 'a retry is no probe');

  const probe = (now: number, outcome: EndpointOutcome): boolean => {
    assert.equal(m.pick(now), bad);
    onStart(bad);
    for (let i = 0; i < 50; i++) assert.equal(m.pick(now), good, 'one probe at a time');
    onEnd(bad);
    return m.result(bad, outcome, now);
  };
  const openUntil = (from: number, until: number): void => {
    for (let now = from; now < until; now += 100) assert.equal(m.pick(now), good);
  };
  assert.equal(probe(1000, { status: 0, local: 'timeout' }), true);
  openUntil(1000, 3000);
  assert.equal(probe(3000, { status: 500 }), true);
  openUntil(3000, 6000); // 4 s, but at most 3
  assert.equal(probe(6000, { status: 0 }), false);
  assert.equal(probe(6000, { status: 404 }), false, 'a probe that was cancelled says nothing: the next one does');
  assert.equal(bad.state.ejected, false);
  assert.deepEqual([fail(7000), fail(7000), fail(7000)], [false, false, true]);
  assert.equal(bad.state.ejectedUntilMs, 8000, 'the penalty begins anew');
});

test('failure accrual: no share is spared; jitter; 429', () => {
  const m = mesh(3, { failureAccrual: { ...accrual, maxFailures: 1, jitter: 0.5 } });
  for (const e of m.all) m.result(e, { status: 500 }, 0);
  assert.equal(m.pick(0), 'none');
  const until = m.all.map((e) => e.state.ejectedUntilMs);
  assert.ok(until.every((t) => t >= 1000 && t < 1500) && new Set(until).size === 3, String(until));
  const opens = (rateLimits: boolean, outcome: EndpointOutcome): boolean => {
    const one = mesh(1, { failureAccrual: { ...accrual, maxFailures: 1, rateLimits } });
    return one.result(one.all[0], outcome, 0);
  };
  assert.equal(opens(false, { status: 429 }), false);
  assert.equal(opens(true, { status: 429 }), true);
  assert.equal(opens(true, { status: 200, grpcStatus: 14 }), true);
  assert.equal(opens(true, { status: 200, grpcStatus: 5 }), false);
});

/** One interval in which endpoint i fails `failed[i]` of 100 requests; who is out after it. */
function interval(failed: number[], outlier: object): number[] {
  const base = { consecutive5xx: 0, intervalMs: 1000, maxEjectionPercent: 100, minimumHosts: 5, requestVolume: 100 };
  const m = mesh(failed.length, { outlier: { ...base, ...outlier } });
  sweep(m.snapshot, 0);
  m.all.forEach((e, i) => {
    for (let k = 0; k < 100; k++) m.result(e, { status: k < failed[i] ? 500 : 200 }, 500);
  });
  sweep(m.snapshot, 1000);
  return m.all.map((e, i) => (e.state.ejected ? i : -1)).filter((i) => i >= 0);
}

test('outliers by success rate: below mean - factor x deviation', () => {
  const failed = [0, 0, 0, 0, 50]; // mean 0.9, deviation 0.2: 0.5 is 2 deviations below
  assert.deepEqual(interval(failed, { successRateStdevFactor: 1.9 }), [4]);
  assert.deepEqual(interval(failed, { successRateStdevFactor: 2.1 }), []);
  assert.deepEqual(interval([9, 9, 9, 9, 9], { successRateStdevFactor: 1.9 }), []);
  assert.deepEqual(interval(failed, { successRateStdevFactor: 1.9, minimumHosts: 6 }), []);
  assert.deepEqual(interval(failed, { successRateStdevFactor: 1.9, requestVolume: 101 }), []);
  assert.deepEqual(interval(failed, { successRateStdevFactor: 1.9, maxEjectionPercent: 10 }), []);
});

test('outliers by percentage of failures; codes that are errors', () => {
  assert.deepEqual(interval([84, 85, 86, 0, 0], { failurePercentage: 85 }), [1, 2]);
  assert.deepEqual(interval([84, 85, 86, 0, 0], {}), []);
  const codes = mesh(1, { outlier: { consecutive5xx: 1, maxEjectionPercent: 100, errorCodes: [429, 503] } });
  const ejects = (status: number): boolean => codes.result(codes.all[0], { status }, 0);
  assert.deepEqual([ejects(500), ejects(429)], [false, true]);
});

test('panic: a hash leads to ejected endpoints too where too few are well', () => {
  const m = mesh(4, {
    lb: LbPolicy.RING_HASH,
    hash: { key: { case: 'sourceIp', value: true } },
    outlier: { minHealthPercent: 50 },
  });
  const home = m.pick(0, undefined, 12345) as EndpointView;
  home.state.ejected = true;
  assert.notEqual(m.pick(0, undefined, 12345), home);
  for (const e of m.all.slice(0, 3)) e.state.ejected = true;
  assert.equal(m.pick(0, undefined, 12345), home);
});

test('fail-fast: refuses until a trial is connected, one trial a second', () => {
  const m = mesh(2, {});
  assert.equal(failsFast(m.cluster, 0), false);
  waitedInVain(m.cluster, 10);
  assert.deepEqual(
    [11, 500, 1009].map((now) => failsFast(m.cluster, now)),
    [true, true, true],
  );
  assert.deepEqual(
    [1010, 1011, 2009, 2010].map((now) => failsFast(m.cluster, now)),
    [false, true, true, false],
  );
  wasConnected(m.cluster);
  assert.deepEqual(
    [2011, 2012].map((now) => failsFast(m.cluster, now)),
    [false, false],
  );
});
