import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import type { Resources } from './diff.ts';
import { encodeResponse } from './encode.ts';
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from './gen/envoy/service/discovery/v3/discovery_pb.js';
import { DeltaSession } from './session.ts';

const PART = 'type.example/Part';
const ENDPOINTS = 'type.example/Endpoints';
const text = new TextEncoder();
const resources = (o: Record<string, string>): Resources =>
  new Map(Object.entries(o).map(([name, v]) => [name, { version: v, bytes: text.encode(v) }]));
const request = (init: MessageInitShape<typeof DeltaDiscoveryRequestSchema>) =>
  create(DeltaDiscoveryRequestSchema, init);
/** What is due, as a client reads it from the wire. */
const pull = (s: DeltaSession): DeltaDiscoveryResponse[] =>
  s.pull().map((due) => {
    const bytes = Buffer.concat(encodeResponse(due));
    assert.equal(bytes.readUIntBE(0, 5), bytes.length - 5, 'the prefix of gRPC');
    return fromBinary(DeltaDiscoveryResponseSchema, bytes.subarray(5));
  });
const names = (r: { resources: { name: string }[] }) => r.resources.map((x) => x.name).sort();

test('one change is one response, and the next one waits for its answer', () => {
  const s = new DeltaSession([PART, ENDPOINTS]);
  s.set(ENDPOINTS, [resources({ e: '1' })], '1');
  s.receive(request({ typeUrl: ENDPOINTS }));
  s.receive(request({ typeUrl: PART }));
  s.set(PART, [resources({ a: '1', b: '1' })], '1');
  const [parts, endpoints, ...none] = pull(s);
  assert.equal(none.length, 0);
  assert.deepEqual([parts.typeUrl, endpoints.typeUrl], [PART, ENDPOINTS]);
  assert.deepEqual(names(parts), ['a', 'b']);

  s.set(PART, [resources({ a: '2', b: '1' })], '2');
  s.set(PART, [resources({ a: '3', c: '1' })], '3');
  assert.equal(pull(s).length, 0);
  s.receive(request({ typeUrl: PART, responseNonce: 'stale' }));
  assert.equal(pull(s).length, 0);
  s.receive(request({ typeUrl: PART, responseNonce: parts.nonce }));
  const [next] = pull(s);
  assert.deepEqual(names(next), ['a', 'c']);
  assert.deepEqual(next.removedResources, ['b']);
  assert.equal(s.status(PART).acked, '1');
  s.receive(request({ typeUrl: PART, responseNonce: next.nonce }));
  assert.deepEqual([s.status(PART).acked, s.status(PART).pending], ['3', false]);
  assert.equal(s.set(PART, [resources({ a: '3', c: '1' })], '4'), false);
  assert.equal(pull(s).length, 0);
  assert.equal(s.status(PART).acked, '4');
});

test('a NACK keeps what was acknowledged, is not repeated, and the next change carries all that differs', () => {
  const s = new DeltaSession([PART]);
  s.receive(request({ typeUrl: PART }));
  s.set(PART, [resources({ a: '1' })], '1');
  s.receive(request({ typeUrl: PART, responseNonce: pull(s)[0].nonce }));
  s.set(PART, [resources({ a: '2', b: '2' })], '2');
  s.receive(
    request({ typeUrl: PART, responseNonce: pull(s)[0].nonce, errorDetail: { code: 3, message: 'b is broken' } }),
  );
  assert.equal(pull(s).length, 0);
  assert.deepEqual([s.status(PART).error, s.status(PART).acked, s.status(PART).offered], ['b is broken', '1', '2']);
  s.set(PART, [resources({ a: '2', b: '3' })], '3');
  const [again] = pull(s);
  assert.deepEqual(names(again), ['a', 'b']);
  s.receive(request({ typeUrl: PART, responseNonce: again.nonce }));
  assert.deepEqual([s.status(PART).error, s.status(PART).acked], [undefined, '3']);
});

test('a client that comes back gets only what it lacks, and always an answer', () => {
  const s = new DeltaSession([PART]);
  s.set(PART, [resources({ a: '2', b: '1' })], '5');
  s.receive(request({ typeUrl: PART, initialResourceVersions: { a: '1', b: '1', gone: '1' } }));
  const [response] = pull(s);
  assert.deepEqual(names(response), ['a']);
  assert.deepEqual(response.removedResources, ['gone']);
  const same = new DeltaSession([PART]);
  same.set(PART, [resources({ a: '2' })], '5');
  same.receive(request({ typeUrl: PART, initialResourceVersions: { a: '2' } }));
  const [empty] = pull(same);
  assert.deepEqual([empty.resources.length, empty.removedResources.length], [0, 0]);
});

test('names: subscribed, absent, asked again and left', () => {
  const s = new DeltaSession([PART]);
  s.set(PART, [resources({ a: '1', b: '1' })], '1');
  s.receive(request({ typeUrl: PART, resourceNamesSubscribe: ['a', 'nowhere'] }));
  const [first] = pull(s);
  assert.deepEqual([names(first), first.removedResources], [['a'], ['nowhere']]);
  s.receive(request({ typeUrl: PART, responseNonce: first.nonce }));
  assert.equal(pull(s).length, 0);
  s.receive(request({ typeUrl: PART, resourceNamesSubscribe: ['a', 'b'] }));
  const [second] = pull(s);
  assert.deepEqual(names(second), ['a', 'b']);
  s.receive(request({ typeUrl: PART, responseNonce: second.nonce, resourceNamesUnsubscribe: ['b'] }));
  s.set(PART, [resources({ a: '1', b: '2', nowhere: '1' })], '2');
  assert.deepEqual(names(pull(s)[0]), ['nowhere']);
  assert.throws(() => s.receive(request({ typeUrl: 'other' })), { code: 'xds/unknown-type' });
});

