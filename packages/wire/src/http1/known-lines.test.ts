import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { defaultWireLimits, type Head } from '../stream.ts';
import { Http1Client } from './client.ts';
import { begin } from './cork.ts';
import { readFields } from './fields.ts';
import { KnownLines, knownPlaces } from './known-lines.ts';
import { putFields } from './serialize.ts';
import { Http1Server } from './server.ts';
import { serve } from './server-testing.ts';
import { Recorder, RecordingOutput } from './testing.ts';

fc.configureGlobal({ seed: Number(process.env.SEED ?? 20_261_122) });

/** A request of `fields` to a server that answers with `answer`: what was heard, and the bytes of both heads. */
function exchange(fields: Head, answer: Head) {
  const asked = new RecordingOutput();
  const answered = new RecordingOutput();
  let heard: Head = [];
  const server = new Http1Server({
    output: answered,
    scheme: 'http',
    onStream(stream, head) {
      heard = head.slice(8);
      stream.sendHead([':status', '200', ...answer], true);
      return new Recorder();
    },
  });
  const recorder = new Recorder();
  const client = new Http1Client({ output: asked });
  client.request([':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', '/', ...fields], true, recorder);
  const request = asked.take();
  server.receive(request);
  const response = answered.take();
  client.receive(response);
  return { heard, back: recorder.head ?? [], reset: recorder.reset, request: request.toString('latin1'), response };
}

const name = fc.constantFrom('x-a', 'x-b', 'x-long-name-of-a-field', 'authorization', 'connection');
const value = fc.constantFrom(
  '',
  'a',
  'b',
  'keep-alive',
  'a value that is longer than the others by far, and more',
  '\xe9',
);
const fields = fc.array(fc.tuple(name, value), { maxLength: 4 }).map((pairs) => pairs.flat());

test('heads that differ in few lines are each what was sent', () => {
  const plain = (head: Head): Head => head.filter((_, i) => head[i - (i % 2)] !== 'connection');
  fc.assert(
    fc.property(fc.array(fc.tuple(fields, fields), { minLength: 150, maxLength: 250 }), (heads) => {
      for (const [ask, answer] of heads) {
        const { heard, back, request } = exchange(ask, answer);
        const lines = plain(ask).map((text, i) => (i % 2 === 0 ? `${text}: ` : `${text}\r\n`));
        assert.equal(request, `GET / HTTP/1.1\r\nhost: a\r\n${lines.join('')}\r\n`);
        assert.deepEqual(heard, plain(ask));
        assert.deepEqual(back, [':status', '200', ...plain(answer), 'content-length', '0']);
      }
    }),
    { numRuns: 20 },
  );
});

test('a bad line in the place of a known one is refused, and nothing of its head is written', () => {
  const good = ['x-one', '1', 'x-two', '2', 'x-three', '3'];
  for (let i = 0; i < 40; i++) assert.deepEqual(exchange(good, good).heard, good);
  for (const [from, to] of [
    ['x-two', 'x two'],
    ['2', '2\r\nx-four: 4'],
    ['2', '\u0132'],
    ['3', '3\n'],
  ]) {
    const output = new RecordingOutput();
    const recorder = new Recorder();
    const bad = good.map((text) => (text === from ? to : text));
    const head = [':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', '/', ...bad];
    new Http1Client({ output }).request(head, true, recorder);
    assert.equal(output.text, '');
    assert.equal(recorder.reset, 'internal');
  }
  assert.deepEqual(exchange(good, good).heard, good);
});

test('a line that is known is still too much for narrower limits', () => {
  const head = 'GET / HTTP/1.1\r\nHost: a\r\nx-one: 1234567890\r\nx-two: 2\r\n\r\n';
  for (let i = 0; i < 40; i++) assert.deepEqual(serve(head, 1000).statuses, [200]);
  assert.deepEqual(serve(head, 1000, { headerFieldBytes: 14 }).statuses, [431]);
  assert.deepEqual(serve(head, 1000, { headerFieldBytes: 15 }).statuses, [200]);
  assert.deepEqual(serve(head, 1000, { headerCount: 2 }).statuses, [431]);
  assert.deepEqual(serve(head, 1000, { headerBytes: 5 + 15 + 6 + 3 * 32 - 1 }).statuses, [431]);
  assert.deepEqual(serve(head, 1000, { headerBytes: 5 + 15 + 6 + 3 * 32 }).statuses, [200]);
});

test('a second Host, and two lengths, are refused where their lines are known', () => {
  const head = (lines: string) => `GET / HTTP/1.1\r\nHost: a\r\n${lines}\r\n\r\n`;
  for (let i = 0; i < 40; i++) serve(head('Content-Length: 0\r\nx-one: 1'), 1000);
  assert.deepEqual(serve(head('Content-Length: 0\r\nHost: a'), 1000).statuses, [400]);
  assert.deepEqual(serve(head('Content-Length: 0\r\ncontent-length: 0'), 1000).statuses, [400]);
});

test('one head is learned, and another when more was new than usual for a while; never more than fits', () => {
  const known = new KnownLines();
  const see = (fresh: number): boolean => {
    known.begin();
    const { learning } = known;
    if (learning) known.add('a', 'b', false, Buffer.from('a: b\r\n'));
    known.done(fresh);
    return learning;
  };
  assert.equal(see(3), true);
  assert.equal(known.count, 1);
  for (let i = 0; i < 100; i++) assert.equal(see(2), false);
  for (let i = 0; i < 64; i++) assert.equal(see(3), false);
  assert.equal(see(3), true);
  assert.equal(see(3), false);
  assert.equal(known.count, 1);

  known.learning = true;
  known.begin();
  known.add('a', 'b', false, Buffer.alloc(1000));
  known.add('c', 'd', false, Buffer.alloc(100));
  known.add('e', 'f', false, Buffer.alloc(1));
  assert.equal(known.count, 1);
});

test('values of secret names are not kept, read or written', () => {
  const places = knownPlaces();
  const kept = () => places.flatMap((known) => [...known.texts, known.bytes.toString('latin1')]).join();
  const bytes = Buffer.from('x-open: said\r\nAuthorization: Basic hush\r\nx-more: told\r\n');
  const { headerCount, headerBytes } = defaultWireLimits;
  for (let i = 0; i < 3; i++) {
    const head: Head = [];
    readFields(bytes, 0, bytes.length, defaultWireLimits, head, headerCount, headerBytes, places);
    assert.deepEqual(head, ['x-open', 'said', 'authorization', 'Basic hush', 'x-more', 'told']);
    begin();
    putFields([...head, 'cookie', 'hush'], 0, places);
  }
  assert.match(kept(), /x-open: said.*x-more: told/s);
  assert.doesNotMatch(kept(), /hush/);
});
