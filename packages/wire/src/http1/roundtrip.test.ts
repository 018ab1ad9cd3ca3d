import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Head } from '../stream.ts';
import { Http1Client } from './client.ts';
import { Http1Server } from './server.ts';
import { Recorder, RecordingOutput } from './testing.ts';

// The same inputs each time, but for who asks for others (SEED=…).
fc.configureGlobal({ seed: Number(process.env.SEED ?? 20_261_122) });

const token = fc.stringMatching(/^x-[a-z0-9_!#$%&'*+.^`|~-]{1,12}$/);
const value = fc
  .array(
    fc.integer({ min: 32, max: 255 }).filter((c) => c !== 127),
    { maxLength: 20 },
  )
  .map((codes) => String.fromCharCode(...codes).replace(/^ +| +$/g, ''));
const fields = fc.array(fc.tuple(token, value), { maxLength: 6 }).map((pairs) => pairs.flat());
const path = fc.stringMatching(/^\/[a-z0-9%?&=;:@!$'()*+,._~-]{0,20}$/);
const body = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 5 });
const message = fc.record({ fields, body, trailers: fields, declared: fc.boolean() });
const splits = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 10 });

/** Gives `from`'s bytes to `to` in pieces of the sizes in `sizes`, over and over. */
function carry(from: RecordingOutput, to: { receive(chunk: Uint8Array): void }, sizes: number[]): void {
  const bytes = from.take();
  let turn = 0;
  for (let at = 0; at < bytes.length; ) {
    const size = sizes[turn++ % sizes.length];
    to.receive(bytes.subarray(at, at + size));
    at += size;
  }
}

type Message = { fields: string[]; body: Uint8Array[]; trailers: string[]; declared: boolean };

function parts(m: Message): { head: Head; text: string; end: boolean; trailers: Head } {
  const text = Buffer.concat(m.body).toString('latin1');
  const length = m.declared && text.length > 0 ? ['content-length', String(text.length)] : [];
  const trailers = m.declared ? [] : m.trailers;
  return { head: [...m.fields, ...length], text, end: text.length === 0 && trailers.length === 0, trailers };
}

function send(
  stream: { sendData(c: Uint8Array, end: boolean): boolean; sendTrailers(f: Head): void },
  m: Message,
): void {
  const p = parts(m);
  m.body.forEach((chunk, i) => {
    stream.sendData(chunk, p.trailers.length === 0 && i === m.body.length - 1);
  });
  if (p.trailers.length > 0) stream.sendTrailers(p.trailers);
}

