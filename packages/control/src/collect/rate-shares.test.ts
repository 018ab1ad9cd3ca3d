/** Shared rate limits at the control plane: who shares what, by the configuration and the instances that there are. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createClient, createRouterTransport } from '@connectrpc/connect';
import { silentLogger, VirtualClock } from '@weft/base';
import { loadFiles } from '@weft/config';
import { MAX_SHARED_CALLERS } from '@weft/engine';
import type { Instance } from '@weft/model';
import { TelemetryService } from '@weft/plan';
import { Traffic } from '../audit/traffic.ts';
import { Mesh } from '../mesh.ts';
import { type Peer, peerKey } from '../peer.ts';
import { State } from '../state.ts';
import { RateShares } from './rate-shares.ts';
import { Collector } from './service.ts';

const REF = 'HTTPLocalRateLimitPolicy/shop/fair#spec';
const files = (annotation: string) => `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {command: ["true"], ports: [{name: http, containerPort: 80}]}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: cart, namespace: shop}
spec: {podSelector: {matchLabels: {app: cart}}, port: 80, accessPolicy: all-unauthenticated}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: fair, namespace: shop, annotations: {${annotation}}}
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: cart}, total: {requestsPerSecond: 100}, identity: {requestsPerSecond: 50}}
`;
const SERVICE = 'weft.dev/rate-limit-scope: service';

function start(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'weft-rates-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const clock = new VirtualClock();
  const mesh = new Mesh({
    config: {
      ...{ mesh: 'test', stateDir: dir, files: [], socket: join(dir, 's'), capture: 'transparent' },
      listen: { xds: { host: '127.0.0.1', port: 0 } },
    },
    ...{ state: new State(dir, silentLogger), load: (list) => loadFiles(list), logger: silentLogger, clock },
  });
  t.after(() => mesh.stop());
  const apply = (annotation: string) =>
    mesh.applyFiles({ files: [{ path: 'a.yaml', text: files(annotation) }], errors: [] });
  apply(SERVICE);
  const put = (name: string, more: Partial<Instance> = {}) =>
    mesh.putInstance({
      ...{ name, workload: 'cart', namespace: 'shop', serviceAccount: 'cart', labels: { app: 'cart' } },
      ...{ address: '10.0.0.9', dialAddress: '10.0.0.9', ports: [{ number: 80, name: 'http' }] },
      ...{ injected: true, ready: true, draining: false, ...more },
    });
  const rates = new RateShares(mesh, clock);
  const shares = new Map<string, number>();
  /** A second's report of one, which says what it was given last. */
  const report = (name: string, wanted: number, again = false) => {
    const share = shares.get(name);
    const account = share === undefined ? { wanted } : { wanted, share };
    const answer = rates.answer(name, [{ limit: REF, accounts: [account] }], again);
    const given = answer[0]?.accounts.find((a) => a.caller === undefined)?.share;
    if (given !== undefined) shares.set(name, given);
    return answer;
  };
  return { dir, clock, mesh, put, apply, rates, report, shares };
}

test('shares follow what replicas want, who comes and who goes; the sum is never more than all of it', (t) => {
  const { clock, mesh, put, rates, report, shares } = start(t);
  for (const name of ['cart-0', 'cart-1', 'cart-2']) put(name);
  put('web-0', { labels: { app: 'web' } });
  const round = (...wanted: number[]) => {
    for (const [i, w] of wanted.entries()) {
      clock.advance(300);
      report(`cart-${i}`, w);
      if (shares.size < wanted.length) continue;
      const sum = [...shares.values()].reduce((a, b) => a + b, 0);
      assert.ok(sum <= 1 + 1e-9, `${sum}`);
    }
  };
  for (let i = 0; i < 4; i++) round(2, 0, 0);
  assert.ok(shares.get('cart-0')! > 0.9);
  for (let i = 0; i < 4; i++) round(2, 2, 0);
  assert.ok(Math.abs(shares.get('cart-0')! - shares.get('cart-1')!) < 0.01);
  assert.deepEqual(
    rates.list().map((l) => [l.limit, l.replicas.map((r) => r.name)]),
    [[REF, ['cart-0', 'cart-1', 'cart-2']]],
  );
  // What goes gives its share back.
  mesh.deleteInstance('cart-1');
  shares.delete('cart-1');
  for (let i = 0; i < 2; i++) {
    clock.advance(1000);
    report('cart-0', 2);
    report('cart-2', 0);
  }
  assert.ok(shares.get('cart-0')! > 0.9);
  assert.deepEqual(rates.counters, { limits: 1, sent: 28, callersRefused: 0 });
});

