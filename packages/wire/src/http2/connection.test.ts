import assert from 'node:assert/strict';
import http2 from 'node:http2';
import { Duplex } from 'node:stream';
import test from 'node:test';
import { seededRandom } from '@weft/base';
import { readBuffer } from '../lent.ts';
import type { Head, Output, Stream, StreamHandler } from '../stream.ts';
import { Http2Connection, type Http2Options } from './connection.ts';
import { HpackEncoder } from './hpack-encoder.ts';

/** A turn of the loop by hand: bytes and deferred calls move when `run` says so. */
class Wire {
  queue: (() => void)[] = [];
  run(): void {
    for (let steps = 0; this.queue.length > 0; steps++) {
      assert.ok(steps < 1_000_000, 'the two sides never come to rest');
      this.queue.shift()!();
    }
  }
}

class Pipe implements Output {
  peer: Http2Connection | undefined;
  writes: Buffer[] = [];
  ended = false;
  destroyed = false;
  full = false;
  wire: Wire;
  cut: (size: number) => number;
  constructor(wire: Wire, cut: (size: number) => number) {
    this.wire = wire;
    this.cut = cut;
  }
  write(bytes: Uint8Array): boolean {
    const copy = Buffer.from(bytes);
    this.writes.push(copy);
    for (let at = 0; at < copy.length; ) {
      const part = copy.subarray(at, at + this.cut(copy.length - at));
      at += part.length;
      this.wire.queue.push(() => this.peer?.receive(part));
    }
    return !this.full;
  }
  end(): void {
    this.ended = true;
  }
  destroy(): void {
    this.destroyed = true;
  }
  pauseReading(): void {}
  resumeReading(): void {}
  defer(fn: () => void): void {
    this.wire.queue.push(fn);
  }
  later(fn: () => void): void {
    this.wire.queue.push(fn);
  }
}

class Record implements StreamHandler {
  events: string[] = [];
  head: Head | undefined;
  body = 0;
  text = '';
  trailers: Head | undefined;
  stream: Stream | undefined;
  onBytes: ((n: number) => void) | undefined;
  drains = 0;
  onHead(_s: Stream, head: Head, end: boolean): void {
    this.head = head;
    this.events.push(end ? 'head end' : 'head');
  }
  onInterim(_s: Stream, head: Head): void {
    this.events.push(`interim ${head[1]}`);
  }
  onData(_s: Stream, chunk: Uint8Array, end: boolean): void {
    this.body += chunk.length;
    if (this.text.length < 1000) this.text += Buffer.from(chunk).toString('latin1');
    if (end) this.events.push('end');
    this.onBytes?.(chunk.length);
  }
  onTrailers(_s: Stream, fields: Head): void {
    this.trailers = fields;
    this.events.push('trailers');
  }
  onReset(_s: Stream, code: string): void {
    this.events.push(`reset ${code}`);
  }
  onDrain(): void {
    this.drains++;
    this.events.push('drain');
  }
  onClose(): void {
    this.events.push('close');
  }
}

const get: Head = [':method', 'GET', ':scheme', 'http', ':authority', 'a.test', ':path', '/x', 'accept', '*/*'];
const post: Head = [':method', 'POST', ':scheme', 'http', ':authority', 'a.test', ':path', '/x'];
const connect: Head = [':method', 'CONNECT', ':authority', 'a.test:80'];

function pair(
  options: {
    cut?: (size: number) => number;
    limits?: Http2Options['limits'];
    server?: Partial<Http2Options>;
    client?: Partial<Http2Options>;
  } = {},
) {
  const wire = new Wire();
  const cut = options.cut ?? ((size: number) => size);
  const counted: string[] = [];
  const counters = { count: (name: string) => void counted.push(name) };
  const toServer = new Pipe(wire, cut);
  const toClient = new Pipe(wire, cut);
  const got: { stream: Stream; head: Head; end: boolean; record: Record }[] = [];
  const server = new Http2Connection({
    role: 'server',
    output: toClient,
    limits: options.limits,
    counters,
    onStream: (stream, head, end) => {
      const record = new Record();
      record.stream = stream;
      got.push({ stream, head, end, record });
      return record;
    },
    ...options.server,
  });
  const client = new Http2Connection({ role: 'client', output: toServer, counters, ...options.client });
  toServer.peer = server;
  toClient.peer = client;
  return { wire, server, client, toServer, toClient, got, counted };
}

