import { type Random, seededRandom } from '@weft/base';
import {
  DnsTcpFramer,
  detectProtocol,
  encodeResponse,
  Http1Client,
  Http1Server,
  type Output,
  parseClientHello,
  parseQuery,
  type StreamHandler,
} from '@weft/wire';

/** Something fed with arbitrary bytes in arbitrary pieces. Returns what it understood, which may not depend on the pieces. */
export interface Target {
  name: string;
  seeds: readonly string[];
  feed(pieces: readonly Uint8Array[]): string;
}

/** An output that keeps text; deferred work runs at the end of each piece, as at the end of a turn. */
class Sink implements Output {
  text = '';
  reading = true;
  private work: (() => void)[] = [];
  write(bytes: Uint8Array): boolean {
    this.text += Buffer.from(bytes).toString('latin1');
    return true;
  }
  end(): void {
    this.text += '<end>';
  }
  destroy(): void {
    this.text += '<destroy>';
  }
  pauseReading(): void {
    this.reading = false;
  }
  resumeReading(): void {
    this.reading = true;
  }
  defer(fn: () => void): void {
    this.work.push(fn);
  }
  turn(): void {
    while (this.work.length > 0) this.work.shift()!();
  }
}

function listener(note: (text: string) => void, onEnd: () => void): StreamHandler {
  return {
    onHead(_stream, head, end) {
      note(`head ${JSON.stringify(head)}`);
      if (end) onEnd();
    },
    onInterim: (_stream, head) => note(`interim ${JSON.stringify(head)}`),
    onData(_stream, chunk, end) {
      note(Buffer.from(chunk).toString('latin1'));
      if (end) onEnd();
    },
    onTrailers(_stream, fields) {
      note(`trailers ${JSON.stringify(fields)}`);
      onEnd();
    },
    onReset: (_stream, code) => note(`reset ${code}`),
    onDrain() {},
  };
}

const http1Server: Target = {
  name: 'http1-server',
  seeds: [
    'GET /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n',
    'CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nbytes',
    'GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframes',
    'GET http://b:8080/x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te, x-hop\r\nX-Hop: 1\r\n\r\n',
  ],
  feed(pieces) {
    const sink = new Sink();
    let seen = '';
    const server = new Http1Server({
      output: sink,
      scheme: 'http',
      onStream(stream, head, end) {
        seen += `\n${JSON.stringify(head)} `;
        const answer = () => stream.sendHead([':status', '204'], true);
        if (head[1] === 'CONNECT') stream.sendHead([':status', '200'], false);
        else if (end) answer();
        return listener(
          (text) => {
            seen += text;
          },
          () => {
            if (head[1] !== 'CONNECT') answer();
          },
        );
      },
    });
    for (const piece of pieces) {
      server.receive(piece);
      sink.turn();
    }
    server.receiveEnd();
    sink.turn();
    server.closed('end of the input');
    if (server.open !== 0) throw new Error('an exchange is left after the connection');
    // Of several faults the one seen first depends on the pieces; that the input is refused, and where, does not.
    return seen + sink.text.replace(/HTTP\/1\.1 [45]\d\d [\s\S]*$/, '<refused>');
  },
};

const http1Client: Target = {
  name: 'http1-client',
  seeds: [
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
    'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n',
    'HTTP/1.0 200 OK\r\n\r\nuntil the end',
    'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nConnection: close\r\n\r\n',
  ],
  feed(pieces) {
    const sink = new Sink();
    let seen = '';
    const client = new Http1Client({ output: sink });
    const handler = listener(
      (text) => {
        seen += text;
      },
      () => {
        seen += '<over>';
      },
    );
    client.request([':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', '/'], true, handler);
    for (const piece of pieces) {
      client.receive(piece);
      sink.turn();
    }
    client.receiveEnd();
    sink.turn();
    client.closed('end of the input');
    if (client.open !== 0 || client.reusable) throw new Error('the client outlives its connection');
    return seen;
  },
};

