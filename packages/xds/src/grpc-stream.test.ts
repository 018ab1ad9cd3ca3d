import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { Code, ConnectError } from '@connectrpc/connect';
import { GrpcStream } from './grpc-stream.ts';

/** Answers each message with itself; "bye" ends the call, "no" ends it with an error. */
const server = http2.createServer();
let closed = 0;
server.on('stream', (stream, headers) => {
  const call = new GrpcStream(stream, headers, 100, {
    onMessage(bytes) {
      const text = Buffer.from(bytes).toString();
      if (text === 'no') throw new ConnectError('größer: 100 %', Code.PermissionDenied);
      if (text === 'oops') throw new Error('inside');
      if (text === 'bye') call.end();
      else call.send(framed(text, 3));
    },
    onEnd: () => call.end(),
    onClose: () => closed++,
  });
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const session = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
after(() => {
  session.destroy();
  server.close();
});

function framed(text: string, split = 1000): Buffer[] {
  const body = Buffer.from(text);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  const all = Buffer.concat([head, body]);
  return [all.subarray(0, split), all.subarray(split)];
}

/** What comes back to these bytes, sent one after the other; the caller keeps its side open unless `end`. */
async function call(chunks: Buffer[], { end = false, type = 'application/grpc' } = {}) {
  const stream = session.request({ ':method': 'POST', ':path': '/x', 'content-type': type, te: 'trailers' });
  const got = { http: 0, status: '', message: '', body: Buffer.alloc(0) };
  stream.on('response', (h) => (got.http = h[':status'] as number));
  stream.on('trailers', (h) => {
    got.status = String(h['grpc-status']);
    got.message = decodeURIComponent(String(h['grpc-message'] ?? ''));
  });
  stream.on('data', (chunk: Buffer) => (got.body = Buffer.concat([got.body, chunk])));
  stream.on('error', () => {});
  for (const chunk of chunks) {
    stream.write(chunk);
    await new Promise((r) => setImmediate(r));
  }
  if (end) stream.end();
  const before = closed;
  await once(stream, 'close');
  while (type !== 'text/plain' && closed === before) await new Promise((r) => setImmediate(r));
  return { ...got, body: got.body.toString('latin1') };
}

test('messages come whole however they are split, and go out in order', async () => {
  const bytes = Buffer.concat([...framed('one'), ...framed(''), ...framed('two'.repeat(20)), ...framed('bye')]);
  const chunks = Array.from(bytes, (b) => Buffer.of(b));
  const answer = Buffer.concat([...framed('one'), ...framed(''), ...framed('two'.repeat(20))]).toString('latin1');
  const ok = { http: 200, status: '0', message: '', body: answer };
  assert.deepEqual(await call(chunks), ok);
  assert.deepEqual(await call([bytes]), ok);
  assert.deepEqual(await call(framed('x'), { end: true }), { ...ok, body: Buffer.concat(framed('x')).toString() });
});

test('what is wrong ends the call with its reason', async () => {
  const ended = async (...chunks: Buffer[]) => {
    const { http, status, message, body } = await call(chunks);
    assert.deepEqual([http, body], [200, '']);
    return [Number(status), message];
  };
  assert.deepEqual(await ended(...framed('no')), [Code.PermissionDenied, 'größer: 100 %']);
  assert.equal((await ended(...framed('oops')))[0], Code.Internal);
  assert.equal((await ended(Buffer.of(1, 0, 0, 0, 1, 9)))[0], Code.Unimplemented);
  const [code, message] = await ended(Buffer.of(0, 0, 0, 0, 101));
  assert.equal(code, Code.ResourceExhausted);
  assert.match(String(message), /101 bytes/);
  assert.equal((await call([], { type: 'text/plain' })).http, 415);
});
