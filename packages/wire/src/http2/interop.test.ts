import assert from 'node:assert/strict';
import http2 from 'node:http2';
import { Duplex } from 'node:stream';
import test from 'node:test';
import type { Output, StreamHandler } from '../stream.ts';
import { Http2Connection } from './connection.ts';
import { post, Record, rand } from './testing.ts';

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