const detection: Target = {
  name: 'detect',
  seeds: [
    'GET / HTTP/1.1\r\n',
    'PROPFIND /x HTTP/1.1\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    `\x16\x03\x01\x00\x37\x01\x00\x00\x33\x03\x03${'r'.repeat(32)}\x00\x00\x02\x13\x01\x01\x00\x00\x08\x00\x2b\x00\x04\x03\x03\x04\x03`,
  ],
  feed(pieces) {
    let bytes = Buffer.alloc(0);
    let protocol = 'more';
    let hello: ReturnType<typeof parseClientHello> = 'more';
    for (const piece of pieces) {
      bytes = Buffer.concat([bytes, piece]);
      if (protocol === 'more') protocol = detectProtocol(bytes);
      if (hello === 'more') hello = parseClientHello(bytes);
    }
    // Bytes behind a complete hello are another record's; only the verdict on the protocol is the same for all pieces.
    return protocol;
  },
};

const dns: Target = {
  name: 'dns',
  seeds: [
    '\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03web\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00',
  ],
  feed(pieces) {
    const framer = new DnsTcpFramer();
    let seen = '';
    for (const piece of pieces) {
      for (const message of framer.push(piece)) {
        const query = parseQuery(message);
        seen += `${JSON.stringify(query)}\n`;
        if (query === 'invalid') continue;
        encodeResponse(query, { rcode: 0, answers: [{ name: query.name, type: 1, ttl: 1, data: '10.0.0.1' }] });
      }
    }
    return seen;
  },
};

export const targets: readonly Target[] = [http1Server, http1Client, detection, dns];

const SPICE = [
  '\r\n',
  '\n',
  '\r',
  '\0',
  ' ',
  '\t',
  ':',
  ';',
  ',',
  '0',
  'ffffffffffffffff',
  'Content-Length: 5\r\n',
  'Transfer-Encoding: chunked\r\n',
];

function below(random: Random, limit: number): number {
  return Math.floor(random.next() * limit);
}

/** A seed with up to six bytes changed, taken out, doubled, or spiced. */
function mutate(seed: string, random: Random): Uint8Array {
  let text = seed;
  for (let n = below(random, 7); n > 0; n--) {
    const at = below(random, text.length + 1);
    const to = Math.min(text.length, at + 1 + below(random, 8));
    const kind = below(random, 4);
    if (kind === 0) text = text.slice(0, at) + String.fromCharCode(below(random, 256)) + text.slice(at + 1);
    else if (kind === 1) text = text.slice(0, at) + text.slice(to);
    else if (kind === 2) text = text.slice(0, to) + text.slice(at, to) + text.slice(to);
    else text = text.slice(0, at) + SPICE[below(random, SPICE.length)] + text.slice(at);
  }
  return Buffer.from(text, 'latin1');
}

function split(bytes: Uint8Array, random: Random): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  const longest = 1 + below(random, 24);
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + below(random, longest);
    pieces.push(bytes.subarray(at, at + size));
    at += size;
  }
  return pieces;
}

/** Runs `count` inputs; throws an Error that names seed, run and input when one throws or depends on its pieces. */
export function fuzz(target: Target, seed: number, count: number): void {
  const random = seededRandom(seed);
  for (let run = 0; run < count; run++) {
    const bytes = mutate(target.seeds[below(random, target.seeds.length)], random);
    const pieces = split(bytes, random);
    let problem = '';
    try {
      const whole = target.feed([bytes]);
      const parted = target.feed(pieces);
      if (whole !== parted) problem = `whole: ${JSON.stringify(whole)}\nin pieces: ${JSON.stringify(parted)}`;
    } catch (error) {
      problem = error instanceof Error ? String(error.stack) : String(error);
    }
    if (problem !== '') {
      const input = JSON.stringify(Buffer.from(bytes).toString('latin1'));
      throw new Error(`${target.name}, seed ${seed}, run ${run}, input ${input}\n${problem}`);
    }
  }
}
