import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Head, type Stream, UPGRADE_IGNORED, type WireLimits } from '../stream.ts';
import { Http1Server } from './server.ts';
import { Recorder, RecordingOutput } from './testing.ts';

interface Seen {
  head: Head;
  recorder: Recorder;
  stream: Stream;
}

/** A server that answers every complete request with 200 and its path, fed `bytes` in pieces of `step`. */
function serve(bytes: string, step: number, limits?: Partial<WireLimits>) {
  const output = new RecordingOutput();
  const seen: Seen[] = [];
  const answer = (stream: Stream) => {
    stream.sendHead([':status', '200', 'content-length', '2'], false);
    stream.sendData(Buffer.from('ok'), true);
  };
  const server = new Http1Server({
    output,
    scheme: 'http',
    limits,
    onStream(stream, head, end) {
      const recorder = new Recorder();
      seen.push({ head, recorder, stream });
      if (end) answer(stream);
      else {
        const onData = recorder.onData.bind(recorder);
        recorder.onData = (s, chunk, last) => {
          onData(s, chunk, last);
          if (last) answer(s);
        };
        recorder.onTrailers = (s, fields) => {
          recorder.trailers = fields;
          answer(s);
        };
      }
      return recorder;
    },
  });
  const buffer = Buffer.from(bytes, 'latin1');
  for (let at = 0; at < buffer.length; at += step) server.receive(buffer.subarray(at, at + step));
  const statuses = [...output.text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((m) => Number(m[1]));
  return { output, seen, server, statuses };
}

const H = 'Host: a\r\n';
const CH = `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n`;
/** [name, bytes, statuses of all answers, limits] */
const table: [string, string, number[], Partial<WireLimits>?][] = [
  ['plain GET', `GET / HTTP/1.1\r\n${H}\r\n`, [200]],
  ['one empty line before', `\r\nGET / HTTP/1.1\r\n${H}\r\n`, [200]],
  ['two empty lines before', `\r\n\r\nGET / HTTP/1.1\r\n${H}\r\n`, [400]],
  ['CR alone before', `\rGET / HTTP/1.1\r\n${H}\r\n`, [400]],
  ['pipelined', `GET /1 HTTP/1.1\r\n${H}\r\nGET /2 HTTP/1.1\r\n${H}\r\n`, [200, 200]],
  [
    'pipelined after body',
    `POST / HTTP/1.1\r\n${H}Content-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\n${H}\r\n`,
    [200, 200],
  ],
  ['nothing after close', `GET / HTTP/1.1\r\n${H}Connection: close\r\n\r\nGET / HTTP/1.1\r\n${H}\r\n`, [200]],
  ['1.0 without host', 'GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n', [200]],
  [
    '1.0 keep-alive',
    'GET / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.0\r\n\r\n',
    [200, 200],
  ],
  ['no host', 'GET / HTTP/1.1\r\n\r\n', [400]],
  ['empty host', 'GET / HTTP/1.1\r\nHost:\r\n\r\n', [200]],
  ['two hosts', `GET / HTTP/1.1\r\n${H}${H}\r\n`, [400]],
  ['host with userinfo', 'GET / HTTP/1.1\r\nHost: u@a\r\n\r\n', [400]],
  ['host with path', 'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n', [400]],
  ['host with bad port', 'GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n', [400]],
  ['host with two names', 'GET / HTTP/1.1\r\nHost: a b\r\n\r\n', [400]],
  ['host v6', 'GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n', [200]],
  ['host bad v6', 'GET / HTTP/1.1\r\nHost: [::1\r\n\r\n', [400]],
  ['absolute form', 'GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n', [200]],
  ['absolute form of another scheme', 'GET ftp://b/x HTTP/1.1\r\nHost: a\r\n\r\n', [400]],
  ['absolute form with userinfo', 'GET http://u:p@b/x HTTP/1.1\r\nHost: a\r\n\r\n', [400]],
  ['absolute form without host', 'GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n', [400]],
  ['path without slash', `GET x HTTP/1.1\r\n${H}\r\n`, [400]],
  ['fragment', `GET /x#y HTTP/1.1\r\n${H}\r\n`, [400]],
  ['control byte in path', `GET /x\x01 HTTP/1.1\r\n${H}\r\n`, [400]],
  ['8-bit byte in path', `GET /x\xe9 HTTP/1.1\r\n${H}\r\n`, [400]],
  ['asterisk', `OPTIONS * HTTP/1.1\r\n${H}\r\n`, [200]],
  ['asterisk with GET', `GET * HTTP/1.1\r\n${H}\r\n`, [400]],
  ['two spaces', `GET  / HTTP/1.1\r\n${H}\r\n`, [400]],
  ['tab instead of space', `GET\t/ HTTP/1.1\r\n${H}\r\n`, [400]],
  ['space behind the version', `GET / HTTP/1.1 \r\n${H}\r\n`, [400]],
  ['space before the method', ` GET / HTTP/1.1\r\n${H}\r\n`, [400]],
  ['bad method', `G(T / HTTP/1.1\r\n${H}\r\n`, [400]],
  ['the method of the HTTP/2 preface', `PRI / HTTP/1.1\r\n${H}\r\n`, [400]],
  ['HTTP/0.9', 'GET /\r\n\r\n', [400]],
  ['HTTP/2.0 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', [505]],
  ['HTTP/1.2', `GET / HTTP/1.2\r\n${H}\r\n`, [505]],
  ['lower-case version', `GET / http/1.1\r\n${H}\r\n`, [400]],
  ['LF only', 'GET / HTTP/1.1\nHost: a\n\n', [400]],
  ['LF in the middle', `GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n`, [400]],
  ['CR in a value', `GET / HTTP/1.1\r\n${H}X: a\rb\r\n\r\n`, [400]],
  ['CR CR LF', `GET / HTTP/1.1\r\n${H}X: a\r\r\n\r\n`, [400]],
  ['CRLF CR X', `GET / HTTP/1.1\r\n${H}\rX: a\r\n\r\n`, [400]],
  ['NUL in a value', `GET / HTTP/1.1\r\n${H}X: a\0b\r\n\r\n`, [400]],
  ['DEL in a value', `GET / HTTP/1.1\r\n${H}X: a\x7fb\r\n\r\n`, [400]],
  ['obs-text in a value', `GET / HTTP/1.1\r\n${H}X: \xe9\r\n\r\n`, [200]],
  ['NUL in a name', `GET / HTTP/1.1\r\n${H}X\0: a\r\n\r\n`, [400]],
  ['space before colon', `GET / HTTP/1.1\r\n${H}X : a\r\n\r\n`, [400]],
  ['space before name', `GET / HTTP/1.1\r\n X: a\r\n${H}\r\n`, [400]],
  ['folded line', `GET / HTTP/1.1\r\n${H}X: a\r\n b\r\n\r\n`, [400]],
  ['no colon', `GET / HTTP/1.1\r\n${H}X\r\n\r\n`, [400]],
  ['empty name', `GET / HTTP/1.1\r\n${H}: a\r\n\r\n`, [400]],
  ['empty value', `GET / HTTP/1.1\r\n${H}X:\r\n\r\n`, [200]],
  ['__proto__ name', `GET / HTTP/1.1\r\n${H}__proto__: x\r\nconstructor: y\r\n\r\n`, [200]],
  ['content-length 0', `POST / HTTP/1.1\r\n${H}Content-Length: 0\r\n\r\n`, [200]],
  ['content-length twice', `POST / HTTP/1.1\r\n${H}Content-Length: 1\r\nContent-Length: 1\r\n\r\na`, [400]],
  ['content-length list', `POST / HTTP/1.1\r\n${H}Content-Length: 1, 1\r\n\r\na`, [400]],
  ['content-length +', `POST / HTTP/1.1\r\n${H}Content-Length: +1\r\n\r\na`, [400]],
  ['content-length -', `POST / HTTP/1.1\r\n${H}Content-Length: -1\r\n\r\na`, [400]],
  ['content-length hex', `POST / HTTP/1.1\r\n${H}Content-Length: 0x1\r\n\r\na`, [400]],
  ['content-length with space', `POST / HTTP/1.1\r\n${H}Content-Length: 1 2\r\n\r\na`, [400]],
  ['content-length empty', `POST / HTTP/1.1\r\n${H}Content-Length:\r\n\r\na`, [400]],
  ['content-length huge', `POST / HTTP/1.1\r\n${H}Content-Length: 99999999999999999999\r\n\r\na`, [400]],
  ['TE and CL', `POST / HTTP/1.1\r\n${H}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, [400]],
  ['CL and TE', `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n`, [400]],
  [
    'TE twice',
    `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    [400],
  ],
  ['TE identity', `POST / HTTP/1.1\r\n${H}Transfer-Encoding: identity\r\n\r\n`, [400]],
  ['TE xchunked', `POST / HTTP/1.1\r\n${H}Transfer-Encoding: xchunked\r\n\r\n`, [400]],
  ['TE gzip, chunked', `POST / HTTP/1.1\r\n${H}Transfer-Encoding: gzip, chunked\r\n\r\n`, [501]],
  ['TE chunked, gzip', `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked, gzip\r\n\r\n`, [400]],
  ['TE with VT', `POST / HTTP/1.1\r\n${H}Transfer-Encoding: \x0bchunked\r\n\r\n`, [400]],
  ['TE quoted', `POST / HTTP/1.1\r\n${H}Transfer-Encoding: "chunked"\r\n\r\n`, [400]],
  ['TE empty', `POST / HTTP/1.1\r\n${H}Transfer-Encoding:\r\n\r\n`, [400]],
  ['TE in 1.0', `POST / HTTP/1.0\r\n${H}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, [400]],
  ['chunked', `${CH}3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n${H}\r\n`, [200, 200]],
  [
    'chunked upper case',
    `POST / HTTP/1.1\r\n${H}Transfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n`,
    [200],
  ],
  ['chunked with trailers', `${CH}3\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n${H}\r\n`, [200, 200]],
  ['chunk extension', `${CH}3;a=b\r\nabc\r\n0;c\r\n\r\n`, [200]],
  ['chunk extension with LF', `${CH}3;a\nabc\r\n0\r\n\r\n`, [400]],
  ['chunk extension with CR', `${CH}3;a\rb\r\nabc\r\n0\r\n\r\n`, [400]],
  ['chunk extension too long', `${CH}3;${'x'.repeat(1100)}\r\nabc\r\n0\r\n\r\n`, [400]],
  ['chunk extensions too long in total', `${CH}${`1;${'x'.repeat(1000)}\r\na\r\n`.repeat(20)}0\r\n\r\n`, [400]],
  ['chunk size 0x', `${CH}0x3\r\nabc\r\n0\r\n\r\n`, [400]],
  ['chunk size +', `${CH}+3\r\nabc\r\n0\r\n\r\n`, [400]],
  ['chunk size _', `${CH}1_0\r\nabc\r\n0\r\n\r\n`, [400]],
  ['chunk size with space', `${CH}3 \r\nabc\r\n0\r\n\r\n`, [400]],
  ['chunk size empty', `${CH}\r\nabc\r\n0\r\n\r\n`, [400]],
  ['chunk size 2^53', `${CH}20000000000000\r\nabc\r\n`, [400]],
  ['chunk size 2^64', `${CH}10000000000000000\r\nabc\r\n`, [400]],
  ['chunk size with 17 zeros', `${CH}${'0'.repeat(17)}\r\n\r\n`, [400]],
  ['chunk ended by LF', `${CH}3\r\nabc\n0\r\n\r\n`, [400]],
  ['chunk size ended by LF', `${CH}3\nabc\r\n0\r\n\r\n`, [400]],
  ['chunk longer than said', `${CH}3\r\nabcd\r\n0\r\n\r\n`, [400]],
  ['trailer ended by LF', `${CH}0\r\nX: y\n\r\n`, [400]],
  ['trailer folded', `${CH}0\r\nX: y\r\n z\r\n\r\n`, [400]],
  ['trailers too large', `${CH}0\r\nX: ${'y'.repeat(9000)}\r\n\r\n`, [431]],
  ['too many trailers', `${CH}0\r\n${'X: y\r\n'.repeat(33)}\r\n`, [431]],
  ['request line too long', `GET /${'x'.repeat(8200)} HTTP/1.1\r\n${H}\r\n`, [414]],
  ['request line too long and endless', `GET /${'x'.repeat(9000)}`, [414]],
  ['field too large', `GET / HTTP/1.1\r\n${H}X: ${'x'.repeat(17_000)}\r\n\r\n`, [431]],
  ['head too large', `GET / HTTP/1.1\r\n${H}${`X: ${'x'.repeat(15_000)}\r\n`.repeat(5)}\r\n`, [431]],
  ['head endless', `GET / HTTP/1.1\r\n${H}X: ${'x'.repeat(80_000)}`, [431]],
  ['too many fields', `GET / HTTP/1.1\r\n${H}${'X: y\r\n'.repeat(100)}\r\n`, [431]],
  ['fields counted with 32 each', `GET / HTTP/1.1\r\n${H}${'X: y\r\n'.repeat(20)}\r\n`, [431], { headerBytes: 500 }],
  ['CONNECT without port', 'CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n', [400]],
  ['CONNECT with path', 'CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n', [400]],
  ['CONNECT with body', 'CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc', [400]],
  ['bad Connection', `GET / HTTP/1.1\r\n${H}Connection: a b\r\n\r\n`, [400]],
];

test('every accepted and refused request, whole and byte by byte', () => {
  assert.ok(table.length >= 60);
  for (const [name, bytes, wanted, limits] of table) {
    for (const step of [bytes.length, 1, 7]) {
      const { statuses, output, server } = serve(bytes, step, limits);
      assert.deepEqual(statuses, wanted, `${name}, ${step} bytes at a time`);
      if (wanted.at(-1)! >= 400) {
        assert.ok(output.ended, `${name}: the connection stays open`);
        assert.match(output.text, /connection: close\r\n/, name);
        server.receive(Buffer.from(`GET / HTTP/1.1\r\n${H}\r\n`));
        assert.equal(
          [...output.text.matchAll(/HTTP\/1\.1 /g)].length,
          wanted.length,
          `${name}: read on after a refusal`,
        );
      }
    }
  }
});

test('a head names method, scheme, authority and path in this order, without hop-by-hop fields', () => {
  const { seen } = serve(
    'GET http://B:81?q HTTP/1.1\r\nHost: a\r\nConnection: x-hop, keep-alive, te\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: gzip, trailers\r\nProxy-Connection: x\r\nX-End: \t v \t\r\n\r\n',
    1000,
  );
  assert.deepEqual(seen[0].head, [
    ':method',
    'GET',
    ':scheme',
    'http',
    ':authority',
    'B:81',
    ':path',
    '/?q',
    'x-end',
    'v',
    'te',
    'trailers',
  ]);
  const h2c = serve(
    `GET / HTTP/1.1\r\n${H}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n`,
    99,
  );
  assert.deepEqual(h2c.seen[0].head.slice(8), []);
  assert.deepEqual(h2c.statuses, [200]);
});

test('trailers arrive, framing fields among them do not', () => {
  const { seen } = serve(`${CH}3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 5\r\nHost: b\r\n\r\n`, 4);
  assert.equal(seen[0].recorder.body, 'abc');
  assert.deepEqual(seen[0].recorder.trailers, ['x-sum', '1']);
});

function manual(limits?: Partial<WireLimits>) {
  const output = new RecordingOutput();
  const seen: Seen[] = [];
  const names: string[] = [];
  const server = new Http1Server({
    output,
    scheme: 'https',
    limits,
    counters: { count: (name) => names.push(name) },
    onStream(stream, head) {
      const recorder = new Recorder();
      seen.push({ head, recorder, stream });
      return recorder;
    },
  });
  return { output, seen, server, names, feed: (text: string) => server.receive(Buffer.from(text, 'latin1')) };
}

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

test('timeouts: a slow head gets 408, an idle connection ends, a peer that never closes is cut', () => {
  const slow = manual();
  slow.feed('GET / HT');
  slow.server.tick(1000);
  slow.server.tick(62_000);
  assert.match(slow.output.text, /^HTTP\/1\.1 408 /);
  slow.server.tick(63_000);
  slow.server.tick(70_000);
  assert.ok(slow.output.destroyed);
  assert.ok(slow.names.includes('http1_headers_timeout'));
  const idle = manual({ idleTimeoutMs: 5000 });
  idle.feed(`GET / HTTP/1.1\r\n${H}\r\n`);
  idle.seen[0].stream.sendHead([':status', '204'], true);
  idle.server.tick(0);
  idle.server.tick(4000);
  assert.equal(idle.output.ended, false);
  idle.server.tick(6000);
  assert.ok(idle.output.ended);
});

test('a response that is not read is given up after its time, one that is still being made is not', () => {
  const t = manual({ flushTimeoutMs: 5000 });
  t.feed(`GET / HTTP/1.1\r\n${H}\r\n`);
  t.output.full = true;
  t.seen[0].stream.sendHead([':status', '200'], false);
  assert.equal(t.seen[0].stream.sendData(Buffer.alloc(100_000), false), false);
  t.server.tick(0);
  t.server.tick(20_000);
  assert.equal(t.output.destroyed, false, 'the application may take its time');
  t.seen[0].stream.sendData(Buffer.alloc(10), true);
  t.server.tick(30_000);
  t.server.tick(34_000);
  assert.equal(t.output.destroyed, false);
  t.server.tick(35_000);
  assert.ok(t.output.destroyed);
  assert.deepEqual(
    t.names.filter((n) => n.includes('timeout')),
    ['http1_flush_timeout'],
  );
  const read = manual({ flushTimeoutMs: 5000 });
  read.feed(`GET / HTTP/1.1\r\n${H}\r\n`);
  read.output.full = true;
  read.seen[0].stream.sendHead([':status', '200'], false);
  read.seen[0].stream.sendData(Buffer.alloc(100_000), true);
  read.server.tick(0);
  read.server.drained();
  read.server.tick(6000);
  assert.equal(read.output.destroyed, false, 'what was read is not given up');
});

test('a client that pipelines and does not read: its requests wait, and go on when it reads', () => {
  const t = manual({ requestsPerRead: 2000 });
  const one = `GET / HTTP/1.1\r\n${H}\r\n`;
  t.output.full = true;
  t.feed(one);
  t.seen[0].stream.sendHead([':status', '404'], true);
  t.output.turn();
  t.feed(one.repeat(1000));
  assert.equal(t.seen.length, 1, 'no answer is made that could not leave');
  assert.equal(t.output.reading, false);
  t.output.full = false;
  t.server.drained();
  assert.equal(t.seen.length, 2);
  for (let i = 1; i < 1001; i++) t.seen[i].stream.sendHead([':status', '404'], true);
  assert.equal(t.seen.length, 1001);
  assert.equal(t.output.reading, true);
});

test('what still comes after the end is read for a while, a flood of it is cut', () => {
  const t = manual();
  t.feed('GET / HTTP/9.9\r\n\r\n');
  assert.match(t.output.text, /^HTTP\/1\.1 505 /);
  for (let i = 0; i < 64; i++) t.feed('x'.repeat(65_536));
  assert.equal(t.output.destroyed, false);
  t.feed('x');
  assert.equal(t.output.destroyed, true);
  assert.equal(t.names.at(-1), 'http1_discard_overflow');
});

test('drain lets the exchange finish and closes', () => {
  const { output, seen, feed, server } = manual();
  feed(`GET / HTTP/1.1\r\n${H}\r\n`);
  server.drain();
  seen[0].stream.sendHead([':status', '204'], true);
  assert.equal(output.text, 'HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n');
  assert.ok(output.ended);
  const idle = manual();
  idle.server.drain();
  assert.ok(idle.output.ended);
});

test('a peer that goes away inside a body resets the exchange once', () => {
  const { seen, feed, server, output } = manual();
  feed(`POST / HTTP/1.1\r\n${H}Content-Length: 6\r\n\r\nab`);
  server.receiveEnd();
  server.closed('x');
  assert.equal(seen[0].recorder.reset, 'cancel');
  assert.ok(output.destroyed);
});

test('10 000 pipelined bad requests get one answer', () => {
  const { statuses } = serve('GET / HTTP/9.9\r\n\r\n'.repeat(10_000), 1 << 20);
  assert.deepEqual(statuses, [505]);
});

test('10 000 pipelined good requests are answered without recursion', () => {
  const { statuses } = serve(`GET / HTTP/1.1\r\n${H}\r\n`.repeat(10_000), 1 << 20, { requestsPerRead: 20_000 });
  assert.equal(statuses.length, 10_000);
});

test('a read with very many requests is taken in parts: the rest waits for a later turn, in order', () => {
  const output = new RecordingOutput();
  const paths: string[] = [];
  const counted: string[] = [];
  const server = new Http1Server({
    output,
    scheme: 'http',
    limits: { requestsPerRead: 10 },
    counters: { count: (name) => void counted.push(name) },
    onStream(stream, head) {
      paths.push(head[head.indexOf(':path') + 1]);
      stream.sendHead([':status', '204'], true);
      return new Recorder();
    },
  });
  const get = (i: number): string => `GET /${i} HTTP/1.1\r\nhost: a\r\n\r\n`;
  const all = Array.from({ length: 35 }, (_, i) => get(i)).join('');
  server.receive(Buffer.from(all.slice(0, -3)));
  // What comes meanwhile comes after it, an end included.
  server.receive(Buffer.from(all.slice(-3)));
  server.receiveEnd();
  const seen = [paths.length];
  while (output.waiting.length > 0) {
    output.nextTurn();
    seen.push(paths.length);
  }
  assert.deepEqual(seen, [10, 20, 30, 35]);
  assert.deepEqual(
    paths,
    Array.from({ length: 35 }, (_, i) => `/${i}`),
  );
  assert.equal(counted.filter((name) => name === 'http1_requests_per_read').length, 3);
  assert.equal([...output.text.matchAll(/ 204 /g)].length, 35);
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
