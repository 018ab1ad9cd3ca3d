/** Which requests a server takes, and which it refuses with which answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WireLimits } from '../stream.ts';
import { CH, H, serve } from './server-testing.ts';

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
