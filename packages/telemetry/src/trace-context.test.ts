import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '@weft/base';
import { IdSource, sampledByTraceId } from './ids.ts';
import {
  addB3,
  childTrace,
  continueTrace,
  formatTraceparent,
  isSampled,
  parseB3Single,
  parseTraceparent,
  readTraceContext,
  unsample,
  writeTraceContext,
} from './trace-context.ts';

const random = seededRandom(1);
const ids = new IdSource((bytes) => {
  for (let i = 0; i < bytes.length; i++) bytes[i] = random.next() * 256;
});
const T = '4bf92f3577b34da6a3ce929d0e0e4736';
const S = '00f067aa0ba902b7';

test('traceparent: what the specification allows, and nothing else', () => {
  assert.deepEqual(parseTraceparent(`00-${T}-${S}-01`), { traceId: T, spanId: S, sampled: true });
  assert.equal(parseTraceparent(`00-${T}-${S}-02`)?.sampled, false);
  assert.ok(parseTraceparent(`cc-${T}-${S}-01-what-the-future-holds`));
  for (const bad of [
    '',
    `00-${T}-${S}-01-x`,
    `ff-${T}-${S}-01`,
    `cc-${T}-${S}-01.x`,
    `00-${'0'.repeat(32)}-${S}-01`,
    `00-${T}-${'0'.repeat(16)}-01`,
    `00-${T.toUpperCase()}-${S}-01`,
    `00-${T}-${S}-0x`,
    `00_${T}-${S}-01`,
  ]) {
    assert.equal(parseTraceparent(bad), undefined, bad);
  }
});

test('B3 is read in both forms, and rewritten where it came', () => {
  assert.deepEqual(parseB3Single(`${T}-${S}-1`), { traceId: T, spanId: S, sampled: true });
  assert.equal(parseB3Single(`${S}-${S}-d`)?.traceId, '0'.repeat(16) + S);
  for (const bad of ['0', '1', 'd', `${T}`, `${T}-${S}-1-${S}-x`, `${T}x-${S}`, '']) {
    assert.equal(parseB3Single(bad), undefined, bad);
  }
  const head = [':method', 'GET', 'x-b3-traceid', T, 'x-b3-spanid', S, 'x-b3-sampled', '1', 'x-b3-parentspanid', S];
  const parent = readTraceContext(head);
  assert.deepEqual(parent, { traceId: T, spanId: S, sampled: true });
  const child = childTrace(parent!, ids);
  assert.equal(child.traceId, T);
  assert.notEqual(child.spanId, S);
  writeTraceContext(head, child);
  assert.deepEqual(head, [
    ...[':method', 'GET', 'x-b3-traceid', T, 'x-b3-spanid', child.spanId, 'x-b3-sampled', '1'],
    ...['x-b3-parentspanid', S, 'traceparent', formatTraceparent(child)],
  ]);
});

test('traceparent wins; two of them are none; a tracestate without one goes', () => {
  const other = '1'.repeat(32);
  const w3c = `00-${T}-${S}-00`;
  const head = ['b3', `${other}-${S}-1`, 'traceparent', w3c, 'tracestate', 'a=1', 'tracestate', 'b=2'];
  assert.deepEqual(readTraceContext(head), { traceId: T, spanId: S, sampled: false, tracestate: 'a=1,b=2' });
  const twice = ['traceparent', w3c, 'traceparent', w3c, 'tracestate', 'a=1', 'x', 'y'];
  assert.equal(readTraceContext(twice), undefined);
  const { traceparent, parentSpanId } = continueTrace(twice, ids, 1);
  assert.deepEqual([twice, parentSpanId], [['traceparent', traceparent, 'x', 'y'], '']);
  assert.equal(parseTraceparent(traceparent)?.sampled, true);
});

test('a trace goes on by one span, in whatever form it came, or begins', () => {
  const head = ['x-request-id', 'r', 'traceparent', `00-${T}-${S}-01`, 'tenant', 'b'];
  const place = continueTrace(head, ids, 0);
  const child = parseTraceparent(place.traceparent);
  assert.deepEqual([child?.traceId, child?.sampled, place.parentSpanId], [T, true, S]);
  assert.notEqual(child?.spanId, S);
  assert.deepEqual(head, ['x-request-id', 'r', 'traceparent', place.traceparent, 'tenant', 'b']);

  const later = ['traceparent', `cc-${T}-${S}-01-more`];
  assert.match(continueTrace(later, ids, 0).traceparent, new RegExp(`^00-${T}-[0-9a-f]{16}-01$`));
  const old = ['b3', `${T}-${S}-1`];
  assert.equal(continueTrace(old, ids, 0).parentSpanId, S);
  assert.match(old[1], new RegExp(`^${T}-[0-9a-f]{16}-1-${S}$`));
  const bad = ['traceparent', `00-${'0'.repeat(32)}-${S}-01`];
  assert.equal(continueTrace(bad, ids, 0).parentSpanId, '');
  assert.equal(parseTraceparent(bad[1])?.sampled, false);
  const none = [':path', '/'];
  assert.equal(continueTrace(none, ids, 1).traceparent, none[3]);
});

