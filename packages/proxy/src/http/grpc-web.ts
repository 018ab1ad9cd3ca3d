/**
 * gRPC-Web to an application that speaks gRPC alone (github.com/grpc/grpc, doc/PROTOCOL-WEB.md), on ports that are declared
 * `grpc-web`: what browsers can send is made gRPC before anything judges it, and the answer's trailers come as the last
 * frame of its body. With `-text` bodies are base64.
 */
import { type Head, own, type ResetCode, type Stream, type StreamHandler } from '@weft/wire';
import { field, removeField } from './headers.ts';

const WEB = 'application/grpc-web';
const TEXT = 'application/grpc-web-text';
const NO_BYTES = new Uint8Array(0);
/** The flag of the frame that holds trailers. */
const TRAILERS = 0x80;

/** Whether a request is to be translated: its content type, with its message format, says so. */
export function isGrpcWeb(head: Head): boolean {
  const type = field(head, 'content-type');
  if (field(head, ':method') !== 'POST' || !type?.startsWith(WEB)) return false;
  const rest = type.slice(type.startsWith(TEXT) ? TEXT.length : WEB.length);
  return rest === '' || rest[0] === '+' || rest[0] === ';' || rest[0] === ' ';
}

/** Between the stream of a browser and the exchange, for which it is a stream of gRPC. The head is changed in place. */
export class GrpcWebStream implements Stream, StreamHandler {
  handler!: StreamHandler;
  context: unknown = undefined;
  readonly #down: Stream;
  readonly #text: boolean;
  /** Base64 digits, or bytes to be made such, that are less than a whole group. */
  #digits = '';
  #bytes: Uint8Array = NO_BYTES;
  /** The answer is gRPC, and no error page of somebody between. */
  #translated = false;

  constructor(down: Stream, head: Head) {
    this.#down = down;
    const at = head.indexOf('content-type');
    const type = head[at + 1];
    this.#text = type.startsWith(TEXT);
    head[at + 1] = `application/grpc${type.slice(this.#text ? TEXT.length : WEB.length)}`;
    removeField(head, 'content-length');
    if (field(head, 'te') === undefined) head.push('te', 'trailers');
  }

  // ---- the request, from the browser

  onHead(): void {}

  onData(_stream: Stream, chunk: Uint8Array, end: boolean): void {
    if (!this.#text) {
      this.handler.onData(this, chunk, end);
      return;
    }
    const digits = this.#digits + Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString('latin1');
    const whole = end ? digits.length : digits.length - (digits.length % 4);
    this.#digits = digits.slice(whole);
    this.handler.onData(this, decode(digits.slice(0, whole)), end);
  }

  onTrailers(): void {
    this.handler.onData(this, NO_BYTES, true);
  }
  onReset(_stream: Stream, code: ResetCode, detail: string): void {
    this.handler.onReset(this, code, detail);
  }
  onDrain(): void {
    this.handler.onDrain(this);
  }
  onClose(): void {
    this.handler.onClose?.(this);
  }

  // ---- the answer, from the application

  get buffered(): number {
    return this.#down.buffered;
  }

  sendHead(head: Head, end: boolean): void {
    const at = head.indexOf('content-type');
    const type = at < 0 ? '' : head[at + 1];
    if (type.startsWith('application/grpc')) {
      this.#translated = true;
      head[at + 1] = (this.#text ? TEXT : WEB) + type.slice('application/grpc'.length);
      removeField(head, 'content-length');
      removeField(head, 'trailer');
    }
    // An answer without messages has its status among the headers, where gRPC-Web reads it too.
    this.#down.sendHead(head, end);
  }

  sendInterim(head: Head): void {
    this.#down.sendInterim(head);
  }

  sendData(chunk: Uint8Array, end: boolean): boolean {
    return this.#down.sendData(this.#translated && this.#text ? this.#encode(chunk, end) : chunk, end);
  }

  sendTrailers(fields: Head): void {
    if (!this.#translated) {
      this.#down.sendTrailers(fields);
      return;
    }
    let text = '';
    for (let i = 0; i + 1 < fields.length; i += 2) text += `${fields[i]}: ${fields[i + 1]}\r\n`;
    const frame = Buffer.alloc(5 + Buffer.byteLength(text, 'latin1'));
    frame[0] = TRAILERS;
    frame.writeUInt32BE(frame.length - 5, 1);
    frame.write(text, 5, 'latin1');
    this.sendData(frame, true);
  }

  reset(code: ResetCode): void {
    this.#down.reset(code);
  }
  pause(): void {
    this.#down.pause();
  }
  resume(): void {
    this.#down.resume();
  }

  #encode(chunk: Uint8Array, end: boolean): Uint8Array {
    const all = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    const whole = end ? all.length : all.length - (all.length % 3);
    this.#bytes = own(all.subarray(whole));
    const bytes = Buffer.from(all.buffer, all.byteOffset, whole);
    return Buffer.from(bytes.toString('base64'), 'latin1');
  }
}

/** Browsers send message by message, each padded: there may be several pieces of base64 in a row. */
function decode(digits: string): Uint8Array {
  if (!digits.includes('=')) return Buffer.from(digits, 'base64');
  const parts = digits.split(/(?<==)(?!=)/).map((piece) => Buffer.from(piece, 'base64'));
  return Buffer.concat(parts);
}
