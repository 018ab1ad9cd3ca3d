import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { outboundClusterName, PartSchema } from './index.ts';

test('a part survives its wire form', () => {
  const part = create(PartSchema, { kind: { case: 'cluster', value: { name: outboundClusterName(80, 'v1', 'a.b') } } });
  const back = fromBinary(PartSchema, toBinary(PartSchema, part));
  assert.equal(back.kind.case === 'cluster' && back.kind.value.name, 'outbound|80|v1|a.b');
});