test('the decision to record is taken back in every form', () => {
  const forms: Record<string, string>[] = [
    { traceparent: `00-${T}-${S}-01`, tracestate: 'a=b' },
    { b3: `${T}-${S}-d` },
    { 'x-b3-traceid': T, 'x-b3-spanid': S, 'x-b3-sampled': '1' },
    { 'x-b3-traceid': T, 'x-b3-spanid': S, 'x-b3-flags': '1' },
  ];
  for (const form of forms) {
    const head = Object.entries(form).flat();
    const place = continueTrace(head, ids, 1);
    unsample(head, place);
    assert.equal(isSampled(place.traceparent), false);
    const wanted = { traceId: T, spanId: place.traceparent.slice(36, 52), sampled: false };
    for (const left of [head, head.filter((_, i) => head[i - (i % 2)] !== 'traceparent')]) {
      const { traceId, spanId, sampled } = readTraceContext(left) ?? wanted;
      assert.deepEqual({ traceId, spanId, sampled }, wanted, JSON.stringify(left));
    }
    assert.deepEqual(head.includes('a=b'), form.tracestate !== undefined);
  }
});

test('B3 is added for who knows nothing else, once', () => {
  const head = ['traceparent', `00-${T}-${S}-01`];
  const place = continueTrace(head, ids, 0);
  const own = place.traceparent.slice(36, 52);
  addB3(head, place);
  assert.deepEqual(head.slice(2), [
    ...['x-b3-traceid', T, 'x-b3-spanid', own, 'x-b3-parentspanid', S, 'x-b3-sampled', '1'],
  ]);
  const passedOn = head.slice(2);
  const next = continueTrace(passedOn, ids, 0);
  assert.deepEqual([next.parentSpanId, next.traceparent.slice(3, 35), isSampled(next.traceparent)], [own, T, true]);
  const length = passedOn.length;
  addB3(passedOn, next);
  assert.equal(passedOn.length, length);
  const begun: string[] = [];
  addB3(begun, continueTrace(begun, ids, 0));
  assert.deepEqual([begun.length, begun.slice(-2)], [8, ['x-b3-sampled', '0']]);
});

test('ids are of the right form, differ, and sampling keeps its rate', () => {
  const seen = new Set<string>();
  for (let i = 0; i < 2000; i++) {
    const id = ids.requestId();
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    seen.add(id);
    const sampled = i % 2 === 1;
    const trace = parseTraceparent(ids.traceparent(sampled ? 1 : 0));
    assert.equal(trace?.sampled, sampled);
    seen.add(trace?.traceId ?? '');
    assert.match(ids.spanId(), /^[0-9a-f]{16}$/);
  }
  assert.equal(seen.size, 4000);
  const zeros = new IdSource(() => {});
  assert.equal(zeros.traceparent(0.5), `00-${'0'.repeat(31)}1-${'0'.repeat(15)}1-00`);
  assert.equal(zeros.spanId(), `${'0'.repeat(15)}1`);
  let sampled = 0;
  for (let i = 0; i < 10_000; i++) {
    const traceparent = ids.traceparent(0.01);
    const { traceId } = parseTraceparent(traceparent)!;
    assert.equal(isSampled(traceparent), sampledByTraceId(traceId, 0.01), 'the trace id alone decides');
    assert.ok(!isSampled(traceparent) || sampledByTraceId(traceId, 0.3), 'who samples more samples these too');
    if (isSampled(traceparent)) sampled++;
  }
  assert.ok(Math.abs(sampled - 100) < 4.5 * Math.sqrt(99), `seed 1: ${sampled}`);
});

test('the flag of a traceparent; B3 without a decision gets one, the same everywhere', () => {
  const flags = ['00', '01', '02', '03', '0a', '0b', 'fe', 'ff', '9f'];
  assert.deepEqual(
    flags.map((f) => isSampled(`00-${T}-${S}-${f}`)),
    flags.map((f) => (Number.parseInt(f, 16) & 1) === 1),
  );
  assert.equal(isSampled(''), false);
  const [low, high] = [`${'a'.repeat(18)}0${'1'.repeat(13)}`, `${'0'.repeat(18)}f${'1'.repeat(13)}`];
  for (const [trace, flag] of [
    [low, '0'],
    [high, '1'],
  ]) {
    const single = ['b3', `${trace}-${S}`];
    assert.equal(isSampled(continueTrace(single, ids, 0.5).traceparent), flag === '1');
    assert.match(single[1], new RegExp(`^${trace}-[0-9a-f]{16}-${flag}-${S}$`));
    const fields = ['x-b3-traceid', trace, 'x-b3-spanid', S];
    continueTrace(fields, ids, 0.5);
    assert.deepEqual(fields.slice(-2), ['x-b3-sampled', flag]);
    const decided = ['x-b3-traceid', trace, 'x-b3-spanid', S, 'x-b3-sampled', '0'];
    assert.equal(isSampled(continueTrace(decided, ids, 1).traceparent), false);
    assert.equal(decided.filter((f) => f === 'x-b3-sampled').length, 1);
  }
});
