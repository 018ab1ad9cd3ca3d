import assert from 'node:assert/strict';
import test from 'node:test';
import type { Head } from '../stream.ts';
import { frame, get, getBlock, pair, post, Record, raw, rawClient } from './testing.ts';

test('malformed requests are reset, the connection goes on', () => {
  const bad: [string, Head, number?][] = [
    ['upper case', [...get, 'X-A', '1']],
    ['connection field', [...get, 'connection', 'close']],
    ['te', [...get, 'te', 'gzip']],
    ['pseudo late', [...get, ':path', '/']],
    ['no path', get.slice(0, 6)],
    ['empty path', [...get.slice(0, 7), '']],
    ['blank in path', [...get.slice(0, 7), '/a HTTP/1.1']],
    ['blank in authority', [...get.slice(0, 5), 'a.test b', ...get.slice(6)]],
    ['blank in method', [':method', 'GE T', ...get.slice(2)]],
    ['path in authority', [...get.slice(0, 5), 'a.test/b', ...get.slice(6)]],
    ['pseudo twice', [':method', 'GET', ...get]],
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
    t.client.request(head, true, r); // now from the table
    t.wire.run();
    assert.deepEqual(r.events, ['reset protocol', 'reset protocol'], name);
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

test('pseudo-headers come in the order of a head, whatever theirs was', () => {
  const whole = [...get.slice(0, 8), 'x', 'y'];
  const sent: [Head, Head][] = [
    [whole, whole],
    [[':path', '/x', ':authority', 'a.test', ':scheme', 'http', ':method', 'GET', 'x', 'y'], whole],
    [[...get.slice(0, 4), ...get.slice(6, 8), 'x', 'y', 'host', 'a.test'], whole],
    [
      [...get.slice(0, 4), ...get.slice(6, 8)],
      [...get.slice(0, 5), '', ...get.slice(6, 8)],
    ],
    [
      [':authority', 'a.test:80', ':method', 'CONNECT', 'x', 'y'],
      [':method', 'CONNECT', ':authority', 'a.test:80', 'x', 'y'],
    ],
  ];
  const t = pair();
  for (const [head] of sent) t.client.request(head, true, new Record());
  t.wire.run();
  const got = t.got.map((request) => request.head);
  assert.deepEqual(
    got,
    sent.map(([, head]) => head),
  );
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
