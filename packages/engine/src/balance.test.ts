import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { type ClusterSchema, EndpointsSchema, LbPolicy, PartSchema, RetryPolicySchema } from '@weft/plan';
import {
  type AttemptOutcome,
  acquireRequest,
  buildSnapshot,
  compileRetry,
  defaultRetry,
  type EndpointView,
  onEnd,
  onResult,
  onStart,
  pickEndpoint,
  releaseRequest,
  retriesAtApplication,
  retryDecision,
  sweep,
} from './index.ts';

function mesh(count: number, init: MessageInitShape<typeof ClusterSchema> = {}, weights: number[] = []) {
  const part = create(PartSchema, { kind: { case: 'cluster', value: { name: 'c', host: 'h', port: 80, ...init } } });
  const endpoints = Array.from({ length: count }, (_, i) => ({
    instance: `i${i}`,
    address: `10.0.0.${i + 1}`,
    port: 80,
    weight: weights[i] ?? 0,
  }));
  const snapshot = buildSnapshot([part], [create(EndpointsSchema, { host: 'h', port: 80, endpoints })]);
  return { part, snapshot, cluster: snapshot.clusters.get('c')! };
}

const seed = 77;
console.log(`seed ${seed}`);
const random = seededRandom(seed);

function counts(m: ReturnType<typeof mesh>, n: number, exclude?: EndpointView[]): number[] {
  const result = m.cluster.endpoints.map(() => 0);
  for (let i = 0; i < n; i++) {
    const e = pickEndpoint(m.snapshot, m.cluster, random, 0, exclude);
    assert.notEqual(e, 'none');
    result[m.cluster.endpoints.indexOf(e as EndpointView)]++;
  }
  return result;
}

function near(count: number, n: number, p: number): void {
  assert.ok(Math.abs(count - n * p) <= 4.5 * Math.sqrt(n * p * (1 - p)), `${count} of ${n}, expected ${n * p}`);
}

test('least request: even without load, never the busiest, load stays level', () => {
  const m = mesh(4);
  for (const c of counts(m, 40_000)) near(c, 40_000, 0.25);
  onStart(m.cluster.endpoints[2]);
  assert.equal(counts(m, 2000)[2], 0);
  onEnd(m.cluster.endpoints[2]);
  for (let i = 0; i < 4000; i++) onStart(pickEndpoint(m.snapshot, m.cluster, random, 0) as EndpointView);
  const loads = m.cluster.endpoints.map((e) => e.state.active);
  assert.ok(Math.max(...loads) - Math.min(...loads) <= 8, String(loads));
});

test('least request with weights: their shares with little to do, load per weight with much', () => {
  const weights = [9, 1];
  const idle = mesh(2, {}, weights);
  near(counts(idle, 40_000)[0], 40_000, 0.9);
  // The heavy one answers something nearly always, the light one nearly never.
  onStart(idle.cluster.endpoints[0]);
  near(counts(idle, 40_000)[0], 40_000, 0.9);
  for (let i = 0; i < 20; i++) onStart(idle.cluster.endpoints[0]);
  assert.equal(counts(idle, 1000)[1], 1000);
  const busy = mesh(2, {}, weights);
  for (let i = 0; i < 4000; i++) onStart(pickEndpoint(busy.snapshot, busy.cluster, random, 0) as EndpointView);
  const [heavy, light] = busy.cluster.endpoints.map((e) => e.state.active);
  assert.ok(Math.abs(heavy - 9 * light) <= 40, `${heavy} and ${light}`);
});

test('random and round robin; weights', () => {
  for (const c of counts(mesh(5, { lb: LbPolicy.RANDOM }), 50_000)) near(c, 50_000, 0.2);
  assert.deepEqual(counts(mesh(3, { lb: LbPolicy.ROUND_ROBIN }), 9), [3, 3, 3]);
  assert.deepEqual(counts(mesh(3, { lb: LbPolicy.ROUND_ROBIN }, [5, 1, 1]), 14), [10, 2, 2]);
  near(counts(mesh(2, { lb: LbPolicy.RANDOM }, [3, 1]), 40_000)[0], 40_000, 0.75);
});

test('ejected, draining and earlier endpoints are passed over', () => {
  const m = mesh(4);
  const [a, b, c, d] = m.cluster.endpoints;
  a.state.ejected = true;
  const spread = counts(m, 30_000);
  assert.equal(spread[0], 0);
  for (const n of spread.slice(1)) near(n, 30_000, 1 / 3);
  assert.deepEqual(counts(m, 10, [b, c]), [0, 0, 0, 10]);
  const again = counts(m, 3000, [b, c, d]); // nothing else is left
  assert.equal(again[0], 0);
  assert.ok(again[1] > 0 && again[2] > 0 && again[3] > 0);
  for (const e of m.cluster.endpoints) e.state.ejected = true;
  assert.equal(pickEndpoint(m.snapshot, m.cluster, random, 0), 'none');
  assert.equal(pickEndpoint(mesh(0).snapshot, mesh(0).cluster, random, 0), 'none');

  const drained = create(EndpointsSchema, {
    host: 'h',
    port: 80,
    endpoints: [{ address: '10.0.0.1', draining: true }],
  });
  const gone = buildSnapshot([m.part], [drained]);
  assert.equal(pickEndpoint(gone, gone.clusters.get('c')!, random, 0), 'none');

  const panic = mesh(4, { outlier: { minHealthPercent: 50 } });
  for (const e of panic.cluster.endpoints.slice(0, 3)) e.state.ejected = true;
  for (const n of counts(panic, 40_000)) near(n, 40_000, 0.25);
});

