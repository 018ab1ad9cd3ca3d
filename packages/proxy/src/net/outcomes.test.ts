import assert from 'node:assert/strict';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { AuthorizationAction, AuthorizationPolicySchema, Protocol } from '@weft/plan';
import { type TestPair, testPair } from '../test-pair.ts';
import { type Outcome, Outcomes, SILENT_AGAIN_MS } from './outcomes.ts';

const PORT = 7001;

const firstOf = (outcomes: Iterable<Outcome>): Outcome => {
  const [first] = outcomes;
  assert.ok(first, 'nothing is remembered');
  return first;
};

async function listening(t: TestContext, server: net.Server, host: string): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

test('only a port on which clients were never but silent is waited for less', () => {
  const counts: string[] = [];
  const outcomes = new Outcomes({ count: (name) => void counts.push(name) }, { detectOutcomes: 3 });
  const outcome = outcomes.inbound(1)!;
  assert.equal(outcome.waitMs(10_000), 10_000);
  outcome.add('silent');
  assert.equal(outcome.waitMs(10_000), SILENT_AGAIN_MS);
  assert.equal(outcome.waitMs(100), 100);
  outcome.add('http1');
  assert.equal(outcome.waitMs(10_000), 10_000);
  outcome.add('silent');
  assert.equal(outcome.waitMs(10_000), 10_000);

  assert.ok(outcomes.outbound('a', 1));
  assert.ok(outcomes.outbound('a', 2));
  assert.equal(outcomes.outbound('a', 1), outcomes.outbound('a', 1));
  assert.equal(outcomes.outbound('b', 1), undefined);
  assert.equal(outcomes.inbound(2), undefined);
  assert.deepEqual(counts, ['detect_outcomes_full', 'detect_outcomes_full']);
  assert.equal([...outcomes.list()].length, 3);
});

/** What comes back on a connection on which nothing is said before the greeting; the rest is `request`. */
function silentThen(pair: TestPair, request: string): Promise<string> {
  return new Promise((resolve) => {
    let got = '';
    const s = net.connect({ port: PORT, host: pair.frontAddress });
    s.on('error', () => resolve(`${got}RESET`));
    s.on('close', () => resolve(got));
    s.on('data', (d) => {
      got += d;
      if (got.startsWith('hello\n') && !got.includes('bye')) s.write(request);
    });
  });
}

test('a server that speaks first on a port that is not declared: found, shown, and not taken for HTTP', async (t) => {
  const app = '127.7.40.3';
  const greeter = net.createServer((s) => {
    s.on('error', () => {});
    s.write('hello\n');
    s.on('data', () => s.end('bye\n'));
  });
  const appPort = await listening(t, greeter, app);
  const pair = await testPair(t, {
    network: '127.7.40',
    ports: [{ port: PORT, protocol: Protocol.UNSPECIFIED, appHost: app, appPort }],
    limits: { detectTimeoutMs: 1000 },
  });
  for (let i = 0; i < 2; i++) assert.equal(await silentThen(pair, 'x'), 'hello\nbye\n');
  const outcome = firstOf(pair.front.core.outcomes.list());
  assert.deepEqual([outcome.direction, outcome.port, outcome.silent, outcome.last], ['outbound', PORT, 2, 'silent']);
  // The caller's proxy has found out; the called one is not asked to wait again.
  assert.deepEqual([...pair.back!.core.outcomes.list()], []);
});

test('what was remembered leads around no policy, and a request is still seen as one', async (t) => {
  const app = '127.7.41.3';
  let reached = 0;
  const web = http.createServer((req, res) => {
    reached++;
    res.end(req.url);
  });
  const appPort = await listening(t, web, app);
  t.after(() => web.closeAllConnections());
  const deny = create(AuthorizationPolicySchema, {
    ...{ ref: 'deny', name: 'no-admin', namespace: 'test', action: AuthorizationAction.DENY },
    rules: [{ ref: 'deny#0', to: [{ paths: ['/admin*'], ports: [String(PORT)] }] }],
  });
  const pair = await testPair(t, {
    network: '127.7.41',
    ports: [{ port: PORT, protocol: Protocol.UNSPECIFIED, appHost: app, appPort }],
    limits: { detectTimeoutMs: 1000 },
    policies: [deny],
  });
  const ask = (path: string, afterMs: number): Promise<string> =>
    new Promise((resolve) => {
      let got = '';
      const s = net.connect({ port: PORT, host: pair.frontAddress }, () => {
        setTimeout(() => s.write(`GET ${path} HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n`), afterMs);
      });
      s.on('data', (d) => (got += d));
      s.on('error', () => resolve('RESET'));
      s.on('close', () => resolve(got));
    });
  // Silent for longer than detection lasts: opaque, and the rule for a path then holds for the whole connection.
  for (let i = 0; i < 2; i++) assert.doesNotMatch(await ask('/admin', 1500), /^HTTP/);
  assert.equal(reached, 0);
  assert.equal(firstOf(pair.front.core.outcomes.list()).waitMs(10_000), SILENT_AGAIN_MS);
  assert.match(await ask('/admin', 0), /^HTTP\/1\.1 403 /);
  assert.match(await ask('/x', 0), /^HTTP\/1\.1 200 /);
  assert.equal(reached, 1);
  assert.equal(firstOf(pair.front.core.outcomes.list()).waitMs(10_000), 10_000);
});