test('names beside everything change nothing but that they are answered, and who looks at them sees them', () => {
  const s = new DeltaSession([PART]);
  const shared = resources({ a: '1', b: '1', c: '1' });
  s.set(PART, [shared], '1');
  const ask = (init: MessageInitShape<typeof DeltaDiscoveryRequestSchema>) =>
    s.receive(request({ typeUrl: PART, ...init }));
  const ack = (response: DeltaDiscoveryResponse) => ask({ responseNonce: response.nonce });
  assert.equal(ask({ resourceNamesSubscribe: ['*', 'a', 'nowhere'] }), true);
  assert.deepEqual([...s.names(PART)], ['a', 'nowhere']);
  const [first] = pull(s);
  assert.deepEqual([names(first), first.removedResources], [['a', 'b', 'c'], ['nowhere']]);
  assert.equal(ack(first), false);
  assert.deepEqual([pull(s).length, s.status(PART).current], [0, true]);

  // Everything that changes comes, as the same object for all who take the step.
  s.set(PART, [resources({ a: '2', b: '2', c: '1' })], '2');
  const [second] = pull(s);
  assert.deepEqual(names(second), ['a', 'b']);
  // Meanwhile it names one that it has, and one that just changed again.
  ask({ resourceNamesSubscribe: ['b', 'c'] });
  s.set(PART, [resources({ a: '2', b: '3', c: '1' })], '3');
  assert.equal(pull(s).length, 0);
  ack(second);
  const [third] = pull(s);
  assert.deepEqual(
    [third.resources.map((r) => `${r.name} ${r.version}`).sort(), third.removedResources],
    [['b 3', 'c 1'], []],
  );
  ack(third);
  // Who leaves a name is told that it still has it; what was never named is no name that is left.
  ask({ resourceNamesUnsubscribe: ['c', 'x'] });
  const [fourth] = pull(s);
  assert.deepEqual([names(fourth), fourth.removedResources], [['c'], []]);
  ack(fourth);
  assert.deepEqual([...s.names(PART)], ['a', 'nowhere', 'b']);
  s.set(PART, [resources({ a: '2' })], '4');
  const [fifth] = pull(s);
  assert.deepEqual([names(fifth), [...fifth.removedResources].sort()], [[], ['b', 'c']]);
  ack(fifth);
  // Without everything, only names are left.
  ask({ resourceNamesUnsubscribe: ['*'] });
  s.set(PART, [resources({ a: '5', d: '1' })], '5');
  assert.deepEqual(names(pull(s)[0]), ['a']);
});

test('who comes back with names is not sent again what it says to have', () => {
  const s = new DeltaSession([PART]);
  s.set(PART, [resources({ a: '2', b: '1', c: '1' })], '5');
  const initialResourceVersions = { a: '1', b: '1', c: '1' };
  s.receive(request({ typeUrl: PART, resourceNamesSubscribe: ['*', 'b'], initialResourceVersions }));
  const [response] = pull(s);
  assert.deepEqual(names(response), ['a']);
  // Asked for before it was answered: sent once that is.
  s.receive(request({ typeUrl: PART, resourceNamesSubscribe: ['c'] }));
  s.receive(request({ typeUrl: PART, responseNonce: response.nonce }));
  const [again] = pull(s);
  assert.deepEqual(names(again), ['c']);
  s.receive(request({ typeUrl: PART, responseNonce: again.nonce }));
  assert.deepEqual([pull(s).length, s.status(PART).current], [0, true]);
});

test('everything asked for while an answer to names is under way is everything', () => {
  const s = new DeltaSession([PART]);
  s.set(PART, [resources({ a: '1', b: '1' })], '1');
  s.receive(request({ typeUrl: PART, resourceNamesSubscribe: ['a'] }));
  const [named] = pull(s);
  s.receive(request({ typeUrl: PART, resourceNamesSubscribe: ['*'] }));
  s.receive(request({ typeUrl: PART, responseNonce: named.nonce }));
  assert.deepEqual(names(pull(s)[0]), ['b']);
});

test('what many streams get is the same bytes for all of them, large and small, whatever their names', () => {
  const large = resources({ 'größe/α': 'v'.repeat(70_000), b: '1', '': 'x' });
  const own = resources({ own: 'o'.repeat(300) });
  const next = resources({ b: '2', c: 'w'.repeat(200) });
  for (let client = 0; client < 4; client++) {
    const s = new DeltaSession([PART]);
    s.receive(request({ typeUrl: PART }));
    s.set(PART, [own, large], `epoch ${client}`);
    const [first] = pull(s);
    assert.equal(first.systemVersionInfo, `epoch ${client}`);
    const got = first.resources.map((r) => [r.name, r.version, r.resource!.typeUrl, Buffer.from(r.resource!.value)]);
    const wanted = [...own, ...large].map(([name, r]) => [name, r.version, PART, Buffer.from(r.bytes)]);
    assert.deepEqual(got, wanted);
    s.receive(request({ typeUrl: PART, responseNonce: first.nonce }));
    s.set(PART, [own, next], '2');
    const [second] = pull(s);
    assert.deepEqual(names(second), ['b', 'c']);
    assert.deepEqual([...second.removedResources].sort(), ['', 'größe/α']);
  }
});
