/** A policy that comes while something runs: tunnels, upgrades and streams end, others go on. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type net from 'node:net';
import { test } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import { buildSnapshot } from '@weft/engine';
import { AuthorizationAction as Action, type AuthorizationPolicySchema, PartSchema } from '@weft/plan';
import { echoes, HTTP, openAll } from '../test-long-lived.ts';

/** Each is judged once a second; more is for a busy machine. */
const WITHIN_MS = 60_000;

test('a new DENY ends tunnels, upgrades and streams that it covers, and nothing else', async (t) => {
  const pair = await echoes(t, '127.7.61');
  const back = pair.back!;
  const first = back.core.snapshot!;
  let epoch = 1n;
  const policy = (...policies: MessageInitShape<typeof AuthorizationPolicySchema>[]): void => {
    const part = create(PartSchema, { kind: { case: 'authorization', value: { policies } } });
    back.apply({ ...first, authorization: buildSnapshot([part], []).authorization }, ++epoch);
  };

  const says = async (socket: net.Socket, text: string): Promise<void> => {
    socket.write(text);
    const [data] = await once(socket, 'data');
    assert.equal(String(data), text);
  };
  const { tunnel, upgraded, call } = await openAll(t, pair);
  await says(upgraded, 'two');

  const count = (): number => pair.backSeen.counts.get('authorization_ended') ?? 0;
  const closed = (what: { once(event: 'close', heard: () => void): unknown }): Promise<void> =>
    new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('did not end')), WITHIN_MS);
      what.once('close', () => {
        clearTimeout(late);
        resolve();
      });
    });
  // A policy about others, and one that lets all three in, change nothing for them.
  policy(
    { action: Action.DENY, rules: [{ from: [{ namespaces: ['other'] }] }] },
    { action: Action.ALLOW, rules: [{ from: [{ namespaces: ['test'] }] }] },
  );
  await new Promise((resolve) => setTimeout(resolve, 2500)); // each is judged once a second
  await Promise.all([says(tunnel, 'a'), says(upgraded, 'b')]);
  assert.equal(count(), 0);

  const ends = [closed(upgraded)];
  policy({ action: Action.DENY, rules: [{ to: [{ ports: [String(HTTP)], paths: ['/chat'], methods: ['GET'] }] }] });
  await Promise.all(ends);
  assert.equal(count(), 1);
  await says(tunnel, 'c');

  const rest = [closed(tunnel), closed(call)];
  policy({ action: Action.DENY, rules: [{ from: [{ principals: ['cluster.local/ns/test/sa/front'] }] }] });
  await Promise.all(rest);
  assert.equal(count(), 3);
  assert.equal(back.core.exchanges.size, 0);
});
