import assert from 'node:assert/strict';
import test from 'node:test';
import { readBuffer } from '../lent.ts';
import type { Stream } from '../stream.ts';
import { Http2Connection } from './connection.ts';
import { frame, get, getBlock, pair, Record, rand, raw } from './testing.ts';

test('floods end the connection, each with its counter', () => {
  const many = (n: number, make: (i: number) => Buffer): Buffer[] => Array.from({ length: n }, (_, i) => make(i));
  const rst = Buffer.from([0, 0, 0, 8]);
  const bomb = Buffer.concat([
    getBlock,
    Buffer.from([0x40, 1, 0x61, 0x7f, 0xa1, 0x1e]),
    Buffer.alloc(4000, 98),
    Buffer.alloc(100, 0xbe),
  ]);
  const cases: [string, Buffer[]][] = [
    [
      'http2_reset_received_flood',
      many(1100, (i) => Buffer.concat([frame(1, 4, 2 * i + 1, getBlock), frame(3, 0, 2 * i + 1, rst)])),
    ],
    [
      'http2_reset_sent_flood',
      many(1100, (i) => Buffer.concat([frame(1, 4, 2 * i + 1, getBlock), frame(8, 0, 2 * i + 1, Buffer.alloc(4))])),
    ],
    ['http2_continuation_flood', [frame(1, 0, 1, getBlock), ...many(12, () => frame(9, 0, 1, Buffer.from([0x82])))]],
    ['http2_empty_frame_flood', [frame(1, 4, 1, getBlock), ...many(3, () => frame(0, 0, 1))]],
    ['http2_settings_entries', [frame(4, 0, 0, Buffer.alloc(33 * 6, 0xff))]],
    ['http2_glitch_flood', many(10_100, () => frame(0x0b, 0, 1, Buffer.alloc(5)))],
    [
      'http2_reset_pending_accept',
      many(21, (i) => frame(1, 4, 2 * i + 1, getBlock)).concat(many(21, (i) => frame(3, 0, 2 * i + 1, rst))),
    ],
    ['http2_priority_flood', many(201, () => frame(2, 0, 1, Buffer.alloc(5)))],
    [
      'http2_window_update_flood',
      [frame(1, 4, 1, getBlock), ...many(8, () => frame(8, 0, 0, Buffer.from([0, 0, 0, 1])))],
    ],
    ['http2_tiny_data_flood', [frame(1, 4, 1, getBlock), ...many(17_000, () => frame(0, 0, 1, Buffer.from('x')))]],
    ['http2_header_abuse', [frame(1, 5, 1, bomb)]],
  ];
  for (const [counter, bytes] of cases) {
    const t = raw();
    // A flood of resets is not one where each comes with its request.
    if (counter === 'http2_reset_received_flood') for (const part of bytes) t.feed(part);
    else t.feed(...bytes);
    assert.equal(t.goaway(), 11, counter);
    assert.ok(t.counted.includes(counter), counter);
  }
  const t = raw();
  t.toClient.full = true;
  for (let i = 0; i < 1100; i++) {
    t.feed(frame(6, 0, 0, Buffer.alloc(8)));
    t.wire.run();
  }
  assert.equal(t.goaway(), 11);
  assert.ok(t.counted.includes('http2_control_queue'));
});

