import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { EndpointsSchema, PartSchema, Protocol, type SessionPersistenceSchema } from '@weft/plan';
import {
  buildSnapshot,
  type EndpointView,
  type ForwardDecision,
  findService,
  pickEndpoint,
  routeHttp,
  sessionOps,
} from './index.ts';

const seed = 5;
console.log(`seed ${seed}`);
const random = seededRandom(seed);
const HOST = 'pay.shop.svc.cluster.local';
const name = (subset: string): string => `outbound|80|${subset}|${HOST}`;
const NOW = 1_700_000_000_000;

function route(session: MessageInitShape<typeof SessionPersistenceSchema>, weights = [50, 50]) {
  const subsets = ['v1', 'v2'];
  const clusters = subsets.map((s, i) => ({ ref: s, cluster: name(s), weight: weights[i] }));
  const http = [{ ref: 'r', clusters, session: { ref: 's', ...session } }];
  const ports = [{ port: 80, protocol: Protocol.HTTP, http }];
  const snapshot = buildSnapshot(
    [
      create(PartSchema, { kind: { case: 'service', value: { host: HOST, addresses: ['10.96.0.1'], ports } } }),
      ...subsets.map((version) => {
        const value = { name: name(version), host: HOST, port: 80, subset: version, subsetLabels: { version } };
        return create(PartSchema, { kind: { case: 'cluster', value } });
      }),
    ],
    [
      create(EndpointsSchema, {
        host: HOST,
        port: 80,
        endpoints: [1, 2, 3, 4].map((i) => ({
          ...{ instance: `i${i}`, address: `10.0.0.${i}`, port: 80, labels: { version: i < 3 ? 'v1' : 'v2' } },
        })),
      }),
    ],
  );
  const view = findService(snapshot, '10.96.0.1', 80)!;
  const ask = (headers: string[] = [], wallMs = NOW) => {
    const head = [':method', 'GET', ':scheme', 'http', ':authority', 'pay', ':path', '/', ...headers];
    const decision = routeHttp(view, head, random, () => wallMs) as ForwardDecision;
    const { session } = decision;
    assert.ok(session && decision.cluster);
    const endpoint = (session.endpoint ?? pickEndpoint(snapshot, decision.cluster, random, 0)) as EndpointView;
    return { decision, session, endpoint, ops: sessionOps(session, endpoint, wallMs, false) };
  };
  return { snapshot, ask };
}

test('a session stays with its endpoint, whatever the weights draw', () => {
  const { ask } = route({ name: 'sid' });
  const seen = new Set<string>();
  for (let i = 0; i < 40; i++) {
    const first = ask();
    const cookie = first.ops?.add[1] ?? '';
    assert.match(cookie, /^sid=[0-9a-f]{8}\.[0-9a-z]+\.[0-9a-z]+; Path=\/; HttpOnly$/);
    seen.add(first.endpoint.endpoint.instance);
    const again = ask(['cookie', `a=b; ${cookie.split(';')[0]}; c=d`]);
    assert.equal(again.endpoint, first.endpoint);
    assert.equal(again.decision.clusterName, first.decision.clusterName);
    assert.equal(again.ops, undefined, 'it knows');
  }
  assert.equal(seen.size, 4);
});

test('an endpoint that is ejected, or a destination without weight, keeps none; a token of nobody is none', () => {
  const { ask } = route({ name: 'x-session', header: true });
  const first = ask();
  const [, token] = first.ops?.set ?? [];
  first.endpoint.state.ejected = true;
  const moved = ask(['x-session', token]);
  assert.equal(moved.session.endpoint, undefined);
  assert.notEqual(moved.endpoint, first.endpoint);
  assert.equal(moved.ops?.set[0], 'x-session');
  for (const bad of ['', 'x', '00000000.1.1', `${token}.1`, `${token.split('.')[0]}.-.-`, 'a'.repeat(5000)]) {
    assert.equal(ask(['x-session', bad]).session.endpoint, undefined, bad.slice(0, 40));
  }
  const drained = route({ name: 'sid' }, [100, 0]);
  const key = (e: EndpointView) => sessionOps({ ...ask().session, createdMs: 0 }, e, NOW, false)?.set[1] as string;
  const v2 = drained.snapshot.clusters.get(name('v2'))!.endpoints[0];
  assert.equal(drained.ask(['cookie', `sid=${key(v2)}`]).decision.clusterName, name('v1'));
});

test('sessions end at their age, and after nothing was heard of them', () => {
  const both = route({ name: 'sid', absoluteTimeoutMs: 100_000, idleTimeoutMs: 10_000, permanent: true });
  const cookie = (ops: { add: readonly string[] } | undefined) => ['cookie', (ops?.add[1] ?? '').split(';')[0]];
  const first = both.ask();
  assert.match(first.ops?.add[1] ?? '', /; Max-Age=100; HttpOnly$/);
  let last = first;
  let now = NOW;
  // Each answer renews the idle time; the age goes on.
  for (let i = 1; i <= 12; i++) {
    now += 8000;
    last = both.ask(cookie(last.ops), now);
    assert.equal(last.endpoint, first.endpoint, `after ${8 * i} s`);
  }
  assert.match(last.ops?.add[1] ?? '', /; Max-Age=4; HttpOnly$/);
  assert.equal(both.ask(cookie(last.ops), now + 8000).session.endpoint, undefined, 'too old');
  assert.equal(both.ask(cookie(first.ops), NOW + 10_000).session.endpoint, undefined, 'idle for too long');
  assert.equal(both.ask(cookie(first.ops), NOW + 9000).session.endpoint, first.endpoint);
  const secure = sessionOps(first.session, first.endpoint, NOW, true);
  assert.match(secure?.add[1] ?? '', /; Secure$/);
});
