/** A gRPC call with messages both ways on a connection of its own, the caller's side: the counterpart of GrpcStream. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import type { Clock, Timer } from '@weft/base';
import { baseUrl, type ServerAddress } from './channel.ts';
import { frame, MessageReader } from './grpc-frames.ts';

/** How a peer is noticed that hangs: its machine answers for it, so that nothing else tells. */
export interface Pings {
  /** Of silence, before the peer is asked whether it is there. */
  readonly everyMs: number;
  /** For its answer, before it is believed that it is not. A peer that is only busy would have all its callers come anew. */
  readonly timeoutMs: number;
}

export const defaultPings: Pings = { everyMs: 5000, timeoutMs: 10_000 };
/** A look that comes so late says more of this process than of the peer. */
const LATE_MS = 1000;

export interface CallEvents {
  /** One message. What it throws ends the call. */
  onMessage(bytes: Uint8Array): void;
  /** The call is over; called once, and nothing after it. `error` is absent where the peer ended it as it should. */
  onClose(error: ConnectError | undefined): void;
}

export class GrpcCall {
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #events: CallEvents;
  readonly #clock: Clock;
  readonly #reader: MessageReader;
  readonly #pings: Pings;
  #timer: Timer | undefined;
  #open = true;
  /** When something came last. */
  #heardMs: number;
  /** Since then it was asked whether it is there. */
  #asked = false;
  #status: ConnectError | 'none' | 'ok' = 'none';

  /** Dials at once. `maxBytes`: of one message. */
  constructor(
    address: ServerAddress,
    path: string,
    maxBytes: number,
    clock: Clock,
    events: CallEvents,
    pings = defaultPings,
  ) {
    this.#events = events;
    this.#clock = clock;
    this.#pings = pings;
    this.#heardMs = clock.now();
    this.#reader = new MessageReader(maxBytes, (bytes) => this.#open && events.onMessage(bytes));
    const session = connect(baseUrl(address), address.tls);
    this.#session = session;
    session.on('error', (error) => this.#end(ConnectError.from(error, Code.Unavailable)));
    session.on('close', () => this.#end(new ConnectError('the connection ended', Code.Unavailable)));
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc+proto',
      te: 'trailers',
    });
    this.#stream = stream;
    stream.on('response', (headers) => {
      this.#heard();
      const http = headers[':status'];
      if (http !== 200) this.#status = new ConnectError(`the answer is HTTP ${http}, no gRPC`, Code.Unavailable);
      else if (headers['grpc-status'] !== undefined) this.#take(headers);
    });
    stream.on('data', (chunk: Buffer) => this.#data(chunk));
    stream.on('trailers', (headers) => this.#take(headers));
    stream.on('error', (error) => this.#end(ConnectError.from(error, Code.Unavailable)));
    stream.on('close', () => {
      if (this.#status === 'none') this.#end(new ConnectError('the stream ended without a status', Code.Unavailable));
      else this.#end(this.#status === 'ok' ? undefined : this.#status);
    });
    this.#look(pings.everyMs);
  }

  send(message: Uint8Array): void {
    if (this.#open) this.#stream.write(frame(message));
  }

  /** Ends the call and its connection at once; `onClose` is not called. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#timer?.cancel();
    this.#reader.drop();
    this.#session.destroy();
  }

  #end(error: ConnectError | undefined): void {
    if (!this.#open) return;
    this.close();
    this.#events.onClose(error);
  }

  #data(chunk: Buffer): void {
    this.#heard();
    if (!this.#open) return;
    try {
      this.#reader.take(chunk);
    } catch (error) {
      this.#end(ConnectError.from(error, Code.Internal));
    }
  }

  #take(headers: Record<string, string | string[] | number | undefined>): void {
    const code = Number(headers['grpc-status']);
    if (code === 0) this.#status = 'ok';
    else
      this.#status = new ConnectError(
        decoded(String(headers['grpc-message'] ?? '')),
        code in Code ? code : Code.Unknown,
      );
  }

  #heard(): void {
    this.#heardMs = this.#clock.now();
    if (!this.#asked || !this.#open) return;
    this.#asked = false;
    this.#timer?.cancel();
    this.#look(this.#pings.everyMs);
  }

  /** Whether the peer is still there, looked at again and again. */
  #look(waitMs: number): void {
    const due = this.#clock.now() + waitMs;
    this.#timer = this.#clock.after(waitMs, () => {
      const now = this.#clock.now();
      // What came while this process was busy has not been read yet.
      if (now > due + LATE_MS) {
        this.#heardMs = now;
        this.#asked = false;
      }
      const { everyMs, timeoutMs } = this.#pings;
      const leftMs = this.#heardMs + everyMs - now;
      if (leftMs > 0) this.#look(leftMs);
      else if (this.#asked) {
        this.#end(new ConnectError(`the peer did not answer a ping within ${timeoutMs} ms`, Code.Unavailable));
      } else if (this.#session.connecting) this.#look(everyMs);
      else {
        this.#asked = true;
        this.#session.ping((error) => {
          if (!error) this.#heard();
        });
        this.#look(timeoutMs);
      }
    });
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