function frame(type: number, flags: number, id: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}

/** What a side has sent since its writes were cleared; `code`: of RST_STREAM and GOAWAY, else -1. */
function sentFrames(wire: Wire, pipe: Pipe): { type: number; id: number; code: number }[] {
  wire.run();
  const all = Buffer.concat(pipe.writes);
  const out = [];
  for (let at = 0; at < all.length; at += 9 + all.readUIntBE(at, 3)) {
    const type = all[at + 3];
    const code = type === 3 ? all.readUInt32BE(at + 9) : type === 7 ? all.readUInt32BE(at + 13) : -1;
    out.push({ type, id: all.readUInt32BE(at + 5), code });
  }
  return out;
}

/** A client that is fed bytes by hand; the server's SETTINGS have come. */
function rawClient(options: Partial<Http2Options> = {}) {
  const t = pair({ client: options });
  t.toClient.peer = undefined;
  t.toServer.peer = undefined;
  t.client.receive(frame(4, 0, 0));
  t.wire.run();
  t.toServer.writes.length = 0;
  return {
    ...t,
    sent: () => sentFrames(t.wire, t.toServer),
    feed: (...b: Buffer[]) => t.client.receive(Buffer.concat(b)),
  };
}

/** A server that is fed bytes by hand. */
function raw(options: Partial<Http2Options> = {}) {
  const t = pair({ server: options });
  t.toClient.peer = undefined;
  t.toServer.peer = undefined;
  t.server.receive(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0)]));
  t.wire.run();
  t.toClient.writes.length = 0;
  const sent = () => sentFrames(t.wire, t.toClient);
  const goaway = (): number | undefined => sent().find((f) => f.type === 7)?.code;
  return { ...t, sent, goaway, feed: (...b: Buffer[]) => t.server.receive(Buffer.concat(b)) };
}
const getBlock = Buffer.from('828684418cf1e3c2e5f23a6ba0ab90f4ff', 'hex');

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
function rand(seed: number): () => number {
  const random = seededRandom(seed);
  return () => random.next();
}

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

test('malformed requests are reset, the connection goes on', () => {
  const bad: [string, Head, number?][] = [
    ['upper case', [...get, 'X-A', '1']],
    ['connection field', [...get, 'connection', 'close']],
    ['te', [...get, 'te', 'gzip']],
    ['pseudo late', [...get, ':path', '/']],
    ['no path', get.slice(0, 6)],
    ['empty path', [...get.slice(0, 7), '']],
    ['blank in path', [...get.slice(0, 7), '/a HTTP/1.1']],
    ['unknown pseudo', [':x', '1', ...get]],
    ['two hosts', [...get, 'host', 'other.test']],
    ['two lengths', [...get, 'content-length', '0', 'content-length', '1']],
    ['length without body', [...get, 'content-length', '5']],
    ['user info', [':method', 'GET', ':scheme', 'http', ':authority', 'u@a.test', ':path', '/']],
    ['blank value', [...get, 'x', ' y']],
    ['status', [...get.slice(0, 8), ':status', '200']],
    ['no scheme', [...get.slice(0, 2), ...get.slice(4)]],
    ['scheme that is none', [...get.slice(0, 3), 'http ', ...get.slice(4)]],
    ['another scheme', [...get.slice(0, 3), 'ftp', ...get.slice(4)]],
    ['method of the preface', [':method', 'PRI', ...get.slice(2)]],
  ];
  for (const [name, head] of bad) {
    const t = pair();
    const r = new Record();
    t.client.request(head, true, r);
    t.wire.run();
    assert.deepEqual(r.events, ['reset protocol'], name);
    assert.equal(t.got.length, 0, name);
    assert.equal(t.toClient.ended, false, name);
  }
  const spelled = pair();
  spelled.client.request([...get.slice(0, 3), 'htTpS', ...get.slice(4)], true, new Record());
  spelled.wire.run();
  assert.equal(spelled.got[0].head[3], 'https');
  const t = pair();
  const r = new Record();
  const s = t.client.request([...post, 'content-length', '5'], false, r);
  s.sendData(Buffer.alloc(6), false);
  t.wire.run();
  assert.deepEqual([r.events, t.got[0].record.events], [['reset protocol'], ['reset protocol']]);
});