test('circuit breaker counts', () => {
  const { cluster } = mesh(1, { pool: { maxRequests: 2 } });
  assert.deepEqual(
    [1, 2, 3].map(() => acquireRequest(cluster)),
    [true, true, false],
  );
  releaseRequest(cluster);
  assert.equal(acquireRequest(cluster), true);
});

test('outlier timeline: 30 s times ejections, return at a sweep, multiplier shrinks', () => {
  const m = mesh(2, {
    outlier: { consecutive5xx: 3, intervalMs: 10_000, baseEjectionMs: 30_000, maxEjectionPercent: 100 },
  });
  const e = m.cluster.endpoints[0];
  const fail = (n: number, now: number): boolean[] =>
    Array.from({ length: n }, () => onResult(e, m.cluster, { status: 500 }, now, random));
  const returned: number[] = [];
  let now = 0;
  const until = (end: number): void => {
    for (; now <= end; now += 1000) sweep(m.snapshot, now, () => returned.push(now));
  };
  until(4000);
  fail(2, 4000);
  onResult(e, m.cluster, { status: 200 }, 4000, random); // a success breaks the row
  assert.deepEqual(fail(3, 4000), [false, false, true]);
  assert.equal(e.state.ejectedUntilMs, 34_000);
  until(40_000); // 34 s are over; the sweep is at 40
  assert.deepEqual(returned, [40_000]);
  assert.deepEqual(fail(3, 41_000), [false, false, true]);
  assert.equal(e.state.timesEjected, 2);
  until(110_000); // 41 + 60 = 101 -> sweep at 110
  assert.deepEqual(returned, [40_000, 110_000]);
  until(130_000);
  assert.equal(e.state.timesEjected, 0);
  // State survives a new snapshot, and an ejection whose policy went away ends.
  fail(3, 131_000);
  const value = m.part.kind.case === 'cluster' ? m.part.kind.value : undefined;
  const set = create(EndpointsSchema, {
    host: 'h',
    port: 80,
    endpoints: m.cluster.endpoints.map((x) => ({ ...x.endpoint })),
  });
  const next = buildSnapshot([m.part], [set], m.snapshot);
  assert.equal(next.clusters.get('c')!.endpoints[0].state.ejected, true);
  const without = create(PartSchema, { kind: { case: 'cluster', value: { ...value!, outlier: undefined } } });
  assert.equal(buildSnapshot([without], [set], next).clusters.get('c')!.endpoints[0].state.ejected, false);
});

test('outlier: cap of the time, percentage, kinds of errors', () => {
  const capped = mesh(1, { outlier: { consecutive5xx: 1, maxEjectionPercent: 100, baseEjectionMs: 100_000 } });
  const [e] = capped.cluster.endpoints;
  e.state.timesEjected = 3;
  onResult(e, capped.cluster, { status: 503 }, 0, random);
  assert.equal(e.state.ejectedUntilMs, 300_000);
  const long = mesh(1, { outlier: { consecutive5xx: 1, maxEjectionPercent: 100, baseEjectionMs: 400_000 } });
  onResult(long.cluster.endpoints[0], long.cluster, { status: 503 }, 0, random);
  assert.equal(long.cluster.endpoints[0].state.ejectedUntilMs, 400_000);

  const ejectedOf = (count: number, percent: number): number => {
    const m = mesh(count, { outlier: { consecutive5xx: 1, maxEjectionPercent: percent } });
    return m.cluster.endpoints.filter((x) => onResult(x, m.cluster, { status: 500 }, 0, random)).length;
  };
  assert.deepEqual(
    [ejectedOf(9, 0), ejectedOf(10, 0), ejectedOf(3, 50), ejectedOf(4, 50), ejectedOf(3, 100)],
    [0, 1, 1, 2, 3],
  );

  const one = (outlier: object, outcome: Parameters<typeof onResult>[2]): boolean => {
    const m = mesh(1, { outlier: { maxEjectionPercent: 100, ...outlier } });
    return onResult(m.cluster.endpoints[0], m.cluster, outcome, 0, random);
  };
  assert.equal(one({ consecutive5xx: 1 }, { status: 0, local: 'connect' }), true);
  assert.equal(one({ consecutive5xx: 1 }, { status: 200, grpcStatus: 14 }), true);
  assert.equal(one({ consecutive5xx: 1 }, { status: 200, grpcStatus: 5 }), false);
  assert.equal(one({ consecutive5xx: 0 }, { status: 503 }), false);
  assert.equal(one({ consecutiveGatewayErrors: 1 }, { status: 500 }), false);
  assert.equal(one({ consecutiveGatewayErrors: 1 }, { status: 0, local: 'timeout' }), true);
  const split = { consecutive5xx: 1, splitLocalOrigin: true };
  assert.equal(one({ ...split, consecutiveLocalOrigin: 2 }, { status: 0, local: 'connect' }), false);
  assert.equal(one({ ...split, consecutiveLocalOrigin: 1 }, { status: 0, local: 'connect' }), true);
});