test('who has no part in a limit is not answered, and neither is one that is no more', (t) => {
  const { put, apply, rates, report } = start(t);
  put('cart-0');
  put('web-0', { labels: { app: 'web' } });
  assert.deepEqual(report('web-0', 5), []);
  assert.deepEqual(
    rates.answer('cart-0', [{ limit: 'HTTPLocalRateLimitPolicy/shop/other#spec', accounts: [] }], false),
    [],
  );
  assert.equal(report('cart-0', 5)[0]!.accounts[0]!.share, 1);
  apply('weft.dev/rate-limit-scope: replica');
  assert.deepEqual(report('cart-0', 5), []);
  assert.deepEqual(rates.list(), []);
  apply(SERVICE);
  assert.equal(report('cart-0', 5).length, 1);
});

test('callers beyond the bound keep an even share, and are counted', (t) => {
  const { put, rates } = start(t);
  put('cart-0');
  put('cart-1');
  const accounts = Array.from({ length: MAX_SHARED_CALLERS + 5 }, (_, i) => ({ caller: `c${i}`, wanted: 1 }));
  accounts.push({ caller: 'x'.repeat(2000), wanted: 1 });
  const [answer] = rates.answer('cart-0', [{ limit: REF, accounts }], false);
  assert.equal(answer!.accounts.length, MAX_SHARED_CALLERS);
  assert.equal(rates.counters.callersRefused, 5);
  assert.equal(rates.list()[0]!.callers, MAX_SHARED_CALLERS);
});

test('shares come in the answer to a report, also to one that is sent again; of oneself alone', async (t) => {
  const { dir, clock, mesh, put, rates } = start(t);
  put('cart-0');
  put('cart-1');
  const traffic = new Traffic(dir, clock, silentLogger);
  t.after(() => traffic.stop());
  const collector = new Collector(mesh, clock, traffic, rates);
  const peer = { spiffeId: 'spiffe://cluster.local/ns/shop/sa/cart' } as Peer;
  const transport = createRouterTransport((router) => collector.routes(router), {
    router: {
      interceptors: [
        (next) => (request) => {
          request.contextValues.set(peerKey, peer);
          return next(request);
        },
      ],
    },
  });
  const client = createClient(TelemetryService, transport);
  const push = async (instance: string, sequence: bigint, wanted: number, share?: number) => {
    clock.advance(1000);
    const account = share === undefined ? { wanted } : { wanted, share };
    const report = { instance, sequence, startMs: 7n, rates: [{ limit: REF, accounts: [account] }] };
    const answer = await client.push(report);
    assert.deepEqual(
      answer.rates.map((r) => [r.limit, r.accounts.length, r.accounts[0]?.caller]),
      [[REF, 1, undefined]],
    );
    return answer.rates[0]!.accounts[0]!.share!;
  };
  assert.equal(await push('cart-0', 1n, 3), 0.5, 'the other one has not been heard of');
  assert.deepEqual(
    rates.list()[0]!.replicas.map((r) => r.name),
    ['cart-0'],
  );
  const small = await push('cart-1', 1n, 0);
  assert.ok(small < 0.1, String(small));
  // It may not have come: half of it all still counts as the other one's, however often it is sent.
  assert.equal(await push('cart-1', 1n, 0), small);
  assert.equal(await push('cart-0', 2n, 3, 0.5), 0.5);
  assert.equal(await push('cart-1', 2n, 0, small), small);
  assert.equal(await push('cart-0', 3n, 3, 0.5), 1 - small);
  await assert.rejects(client.push({ instance: 'web-0', rates: [] }), /may not report/);
});