test('what real peers do beside the limits is no flood', () => {
  const tiny = Array.from({ length: 20_000 }, () => frame(0, 0, 1, Buffer.from('xy')));
  const grpc = raw({ limits: { connectionWindowBytes: 1 << 20 } });
  const head = [...get, 'content-type', 'application/grpc+proto'];
  const client = new Http2Connection({ role: 'client', output: grpc.toServer });
  grpc.toServer.writes.length = 0;
  client.request(head, false, new Record());
  grpc.wire.run();
  grpc.feed(...grpc.toServer.writes.map((w) => w.subarray(w.indexOf('SM\r\n\r\n') + 6)).slice(0, 1));
  grpc.feed(...tiny);
  assert.equal(grpc.got.length, 1);
  assert.equal(grpc.got[0].record.body, 40_000);
  assert.equal(grpc.goaway(), undefined, 'small messages of gRPC');
  const link = raw();
  link.server.trustProxy(20_000, 5000);
  link.feed(frame(1, 4, 1, getBlock), ...tiny);
  for (let i = 1; i < 60; i++) {
    link.feed(frame(1, 4, 2 * i + 1, getBlock), frame(3, 0, 2 * i + 1, Buffer.from([0, 0, 0, 8])));
  }
  const all: Buffer[] = [];
  for (let i = 60; i < 160; i++) {
    all.push(frame(1, 4, 2 * i + 1, getBlock), frame(3, 0, 2 * i + 1, Buffer.from([0, 0, 0, 8])));
  }
  link.feed(...all);
  assert.equal(link.goaway(), undefined, 'a proxy of the mesh carries what its clients do');
});

test('a server may reset what it was asked, not more often', () => {
  const t = pair({ limits: { maxConcurrentStreams: 10_000 } });
  t.wire.run();
  for (let i = 0; i < 1000; i++) t.client.request(get, true, new Record());
  t.wire.run();
  for (const { stream } of t.got) stream.reset('cancel');
  t.wire.run();
  assert.equal(t.client.dead, false);
  t.client.receive(Buffer.concat(Array.from({ length: 2000 }, () => frame(3, 0, 1, Buffer.from([0, 0, 0, 8])))));
  assert.equal(t.client.dead, true);
  assert.equal(t.counted.filter((c) => c === 'http2_reset_received_flood').length, 1);
});

test('answers without bodies that are not read pile up to a bound, in frames and in bytes', () => {
  for (const [value, most] of [
    ['x', 10_300],
    ['x'.repeat(10_000), 900],
  ] as const) {
    const t = raw({
      onStream: (stream) => {
        stream.sendHead([':status', '404', 'x-filler', value], true);
        return new Record();
      },
    });
    t.toClient.full = true;
    let asked = 0;
    for (; asked < 20_000 && !t.server.dead; asked++) {
      t.feed(frame(1, 5, 2 * asked + 1, getBlock));
      t.wire.run();
    }
    assert.ok(asked < most, `${asked} requests`);
    assert.equal(t.goaway(), 11);
    assert.ok(t.counted.includes('http2_outbound_queue'));
  }
});

test('frames on the way to streams we gave up are no flood', () => {
  const t = pair({ limits: { resetBurst: 100_000 } });
  for (let i = 0; i < 12_000; i++) {
    const stream = t.client.request(get, true, new Record());
    t.wire.run();
    t.got[i].stream.sendHead([':status', '200'], false);
    t.got[i].stream.sendData(Buffer.alloc(10), true);
    stream.reset('internal');
    t.wire.run();
  }
  assert.equal(t.client.availableStreams, 200);
  assert.equal(t.counted.includes('http2_connection_error'), false);
});

test('above the stream limit: REFUSED_STREAM', () => {
  const t = raw({ limits: { maxConcurrentStreams: 2 } });
  t.feed(frame(1, 4, 1, getBlock), frame(1, 4, 3, getBlock), frame(1, 4, 5, getBlock));
  assert.deepEqual(
    t.sent().find((f) => f.type === 3),
    { type: 3, id: 5, code: 7 },
  );
});

test('timeouts: no SETTINGS, a header block that never ends, an idle connection', () => {
  const t = raw();
  t.feed(frame(1, 0, 1, getBlock));
  t.server.tick(0);
  t.server.tick(61_000);
  assert.equal(t.goaway(), 11);
  t.server.tick(62_000);
  t.server.tick(64_000);
  assert.ok(t.toClient.destroyed);
  const idle = pair();
  idle.wire.run();
  idle.client.tick(0);
  idle.client.tick(3_700_000);
  idle.wire.run();
  assert.ok(idle.toServer.ended);
});

