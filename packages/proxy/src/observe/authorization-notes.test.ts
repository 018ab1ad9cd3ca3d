import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { AuthorizationAction as Action, AuthorizationPolicySchema, Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';
import { noteAuthorization } from './authorization-notes.ts';
import { SecondBudget } from './second-budget.ts';

test('AUDIT and dry run are counted and told of, for requests and connections, and change nothing', async (t) => {
  const app = '127.7.212.3';
  const web = http.createServer((_req, res) => res.end('yes'));
  const echo = net.createServer((s) => s.on('error', () => {}).pipe(s));
  for (const server of [web, echo]) {
    await new Promise<void>((resolve) => server.listen(0, app, resolve));
    t.after(() => server.close());
  }
  t.after(() => web.closeAllConnections());
  const pair = await testPair(t, {
    network: '127.7.212',
    ports: [
      { port: 8080, protocol: Protocol.HTTP, appHost: app, appPort: (web.address() as AddressInfo).port },
      { port: 7000, protocol: Protocol.TCP, appHost: app, appPort: (echo.address() as AddressInfo).port },
    ],
    policies: [
      create(AuthorizationPolicySchema, {
        ...{ name: 'watch', namespace: 'test', action: Action.AUDIT },
        rules: [{ to: [{ paths: ['/seen'] }] }],
      }),
      create(AuthorizationPolicySchema, {
        ...{ name: 'later', namespace: 'test', action: Action.DENY, dryRun: true },
        rules: [{ to: [{ ports: ['8080'], paths: ['/seen', '/soon'] }] }],
      }),
    ],
  });
  const get = async (path: string): Promise<number> =>
    (await fetch(`http://${pair.frontAddress}:8080${path}`, { headers: { connection: 'close' } })).status;
  const counted = (name: string): number => pair.backSeen.counts.get(name) ?? 0;
  assert.deepEqual([await get('/seen'), await get('/soon'), await get('/else')], [200, 200, 200]);
  assert.deepEqual(
    ['authorization_audited', 'authorization_dry_run_denied', 'authorization_dry_run_allowed'].map(counted),
    [1, 2, 1],
  );
  const socket = net.connect(7000, pair.frontAddress);
  t.after(() => socket.destroy());
  socket.write('hi');
  assert.equal(String((await once(socket, 'data'))[0]), 'hi');
  // On TCP the AUDIT rule has no path to look at and matches.
  assert.deepEqual([counted('authorization_audited'), counted('authorization_dry_run_allowed')], [2, 2]);
});

test('the JSON line names policies, caller and what was asked', () => {
  const lines: unknown[] = [];
  const logger = { ...silentLogger, info: (fields: unknown) => void lines.push(fields) };
  let now = 0;
  const dropped: string[] = [];
  const observer = { count: (name: string) => void (name.endsWith('dropped') && dropped.push(name)) };
  const decisionLines = new SecondBudget(
    () => now,
    () => 3,
  );
  const core = { logger, observer, decisionLines } as never;
  const judged = { principal: 'td/ns/a/sa/b', remote: '10.0.0.1', port: 80, method: 'GET', path: '/x' };
  const base = { allow: true, ref: '', policy: 'none', details: '' };
  noteAuthorization(core, base, judged);
  noteAuthorization(core, { ...base, audit: ['n/p'], shadow: { allow: false, policy: 'n/q', ref: 'r' } }, judged);
  assert.deepEqual(lines, [
    { event: 'authorization-audit', policies: ['n/p'], decision: 'allow', ...judged },
    { event: 'authorization-dry-run', policy: 'n/q', ref: 'r', decision: 'allow', ...judged },
  ]);
  const denied = { ...base, allow: false, policy: 'n/d', ref: 'x' };
  noteAuthorization(core, denied, judged);
  assert.deepEqual(lines.at(-1), {
    ...{ event: 'authorization-denied', policy: 'n/d', ref: 'x', decision: 'deny' },
    ...judged,
  });
  noteAuthorization(core, denied, judged);
  noteAuthorization(core, denied, judged);
  assert.deepEqual([lines.length, dropped], [3, Array(2).fill('authorization_lines_dropped')]);
  now = 1000;
  noteAuthorization(core, denied, judged);
  assert.equal(lines.length, 4, 'another second');
});
