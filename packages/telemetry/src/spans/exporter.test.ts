import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom, VirtualClock } from '@weft/base';
import { type BatchFate, SPAN_BATCH, SPAN_FLUSH_MS, SpanExporter } from './exporter.ts';
import type { Span } from './span.ts';

const span = (name: string): Span => ({
  ...{ traceparent: '', parentSpanId: '', server: false, name, startWallMs: 0, durationMs: 0, error: false },
  ...{ peerName: '', peerAddress: '', tags: [] },
});

function exporter(maxQueued = 4096) {
  const clock = new VirtualClock();
  const sent: { names: string[]; tell: (fate: BatchFate) => void }[] = [];
  const counts = new Map<string, number>();
  const it = new SpanExporter({
    ...{ clock, maxQueued, random: seededRandom(7) },
    encode: (spans) => new TextEncoder().encode(spans.map((s) => s.name).join()),
    send: (body, tell) => void sent.push({ names: new TextDecoder().decode(body).split(','), tell }),
    count: (name) => void counts.set(name, (counts.get(name) ?? 0) + 1),
  });
  const add = (n: number, prefix = '') => {
    for (let i = 0; i < n; i++) it.add(span(`${prefix}${i}`));
  };
  return { it, clock, sent, counts, add };
}

test('spans leave together, a second after the first of them, or when a batch is full', () => {
  const { clock, sent, add } = exporter();
  add(3);
  clock.advance(SPAN_FLUSH_MS - 1);
  assert.equal(sent.length, 0);
  clock.advance(1);
  assert.deepEqual(sent[0].names, ['0', '1', '2']);
  sent[0].tell('taken');
  add(SPAN_BATCH + 1);
  assert.equal(sent.length, 1, 'not while a request is under way');
  clock.advance(0);
  assert.equal(sent[1].names.length, SPAN_BATCH);
  clock.advance(1);
  assert.equal(sent.length, 2, 'one batch at a time');
  sent[1].tell('taken');
  clock.advance(SPAN_FLUSH_MS);
  assert.equal(sent[2].names.length, 1);
});

test('what is not taken now is sent again, later and later, and before what came after it', () => {
  const { it, clock, sent, counts, add } = exporter();
  add(2);
  const waits: number[] = [];
  clock.advance(SPAN_FLUSH_MS);
  for (let i = 0; i < 8; i++) {
    sent[i].tell('later');
    let waited = 0;
    while (sent.length === i + 1 && waited < 40_000) {
      clock.advance(100);
      waited += 100;
    }
    waits.push(waited);
    add(1, 'new');
  }
  assert.ok(Math.min(...waits) >= 500 && Math.max(...waits) <= 31_000, `seed 7: ${waits}`);
  assert.ok(Math.max(...waits) > 5000, `seed 7: ${waits}`);
  for (const { names } of sent) assert.deepEqual(names, ['0', '1']);
  sent[8].tell('taken');
  assert.ok(sent[9].names.every((n) => n === 'new0'));
  assert.equal(counts.get('spans_export_failed'), 8);
  assert.equal(counts.get('spans_exported'), 2);
  assert.equal(it.queued, 8);
  const second = sent[9].names.length;
  // What the collector will never take is not sent again.
  sent[9].tell('refused');
  assert.equal(counts.get('spans_dropped'), second);
  assert.equal(it.queued, 8 - second);
});

test('the queue is bounded: what is past it is dropped and counted, and later there is room again', () => {
  const { it, clock, sent, counts, add } = exporter(300);
  add(1000);
  assert.deepEqual([it.queued, counts.get('spans_dropped')], [300, 700]);
  clock.advance(0);
  add(1);
  assert.equal(counts.get('spans_dropped'), 701, 'what is on its way waits too');
  clock.advance(10);
  for (let i = 0; i < 3; i++) sent[i].tell('taken');
  assert.deepEqual([it.queued, counts.get('spans_exported'), sent.length], [0, 300, 3]);
  add(1);
  assert.equal(it.queued, 1);
});

test('the end: each batch is sent once, and the rest is dropped where the collector is away', async () => {
  const { it, sent, counts, add } = exporter();
  add(SPAN_BATCH + 1);
  const done = it.finish();
  assert.equal(sent.length, 1);
  sent[0].tell('taken');
  sent[1].tell('taken');
  await done;
  assert.equal(counts.get('spans_exported'), SPAN_BATCH + 1);
  add(1);
  assert.equal(counts.get('spans_dropped'), 1);

  const away = exporter();
  away.add(SPAN_BATCH + 5);
  const over = away.it.finish();
  away.sent[0].tell('later');
  await over;
  assert.deepEqual([away.sent.length, away.counts.get('spans_dropped')], [1, SPAN_BATCH + 5]);
  assert.equal(away.clock.pending, 0);
});