test('what a server sends on a stream it has ended (RFC 9113 5.1), and on one that we reset', () => {
  const ok = Buffer.from([0x88]); // :status 200
  const end = frame(1, 5, 1, ok);
  const reset = frame(3, 0, 1, Buffer.from([0, 0, 0, 8]));
  const data = frame(0, 1, 1, Buffer.alloc(4));
  const streamClosed = 5;
  const cases: [string, Buffer[], number][] = [
    ['DATA after END_STREAM', [end, data], 7],
    ['HEADERS after END_STREAM', [end, end], 7],
    ['DATA after RST_STREAM', [reset, data], 3],
    ['HEADERS after RST_STREAM', [reset, end], 3],
  ];
  for (const [name, late, type] of cases) {
    const t = rawClient();
    t.client.request(get, true, new Record());
    t.feed(...late);
    assert.deepEqual(
      t.sent().filter((f) => f.code >= 0),
      [{ type, id: type === 7 ? 0 : 1, code: streamClosed }],
      name,
    );
  }
  const t = rawClient();
  t.client.request(get, true, new Record()).reset('cancel');
  t.feed(frame(1, 4, 1, ok), data);
  assert.deepEqual(
    t.sent().filter((f) => f.code >= 0),
    [{ type: 3, id: 1, code: 8 }],
    'what was on its way is no error',
  );
});

test('a server that answers early and wants no more (RST_STREAM NO_ERROR): the answer counts, also where it waits', () => {
  const t = rawClient();
  const r = new Record();
  const stream = t.client.request(post, false, r);
  stream.pause();
  t.feed(frame(1, 4, 1, Buffer.from([0x88])), frame(0, 1, 1, Buffer.alloc(1000)), frame(3, 0, 1, Buffer.alloc(4)));
  stream.sendData(Buffer.alloc(10), true);
  stream.resume();
  t.wire.run();
  assert.deepEqual([r.body, r.events], [1000, ['head', 'end', 'close']]);
  assert.deepEqual([t.client.open, t.sent().filter((f) => f.type === 0).length], [0, 0]);
});

test('host becomes :authority, cookie crumbs are joined', () => {
  const t = pair();
  t.client.request(
    [':method', 'GET', ':scheme', 'http', ':path', '/', 'host', 'h.test', 'cookie', 'a=1', 'x', 'y', 'cookie', 'b=2'],
    true,
    new Record(),
  );
  t.wire.run();
  assert.deepEqual(t.got[0].head, [
    ':method',
    'GET',
    ':scheme',
    'http',
    ':authority',
    'h.test',
    ':path',
    '/',
    'x',
    'y',
    'cookie',
    'a=1; b=2',
  ]);
});

test('a head above the limit: 431 and the connection goes on', () => {
  const t = pair();
  const r = new Record();
  const many: Head = [...get];
  for (let i = 0; i < 120; i++) many.push(`x-${i}`, 'v');
  t.client.request(many, true, r);
  t.wire.run();
  assert.equal(r.head?.[1], '431');
  t.client.request(get, true, new Record());
  t.wire.run();
  assert.equal(t.got.length, 1);
  assert.ok(t.counted.includes('http2_header_too_large'));
});