test('random bytes never throw', () => {
  const random = rand(3);
  for (let i = 0; i < 300; i++) {
    const t = raw();
    for (let j = 0; j < 20; j++) {
      const payload = Buffer.from(Array.from({ length: Math.floor(random() * 20) }, () => Math.floor(random() * 256)));
      t.feed(frame(Math.floor(random() * 11), Math.floor(random() * 64), Math.floor(random() * 6), payload));
    }
    t.wire.run();
  }
});

test('a finished response that nobody reads is given up; one that is read, or not finished, is not', () => {
  let stream: Stream | undefined;
  const t = pair({
    server: {
      onStream: (s) => {
        stream = s;
        return new Record();
      },
    },
  });
  t.wire.run();
  const reader = new Record();
  const asked = t.client.request(get, true, reader);
  asked.pause();
  t.wire.run();
  stream!.sendHead([':status', '200'], false);
  stream!.sendData(Buffer.alloc(300_000), false);
  t.wire.run();
  for (let at = 0; at < 200_000; at += 50_000) t.server.tick(at);
  assert.equal(t.server.open, 1, 'not finished: no flush timeout');
  stream!.sendData(Buffer.alloc(1), true);
  t.server.tick(200_000);
  t.server.tick(259_000);
  assert.equal(t.server.open, 1);
  t.server.tick(260_000);
  t.wire.run();
  assert.equal(t.server.open, 0);
  assert.deepEqual(
    t.counted.filter((c) => c.includes('flush')),
    ['http2_flush_timeout'],
  );
});

test('a read with very many requests is taken in parts: the rest waits for a later turn, in order', () => {
  const later: (() => void)[] = [];
  let reading = true;
  const paths: string[] = [];
  const counted: string[] = [];
  const server = new Http2Connection({
    role: 'server',
    limits: { requestsPerRead: 10 },
    counters: { count: (name) => void counted.push(name) },
    output: {
      ...{ write: () => true, end() {}, destroy() {}, defer() {} },
      pauseReading: () => void (reading = false),
      resumeReading: () => void (reading = true),
      later: (fn) => void later.push(fn),
    },
    onStream(stream, head) {
      paths.push(head[head.indexOf(':path') + 1]);
      // Answered at once: it is no stream that the limit of streams counts.
      stream.sendHead([':status', '204'], true);
      return new Record();
    },
  });
  const parts: Buffer[] = [];
  const client = new Http2Connection({
    role: 'client',
    limits: { maxConcurrentStreams: 1000 },
    output: {
      ...{ end() {}, destroy() {}, pauseReading() {}, resumeReading() {}, later() {} },
      write: (bytes) => parts.push(Buffer.from(bytes)) > 0,
      defer: (fn) => fn(),
    },
  });
  for (let i = 0; i < 35; i++) {
    client.request([...get.slice(0, 6), ':path', `/${i}`], true, new Record());
  }
  const all = Buffer.concat(parts);
  // As sockets give it: what was read is gone when the call is over.
  const lend = (bytes: Buffer): void => {
    bytes.copy(readBuffer);
    server.receive(readBuffer.subarray(0, bytes.length));
    readBuffer.fill(0xdb);
  };
  lend(all.subarray(0, all.length - 5));
  assert.deepEqual([paths.length, reading], [10, false]);
  // What comes meanwhile comes after it.
  lend(all.subarray(all.length - 5));
  assert.equal(paths.length, 10);
  const seen: [number, boolean][] = [];
  while (later.length > 0) {
    later.shift()!();
    seen.push([paths.length, reading]);
  }
  assert.deepEqual(seen, [
    [20, false],
    [30, false],
    [35, true],
  ]);
  assert.deepEqual(
    paths,
    Array.from({ length: 35 }, (_, i) => `/${i}`),
  );
  assert.equal(counted.filter((name) => name === 'http2_requests_per_read').length, 3);
});
