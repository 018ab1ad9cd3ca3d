/**
 * A gRPC call with messages both ways on a stream of Node's HTTP/2 server, without a library between: what a call of which
 * a control plane holds thousands costs is its stream, and a message goes out as the memory it is given as.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import { MessageReader } from './grpc-frames.ts';

export interface GrpcEvents {
  /** One message. What it throws ends the call. */
  onMessage(bytes: Uint8Array): void;
  /** The caller has sent all that it will. */
  onEnd(): void;
  /** The call is over, whatever ended it; called once, and nothing after it. */
  onClose(): void;
}

export class GrpcStream {
  readonly #stream: ServerHttp2Stream;
  readonly #reader: MessageReader;
  #ended = false;

  /** `maxBytes`: of one message. Answers what is no gRPC at once; then nothing is called. */
  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, maxBytes: number, events: GrpcEvents) {
    this.#stream = stream;
    this.#reader = new MessageReader(maxBytes, (bytes) => this.#ended || events.onMessage(bytes));
    stream.on('error', () => {});
    if (stream.destroyed || stream.closed) return;
    if (!/^application\/grpc($|[+;])/.test(headers['content-type'] ?? '')) {
      stream.respond({ ':status': 415 }, { endStream: true });
      stream.close();
      return;
    }
    stream.respond({ ':status': 200, 'content-type': 'application/grpc+proto' }, { waitForTrailers: true });
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    stream.on('end', () => {
      if (!this.#ended) events.onEnd();
    });
    stream.on('close', () => {
      this.#ended = true;
      this.#reader.drop();
      events.onClose();
    });
  }

  /** A message with its prefix, in pieces. Nothing where the call is over. */
  send(pieces: readonly Buffer[]): void {
    if (this.#ended) return;
    for (const piece of pieces) this.#stream.write(piece);
  }

  /** Ends the call, after what was sent. */
  end(error?: ConnectError): void {
    if (this.#ended) return;
    this.#ended = true;
    const stream = this.#stream;
    const trailers: Record<string, string> = { 'grpc-status': String(error?.code ?? 0) };
    if (error) trailers['grpc-message'] = encodeURIComponent(error.rawMessage);
    stream.once('wantTrailers', () => {
      stream.sendTrailers(trailers);
      // What the caller still says is not waited for. In a later turn: closing has trailers of its own.
      setImmediate(() => stream.close());
    });
    stream.end();
  }

  #take(chunk: Buffer): void {
    if (this.#ended) return;
    try {
      this.#reader.take(chunk);
    } catch (error) {
      this.end(ConnectError.from(error, Code.Internal));
    }
  }
}
