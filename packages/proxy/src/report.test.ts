import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, createRouterTransport } from '@connectrpc/connect';
import { silentLogger } from '@weft/base';
import { applyRateShares, buildSnapshot, takeRate, takeRateDemands } from '@weft/engine';
import { PartSchema, type TelemetryReport, TelemetryService } from '@weft/plan';
import { CallAggregator, EdgeAggregator, PlaintextCallers, Registry } from '@weft/telemetry';
import type { Channel } from '@weft/xds';
import { RateShareGauges } from './observe/rate-shares.ts';
import { TelemetryPush } from './report.ts';

const REF = 'HTTPLocalRateLimitPolicy/shop/fair#spec';

/** A proxy with a shared limit of 100 a second, and a control plane that gives what the test says. */
function start(t: TestContext, rateLimit: { total: number; replicas: number } | undefined) {
  const registry = new Registry();
  const limit = rateLimit && { ref: REF, ...rateLimit };
  const part = create(PartSchema, {
    kind: { case: 'inbound', value: { port: 80, ...(limit && { rateLimit: limit }) } },
  });
  const snapshot = buildSnapshot([part], []);
  const count = () => {};
  const gauges = new RateShareGauges(registry);
  const control = { share: 0.5, away: false, reports: [] as TelemetryReport[] };
  const transport = createRouterTransport((router) =>
    router.service(TelemetryService, {
      push(report) {
        control.reports.push(report);
        if (control.away) throw new ConnectError('away', Code.Unavailable);
        return { rates: report.rates.map((r) => ({ limit: r.limit, accounts: [{ share: control.share }] })) };
      },
    }),
  );
  const clock = { nowMs: 0 };
  const push = new TelemetryPush(
    'pay-0',
    {
      edges: new EdgeAggregator({ count }),
      calls: new CallAggregator({ count }),
      plaintextCallers: new PlaintextCallers({ count }),
      takeMissingKeys: () => [],
      takeRateDemands: () => takeRateDemands(snapshot, clock.nowMs),
      applyRateShares: (answer) => {
        applyRateShares(snapshot, answer, clock.nowMs);
        gauges.note(answer);
      },
    },
    () => ({ transport, close: () => {} }) as unknown as Channel,
    silentLogger,
  );
  t.after(() => push.stop());
  const second = async () => {
    clock.nowMs += 1000;
    await push.push();
    return control.reports.at(-1);
  };
  const ask = (n: number): number => {
    let passed = 0;
    for (let i = 0; i < n; i++)
      if (takeRate(snapshot.rateLimits.get(80)!, undefined, clock.nowMs) === 'allow') passed++;
    return passed;
  };
  const gauge = (): number | undefined => {
    const family = registry.families.find((f) => f.name === 'weft_rate_limit_share');
    return family && registry.values[family.series[0]!.slot];
  };
  return { control, second, ask, gauge };
}

test('a report says what is wanted of a shared limit and the share in force; the answer changes it', async (t) => {
  const { control, second, ask, gauge } = start(t, { total: 100, replicas: 4 });
  assert.deepEqual(
    (await second())!.rates[0]!.accounts.map((a) => [a.wanted, a.share]),
    [[0, undefined]],
  );
  assert.equal(gauge(), 0.5);
  control.share = 0.8;
  assert.equal(ask(150), 25, 'what the first share of a quarter had saved: another share gives nothing of its own');
  assert.deepEqual(
    (await second())!.rates[0]!.accounts.map((a) => [a.wanted, a.share]),
    [[1.5, 0.5]],
  );
  assert.equal(ask(150), 50);
  assert.equal(gauge(), 0.8);
  // Away: the same report goes again, and the share stays.
  control.away = true;
  const first = await second();
  assert.deepEqual(
    first!.rates[0]!.accounts.map((a) => [a.wanted, a.share]),
    [[1.5, 0.8]],
  );
  assert.equal(ask(150), 80);
  assert.equal((await second())!.sequence, first!.sequence);
  assert.equal(ask(150), 80);
  control.away = false;
  control.share = 0.1;
  assert.equal((await second())!.sequence, first!.sequence);
  assert.equal(ask(150), 10);
});

test('where nothing is shared and nothing was seen there is no report', async (t) => {
  const { second } = start(t, { total: 100, replicas: 0 });
  assert.equal(await second(), undefined);
});