test('what a client sends a server hears, and back, over any splits and on one connection', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(path, message, message), { minLength: 1, maxLength: 4 }),
      splits,
      (exchanges, sizes) => {
        const up = new RecordingOutput();
        const down = new RecordingOutput();
        let heard = new Recorder();
        let head: Head = [];
        let reply: (typeof exchanges)[0][2] = exchanges[0][2];
        const server = new Http1Server({
          output: down,
          scheme: 'http',
          onStream(stream, requestHead, end) {
            head = requestHead;
            heard = new Recorder();
            const answer = () => {
              const p = parts(reply);
              stream.sendHead([':status', '200', ...p.head], p.end);
              if (!p.end) send(stream, reply);
            };
            const { onData, onTrailers } = heard;
            heard.onData = (s, chunk, last) => {
              onData.call(heard, s, chunk, last);
              if (last) answer();
            };
            heard.onTrailers = (s, f) => {
              onTrailers.call(heard, s, f);
              answer();
            };
            if (end) answer();
            return heard;
          },
        });
        const client = new Http1Client({ output: up });
        for (const [target, request, response] of exchanges) {
          reply = response;
          const p = parts(request);
          const recorder = new Recorder();
          const wanted = [':method', 'POST', ':scheme', 'http', ':authority', 'a:1', ':path', target, ...p.head];
          const stream = client.request(wanted, p.end, recorder);
          if (!p.end) send(stream, request);
          carry(up, server, sizes);
          assert.deepEqual(head, wanted);
          assert.equal(heard.body, p.text);
          assert.deepEqual(heard.trailers ?? [], p.trailers);
          carry(down, client, sizes);
          const q = parts(response);
          assert.equal(recorder.reset, undefined);
          // An empty answer gets its length from the codec.
          const length = q.end ? ['content-length', '0'] : [];
          assert.deepEqual(recorder.head, [':status', '200', ...q.head, ...length]);
          assert.equal(recorder.body, q.text);
          assert.deepEqual(recorder.trailers ?? [], q.trailers);
          assert.ok(client.idle && recorder.closes === 1);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test('a request that passes the server is read alike by a second server: nothing can be smuggled', () => {
  const piece = fc.constantFrom(
    'GET / HTTP/1.1\r\n',
    'POST /x HTTP/1.1\r\n',
    'Host: a\r\n',
    'Content-Length: 5\r\n',
    'Content-Length: 0\r\n',
    'Transfer-Encoding: chunked\r\n',
    'Transfer-Encoding : chunked\r\n',
    'Transfer-Encoding: chunked\n',
    ' chunked\r\n',
    'Transfer-Encoding: x, chunked\r\n',
    '\r\n',
    '\n',
    '\r',
    '0\r\n\r\n',
    '5\r\nhello\r\n',
    '5;x\r\nhello\r\n',
    'hello',
    'GET /admin HTTP/1.1\r\nHost: b\r\n\r\n',
    'X: \0\r\n',
    'Connection: content-length\r\n',
    'Connection: close\r\n',
  );
  const run = (bytes: Buffer, forward: boolean) => {
    const output = new RecordingOutput();
    const requests: { head: Head; recorder: Recorder; complete: boolean }[] = [];
    const upstream: Buffer[] = [];
    const server = new Http1Server({
      output,
      scheme: 'http',
      onStream(stream, head, end) {
        const recorder = new Recorder();
        const entry = { head, recorder, complete: end };
        requests.push(entry);
        const out = new RecordingOutput();
        const copy = forward ? new Http1Client({ output: out }).request([...head], end, new Recorder()) : undefined;
        const finish = () => {
          entry.complete = true;
          upstream.push(out.take());
          stream.sendHead([':status', '204'], true);
        };
        if (end) finish();
        return {
          ...recorder,
          onHead() {},
          onDrain() {},
          onReset() {},
          onTrailers(_s, f) {
            copy?.sendTrailers(f);
            finish();
          },
          onData(_s, chunk, last) {
            recorder.body += Buffer.from(chunk).toString('latin1');
            copy?.sendData(chunk, last);
            if (last) finish();
          },
        };
      },
    });
    server.receive(bytes);
    const complete = requests.filter((r) => r.complete).map((r) => [r.head.slice(0, 8), r.recorder.body]);
    return { complete, upstream: Buffer.concat(upstream) };
  };
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const first = run(Buffer.from(pieces.join(''), 'latin1'), true);
      const second = run(first.upstream, false);
      assert.deepEqual(second.complete, first.complete);
    }),
    { numRuns: 2000 },
  );
});

test('random bytes never throw', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 6 }), fc.boolean(), (chunks, http) => {
      const output = new RecordingOutput();
      const server = new Http1Server({ output, scheme: 'http', onStream: () => new Recorder() });
      if (http) server.receive(Buffer.from('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'));
      const client = new Http1Client({ output: new RecordingOutput() });
      client.request([':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', '/'], true, new Recorder());
      for (const chunk of chunks) {
        server.receive(chunk);
        client.receive(chunk);
      }
      server.receiveEnd();
      client.receiveEnd();
      server.closed('x');
      client.closed('x');
      assert.equal(server.open + client.open, 0);
    }),
    { numRuns: 1000 },
  );
});
