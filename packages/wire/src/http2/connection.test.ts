import assert from 'node:assert/strict';
import test from 'node:test';
import type { Head, Stream } from '../stream.ts';
import { HpackEncoder } from './hpack-encoder.ts';
import { connect, frame, get, pair, post, Record, rand, raw } from './testing.ts';

const cuts: [string, (size: number) => number][] = [
  ['whole', (size) => size],
  ['one byte', () => 1],
  [
    'random',
    (
      (random) => (size: number) =>
        1 + Math.floor(random() * Math.min(size, 5000))
    )(rand(7)),
  ],
];
for (const [name, cut] of cuts) {
  test(`request, interim, body both ways, trailers, close (${name})`, () => {
    const t = pair({ cut });
    const r = new Record();
    const stream = t.client.request(
      [...post, 'te', 'trailers', 'x-big', 'b'.repeat(15_000), 'x-big2', 'c'.repeat(15_000)],
      false,
      r,
    );
    stream.sendData(Buffer.alloc(50_000, 97), false);
    stream.sendTrailers(['x-sum', '1']);
    t.wire.run();
    const [one] = t.got;
    assert.deepEqual(one.head.slice(0, 8), post);
    assert.equal(one.record.body, 50_000);
    assert.deepEqual(one.record.trailers, ['x-sum', '1']);
    one.stream.sendInterim([':status', '103', 'link', 'x']);
    one.stream.sendHead([':status', '200', 'content-length', '40000'], false);
    one.stream.sendData(Buffer.alloc(40_000, 98), true);
    t.wire.run();
    assert.deepEqual(r.events, ['interim 103', 'head', 'end', 'close']);
    assert.equal(r.body, 40_000);
    assert.deepEqual([t.client.open, t.server.open], [0, 0]);
    assert.deepEqual(one.record.events, ['trailers', 'close']);
    assert.equal(t.counted.filter((c) => c !== 'http2_glitch').length, 0);
  });
}

test('all frames of a turn leave in one write', () => {
  const t = pair();
  t.wire.run();
  t.toServer.writes.length = 0;
  for (let i = 0; i < 20; i++) t.client.request(post, false, new Record()).sendData(Buffer.alloc(1000), true);
  t.wire.run();
  assert.ok(t.toServer.writes[0].length > 20_000);
  assert.equal(t.got.length, 20);
  assert.ok(t.toServer.writes.length <= 2);
});

test('CONNECT tunnel with half-close; extended CONNECT only when announced', () => {
  const t = pair({ server: { enableConnectProtocol: true, announce: new Map([[0xf0f0, 7]]) } });
  const r = new Record();
  const tunnel = t.client.request(connect, false, r);
  t.wire.run();
  assert.equal(t.client.peerSettings.get(0xf0f0), 7);
  assert.deepEqual(t.got[0].head, connect);
  t.got[0].stream.sendHead([':status', '200'], false);
  tunnel.sendData(Buffer.from('hello'), true);
  t.wire.run();
  assert.equal(t.got[0].record.text, 'hello');
  t.got[0].stream.sendData(Buffer.from('late answer'), true);
  t.wire.run();
  assert.equal(r.text, 'late answer');
  const ws: Head = [':method', 'CONNECT', ':scheme', 'http', ':authority', 'a', ':path', '/', ':protocol', 'websocket'];
  t.client.request(ws, false, new Record());
  t.wire.run();
  assert.deepEqual(t.got[1].head, ws);
  const u = pair();
  const refused = new Record();
  u.client.request(ws, false, refused);
  u.wire.run();
  assert.deepEqual([refused.head?.[1], refused.events], ['501', ['head end', 'close']]);
  // A client that sends one all the same.
  const v = raw();
  const block = Buffer.alloc(500);
  const size = new HpackEncoder().encode(ws, block, 0);
  v.feed(frame(1, 4, 1, block.subarray(0, size)));
  assert.deepEqual(
    v.sent().filter((f) => f.code >= 0),
    [{ type: 3, id: 1, code: 1 }],
  );
});

test('back-pressure: a paused reader stops the writer, resume goes on, every byte arrives', () => {
  const t = pair();
  const r = new Record();
  const stream = t.client.request(post, false, r);
  t.wire.run();
  const { record, stream: remote } = t.got[0];
  remote.pause();
  let sent = 0;
  while (stream.sendData(Buffer.alloc(10_000), false)) sent += 10_000;
  sent += 10_000;
  t.wire.run();
  assert.equal(record.body, 0);
  assert.ok(sent <= 160_000);
  assert.equal(r.drains, 0);
  remote.resume();
  t.wire.run();
  assert.equal(record.body, sent);
  assert.ok(r.drains > 0);
  remote.pause();
  stream.sendData(Buffer.alloc(500), false);
  stream.sendTrailers(['a', 'b']);
  t.wire.run();
  assert.equal(record.trailers, undefined);
  remote.resume();
  t.wire.run();
  assert.deepEqual(record.trailers, ['a', 'b']);
  assert.equal(record.body, sent + 500);
});