test('a head larger than a frame goes on in CONTINUATION, and one that fills frames exactly has no empty one', () => {
  const value = (bytes: number): string => '~'.repeat(bytes); // longer in Huffman coding, so sent as it is
  for (const bytes of [16_000, 16_384, 20_000, 32_768, 49_152]) {
    const t = pair({ limits: { headerFieldBytes: 60_000 }, client: { limits: { headerFieldBytes: 60_000 } } });
    const r = new Record();
    const sent: Head = [...get, 'x-long', value(bytes)];
    t.client.request(sent, true, r);
    t.wire.run();
    assert.deepEqual(t.got[0]?.head, sent, `${bytes} up`);
    const answer: Head = [':status', '200', 'x-long', value(bytes)];
    t.got[0]!.stream.sendHead(answer, true);
    t.wire.run();
    assert.deepEqual([r.head, r.events], [answer, ['head end', 'close']], `${bytes} down`);
  }
});

test('what the peer says it does not take: heads above its SETTINGS_MAX_HEADER_LIST_SIZE', () => {
  const t = pair({ limits: { headerBytes: 400 }, client: { limits: { headerBytes: 300 } } });
  t.wire.run();
  const r = new Record();
  t.toServer.writes.length = 0;
  const stream = t.client.request([...post, 'x', 'y'.repeat(400)], false, r);
  stream.sendData(Buffer.alloc(10), true);
  t.wire.run();
  assert.deepEqual([r.head, r.events, t.got.length], [[':status', '431'], ['head end', 'close'], 0]);
  assert.equal(t.toServer.writes.length, 0);
  // Five fields of 32 bytes and what is in them: just within.
  const exact: Head = [...get];
  const used = exact.reduce((n, text) => n + text.length + 16, 0);
  exact.push('x', 'y'.repeat(400 - used - 33));
  const s = new Record();
  t.client.request(exact, true, s);
  t.wire.run();
  assert.equal(t.got.length, 1);
  t.got[0]!.stream.sendHead([':status', '200', 'x', 'y'.repeat(300)], false);
  t.got[0]!.stream.sendData(Buffer.alloc(10), true);
  t.wire.run();
  assert.deepEqual([s.head?.[1], s.events, s.body], ['502', ['head end', 'close'], 0]);
  const u = new Record();
  t.client.request(get, true, u);
  t.wire.run();
  t.got[1]!.stream.sendHead([':status', '200'], false);
  t.got[1]!.stream.sendTrailers(['x', 'y'.repeat(300)]);
  t.wire.run();
  assert.deepEqual(u.events, ['head', 'reset internal']);
  assert.equal(t.counted.filter((name) => name === 'http2_peer_header_list').length, 3);
});

