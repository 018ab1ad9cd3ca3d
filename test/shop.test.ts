/** `weft demo` as a user runs it: the shop answers, its rules hold three hops deep, the summary says so, nothing is left. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { Demo } from './demo.ts';
import { isRoot, type Row, request, weftBin } from './harness.ts';
import { faultsOf, near } from './shares.ts';

/** Checkouts under x-chaos-test. */
const n = 300;

test('the demo', async (t) => {
  const demo = new Demo(t, ['--rps', '20', '-o', 'json']);
  while (!demo.err.includes('ready after')) {
    assert.ok(demo.running, demo.err);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const { name, env } = demo;
  const ps = execFileSync(process.execPath, [weftBin, 'ps', '--mesh', name, '-o', 'json'], { env, encoding: 'utf8' });
  const rows = (JSON.parse(ps) as { instances: Row[] }).instances;
  const at = (workload: string): string => rows.find((r) => r.workload === workload)?.address ?? '';

  const checkout = async (headers: Record<string, string>) =>
    request(at('ingressgateway'), 8080, '/checkout', undefined, headers);
  const canary = await Promise.all(Array.from({ length: 40 }, () => checkout({ 'x-canary-test': 'true' })));
  for (const c of canary) assert.equal(c.json?.payment?.version, 'v2', c.text);
  assert.match(canary[0]?.json.ledger, /^OK \d+$/);

  // frontend → cart → inventory: the header decides three hops deep, the fault acts in cart's proxy.
  let left = n;
  await Promise.all(
    Array.from({ length: 25 }, async () => {
      while (left-- > 0) await checkout({ 'x-chaos-test': 'enabled' });
    }),
  );
  // cart asks three times a checkout, whatever came back; delayed calls are still on their way when checkout timed out.
  let faults = await faultsOf(at('cart'), 'inventory');
  for (let before = ''; before !== JSON.stringify(faults); faults = await faultsOf(at('cart'), 'inventory')) {
    before = JSON.stringify(faults);
    await new Promise((resolve) => setTimeout(resolve, 4000));
  }
  const seen = JSON.stringify(faults);
  near(faults.delayed, 3 * n, 0.095, `delayed only, ${seen}`);
  near(faults.aborted, 3 * n, 0.045, `aborted only, ${seen}`);
  near(faults.both, 3 * n, 0.005, `both, ${seen}`);

  demo.interrupt();
  assert.equal(await demo.exit, 0, demo.err);
  const summary = JSON.parse(demo.out) as {
    requests: number;
    failures: number;
    epoch: number;
    edges: { from: string; to: string; version: string; requests: number; failures: number; mtls: boolean }[];
  };
  assert.ok(summary.requests > 100 && summary.failures === 0, demo.err + JSON.stringify(summary, null, 1));
  assert.equal(summary.epoch, 1);
  const edge = (from: string, to: string): number =>
    summary.edges
      .filter((e) => e.from === from && e.to.split('.')[0] === to && e.mtls)
      .reduce((sum, e) => sum + e.requests, 0);
  for (const [from, to] of [
    ['ingressgateway', 'frontend'],
    ['frontend', 'catalog'],
    ['frontend', 'cart'],
    ['frontend', 'user'],
    ['frontend', 'recommend'],
    ['frontend', 'payment'],
    ['cart', 'inventory'],
    ['cart', 'payment'],
    ['cart', 'ledger'],
    ['restock', 'inventory'],
  ] as const)
    assert.ok(edge(from, to) > 0, `${from} → ${to} by mTLS: ${JSON.stringify(summary.edges, null, 1)}`);
  if (isRoot) {
    assert.doesNotMatch(execFileSync('ip', ['netns'], { encoding: 'utf8' }), new RegExp(`weft-${name}`));
  }
});
