import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { authorize } from '@weft/engine';
import {
  AuthorizationAction as Action,
  BinaryWriter,
  GatewayListenerSchema,
  PART_TYPE,
  type Part,
  PartSchema,
  TlsSettingsSchema,
} from '@weft/plan';
import { PlanStore } from './plan-store.ts';

test('a plan that says of who may call what this proxy cannot read is refused; the last good one stays', () => {
  const store = new PlanStore({ dir: undefined, logger: silentLogger, onApplied: () => {} });
  const update = (part: Part, label: string): void => {
    const bytes = toBinary(PartSchema, part);
    store.update(PART_TYPE, { updated: [{ name: 'authorization', version: label, bytes }], removed: [], label });
  };
  const rules = [{ from: [{ principals: ['td/ns/a/sa/a'] }] }];
  const part = (): Part => {
    const policies = [{ name: 'p', namespace: 'n', action: Action.ALLOW, rules }];
    return create(PartSchema, { kind: { case: 'authorization', value: { policies } } });
  };
  update(part(), '1');
  // A newer control plane narrows the rule by a field that this proxy does not know: read without it, it would be wider.
  const newer = part();
  if (newer.kind.case !== 'authorization') throw new Error('another part');
  const [rule] = newer.kind.value.policies[0].rules;
  rule.from = [];
  rule.$unknown = [{ no: 999, wireType: 0, data: new Uint8Array([1]) }];
  assert.throws(() => update(newer, '2'), { code: 'plan.newer' });
  const ask = (principal: string) =>
    authorize(store.snapshot!, { principal, remoteIp: '10.0.0.1', localIp: '10.0.0.2', destPort: 80 }).allow;
  assert.deepEqual([store.epoch, ask('td/ns/a/sa/a'), ask('td/ns/b/sa/b')], [1n, true, false]);

  // What a part of a kind that is not known would close, nobody can tell: the others of its change are not taken either.
  const future = new BinaryWriter()
    .tag(99, 2)
    .bytes(new Uint8Array([1]))
    .finish();
  const changed = {
    name: 'authorization',
    version: '3',
    bytes: toBinary(PartSchema, create(PartSchema, { kind: { case: 'authorization', value: {} } })),
  };
  const change = { updated: [changed, { name: 'quota/n/p', version: '3', bytes: future }], removed: [], label: '3' };
  assert.throws(() => store.update(PART_TYPE, change), { code: 'plan.newer', message: /part "quota\/n\/p": kind 99/ });
  assert.deepEqual([store.epoch, ask('td/ns/a/sa/a'), ask('td/ns/b/sa/b')], [1n, true, false]);
});

test('a plan with a curve that this OpenSSL does not have is refused; the last good one stays', () => {
  const store = new PlanStore({ dir: undefined, logger: silentLogger, onApplied: () => {} });
  const update = (kind: Part['kind'], label: string): void => {
    const bytes = toBinary(PartSchema, create(PartSchema, { kind }));
    store.update(PART_TYPE, { updated: [{ name: 'any', version: label, bytes }], removed: [], label });
  };
  const settings = (...curves: string[]): Part['kind'] => ({
    case: 'tls',
    value: create(TlsSettingsSchema, { curves }),
  });
  update(settings('P-384', 'X25519'), '1');
  const message = /part "any": .* has no curve P-999/;
  assert.throws(() => update(settings('X25519', 'P-999'), '2'), { code: 'plan.curve', message });
  const meshCurves = ['P-999'];
  assert.throws(() => update({ case: 'tls', value: create(TlsSettingsSchema, { meshCurves }) }, '3'), { message });
  const servers = [{ tls: { secret: 's', curves: ['P-999'] } }];
  const listener = create(GatewayListenerSchema, { port: 443, servers });
  assert.throws(() => update({ case: 'gateway', value: listener }, '4'), { code: 'plan.curve', message });
  assert.deepEqual([store.epoch, store.snapshot?.tls?.curves], [1n, ['P-384', 'X25519']]);
});