test('retries: conditions, attempts, backoff', () => {
  const status = (s: number, grpcStatus?: number): AttemptOutcome => ({ kind: 'status', status: s, grpcStatus });
  const reset = (phase: Extract<AttemptOutcome, { kind: 'reset' }>['phase'], refused = false): AttemptOutcome => ({
    kind: 'reset',
    phase,
    refused,
  });
  const table: [string, AttemptOutcome, boolean][] = [
    ['', status(503), false],
    ['', status(200, 14), true],
    ['', status(200, 1), true],
    ['', status(200, 13), false],
    ['', reset('connect'), true],
    ['', reset('before-headers', true), true],
    ['', reset('before-headers'), false],
    ['', reset('per-try-timeout'), false],
    ['5xx', status(500), true],
    ['5xx', reset('before-headers'), true],
    ['5xx', reset('overflow'), false],
    ['5xx', reset('after-headers'), false],
    ['gateway-error', status(500), false],
    ['gateway-error', status(504), true],
    ['gateway-error', reset('per-try-timeout'), true],
    ['reset', reset('before-headers'), true],
    ['reset-before-request', reset('before-request'), true],
    ['reset-before-request', reset('before-headers'), false],
    ['retriable-4xx', status(409), true],
    ['503,connect-failure', status(503), true],
    ['503', status(502), false],
    ['internal', status(200, 13), true],
  ];
  for (const [on, outcome, wanted] of table) {
    const policy = compileRetry(create(RetryPolicySchema, { attempts: 1, retryOn: on ? [on] : [] }));
    assert.equal(retryDecision(policy, outcome, 1, random).retry, wanted, `${on} ${JSON.stringify(outcome)}`);
  }
  assert.equal(retryDecision(defaultRetry, reset('connect'), 2, random).retry, true);
  assert.equal(retryDecision(defaultRetry, reset('connect'), 3, random).reason, 'exhausted');
  assert.equal(retryDecision(compileRetry(create(RetryPolicySchema)), reset('connect'), 1, random).retry, false);
  const many = compileRetry(create(RetryPolicySchema, { attempts: 9 }));
  const bounds = [1, 2, 3, 4, 9].map((n) => retryDecision(many, reset('connect'), n, { next: () => 1 }).delayMs);
  assert.deepEqual(bounds, [25, 75, 175, 250, 250]);
});

test('at its own application a proxy repeats what that did not process, and what is safe on a connection it closed', () => {
  const reset = (phase: 'connect' | 'before-headers', refused = false) => ({ kind: 'reset', phase, refused }) as const;
  const refused = reset('before-headers', true);
  assert.deepEqual(
    [0, 1, 2].map((tries) => retriesAtApplication(refused, tries, false, undefined)),
    [true, true, false],
  );
  assert.equal(retriesAtApplication(refused, 2, false, 3), true);
  assert.equal(retriesAtApplication(refused, 0, false, 0), false);
  assert.equal(retriesAtApplication(reset('before-headers'), 0, true, undefined), true);
  assert.equal(retriesAtApplication(reset('before-headers'), 0, false, undefined), false);
  assert.equal(retriesAtApplication(reset('connect', true), 0, true, undefined), false);
  assert.equal(retriesAtApplication({ kind: 'status', status: 503 }, 0, true, undefined), false);
});

test('retries: Retry-After up to the maximum is the wait, and up to half of it more', () => {
  const policy = compileRetry(
    create(RetryPolicySchema, { attempts: 1, retryOn: ['503'], retryAfterMaxMs: 5000, backoffBaseMs: 10 }),
  );
  const wait = (retryAfter: string | undefined, next: number, p = policy): number =>
    retryDecision(p, { kind: 'status', status: 503, retryAfter }, 1, { next: () => next }).delayMs;
  assert.deepEqual([wait('2', 0), wait('2', 0.5), wait('5', 1)], [2000, 2500, 7500]);
  for (const none of [undefined, '6', '0', '-1', '1.5', 'soon', 'Fri, 31 Dec 1999 23:59:59 GMT'])
    assert.equal(wait(none, 0.5), 5, String(none));
  assert.equal(wait('2', 0.5, { ...policy, retryAfterMaxMs: 0 }), 5);
});
