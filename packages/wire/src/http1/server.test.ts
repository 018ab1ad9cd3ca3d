import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Head, UPGRADE_IGNORED } from '../stream.ts';
import { Http1Server } from './server.ts';
import { H, manual } from './server-testing.ts';
import { Recorder, RecordingOutput } from './testing.ts';

test('answers keep the order of requests; the next is parsed only when the one before is over', () => {
  const { output, seen, feed, server } = manual();
  feed(`GET /1 HTTP/1.1\r\n${H}\r\nGET /2 HTTP/1.1\r\n${H}\r\n`);
  assert.equal(seen.length, 1);
  feed('x'.repeat(20_000));
  assert.equal(output.reading, false, 'a flood of pipelined bytes is not read');
  seen[0].stream.sendHead([':status', '200', 'content-length', '3'], false);
  assert.equal(seen.length, 1);
  seen[0].stream.sendData(Buffer.from('one'), true);
  assert.equal(seen.length, 2);
  assert.equal(seen[0].recorder.closes, 1);
  assert.equal(server.open, 1);
  seen[1].stream.sendHead([':status', '204'], true);
  assert.match(
    output.text,
    /^HTTP\/1\.1 200 OK\r\ncontent-length: 3\r\n\r\noneHTTP\/1\.1 204 No Content\r\n\r\nHTTP\/1\.1 414/,
  );
});

