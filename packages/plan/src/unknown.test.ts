import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, type Part, PartSchema, unknownIn } from './index.ts';

const part = (kind: MessageInitShape<typeof PartSchema>['kind']): Part => create(PartSchema, { kind });
const again = (p: Part): Part => fromBinary(PartSchema, toBinary(PartSchema, p));
/** What a newer schema would have beside the fields of today. */
const newer = (message: object): void => {
  const data = new BinaryWriter().string('x').finish();
  (message as { $unknown?: object[] }).$unknown = [{ no: 999, wireType: 2, data }];
};

test('a field or a value of who may call that is not known is found, wherever it stands', () => {
  const http = [{ headers: [{ name: 'a' }] }];
  const value = {
    policies: [{ name: 'p', action: 1, rules: [{ from: [{ principals: ['a'] }], when: [{ key: 'k' }] }] }],
    tables: [{ rows: [{ http, tokens: [{ providers: ['a'], claims: [{ path: ['b'] }] }] }] }],
    tokens: [{ issuer: 'i', headers: [{ name: 'h' }] }],
  };
  const of = () => {
    const p = part({ case: 'authorization', value });
    if (p.kind.case !== 'authorization') throw new Error('another part');
    return { p, a: p.kind.value };
  };
  assert.equal(unknownIn(again(of().p)), undefined);
  const places: [(a: ReturnType<typeof of>['a']) => object, string][] = [
    [(a) => a, 'authorization'],
    [(a) => a.policies[0], 'authorization.policies'],
    [(a) => a.policies[0].rules[0].from[0], 'authorization.policies.rules.from'],
    [(a) => a.policies[0].rules[0].when[0], 'authorization.policies.rules.when'],
    [(a) => a.tables[0].rows[0], 'authorization.tables.rows'],
    [(a) => a.tables[0].rows[0].http[0].headers[0], 'authorization.tables.rows.http.headers'],
    [(a) => a.tables[0].rows[0].tokens[0].claims[0], 'authorization.tables.rows.tokens.claims'],
    [(a) => a.tokens[0].headers[0], 'authorization.tokens.headers'],
  ];
  for (const [place, path] of places) {
    const { p, a } = of();
    newer(place(a));
    assert.equal(unknownIn(again(p)), `${path}: field 999`);
  }
  const { p, a } = of();
  a.policies[0].action = 9 as never;
  assert.equal(unknownIn(again(p)), 'authorization.policies.action: 9');
  const inbound = part({ case: 'inbound', value: { port: 80, mtls: 9 as never } });
  assert.equal(unknownIn(again(inbound)), 'inbound.mtls: 9');
  assert.equal(unknownIn(again(part({ case: 'inbound', value: { port: 80 } }))), undefined);
});

test('what a gateway asks of the certificates of clients is to be known, the rest of a listener is not', () => {
  const of = () => {
    const p = part({ case: 'gateway', value: { servers: [{ tls: { secret: 's' } }, { hosts: ['a'] }] } });
    if (p.kind.case !== 'gateway') throw new Error('another part');
    return { p, servers: p.kind.value.servers };
  };
  assert.equal(unknownIn(again(of().p)), undefined);
  const first = of();
  newer(first.servers[0].tls!);
  assert.equal(unknownIn(again(first.p)), 'gateway.servers.tls: field 999');
  const second = of();
  newer(second.servers[1]);
  assert.equal(unknownIn(again(second.p)), undefined);
});

test('what the settings ask of TLS is to be known', () => {
  const of = () => {
    const p = part({ case: 'tls', value: { meshCurves: ['P-384'] } });
    if (p.kind.case !== 'tls') throw new Error('another part');
    return { p, settings: p.kind.value };
  };
  assert.equal(unknownIn(again(of().p)), undefined);
  const more = of();
  newer(more.settings);
  assert.equal(unknownIn(again(more.p)), 'tls: field 999');
  const version = of();
  version.settings.minVersion = 9 as never;
  assert.equal(unknownIn(again(version.p)), 'tls.minVersion: 9');
});

test('parts that say nothing of who may call may be newer', () => {
  const service = part({ case: 'service', value: { host: 'a' } });
  if (service.kind.case === 'service') newer(service.kind.value);
  assert.equal(unknownIn(again(service)), undefined);
});

test('a part of a kind that is not known counts as one that says who may call', () => {
  const p = part({ case: undefined });
  assert.equal(unknownIn(again(p)), 'no kind');
  newer(p);
  assert.equal(unknownIn(again(p)), 'kind 999');
});
