import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeOtlp } from './otlp.ts';
import type { Span, SpanSource } from './span.ts';
import { encodeZipkin } from './zipkin.ts';

const T = '4bf92f3577b34da6a3ce929d0e0e4736';
const source: SpanSource = { serviceName: 'cart.shop', address: '10.0.0.1', tags: ['component', 'proxy'] };
const span = (over: Partial<Span> = {}): Span => ({
  traceparent: `00-${T}-00f067aa0ba902b7-01`,
  parentSpanId: '00f067aa0ba902b6',
  server: false,
  name: 'payment.shop.svc.cluster.local:80/*',
  startWallMs: 1_800_000_000_123,
  durationMs: 2.5,
  error: false,
  peerName: 'payment',
  peerAddress: '10.0.0.2:8080',
  tags: ['http.method', 'GET'],
  ...over,
});

test('Zipkin: one object a span, times in microseconds, tags of the process and its own', () => {
  const spans = [
    span(),
    span({ server: true, error: true, parentSpanId: '', durationMs: 0, peerAddress: '[fd00::2]:9' }),
  ];
  const [a, b] = JSON.parse(new TextDecoder().decode(encodeZipkin(spans, source)));
  assert.deepEqual(a, {
    ...{ traceId: T, id: '00f067aa0ba902b7', parentId: '00f067aa0ba902b6', kind: 'CLIENT' },
    name: 'payment.shop.svc.cluster.local:80/*',
    ...{ timestamp: 1_800_000_000_123_000, duration: 2500 },
    localEndpoint: { serviceName: 'cart.shop', ipv4: '10.0.0.1' },
    remoteEndpoint: { serviceName: 'payment', ipv4: '10.0.0.2', port: 8080 },
    tags: { component: 'proxy', 'http.method': 'GET' },
  });
  assert.deepEqual([b.kind, b.duration, 'parentId' in b, b.tags.error], ['SERVER', 1, false, 'true']);
  assert.deepEqual(b.remoteEndpoint, { serviceName: 'payment', ipv6: 'fd00::2', port: 9 });
  const [nobody] = JSON.parse(
    new TextDecoder().decode(encodeZipkin([span({ peerName: '', peerAddress: '' })], source)),
  );
  assert.equal('remoteEndpoint' in nobody, false);
});

test('what strangers write in tags stays in them', () => {
  const tags = ['__proto__', 'x', 'user_agent', '"}],\u0000\ud800\u2028'];
  const [a] = JSON.parse(new TextDecoder().decode(encodeZipkin([span({ tags })], source)));
  assert.equal(Object.hasOwn(a.tags, '__proto__'), true);
  assert.match(a.tags.user_agent, /^"\}\],\u0000/);
  const [, fields] = spanFields(encodeOtlp([span({ tags })], source));
  assert.equal(attributesOf(fields, 9).length, 4);
});

type Field = [number: number, value: bigint | Uint8Array];

/** Protobuf's wire form, one message deep. */
function fieldsOf(bytes: Uint8Array): Field[] {
  const out: Field[] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      value |= BigInt(bytes[at] & 127) << shift;
      if (bytes[at++] < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    if ((key & 7) === 0) out.push([key >> 3, varint()]);
    else if ((key & 7) === 1) {
      out.push([key >> 3, new DataView(bytes.buffer, bytes.byteOffset + at, 8).getBigUint64(0, true)]);
      at += 8;
    } else {
      assert.equal(key & 7, 2);
      const length = Number(varint());
      out.push([key >> 3, bytes.subarray(at, at + length)]);
      at += length;
    }
  }
  return out;
}

const all = (fields: Field[], number: number) => fields.filter(([n]) => n === number).map(([, v]) => v);
const message = (fields: Field[], number: number): Field[] => fieldsOf(all(fields, number)[0] as Uint8Array);
const text = (value: unknown) => new TextDecoder().decode(value as Uint8Array);
const hex = (value: unknown) => Buffer.from(value as Uint8Array).toString('hex');
const attributesOf = (fields: Field[], number: number) =>
  all(fields, number).map((a) => {
    const pair = fieldsOf(a as Uint8Array);
    return [text(all(pair, 1)[0]), text(all(message(pair, 2), 1)[0])];
  });

/** Attributes of the resource, and the fields of each span. */
function spanFields(body: Uint8Array): [string[][], ...Field[][]] {
  const resource = message(fieldsOf(body), 1);
  const scope = message(resource, 2);
  assert.equal(text(all(message(scope, 1), 1)[0]), 'weft');
  return [attributesOf(message(resource, 1), 1), ...all(scope, 2).map((s) => fieldsOf(s as Uint8Array))];
}

test('OTLP: a resource with its spans, times in nanoseconds', () => {
  const spans = [span(), span({ server: true, error: true, parentSpanId: '' })];
  const [resource, a, b] = spanFields(encodeOtlp(spans, source));
  assert.deepEqual(resource, [['service.name', 'cart.shop']]);
  assert.deepEqual(
    [hex(all(a, 1)[0]), hex(all(a, 2)[0]), hex(all(a, 4)[0])],
    [T, '00f067aa0ba902b7', '00f067aa0ba902b6'],
  );
  assert.deepEqual([text(all(a, 5)[0]), all(a, 6)[0]], ['payment.shop.svc.cluster.local:80/*', 3n]);
  assert.deepEqual([all(a, 7)[0], all(a, 8)[0]], [1_800_000_000_123_000_000n, 1_800_000_000_125_500_000n]);
  assert.deepEqual(attributesOf(a, 9), [
    ['component', 'proxy'],
    ['http.method', 'GET'],
    ['peer.service', 'payment'],
  ]);
  assert.deepEqual([all(a, 15).length, all(b, 4).length, all(b, 6)[0]], [0, 0, 2n]);
  assert.equal(all(message(b, 15), 3)[0], 2n);
});
