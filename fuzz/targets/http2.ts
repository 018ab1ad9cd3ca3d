/** HTTP/2: frames, header blocks and flow control, either side; HPACK and Huffman alone. */
import { decoded, HpackDecoder, HpackEncoder, Http2Connection } from '@weft/wire';
import { blockBytes, listBytes } from '../../packages/wire/src/http2/hpack-encoder.ts';
import { huffmanDecode, huffmanLength, huffmanWrite } from '../../packages/wire/src/http2/huffman.ts';
import { listener, type Session, Sink, type Target, whole } from '../target.ts';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const SETTINGS = '\0\0\0\x04\0\0\0\0\0';
const start = Buffer.from(PREFACE + SETTINGS, 'latin1');

/** What each stream hears, in the order of their first word. Of a connection that ends, how; not the bytes that leave. */
class Seen {
  #streams: string[] = [];
  open(first: string): (text: string) => void {
    const at = this.#streams.push(first) - 1;
    return (text) => {
      this.#streams[at] += text;
    };
  }
  text(): string {
    return this.#streams.join('\n');
  }
}

const server: Target = {
  name: 'http2-server',
  start() {
    const sink = new Sink(false);
    const seen = new Seen();
    const connection = new Http2Connection({
      role: 'server',
      output: sink,
      enableConnectProtocol: true,
      nowMs: () => 0,
      onStream(stream, head, end) {
        const note = seen.open(JSON.stringify(head));
        const answer = (): void => {
          stream.sendHead([':status', '200'], false);
          stream.sendData(Buffer.from('ok'), true);
        };
        if (head[1] === 'CONNECT') stream.sendHead([':status', '200'], false);
        else if (end) answer();
        return listener(note, head[1] === 'CONNECT' ? () => {} : answer);
      },
    });
    connection.receive(start);
    sink.turn();
    return feed(connection, sink, seen);
  },
};

/** Pieces go in, each in a turn of its own; at the end nothing may be left of it. */
function feed(connection: Http2Connection, sink: Sink, seen: Seen): Session {
  return {
    push(piece) {
      connection.receive(piece);
      sink.turn();
    },
    end() {
      const { dead } = connection;
      connection.receiveEnd();
      sink.turn();
      connection.closed('end of the input');
      if (connection.open !== 0) throw new Error('a stream is left after the connection');
      return `${seen.text()}${dead ? '<dead>' : ''}`;
    },
  };
}

const client: Target = {
  name: 'http2-client',
  start() {
    const sink = new Sink(false);
    const seen = new Seen();
    const connection = new Http2Connection({ role: 'client', output: sink, nowMs: () => 0 });
    const head = [':scheme', 'http', ':authority', 'a', ':path', '/'];
    for (const method of ['GET', 'HEAD', 'POST']) {
      const note = seen.open(method);
      const handler = listener(note, () => note('<over>'));
      connection.request([':method', method, ...head], method !== 'POST', handler);
    }
    sink.turn();
    connection.receive(start.subarray(PREFACE.length));
    return feed(connection, sink, seen);
  },
};

const LIMITS = { headerBytes: 60 * 1024, headerFieldBytes: 16 * 1024, headerCount: 100 };

/** What was decoded comes back the same when we encode it. */
const hpack = whole('hpack', (bytes) => {
  const decoder = new HpackDecoder(LIMITS);
  const fields: string[] = [];
  const code = decoder.decode(bytes, 0, bytes.length, fields);
  if (code !== decoded.ok) return String(code);
  // The encoder parts cookies and writes no bytes that could part a field: then what comes back is meant to differ.
  if (fields.some((text) => text.includes('; ') || /[\0\r\n]/.test(text))) return JSON.stringify(fields);
  const encoder = new HpackEncoder(4096);
  const block = Buffer.alloc(blockBytes(listBytes(fields)));
  const size = encoder.encode(fields, block, 0);
  const again = new HpackDecoder(LIMITS);
  const back: string[] = [];
  if (again.decode(block, 0, size, back) !== decoded.ok) throw new Error('our own block cannot be decoded');
  const text = JSON.stringify(fields);
  if (JSON.stringify(back) !== text) throw new Error('our own block says something else');
  return text;
});

const huffman = whole('huffman', (bytes) => {
  const target = Buffer.alloc(bytes.length * 2 + 8);
  const size = huffmanDecode(bytes, 0, bytes.length, target);
  if (size < 0) return 'refused';
  const text = target.toString('latin1', 0, size);
  if (/[\0\r\n]/.test(text)) return text; // read, but never written
  const written = Buffer.alloc(huffmanLength(text));
  huffmanWrite(text, written, 0);
  // One text has one encoding: what was accepted is it.
  if (Buffer.compare(written, bytes) !== 0) throw new Error('a second encoding of the same text was accepted');
  return text;
});

export const http2Targets: readonly Target[] = [server, client, hpack, huffman];
