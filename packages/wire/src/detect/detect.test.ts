import assert from 'node:assert/strict';
import net from 'node:net';
import { test } from 'node:test';
import tls from 'node:tls';
import { detectProtocol, parseClientHello } from './index.ts';

test('protocols by their first bytes', () => {
  const cases: [string, string][] = [
    ['', 'more'],
    ['G', 'more'],
    ['GET', 'more'],
    ['GET ', 'more'],
    ['GET /', 'http1'],
    ['\r\nGET /', 'http1'],
    ['GET http:/', 'more'],
    ['GET http://', 'http1'],
    ['GET key\r\n', 'tcp'],
    ['GET hello\r\n', 'tcp'],
    ['OPTIONS * HTTP/1.1', 'http1'],
    ['CONNECT a', 'http1'],
    ['PROPFIND /x HTTP/1.1\r\n', 'http1'],
    ['PROPFIND /x', 'more'],
    ['PROPFIND /x\r\n', 'tcp'],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'http2'],
    ['PRI * HTTP/2.0\r\n', 'more'],
    ['PRI * HTTP/2.1\r\n', 'tcp'],
    ['SSH-2.0-x\r\n', 'tcp'],
    ['\0\0\0\x17', 'tcp'],
    ['*1\r\n$4\r\nPING\r\n', 'tcp'],
    ['EHLO there\r\n', 'tcp'],
    ['\x16\x03\x01', 'tls'],
    ['\x16\x03', 'more'],
    ['\x16\x02\x01', 'tcp'],
    ['GET / HTTP/1.1\n', 'http1'],
    ['A'.repeat(40), 'tcp'],
  ];
  for (const [bytes, wanted] of cases) {
    const buffer = Buffer.from(bytes, 'latin1');
    assert.equal(detectProtocol(buffer), wanted, JSON.stringify(bytes));
    for (let n = 0; n < buffer.length; n++) {
      const part = detectProtocol(buffer.subarray(0, n));
      assert.ok(part === 'more' || part === wanted, `${JSON.stringify(bytes)} at ${n}: ${part}`);
    }
  }
});

async function hello(options: tls.ConnectionOptions): Promise<Buffer> {
  const server = net.createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  try {
    const port = (server.address() as net.AddressInfo).port;
    return await new Promise<Buffer>((done, failed) => {
      let bytes = Buffer.alloc(0);
      server.on('connection', (socket) => {
        socket.on('error', () => {});
        socket.on('data', (chunk) => {
          bytes = Buffer.concat([bytes, chunk]);
          if (parseClientHello(bytes) === 'more') return;
          socket.destroy();
          done(bytes);
        });
      });
      server.on('error', failed);
      tls.connect({ port, host: '127.0.0.1', ...options }).on('error', () => {});
    });
  } finally {
    await new Promise((done) => server.close(done));
  }
}

test('a real ClientHello, cut anywhere, in one record or in many', async () => {
  const bytes = await hello({ servername: 'Web.Example.com', ALPNProtocols: ['h2', 'http/1.1'] });
  const wanted = { sni: 'web.example.com', alpn: ['h2', 'http/1.1'], versions: [0x0304, 0x0303] };
  assert.deepEqual(parseClientHello(bytes), wanted);
  for (let n = 0; n < bytes.length; n++) assert.equal(parseClientHello(bytes.subarray(0, n)), 'more', `${n} bytes`);
  const records: Buffer[] = [];
  for (let at = 5; at < bytes.length; at += 3) {
    const part = bytes.subarray(at, at + 3);
    records.push(Buffer.from([0x16, 3, 1, 0, part.length]), part);
  }
  assert.deepEqual(parseClientHello(Buffer.concat(records)), wanted);
  for (let at = 0; at < bytes.length; at++) {
    for (const flip of [0x01, 0x80, 0xff]) {
      const bad = Buffer.from(bytes);
      bad[at] ^= flip;
      const result = parseClientHello(bad);
      assert.ok(typeof result === 'object' || result === 'more' || result === 'invalid');
    }
  }
});

test('TLS 1.2 and TLS 1.3 alone, without SNI and ALPN', async () => {
  const old = parseClientHello(await hello({ maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2' }));
  assert.deepEqual(old, { alpn: [], versions: [0x0303] });
  const only = parseClientHello(await hello({ minVersion: 'TLSv1.3' }));
  assert.deepEqual(only, { alpn: [], versions: [0x0304] });
});

test('what is no ClientHello', () => {
  assert.equal(parseClientHello(Buffer.from('GET / HTTP/1.1')), 'invalid');
  assert.equal(parseClientHello(Buffer.from([0x16, 3, 1, 0, 0])), 'invalid');
  assert.equal(parseClientHello(Buffer.from([0x16, 3, 1, 0, 4, 2, 0, 0, 0])), 'invalid');
  assert.equal(parseClientHello(Buffer.from([0x16, 3, 1, 0, 4, 1, 0xff, 0, 0])), 'invalid');
});
