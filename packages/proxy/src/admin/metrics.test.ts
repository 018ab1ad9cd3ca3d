import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { Registry, renderLabels } from '@weft/telemetry';
import { sendMetrics } from './metrics.ts';

const BUCKETS = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/** 10,000 series: 9,000 counters and 1,000 histograms, with labels as long as real ones. */
function full(): Registry {
  const registry = new Registry();
  const counters = registry.family('requests_total', 'counter', 'Requests.');
  const histograms = registry.family('duration_milliseconds', 'histogram', 'Durations.', BUCKETS);
  const labels = (i: number): string =>
    renderLabels(['destination', 'source'], [`service-${i}.${'n'.repeat(200)}.svc.cluster.local`, 'w'.repeat(200)]);
  for (let i = 0; i < 9000; i++) registry.values[registry.addSeries(counters, labels(i))] = i;
  for (let i = 0; i < 1000; i++) registry.addSeries(histograms, labels(i));
  return registry;
}

/** Takes what is written; `slow`: says each time that it is full, and drains later. */
class Response extends Writable {
  readonly req = { method: 'GET' };
  readonly writes: { turn: number; text: string }[] = [];
  readonly now: () => number;
  constructor(now: () => number, slow: boolean) {
    super({ highWaterMark: slow ? 1 : 1 << 30, decodeStrings: false });
    this.now = now;
  }
  writeHead(): this {
    return this;
  }
  override _write(chunk: string, _encoding: string, done: () => void): void {
    this.writes.push({ turn: this.now(), text: chunk });
    done();
  }
}

for (const slow of [false, true]) {
  test(`10,000 series leave in small pieces, one a turn of the loop (${slow ? 'slow' : 'fast'} reader)`, async () => {
    const registry = full();
    let turn = 0;
    let over = false;
    const count = (): void => {
      turn++;
      if (!over) setImmediate(count);
    };
    count();
    const response = new Response(() => turn, slow);
    await sendMetrics(response as unknown as ServerResponse, registry);
    over = true;
    const turns = response.writes.map((w) => w.turn);
    assert.equal(new Set(turns).size, turns.length, 'never two pieces in one turn');
    for (const { text } of response.writes) {
      assert.ok(text.length < 64 * 1024, `${text.length} characters in one piece`);
      assert.ok(text.split('\n').length < 300, `${text.split('\n').length} lines in one piece`);
    }
    const all = response.writes.map((w) => w.text).join('');
    assert.equal(all.match(/^requests_total\{/gm)?.length, 9000);
    assert.equal(all.match(/^duration_milliseconds_count\{/gm)?.length, 1000);
    assert.ok(all.endsWith('\n'), 'every piece ends with a whole line');
  });
}

test('series and counts that come during a scrape leave it consistent', async () => {
  const registry = new Registry();
  const family = registry.family('duration_milliseconds', 'histogram', 'Durations.', BUCKETS);
  const slots = Array.from({ length: 2000 }, (_, i) =>
    registry.addSeries(family, renderLabels(['a'], [`${i}-${'x'.repeat(300)}`])),
  );
  let over = false;
  let added = 0;
  const busy = (): void => {
    for (const slot of slots) registry.observe(slot, BUCKETS, 7);
    registry.addSeries(family, renderLabels(['a'], [`new-${added++}`]));
    if (!over) setImmediate(busy);
  };
  busy();
  const response = new Response(() => 0, false);
  await sendMetrics(response as unknown as ServerResponse, registry);
  over = true;
  assert.ok(added > 10);
  const text = response.writes.map((w) => w.text).join('');
  const infinite = [...text.matchAll(/^duration_milliseconds_bucket\{a="(\d+)-x*",le="\+Inf"\} (\d+)$/gm)];
  const counts = [...text.matchAll(/^duration_milliseconds_count\{a="(\d+)-x*"\} (\d+)$/gm)];
  assert.equal(counts.length, 2000);
  assert.deepEqual(
    counts.map((m) => [m[1], m[2]]),
    infinite.map((m) => [m[1], m[2]]),
    'a histogram agrees with itself',
  );
});