test('protocol errors of RFC 9113 end the connection with their code', () => {
  const u32 = (n: number): Buffer => {
    const b = Buffer.alloc(4);
    b.writeUInt32BE(n);
    return b;
  };
  const cases: [string, Buffer[], number][] = [
    ['DATA on idle', [frame(0, 0, 1, Buffer.alloc(1))], 1],
    ['even id', [frame(1, 5, 2, getBlock)], 1],
    ['window 0', [frame(8, 0, 0, u32(0))], 1],
    ['window overflow', [frame(8, 0, 0, u32(0x7fffffff))], 3],
    ['settings size', [frame(4, 0, 0, Buffer.alloc(5))], 6],
    ['settings window', [frame(4, 0, 0, Buffer.from('000480000000', 'hex'))], 3],
    ['ping size', [frame(6, 0, 0, Buffer.alloc(7))], 6],
    ['oversize', [frame(0, 0, 1, Buffer.alloc(16_385))], 6],
    ['interrupted block', [frame(1, 1, 1, getBlock), frame(6, 0, 0, Buffer.alloc(8))], 1],
    ['bad hpack', [frame(1, 5, 1, Buffer.from([0x80]))], 9],
    ['push promise', [frame(5, 4, 1, Buffer.alloc(4))], 1],
    ['padding', [frame(1, 4, 1, getBlock), frame(0, 8, 1, Buffer.from([5, 0]))], 1],
    ['lower id', [frame(1, 5, 3, getBlock), frame(1, 5, 1, getBlock)], 5],
    ['rst idle', [frame(3, 0, 1, u32(8))], 1],
  ];
  for (const [name, bytes, code] of cases) {
    const t = raw();
    t.feed(...bytes);
    assert.equal(t.goaway(), code, name);
    assert.ok(t.toClient.ended, name);
  }
  const t = raw();
  t.feed(frame(1, 5, 1, getBlock), frame(0, 1, 1, Buffer.alloc(1)));
  assert.deepEqual(
    t.sent().find((f) => f.type === 3),
    { type: 3, id: 1, code: 5 },
  );
});

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

/** An independent peer: Node's own HTTP/2 (nghttp2) over memory. */
function bridge(make: (output: Output) => Http2Connection): Duplex {
  let connection: Http2Connection | undefined;
  const duplex = new Duplex({
    read() {},
    write(chunk, _encoding, done) {
      connection!.receive(chunk);
      done();
    },
    final(done) {
      connection!.receiveEnd();
      done();
    },
  });
  connection = make({
    // Later: Node's HTTP/2 does not bear to be read into while it writes.
    write: (bytes) => {
      setImmediate(() => duplex.push(Buffer.from(bytes)));
      return true;
    },
    end: () => void setImmediate(() => duplex.push(null)),
    destroy: () => void duplex.destroy(),
    pauseReading() {},
    resumeReading() {},
    defer: (fn) => void setImmediate(fn),
    later: (fn) => void setImmediate(fn),
  });
  return duplex;
}

test('interoperates with nghttp2 as client and as server', async () => {
  const side = bridge(
    (output) =>
      new Http2Connection({
        role: 'server',
        output,
        onStream: (stream, head) => {
          stream.sendHead([':status', '200', 'x-path', head[7]], false);
          return {
            onHead() {},
            onData: (s, chunk, end) => void s.sendData(chunk, end),
            onTrailers() {},
            onReset() {},
            onDrain() {},
          };
        },
      }),
  );
  const session = http2.connect('http://a.test', { createConnection: () => side });
  for (let i = 0; i < 5; i++) {
    const req = session.request({ ':path': `/p${i}`, ':method': 'POST', 'user-agent': 'test' });
    req.end(Buffer.alloc(300_000, 97));
    let size = 0;
    const head = await new Promise<http2.IncomingHttpHeaders>((ok) => req.on('response', ok));
    for await (const chunk of req) size += chunk.length;
    assert.equal(size, 300_000);
    assert.equal(head['x-path'], `/p${i}`);
  }
  await new Promise<void>((ok) => session.close(ok));

  const server = http2.createServer((req, res) => {
    res.setHeader('x-path', req.url);
    req.pipe(res);
  });
  let client!: Http2Connection;
  const other = bridge((output) => (client = new Http2Connection({ role: 'client', output })));
  server.emit('connection', other);
  for (let i = 0; i < 5; i++) {
    const r = new Record();
    await new Promise<void>((ok) => {
      (r as StreamHandler).onClose = () => ok();
      const stream = client.request([...post.slice(0, 7), `/q${i}`, 'x-fixed', 'value'], false, r);
      stream.sendData(Buffer.alloc(300_000, 98), true);
    });
    assert.equal(r.body, 300_000);
    assert.equal(r.head?.[1], '200');
  }
  other.destroy();
  server.close();
});

