import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Head, UPGRADE_IGNORED } from '../stream.ts';
import { Http1Client } from './client.ts';
import { Recorder, RecordingOutput } from './testing.ts';

const GET: Head = [':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', '/'];

function connect() {
  const output = new RecordingOutput();
  const calls: string[] = [];
  const client = new Http1Client({ output, onIdle: () => calls.push('idle'), onClosed: () => calls.push('closed') });
  const ask = (head: Head = GET, end = true) => {
    const recorder = new Recorder();
    return { recorder, stream: client.request(head, end, recorder) };
  };
  return { output, client, calls, ask, feed: (text: string) => client.receive(Buffer.from(text, 'latin1')) };
}

/** [name, request method, bytes, then the peer closes, body or reset code, reusable afterwards] */
const responses: [string, string, string, boolean, string, boolean][] = [
  ['length', 'GET', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', false, 'ok', true],
  ['length 0', 'GET', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', false, '', true],
  ['chunked', 'GET', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n', false, 'ok', true],
  ['without reason', 'GET', 'HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok', false, 'ok', true],
  ['until close', 'GET', 'HTTP/1.1 200 OK\r\n\r\nok', true, 'ok', false],
  ['1.0', 'GET', 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok', false, 'ok', false],
  [
    '1.0 keep-alive',
    'GET',
    'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok',
    false,
    'ok',
    true,
  ],
  ['close', 'GET', 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok', false, 'ok', false],
  ['HEAD', 'HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n', false, '', true],
  ['204', 'GET', 'HTTP/1.1 204 No\r\n\r\n', false, '', true],
  ['304', 'GET', 'HTTP/1.1 304 No\r\nContent-Length: 7\r\n\r\n', false, '', true],
  ['interim', 'GET', 'HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n', false, '', true],
  ['bytes after', 'GET', 'HTTP/1.1 204 No\r\n\r\nHTTP/1.1 204 No\r\n\r\n', false, '', false],
  ['closed before', 'GET', '', true, '!connection', false],
  ['closed in head', 'GET', 'HTTP/1.1 2', true, '!connection', false],
  ['closed in body', 'GET', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok', true, '!connection', false],
  [
    'closed in chunks',
    'GET',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n',
    true,
    '!connection',
    false,
  ],
  [
    'TE and CL',
    'GET',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n',
    false,
    '!protocol',
    false,
  ],
  [
    'two lengths',
    'GET',
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n',
    false,
    '!protocol',
    false,
  ],
  ['LF', 'GET', 'HTTP/1.1 200 OK\nContent-Length: 2\n\nok', false, '!protocol', false],
  ['101 unasked', 'GET', 'HTTP/1.1 101 X\r\n\r\n', false, '!protocol', false],
  ['bad status', 'GET', 'HTTP/1.1 20 OK\r\n\r\n', false, '!protocol', false],
  ['status 099', 'GET', 'HTTP/1.1 099 OK\r\n\r\n', false, '!protocol', false],
  ['not HTTP', 'GET', 'SSH-2.0-x\r\n\r\n\r\n', false, '!protocol', false],
  ['interim flood', 'GET', 'HTTP/1.1 100 C\r\n\r\n'.repeat(40), false, '!protocol', false],
];

test('responses, whole and byte by byte', () => {
  for (const [name, method, bytes, close, wanted, reusable] of responses) {
    for (const step of [bytes.length || 1, 1]) {
      const { client, ask, calls } = connect();
      const { recorder } = ask([':method', method, ...GET.slice(2)]);
      const buffer = Buffer.from(bytes, 'latin1');
      for (let at = 0; at < buffer.length; at += step) client.receive(buffer.subarray(at, at + step));
      if (close) client.receiveEnd();
      const got = recorder.reset === undefined ? recorder.body : '!' + recorder.reset;
      const label = `${name}, ${step} at a time`;
      assert.equal(got, wanted, label);
      assert.equal(recorder.ended, recorder.reset === undefined, label);
      assert.equal(client.reusable, reusable, label);
      assert.equal(client.idle, reusable, label);
      assert.equal(calls.includes('closed'), !reusable, label);
      assert.equal(client.open, 0, label);
    }
  }
});

test('a request is written with host first and framed by its length, by chunks or not at all', () => {
  const cases: [Head, boolean, string][] = [
    [[...GET, 'x', 'y'], true, 'GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n'],
    [[...GET, 'cookie', 'a=1', 'cookie', 'b=2'], true, 'GET / HTTP/1.1\r\nhost: a\r\ncookie: a=1; b=2\r\n\r\n'],
    [
      [...GET, 'te', 'trailers', 'connection', 'x'],
      true,
      'GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n',
    ],
    [[...GET, 'content-length', '2'], false, 'GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok'],
    [GET, false, 'GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n'],
  ];
  for (const [head, end, wanted] of cases) {
    const { output, ask } = connect();
    const { stream } = ask(head, end);
    if (!end) stream.sendData(Buffer.from('ok'), true);
    assert.equal(output.text, wanted);
    assert.equal(output.written.length, 1);
  }
});

test('announced trailers have their place: chunks, though the length was known', () => {
  const counted: string[] = [];
  const sent = (head: Head, trailers: Head): string => {
    const output = new RecordingOutput();
    const client = new Http1Client({ output, counters: { count: (name) => void counted.push(name) } });
    const stream = client.request(head, false, new Recorder());
    stream.sendData(Buffer.from('ok'), false);
    stream.sendTrailers(trailers);
    return output.text;
  };
  const announced: Head = [...GET, 'content-length', '2', 'trailer', 'x-sum'];
  const first = 'GET / HTTP/1.1\r\nhost: a\r\n';
  assert.equal(
    sent(announced, ['x-sum', '9']),
    `${first}trailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n`,
  );
  assert.deepEqual(counted, ['http1_upstream_requests']);
  // Not announced: the body has ended with its last byte, and nothing may follow.
  assert.equal(sent([...GET, 'content-length', '2'], ['x-sum', '9']), `${first}content-length: 2\r\n\r\nok`);
  assert.deepEqual(counted.slice(2), ['http1_trailers_dropped']);
});

test('a head that HTTP/1.1 cannot carry is never written', () => {
  const bad: Head[] = [
    [':method', 'G T', ...GET.slice(2)],
    [...GET.slice(0, 6), ':path', '/ HTTP/1.1\r\nx: y'],
    [...GET.slice(0, 6), ':path', '/\xe9'],
    [...GET.slice(0, 6), ':path', '/#x'],
    [...GET.slice(0, 6), ':path', 'admin'],
    [...GET.slice(0, 4), ':authority', 'a\r\nb: c', ':path', '/'],
    [...GET, 'x', 'a\r\nb: c'],
    [...GET, 'x', 'a\0'],
    [...GET, 'x:', 'a'],
    [...GET, '', 'a'],
    [...GET, 'content-length', '3'],
  ];
  for (const head of bad) {
    const { output, client, ask } = connect();
    const { recorder } = ask(head);
    assert.equal(recorder.reset, undefined, 'told later in the turn');
    assert.equal(output.text, '');
    assert.equal(recorder.reset, 'internal', JSON.stringify(head));
    assert.ok(client.idle);
  }
});

test('a busy connection refuses a second request', () => {
  const { output, ask } = connect();
  ask();
  const second = ask();
  output.turn();
  assert.equal(second.recorder.reset, 'refused');
});

test('CONNECT: nothing goes through before the 2xx, and never after a refusal', () => {
  const a = connect();
  const { recorder, stream } = a.ask([':method', 'CONNECT', ':authority', 'b:443'], false);
  stream.sendData(Buffer.from('early'), false);
  assert.equal(a.output.text, 'CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\n\r\n');
  a.feed('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc');
  assert.match(a.output.text, /early$/);
  a.client.receiveEnd();
  assert.ok(recorder.ended && recorder.body === 'abc' && !a.output.ended);
  stream.sendData(Buffer.from('late'), true);
  assert.match(a.output.text, /earlylate$/);
  assert.ok(a.output.ended && !a.output.destroyed);
  assert.deepEqual(a.calls, ['closed']);
  const b = connect();
  const refused = b.ask([':method', 'CONNECT', ':authority', 'b:443'], false);
  refused.stream.sendData(Buffer.from('early'), false);
  b.feed('HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno');
  assert.equal(refused.recorder.body, 'no');
  assert.doesNotMatch(b.output.text, /early/);
  assert.equal(b.client.reusable, false);
});

test('an extended CONNECT is written as an upgrade; only 101 accepts it', () => {
  const head = [
    ':method',
    'CONNECT',
    ...GET.slice(2),
    ':protocol',
    'websocket',
    'sec-websocket-key',
    'k',
    'sec-websocket-version',
    '13',
  ];
  const a = connect();
  const { recorder, stream } = a.ask(head, false);
  assert.equal(
    a.output.text,
    'GET / HTTP/1.1\r\nhost: a\r\nsec-websocket-key: k\r\nsec-websocket-version: 13\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n',
  );
  a.feed('HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nframe');
  assert.deepEqual(recorder.head, [':status', '200', 'sec-websocket-accept', 'x']);
  assert.equal(recorder.body, 'frame');
  stream.sendData(Buffer.from('reply'), false);
  assert.match(a.output.text, /reply$/);
  const b = connect();
  const asked = b.ask(head, false);
  asked.stream.sendData(Buffer.from('early'), false);
  b.feed('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain');
  assert.deepEqual(asked.recorder.head, [':status', '200', 'content-length', '5', UPGRADE_IGNORED, '1']);
  assert.equal(asked.recorder.body, 'plain');
  assert.doesNotMatch(b.output.text, /early/);
  assert.equal(b.client.reusable, false);
  const c = connect();
  const get = c.ask(GET, true);
  c.feed('HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n');
  assert.equal(get.recorder.reset, 'protocol');
});

test('a WebSocket of a client without a key gets one; the answer to it stays here', () => {
  const { ask, feed, output } = connect();
  const { recorder } = ask([':method', 'CONNECT', ...GET.slice(2), ':protocol', 'websocket'], false);
  const key = /\r\nsec-websocket-key: (\S+)\r\n/.exec(output.text)?.[1];
  assert.equal(Buffer.from(key ?? '', 'base64').length, 16);
  assert.match(output.text, /\r\nsec-websocket-version: 13\r\n/);
  feed('HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nX-A: 1\r\n\r\n');
  assert.deepEqual(recorder.head, [':status', '200', 'x-a', '1']);
});

test('an answer before the end of the request is delivered, the connection is not used again', () => {
  const { client, ask, feed, calls } = connect();
  const { recorder, stream } = ask(GET, false);
  feed('HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n');
  assert.ok(recorder.ended);
  assert.equal(client.reusable, false);
  stream.sendData(Buffer.from('x'), true);
  assert.equal(recorder.closes, 1);
  assert.deepEqual(calls, ['closed']);
});

test('reset destroys without an event; a late call does nothing', () => {
  const { client, ask, output, calls } = connect();
  const { recorder, stream } = ask(GET, false);
  stream.reset('cancel');
  assert.ok(output.destroyed);
  assert.equal(recorder.reset, undefined);
  assert.equal(stream.sendData(Buffer.from('x'), true), true);
  client.closed('x');
  assert.deepEqual(calls, ['closed']);
});