test('head and first data of one turn leave in one write', () => {
  const { output, seen, feed } = manual();
  feed(`GET / HTTP/1.1\r\n${H}\r\n`);
  seen[0].stream.sendHead([':status', '200'], false);
  seen[0].stream.sendData(Buffer.from('hello'), false);
  output.turn();
  assert.equal(output.written.length, 1);
  assert.equal(output.text, 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n');
});

test('HEAD, 204, 304 and HTTP/1.0 answers are framed as they must be', () => {
  const cases: [string, Head, string][] = [
    [
      `HEAD / HTTP/1.1\r\n${H}\r\n`,
      [':status', '200', 'content-length', '5'],
      'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n',
    ],
    [
      `GET / HTTP/1.1\r\n${H}\r\n`,
      [':status', '304', 'content-length', '5'],
      'HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n',
    ],
    [`GET / HTTP/1.1\r\n${H}\r\n`, [':status', '204', 'content-length', '0'], 'HTTP/1.1 204 No Content\r\n\r\n'],
    ['GET / HTTP/1.0\r\n\r\n', [':status', '200'], 'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcde'],
    [
      'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n',
      [':status', '200', 'content-length', '5'],
      'HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\nabcde',
    ],
  ];
  for (const [request, head, wanted] of cases) {
    const { output, seen, feed } = manual();
    feed(request);
    seen[0].stream.sendHead(head, false);
    seen[0].stream.sendData(Buffer.from('abcde'), true);
    assert.equal(output.text, wanted);
  }
});

test('an application that would split or falsify a response is stopped', () => {
  for (const head of [
    [':status', '200', 'x', 'a\r\nb: c'],
    [':status', '200', 'x y', 'a'],
    [':status', '2000'],
    [':status', '101'],
    [':status', '200', 'content-length', '1x'],
    [':status', '200', ':path', '/'],
    [':status', '200', 'x', '\u0142'],
  ]) {
    const { output, seen, feed, server } = manual();
    feed(`GET / HTTP/1.1\r\n${H}\r\n`);
    seen[0].stream.sendHead(head, false);
    assert.match(output.text, /^HTTP\/1\.1 500 .*connection: close\r\n\r\ninternal error\n$/s);
    assert.equal(seen[0].recorder.reset, 'internal');
    assert.equal(server.open, 0);
  }
  for (const chunks of ['abcdef', 'abc']) {
    const { output, seen, feed } = manual();
    feed(`GET / HTTP/1.1\r\n${H}\r\n`);
    seen[0].stream.sendHead([':status', '200', 'content-length', '5'], false);
    seen[0].stream.sendData(Buffer.from(chunks), true);
    assert.ok(output.destroyed);
    assert.equal(seen[0].recorder.reset, 'internal');
  }
});

test('pause stops the socket and the data, resume goes on', () => {
  const { output, seen, feed } = manual();
  feed(`POST / HTTP/1.1\r\n${H}Content-Length: 6\r\n\r\nab`);
  seen[0].stream.pause();
  assert.equal(output.reading, false);
  feed('cd');
  assert.equal(seen[0].recorder.body, 'ab');
  seen[0].stream.resume();
  assert.equal(output.reading, true);
  assert.equal(seen[0].recorder.body, 'abcd');
});

test('a full socket is seen by sendData and told by onDrain', () => {
  const { output, seen, feed, server } = manual();
  feed(`GET / HTTP/1.1\r\n${H}\r\n`);
  output.full = true;
  seen[0].stream.sendHead([':status', '200'], false);
  assert.equal(seen[0].stream.sendData(Buffer.alloc(40_000), false), false);
  server.drained();
  assert.equal(seen[0].recorder.drains, 1);
});

test('CONNECT is a tunnel with half-close; nothing passes before it is accepted', () => {
  const { output, seen, feed, server } = manual();
  feed('CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nearly');
  assert.deepEqual(seen[0].head, [':method', 'CONNECT', ':authority', 'a:443']);
  assert.equal(seen[0].recorder.body, '');
  seen[0].stream.sendHead([':status', '200', 'content-length', '9'], false);
  output.turn();
  assert.equal(seen[0].recorder.body, 'early');
  feed(' more');
  server.receiveEnd();
  assert.equal(seen[0].recorder.body, 'early more');
  assert.ok(seen[0].recorder.ended && !output.ended, 'the other direction stays');
  seen[0].stream.sendData(Buffer.from('back'), true);
  assert.equal(output.text, 'HTTP/1.1 200 OK\r\n\r\nback');
  assert.ok(output.ended);
  assert.equal(seen[0].recorder.closes, 1);
});

test('a refused CONNECT is answered and closed, its bytes are not parsed as requests', () => {
  const { output, seen, feed } = manual();
  feed(`CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET / HTTP/1.1\r\n${H}\r\n`);
  seen[0].stream.sendHead([':status', '403'], true);
  assert.equal(output.text, 'HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n');
  assert.ok(output.ended);
  assert.equal(seen.length, 1);
});

test('an upgrade is shown as extended CONNECT and answered with 101', () => {
  const { output, seen, feed } = manual();
  feed(`GET /ws HTTP/1.1\r\n${H}Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\n`);
  assert.deepEqual(seen[0].head, [
    ':method',
    'CONNECT',
    ':scheme',
    'https',
    ':authority',
    'a',
    ':path',
    '/ws',
    ':protocol',
    'websocket',
    'sec-websocket-key',
    'k',
  ]);
  seen[0].stream.sendHead([':status', '200', 'sec-websocket-accept', 'x'], false);
  feed('frame');
  seen[0].stream.sendData(Buffer.from('reply'), false);
  assert.equal(
    output.text,
    'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: WebSocket\r\nsec-websocket-accept: x\r\n\r\nreply',
  );
  assert.equal(seen[0].recorder.body, 'frame');
});

test('an upgrade that was ignored is answered as any request, and the connection ends', () => {
  const { output, seen, feed } = manual();
  feed(`GET / HTTP/1.1\r\n${H}Connection: Upgrade\r\nUpgrade: chat\r\n\r\nGET /smuggled HTTP/1.1\r\n${H}\r\n`);
  seen[0].stream.sendHead([':status', '200', 'content-length', '5', UPGRADE_IGNORED, '1'], false);
  seen[0].stream.sendData(Buffer.from('plain'), true);
  assert.equal(output.text, 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nplain');
  assert.equal(output.ended, true);
  assert.equal(seen.length, 1);
});

test('a WebSocket whose server is none of HTTP/1.1 gets the answer to its key', () => {
  const upgrade = `GET /ws HTTP/1.1\r\n${H}Connection: Upgrade\r\nUpgrade: websocket\r\n`;
  const { output, seen, feed } = manual();
  feed(`${upgrade}Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n\r\n`);
  seen[0].stream.sendHead([':status', '200'], false);
  assert.match(output.text, /\r\nsec-websocket-accept: Bz3qJYTGdOe8gUSpLosEdiLKDrk=\r\n/i);
  const other = manual();
  other.feed(`${upgrade.replace('websocket', 'chat/1')}Sec-WebSocket-Key: k\r\n\r\n`);
  other.seen[0].stream.sendHead([':status', '200'], false);
  assert.doesNotMatch(other.output.text, /accept/);
});

test('Expect stays in the head, interims go out; without 100 the connection closes', () => {
  const request = `POST / HTTP/1.1\r\n${H}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n`;
  const a = manual();
  a.feed(request);
  assert.ok(a.seen[0].head.includes('expect'));
  a.seen[0].stream.sendInterim([':status', '100']);
  a.feed('ab');
  a.seen[0].stream.sendHead([':status', '200'], true);
  assert.equal(a.output.text, 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
  assert.equal(a.output.ended, false);
  const b = manual();
  b.feed(request);
  b.seen[0].stream.sendHead([':status', '413'], true);
  assert.match(b.output.text, /connection: close/);
  assert.ok(b.output.ended);
  b.server.closed('gone');
  assert.equal(b.seen[0].recorder.reset, 'cancel');
});

test('announced trailers of a response have their place: chunks, though the length was known', () => {
  const answered = (version: string, announced: Head): string => {
    const output = new RecordingOutput();
    const server = new Http1Server({
      output,
      scheme: 'http',
      onStream(stream) {
        stream.sendHead([':status', '200', 'content-length', '2', ...announced], false);
        stream.sendData(Buffer.from('ok'), false);
        stream.sendTrailers(['x-sum', '9']);
        return new Recorder();
      },
    });
    server.receive(Buffer.from(`GET / HTTP/${version}\r\nhost: a\r\n\r\n`));
    return output.text;
  };
  const announced = ['trailer', 'x-sum'];
  assert.match(answered('1.1', announced), /\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n$/);
  assert.match(answered('1.1', []), /\r\ncontent-length: 2\r\n\r\nok$/);
  assert.match(answered('1.0', announced), /\r\ncontent-length: 2\r\n(.*\r\n)*\r\nok$/, 'HTTP/1.0 knows no chunks');
});
