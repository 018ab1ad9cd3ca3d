/** Two ends of an HTTP/2 connection without sockets, and raw frames, for tests. */
import assert from 'node:assert/strict';
import { seededRandom } from '@weft/base';
import type { Head, Output, Stream, StreamHandler } from '../stream.ts';
import { Http2Connection, type Http2Options } from './connection.ts';

/** A turn of the loop by hand: bytes and deferred calls move when `run` says so. */
class Wire {
  queue: (() => void)[] = [];
  run(): void {
    for (let steps = 0; this.queue.length > 0; steps++) {
      assert.ok(steps < 1_000_000, 'the two sides never come to rest');
      this.queue.shift()!();
    }
  }
}

class Pipe implements Output {
  peer: Http2Connection | undefined;
  writes: Buffer[] = [];
  ended = false;
  destroyed = false;
  full = false;
  wire: Wire;
  cut: (size: number) => number;
  constructor(wire: Wire, cut: (size: number) => number) {
    this.wire = wire;
    this.cut = cut;
  }
  write(bytes: Uint8Array): boolean {
    const copy = Buffer.from(bytes);
    this.writes.push(copy);
    for (let at = 0; at < copy.length; ) {
      const part = copy.subarray(at, at + this.cut(copy.length - at));
      at += part.length;
      this.wire.queue.push(() => this.peer?.receive(part));
    }
    return !this.full;
  }
  end(): void {
    this.ended = true;
  }
  destroy(): void {
    this.destroyed = true;
  }
  pauseReading(): void {}
  resumeReading(): void {}
  defer(fn: () => void): void {
    this.wire.queue.push(fn);
  }
  later(fn: () => void): void {
    this.wire.queue.push(fn);
  }
}

export class Record implements StreamHandler {
  events: string[] = [];
  head: Head | undefined;
  body = 0;
  text = '';
  trailers: Head | undefined;
  stream: Stream | undefined;
  onBytes: ((n: number) => void) | undefined;
  drains = 0;
  onHead(_s: Stream, head: Head, end: boolean): void {
    this.head = head;
    this.events.push(end ? 'head end' : 'head');
  }
  onInterim(_s: Stream, head: Head): void {
    this.events.push(`interim ${head[1]}`);
  }
  onData(_s: Stream, chunk: Uint8Array, end: boolean): void {
    this.body += chunk.length;
    if (this.text.length < 1000) this.text += Buffer.from(chunk).toString('latin1');
    if (end) this.events.push('end');
    this.onBytes?.(chunk.length);
  }
  onTrailers(_s: Stream, fields: Head): void {
    this.trailers = fields;
    this.events.push('trailers');
  }
  onReset(_s: Stream, code: string): void {
    this.events.push(`reset ${code}`);
  }
  onDrain(): void {
    this.drains++;
    this.events.push('drain');
  }
  onClose(): void {
    this.events.push('close');
  }
}

export const get: Head = [':method', 'GET', ':scheme', 'http', ':authority', 'a.test', ':path', '/x', 'accept', '*/*'];
export const post: Head = [':method', 'POST', ':scheme', 'http', ':authority', 'a.test', ':path', '/x'];
export const connect: Head = [':method', 'CONNECT', ':authority', 'a.test:80'];

export function pair(
  options: {
    cut?: (size: number) => number;
    limits?: Http2Options['limits'];
    server?: Partial<Http2Options>;
    client?: Partial<Http2Options>;
  } = {},
) {
  const wire = new Wire();
  const cut = options.cut ?? ((size: number) => size);
  const counted: string[] = [];
  const counters = { count: (name: string) => void counted.push(name) };
  const toServer = new Pipe(wire, cut);
  const toClient = new Pipe(wire, cut);
  const got: { stream: Stream; head: Head; end: boolean; record: Record }[] = [];
  const server = new Http2Connection({
    role: 'server',
    output: toClient,
    limits: options.limits,
    counters,
    onStream: (stream, head, end) => {
      const record = new Record();
      record.stream = stream;
      got.push({ stream, head, end, record });
      return record;
    },
    ...options.server,
  });
  const client = new Http2Connection({ role: 'client', output: toServer, counters, ...options.client });
  toServer.peer = server;
  toClient.peer = client;
  return { wire, server, client, toServer, toClient, got, counted };
}

export function frame(type: number, flags: number, id: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}

/** What a side has sent since its writes were cleared; `code`: of RST_STREAM and GOAWAY, else -1. */
function sentFrames(wire: Wire, pipe: Pipe): { type: number; id: number; code: number }[] {
  wire.run();
  const all = Buffer.concat(pipe.writes);
  const out = [];
  for (let at = 0; at < all.length; at += 9 + all.readUIntBE(at, 3)) {
    const type = all[at + 3];
    const code = type === 3 ? all.readUInt32BE(at + 9) : type === 7 ? all.readUInt32BE(at + 13) : -1;
    out.push({ type, id: all.readUInt32BE(at + 5), code });
  }
  return out;
}

/** A client that is fed bytes by hand; the server's SETTINGS have come. */
export function rawClient(options: Partial<Http2Options> = {}) {
  const t = pair({ client: options });
  t.toClient.peer = undefined;
  t.toServer.peer = undefined;
  t.client.receive(frame(4, 0, 0));
  t.wire.run();
  t.toServer.writes.length = 0;
  return {
    ...t,
    sent: () => sentFrames(t.wire, t.toServer),
    feed: (...b: Buffer[]) => t.client.receive(Buffer.concat(b)),
  };
}

/** A server that is fed bytes by hand. */
export function raw(options: Partial<Http2Options> = {}) {
  const t = pair({ server: options });
  t.toClient.peer = undefined;
  t.toServer.peer = undefined;
  t.server.receive(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0)]));
  t.wire.run();
  t.toClient.writes.length = 0;
  const sent = () => sentFrames(t.wire, t.toClient);
  const goaway = (): number | undefined => sent().find((f) => f.type === 7)?.code;
  return { ...t, sent, goaway, feed: (...b: Buffer[]) => t.server.receive(Buffer.concat(b)) };
}
export const getBlock = Buffer.from('828684418cf1e3c2e5f23a6ba0ab90f4ff', 'hex');

export function rand(seed: number): () => number {
  const random = seededRandom(seed);
  return () => random.next();
}