test('nghttp2 changes windows and tables under running streams, pads its frames and sends trailers', async () => {
  const random = rand(11);
  const body = Buffer.alloc(300_000, 'abcdefghijk');
  const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T;
  /** A window smaller than what is on its way makes the streams' windows negative (RFC 9113 6.9.2). */
  const change = (): http2.Settings => ({
    headerTableSize: pick([0, 100, 4096, 65_536]),
    initialWindowSize: pick([4000, 20_000, 65_535, 400_000]),
    maxFrameSize: pick([16_384, 1_000_000]),
  });
  const fields = (): [string, string][] =>
    Array.from({ length: 8 }, () => [
      `x-${pick(['a', 'b', 'c', 'd', 'e', 'f'])}${pick([1, 2, 3])}`,
      pick(['1', '22', 'x']),
    ]);
  const padding = { paddingStrategy: http2.constants.PADDING_STRATEGY_MAX };

  const side = bridge(
    (output) =>
      new Http2Connection({
        role: 'server',
        output,
        onStream: (stream, head) => {
          stream.sendHead([':status', '200', ...head.filter((_, i) => head[i - (i % 2)]?.startsWith('x-'))], false);
          return {
            onHead() {},
            onData: (s, chunk) => void s.sendData(chunk, false),
            onTrailers: (s, trailers) => s.sendTrailers(['x-seen', trailers[1] ?? '']),
            onReset() {},
            onDrain() {},
          };
        },
      }),
  );
  const session = http2.connect('http://a.test', { createConnection: () => side, ...padding });
  for (let i = 0; i < 15; i++) {
    const sent = Object.fromEntries(fields());
    const req = session.request({ ':path': '/', ':method': 'POST', ...sent }, { waitForTrailers: true });
    req.on('wantTrailers', () => req.sendTrailers({ 'x-check': `t${i}` }));
    req.end(body);
    let trailers: http2.IncomingHttpHeaders = {};
    req.on('trailers', (got) => {
      trailers = got;
    });
    const head = await new Promise<http2.IncomingHttpHeaders>((ok) => req.on('response', ok));
    const chunks: Buffer[] = [];
    for await (const chunk of req) {
      if (chunks.length === 2) session.settings(change());
      chunks.push(chunk as Buffer);
    }
    assert.ok(Buffer.concat(chunks).equals(body), `round ${i}`);
    for (const [name, value] of Object.entries(sent)) assert.equal(head[name], value);
    assert.equal(trailers['x-seen'], `t${i}`);
  }
  await new Promise<void>((ok) => session.close(ok));

  const server = http2.createServer(padding);
  server.on('stream', (stream, head) => {
    const back = Object.fromEntries(Object.entries(head).filter(([name]) => name.startsWith('x-')));
    stream.respond({ ':status': 200, ...back }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-done': 'yes' }));
    stream.once('data', () => stream.session?.settings(change()));
    stream.pipe(stream);
  });
  let client!: Http2Connection;
  const other = bridge((output) => (client = new Http2Connection({ role: 'client', output })));
  server.emit('connection', other);
  for (let i = 0; i < 15; i++) {
    const r = new Record();
    const sent = [...new Map(fields())].flat();
    await new Promise<void>((ok) => {
      (r as StreamHandler).onClose = () => ok();
      const stream = client.request([...post, ...sent], false, r);
      for (let at = 0; at < body.length; at += 50_000) {
        stream.sendData(body.subarray(at, at + 50_000), at + 50_000 >= body.length);
      }
    });
    assert.equal(r.body, body.length, `round ${i}`);
    const got = new Map<string, string>();
    for (let j = 0; j + 1 < r.head!.length; j += 2) got.set(r.head![j]!, r.head![j + 1]!);
    for (let j = 0; j < sent.length; j += 2) assert.equal(got.get(sent[j]!), sent[j + 1]);
    assert.deepEqual(r.trailers, ['x-done', 'yes']);
  }
  other.destroy();
  server.close();
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
