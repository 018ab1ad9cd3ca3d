import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VirtualClock } from '@weft/base';
import { NameResolver } from './resolver.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('names are asked again when their time is over; a failure keeps what was known; unwanted ones are forgotten', async () => {
  const clock = new VirtualClock();
  const changes: string[] = [];
  const asked: string[] = [];
  let answer: { addresses: string[]; ttlMs: number } | undefined = {
    addresses: ['10.0.0.2', '10.0.0.1'],
    ttlMs: 30_000,
  };
  const resolver = new NameResolver(
    clock,
    (name) => changes.push(name),
    async (name) => {
      asked.push(name);
      if (!answer) throw new Error('SERVFAIL');
      return answer;
    },
  );
  const advance = async (ms: number) => {
    clock.advance(ms);
    await turn();
  };
  resolver.want(['api.test']);
  await advance(0);
  assert.deepEqual(resolver.addresses.get('api.test'), ['10.0.0.1', '10.0.0.2']);
  assert.deepEqual([asked.length, changes], [1, ['api.test']]);
  await advance(29_000);
  assert.equal(asked.length, 1, 'before its time is over nobody asks');
  await advance(1_000);
  assert.deepEqual([asked.length, changes.length], [2, 1], 'the same answer is no change');
  answer = undefined;
  await advance(30_000);
  assert.deepEqual([resolver.failures, resolver.addresses.get('api.test')?.length], [1, 2]);
  answer = { addresses: ['10.0.0.3'], ttlMs: 0 };
  await advance(5_000);
  assert.deepEqual(resolver.addresses.get('api.test'), ['10.0.0.3']);
  const before = asked.length;
  await advance(4_999);
  assert.equal(asked.length, before, 'a time to live of 0 is no reason to ask all the time');
  resolver.want([]);
  assert.equal(resolver.addresses.size, 0);
  await advance(100_000);
  assert.equal(asked.length, before);
});
