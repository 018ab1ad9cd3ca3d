/** What a server does with clients that are slow, gone, or ask for too much at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Http1Server } from './server.ts';
import { H, manual, serve } from './server-testing.ts';
import { Recorder, RecordingOutput } from './testing.ts';

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
