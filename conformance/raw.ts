/** Raw bytes at a proxy's door: HTTP/1 as written, and HTTP/2 frames without a library that would refuse to send them. */
import net from 'node:net';
import { HpackDecoder } from '@weft/wire';

export interface RawOptions {
  host: string;
  port: number;
  /** Without a byte for so long the client ends its side; default 300. */
  quietMs?: number;
  /** And the connection is given up so much later; default 2000. */
  giveUpMs?: number;
}

export interface RawResult {
  bytes: Buffer;
  /** How the proxy ended the connection; `open`: it had to be given up. */
  end: 'fin' | 'reset' | 'open';
}

/** Sends the parts as one segment each where there are several, and reads until the end. */
export function sendRaw(parts: readonly Buffer[], options: RawOptions): Promise<RawResult> {
  return new Promise((resolve) => {
    const { host, port, quietMs = 300, giveUpMs = 2000 } = options;
    const got: Buffer[] = [];
    const socket = net.connect({ host, port, noDelay: true });
    let settled = false;
    const settle = (end: RawResult['end']): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      socket.destroy();
      resolve({ bytes: Buffer.concat(got), end });
    };
    const giveUp = (): void => settle('open');
    const quiet = (): void => {
      socket.end();
      timer = setTimeout(giveUp, giveUpMs);
    };
    let timer = setTimeout(quiet, quietMs);
    socket.on('connect', () => {
      let at = 0;
      const next = (): void => {
        if (settled || at === parts.length) return;
        socket.write(parts[at++]);
        if (at < parts.length) setTimeout(next, 2);
      };
      next();
    });
    socket.on('data', (chunk) => {
      got.push(chunk);
      clearTimeout(timer);
      timer = setTimeout(socket.writableEnded ? giveUp : quiet, socket.writableEnded ? giveUpMs : quietMs);
    });
    socket.on('end', () => settle('fin'));
    socket.on('error', () => settle('reset'));
    socket.on('close', () => settle('reset'));
  });
}

/** Statuses of the HTTP/1 responses in a stream of bytes whose bodies hold no status lines. */
export function statuses(bytes: Buffer): number[] {
  return [...bytes.toString('latin1').matchAll(/HTTP\/1\.[01] ([0-9]{3})/g)].map((m) => Number(m[1]));
}

export const frameType = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, window: 8, continuation: 9 };
export const flag = { endStream: 1, endHeaders: 4, ack: 1 };

export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

function prefixed(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest > 127; rest >>= 7) length.push((rest & 127) | 128);
  length.push(rest);
  return Buffer.concat([Buffer.from(length), bytes]);
}

/** Fields as HPACK literals without indexing and without Huffman: any byte may stand in them. */
export function headerBlock(fields: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), prefixed(name), prefixed(value)]));
}

export interface RawH2Result {
  /** Status of each stream that got a head. */
  status: Map<number, number>;
  resets: Map<number, number>;
  /** Error code of the proxy's GOAWAY. */
  goaway: number | undefined;
  end: RawResult['end'];
}

const LIMITS = { headerBytes: 65_536, headerFieldBytes: 65_536, headerCount: 200 };

/** One HTTP/2 connection: preface, SETTINGS, then `frames`; ends when all `streams` have ended, or by the options. */
export function sendH2(
  frames: readonly Buffer[],
  streams: readonly number[],
  options: RawOptions,
): Promise<RawH2Result> {
  return new Promise((resolve) => {
    const { host, port, giveUpMs = 2000 } = options;
    const decoder = new HpackDecoder(LIMITS);
    const result: RawH2Result = { status: new Map(), resets: new Map(), goaway: undefined, end: 'open' };
    const open = new Set(streams);
    const socket = net.connect({ host, port, noDelay: true });
    let block: Buffer[] = [];
    let input: Buffer = Buffer.alloc(0);
    const settle = (end: RawResult['end']): void => {
      clearTimeout(timer);
      result.end = end;
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => settle('open'), giveUpMs);
    const take = (type: number, flags: number, stream: number, payload: Buffer): void => {
      if (type === frameType.settings && (flags & flag.ack) === 0) socket.write(frame(type, flag.ack, 0));
      else if (type === frameType.goaway) result.goaway = payload.readUInt32BE(4);
      else if (type === frameType.reset) {
        result.resets.set(stream, payload.readUInt32BE(0));
        open.delete(stream);
      } else if (type === frameType.headers || type === frameType.continuation) {
        block.push(payload);
        if ((flags & flag.endHeaders) === 0) return;
        const whole = Buffer.concat(block);
        const fields: string[] = [];
        decoder.decode(whole, 0, whole.length, fields);
        block = [];
        const at = fields.indexOf(':status');
        if (at >= 0) result.status.set(stream, Number(fields[at + 1]));
      }
      const ends = type === frameType.data || type === frameType.headers;
      if (ends && (flags & flag.endStream) !== 0) open.delete(stream);
    };
    socket.on('connect', () => {
      const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
      socket.write(Buffer.concat([preface, frame(frameType.settings, 0, 0), ...frames]));
    });
    socket.on('data', (chunk) => {
      input = Buffer.concat([input, chunk]);
      while (input.length >= 9) {
        const size = input.readUIntBE(0, 3);
        if (input.length < 9 + size) break;
        take(input[3], input[4], input.readUInt32BE(5), input.subarray(9, 9 + size));
        input = input.subarray(9 + size);
      }
      if (open.size === 0) settle('open');
    });
    socket.on('end', () => settle('fin'));
    socket.on('error', () => settle('reset'));
  });
}