test('199 stalled streams do not slow the 200th', () => {
  const t = pair();
  for (let i = 0; i < 200; i++) {
    const stream = t.client.request(post, false, new Record());
    t.wire.run();
    t.got[i].stream.sendHead([':status', '200'], false);
    if (i === 199) break;
    t.got[i].stream.pause();
    while (stream.sendData(Buffer.alloc(16_000), false));
  }
  t.wire.run();
  const total = 64 * 1024 * 1024;
  const r = t.got[199].record;
  const client = (t.client as unknown as { streams: Map<number, Stream> }).streams.get(399)!;
  let sent = 0;
  const chunk = Buffer.alloc(64 * 1024);
  const more = (): void => {
    while (sent < total) {
      sent += chunk.length;
      if (!client.sendData(chunk, sent === total)) break;
    }
  };
  (client.handler as Record).onDrain = more;
  more();
  const writes = t.toClient.writes.length;
  t.wire.run();
  assert.equal(r.body, total);
  // The window grew: far fewer updates than one per 32 KiB.
  assert.ok(t.toClient.writes.length - writes < 400, `${t.toClient.writes.length - writes} updates`);
  for (const other of t.got.slice(0, 199)) assert.equal(other.record.body, 0);
  t.got[0].stream.resume();
  t.wire.run();
  assert.ok(t.got[0].record.body > 65_536);
});

test('streams share a full output fairly, and nothing is written while it is full', () => {
  const t = pair();
  const streams = [0, 1, 2, 3].map(() => t.client.request(post, false, new Record()));
  t.wire.run();
  t.toServer.full = true;
  for (const stream of streams) stream.sendData(Buffer.alloc(64_000), false);
  t.wire.run();
  const bodies = (): number[] => t.got.map((g) => g.record.body);
  const first = bodies();
  assert.ok(first.reduce((a, b) => a + b) <= 150_000);
  while (bodies().some((b) => b < 64_000)) {
    const before = bodies().reduce((a, b) => a + b);
    t.client.drained();
    t.wire.run();
    const now = bodies();
    assert.ok(now.reduce((a, b) => a + b) > before);
    assert.ok(Math.max(...now) - Math.min(...now) <= 3 * 16_384, now.join(' '));
  }
});

test('GOAWAY: running streams finish, later ones are refused, both ends close', () => {
  const t = pair();
  const a = new Record();
  t.client.request(get, true, a);
  t.wire.run();
  t.server.drain();
  t.wire.run();
  assert.equal(t.client.availableStreams, 0);
  const b = new Record();
  t.client.request(get, true, b);
  t.wire.run();
  assert.deepEqual(b.events, ['reset refused']);
  assert.equal(t.toServer.ended, false);
  t.got[0].stream.sendHead([':status', '204'], true);
  t.wire.run();
  assert.deepEqual(a.events, ['head end', 'close']);
  assert.deepEqual([t.toServer.ended, t.toClient.ended], [true, true]);
});

test('reset codes cross the link; a broken connection resets all streams once', () => {
  for (const [code, seen] of [
    ['cancel', 'cancel'],
    ['refused', 'refused'],
    ['connection', 'connection'],
    ['protocol', 'protocol'],
    ['flow', 'flow'],
    ['internal', 'internal'],
    ['timeout', 'cancel'],
  ] as const) {
    const t = pair();
    const r = new Record();
    t.client.request(post, false, r);
    t.wire.run();
    t.got[0].stream.reset(code);
    t.got[0].stream.reset(code);
    t.wire.run();
    assert.deepEqual(r.events, [`reset ${seen}`]);
  }
  let closed = 0;
  const t = pair({ client: { onClosed: () => closed++ } });
  const r = new Record();
  t.client.request(get, true, r);
  t.client.closed('gone');
  t.client.closed('gone');
  assert.deepEqual([r.events, closed], [['reset connection'], 1]);
  const late = new Record();
  t.client.request(get, true, late);
  t.wire.run();
  assert.deepEqual(late.events, ['reset refused']);
  // Who waits for a connection hears at once that it failed, not when it is closed.
  const failed: string[] = [];
  const other = pair({ client: { onClosed: (detail) => failed.push(detail) } });
  other.client.receive(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'));
  assert.equal(failed.length, 1);
  other.client.closed('gone');
  assert.equal(failed.length, 1);
});

test('a handler that throws ends its connection, not the process', () => {
  const t = pair({
    server: {
      onStream: () => {
        throw new Error('bug');
      },
    },
  });
  const r = new Record();
  t.client.request(get, true, r);
  t.wire.run();
  assert.ok(t.toClient.ended);
  assert.ok(t.counted.includes('http2_handler_error'));
});
