import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Http1Server, Http2Connection } from '@weft/wire';
import { KeepAlive } from '../http/keepalive.ts';
import { CodecSink, nullSink, type Pipe } from './pipe.ts';
import type { Ticker, Ticking } from './timers.ts';

/** A pipe over nothing, which behaves as a socket's does when it is destroyed: its sink hears nothing. */
function fakePipe(): Pipe & { destroyed: string | undefined; written: number } {
  return {
    sink: nullSink,
    remoteAddress: '192.0.2.1',
    remotePort: 1,
    destroyed: undefined,
    written: 0,
    write(bytes) {
      this.written += bytes.length;
      return true;
    },
    end() {},
    destroy(reason) {
      this.destroyed = reason ?? '';
      this.sink = nullSink;
    },
    abort() {},
    pauseReading() {},
    resumeReading() {},
    defer(fn) {
      fn();
    },
    later(fn) {
      fn();
    },
  };
}

class FakeTicker {
  readonly members = new Set<Ticking>();
  add(m: Ticking): void {
    this.members.add(m);
  }
  delete(m: Ticking): void {
    this.members.delete(m);
  }
  tick(nowMs: number): void {
    for (const m of [...this.members]) m.tick(nowMs);
  }
}

test('a codec that destroys its connection is let go', () => {
  const pipe = fakePipe();
  const ticker = new FakeTicker();
  let gone = 0;
  const nobody = { onHead() {}, onData() {}, onTrailers() {}, onReset() {}, onDrain() {} };
  const server = new Http1Server({
    output: pipe,
    scheme: 'http',
    onStream: (stream) => {
      stream.reset('cancel');
      return nobody;
    },
  });
  pipe.sink = new CodecSink(server, pipe, ticker as unknown as Ticker, () => gone++);
  ticker.tick(1);
  assert.equal(ticker.members.size, 1);
  pipe.sink.bytes(Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'));
  assert.notEqual(pipe.destroyed, undefined);
  ticker.tick(1001);
  assert.equal(ticker.members.size, 0);
  assert.equal(gone, 1);
});

test('a client that does not answer a PING is cut, one that does is kept', () => {
  let nowMs = 0;
  for (const answers of [true, false]) {
    nowMs = 0;
    const pipe = fakePipe();
    const ticker = new FakeTicker();
    const counted: string[] = [];
    const connection = new Http2Connection({ role: 'server', output: pipe, nowMs: () => nowMs });
    const deps = {
      ticker: ticker as unknown as Ticker,
      counters: { count: (name: string) => void counted.push(name) },
      nowMs: () => nowMs,
      limits: { clientPingEveryMs: 30_000, clientPingTimeoutMs: 10_000 },
    };
    const asked = new KeepAlive(connection, pipe, deps);
    pipe.sink = new CodecSink(connection, pipe, deps.ticker, () => asked.stop());
    connection.receive(Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'));
    connection.receive(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])); // empty SETTINGS
    for (let ping = 1; ping <= 3 && pipe.destroyed === undefined; ping++) {
      for (const at = nowMs + 39_000; nowMs < at && pipe.destroyed === undefined; ) {
        nowMs += 1000;
        const before = pipe.written;
        ticker.tick(nowMs);
        if (answers && pipe.written > before) {
          const ack = Buffer.from([0, 0, 8, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ping]);
          connection.receive(ack);
        }
      }
    }
    assert.equal(pipe.destroyed, answers ? undefined : 'ping timeout');
    assert.deepEqual(counted, answers ? [] : ['client_ping_timeout']);
    if (!answers) assert.equal(nowMs, 40_000);
    ticker.tick(nowMs + 1000);
    assert.equal(ticker.members.size, answers ? 2 : 0);
  }
});
