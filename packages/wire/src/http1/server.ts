import type {
  Connection,
  Head,
  OnStream,
  Output,
  ResetCode,
  StreamHandler,
  WireCounters,
  WireLimits,
} from '../stream.ts';
import { allLimits, ignoreAll, UPGRADE_IGNORED } from '../stream.ts';
import { parseDigits } from './chars.ts';
import { ChunkedDecoder } from './chunked.ts';
import { begin, Cork, put } from './cork.ts';
import { asBuffer, chunkSize, EMPTY, Exchange, type ExchangeOwner, InputQueue, type WriteFraming } from './exchange.ts';
import { HeadBuffer } from './head-buffer.ts';
import { knownPlaces } from './known-lines.ts';
import { Refusal } from './refusal.ts';
import { dropField, parseRequestHead, type RequestHead } from './request-head.ts';
import { putFields, statusLine } from './serialize.ts';
import { webSocketAccept } from './websocket.ts';

export interface Http1ServerOptions {
  output: Output;
  onStream: OnStream;
  /** `:scheme` of requests whose target does not name one: 'http' or 'https'. */
  scheme: string;
  /** False: HTTP/1.0 is answered with 426. Default true. */
  acceptHttp10?: boolean;
  limits?: Partial<WireLimits>;
  counters?: WireCounters;
  /** Monotonic milliseconds; without it timeouts count from the next `tick`. */
  nowMs?: () => number;
}

/**
 * What the reader does: 'head' reads a head, 'body' a body; 'held' keeps bytes until the exchange is over (pipelining) or
 * its tunnel is accepted; 'tunnel' passes them; 'discard' throws them away until the peer closes; 'closed' is final.
 */
type Reading = 'head' | 'body' | 'held' | 'tunnel' | 'discard' | 'closed';

/** Held bytes above which the socket is not read while the application answers. */
const HELD_BYTES = 16 * 1024;
/** What a peer may still send after our last byte; a flood is cut, the rest is read so that the answer arrives. */
const DISCARD_BYTES = 4 * 1024 * 1024;
/** After our last byte, how long we let the peer finish sending before the socket is destroyed. */
const LINGER_MS = 5_000;

/** Heads that servers write. */
const knownHeads = knownPlaces();

/**
 * The server side of one HTTP/1.x connection (RFC 9112), strict about everything a second parser could read differently.
 * One exchange at a time: a pipelined request is parsed when the one before it is finished in both directions.
 */
export class Http1Server implements Connection, ExchangeOwner {
  private readonly output: Output;
  private readonly onStream: OnStream;
  private readonly scheme: string;
  private readonly acceptHttp10: boolean;
  private readonly limits: WireLimits;
  private readonly counters: WireCounters | undefined;
  private readonly nowMs: (() => number) | undefined;
  private readonly cork: Cork;
  private readonly input = new InputQueue();
  private readonly headBuffer: HeadBuffer;

  private reading: Reading = 'head';
  private running = false;
  private inputEnded = false;
  private paused = false;
  private readingPaused = false;
  private draining = false;
  private served = 0;
  private discarded = 0;
  private since: number | undefined;
  /** Since when the peer takes nothing of a response that is finished. */
  private stalledSince: number | undefined;

  // The exchange that runs.
  private stream: Exchange | undefined;
  private request: RequestHead | undefined;
  private chunks: ChunkedDecoder | undefined;
  private bodyLeft = 0;
  private requestEnded = false;
  private headSent = false;
  private responseEnded = false;
  private framing: WriteFraming = 'none';
  private writeLeft = 0;
  private closeAfter = false;
  private wantsDrain = false;
  private outputEnded = false;
  /** Requests of this read, and whether the rest of it waits for a later turn. */
  private begun = 0;
  private yielded = false;

  constructor(options: Http1ServerOptions) {
    this.output = options.output;
    this.onStream = options.onStream;
    this.scheme = options.scheme;
    this.acceptHttp10 = options.acceptHttp10 ?? true;
    this.limits = allLimits(options.limits);
    this.counters = options.counters;
    this.nowMs = options.nowMs;
    this.cork = new Cork(options.output);
    this.headBuffer = new HeadBuffer(this.limits);
    this.since = this.nowMs?.();
  }

  get open(): number {
    return this.stream === undefined ? 0 : 1;
  }

  get buffered(): number {
    return this.input.size + (this.output.buffered ?? 0);
  }

  receive(chunk: Uint8Array): void {
    if (this.reading === 'closed') return;
    if (this.reading === 'discard') {
      this.discarded += chunk.length;
      if (this.discarded <= DISCARD_BYTES) return;
      this.count('discard_overflow');
      this.kill('the peer goes on sending after the answer');
      return;
    }
    this.input.push(asBuffer(chunk));
    if (!this.yielded) this.begun = 0;
    this.run();
    this.input.keep();
  }

  receiveEnd(): void {
    if (this.reading === 'closed' || this.inputEnded) return;
    this.inputEnded = true;
    this.run();
  }

  closed(detail: string): void {
    if (this.reading === 'closed') return;
    this.reading = 'closed';
    this.input.clear();
    this.abort('cancel', detail);
  }

  drained(): void {
    this.cork.writable = true;
    if (this.wantsDrain) {
      this.wantsDrain = false;
      const stream = this.stream;
      if (stream !== undefined) this.guard(() => stream.handler.onDrain(stream));
    }
    if (this.reading === 'head') this.run();
  }

  drain(): void {
    this.draining = true;
    if (this.stream === undefined && this.reading === 'head' && !this.headBuffer.started && this.input.size === 0) {
      this.finishOutput();
    }
  }

  tick(nowMs: number): void {
    if (this.cork.writable || (this.stream !== undefined && !this.responseEnded)) {
      this.stalledSince = undefined;
    } else if (this.stalledSince === undefined) {
      this.stalledSince = nowMs;
    } else if (nowMs - this.stalledSince >= this.limits.flushTimeoutMs) {
      this.count('flush_timeout');
      this.kill('the peer does not read the response', false, 'timeout');
      return;
    }
    const lingering =
      this.outputEnded && (this.reading === 'discard' || (this.reading === 'body' && this.framing !== 'tunnel'));
    if (this.reading !== 'head' && !lingering) return;
    if (this.since === undefined) {
      this.since = nowMs;
      return;
    }
    const waited = nowMs - this.since;
    if (lingering) {
      if (waited > LINGER_MS) this.kill('the peer did not close');
    } else if (this.headBuffer.started) {
      if (waited > this.limits.headersTimeoutMs) {
        this.guard(() => {
          throw new Refusal(408, 'headers_timeout', 'the request head took too long');
        });
      }
    } else if (waited > (this.served === 0 ? this.limits.headersTimeoutMs : this.limits.idleTimeoutMs)) {
      this.count('idle_timeout');
      this.finishOutput();
    }
  }

  // ---- reading

  private run(): void {
    if (this.running) return;
    this.running = true;
    try {
      while (this.step());
      if (this.inputEnded && !this.yielded) this.endOfInput();
    } catch (error) {
      this.caught(error);
    }
    this.running = false;
    this.updateReading();
  }

  /** Runs code that may refuse or throw; nothing leaves it. */
  private guard(code: () => void): void {
    try {
      code();
    } catch (error) {
      this.caught(error);
    }
  }

  private caught(error: unknown): void {
    const refusal = error instanceof Refusal ? error : new Refusal(500, 'internal', String(error));
    try {
      this.refuse(refusal);
    } catch {
      // A handler that throws in its onReset as well: the connection is of no use any more.
      this.kill('internal error');
    }
  }

  /** Reads on by one event. False: nothing to do now. */
  private step(): boolean {
    switch (this.reading) {
      case 'head':
        return this.stepHead();
      case 'body':
        return !this.paused && this.stepBody();
      case 'tunnel': {
        if (this.paused) return false;
        const bytes = this.input.take();
        if (bytes === undefined) return false;
        const stream = this.stream!;
        stream.handler.onData(stream, bytes, false);
        return true;
      }
      case 'discard':
      case 'closed':
        this.input.clear();
        return false;
      case 'held':
        return false;
    }
  }

  private stepHead(): boolean {
    // A pipelining client that does not read its answers: they pile up here no further than the output's mark.
    if (!this.cork.writable || this.yielded) return false;
    if (this.begun >= this.limits.requestsPerRead && this.input.size > 0) {
      this.count('requests_per_read');
      this.yielded = true;
      this.output.later(this.goOn);
      return false;
    }
    const bytes = this.input.take();
    if (bytes === undefined) return false;
    const first = !this.headBuffer.started && this.served > 0;
    const next = this.headBuffer.push(bytes, 0);
    if (next === -1) {
      // Most heads come whole, and need no clock.
      if (first) this.since = this.nowMs?.();
      return true;
    }
    this.input.unread(bytes, next);
    const head = this.headBuffer;
    const request = parseRequestHead(head.gathered ?? bytes, head.start, head.end, this.scheme, this.limits);
    if (request.http10 && !this.acceptHttp10) throw new Refusal(426, 'http10', 'HTTP/1.0 is not served here');
    this.begin(request);
    return true;
  }

  private goOn = (): void => {
    this.yielded = false;
    this.begun = 0;
    this.run();
  };

  private begin(request: RequestHead): void {
    this.begun++;
    this.counters?.count('http1_requests');
    this.served++;
    this.request = request;
    this.headSent = false;
    this.responseEnded = false;
    this.requestEnded = request.framing === 'none' && request.tunnel === 'none';
    this.closeAfter = !request.keepAlive || this.draining;
    this.paused = false;
    this.bodyLeft = request.framing === 'length' ? request.length : 0;
    this.chunks = request.framing === 'chunked' ? new ChunkedDecoder(this.limits) : undefined;
    this.reading = request.framing === 'none' ? 'held' : 'body';
    const stream = new Exchange(this, ignoreAll);
    this.stream = stream;
    const handler = this.onStream(stream, request.head, this.requestEnded);
    // The application may have answered already, or have set a handler of its own on the stream.
    if (stream.handler === ignoreAll) stream.handler = handler;
  }

  private stepBody(): boolean {
    const bytes = this.input.take();
    if (bytes === undefined) return false;
    const stream = this.stream!;
    if (this.chunks === undefined) {
      const size = Math.min(this.bodyLeft, bytes.length);
      this.bodyLeft -= size;
      this.input.unread(bytes, size);
      const end = this.bodyLeft === 0;
      if (end) this.endRequest();
      stream.handler.onData(stream, size === bytes.length ? bytes : bytes.subarray(0, size), end);
      if (end) this.settle(stream);
      return true;
    }
    const chunks = this.chunks;
    chunks.offset = 0;
    const step = chunks.next(bytes);
    if (step === 'data') {
      const data = bytes.subarray(chunks.dataStart, chunks.offset);
      const end = chunks.takePlainEnd(bytes);
      this.input.unread(bytes, chunks.offset);
      if (end) this.endRequest();
      stream.handler.onData(stream, data, end);
      if (end) this.settle(stream);
    } else if (step === 'end') {
      this.input.unread(bytes, chunks.offset);
      this.endRequest();
      if (chunks.trailers.length > 0) stream.handler.onTrailers(stream, chunks.trailers);
      else stream.handler.onData(stream, EMPTY, true);
      this.settle(stream);
    }
    return true;
  }

  private endRequest(): void {
    this.requestEnded = true;
    this.reading = 'held';
  }

  /** The exchange is over when both directions are. */
  private settle(stream: Exchange): void {
    if (this.stream !== stream || !this.requestEnded || !this.responseEnded) return;
    this.detach();
    this.paused = false;
    if (this.closeAfter || this.draining || this.outputEnded) {
      this.finishOutput();
    } else {
      this.reading = 'head';
      // The idle time counts from the next tick.
      this.since = undefined;
    }
    stream.handler.onClose?.(stream);
    this.run();
  }

  private endOfInput(): void {
    if (this.input.size > 0) return;
    switch (this.reading) {
      case 'head':
        if (this.headBuffer.started) this.count('truncated');
        this.finishOutput();
        break;
      case 'body':
        if (this.paused) return;
        this.count('truncated');
        this.kill('the peer closed inside a request body');
        break;
      case 'tunnel':
        if (!this.requestEnded && !this.paused) {
          const stream = this.stream!;
          this.requestEnded = true;
          stream.handler.onData(stream, EMPTY, true);
          this.settle(stream);
        }
        break;
      case 'held':
        // A half-closed client still gets its answer.
        this.closeAfter = true;
        break;
    }
  }

  private updateReading(): void {
    const waits = this.reading === 'held' || (this.reading === 'head' && (this.yielded || !this.cork.writable));
    const stop = this.paused || (waits && this.input.size > HELD_BYTES);
    if (stop === this.readingPaused || this.reading === 'closed') return;
    this.readingPaused = stop;
    if (stop) this.output.pauseReading();
    else this.output.resumeReading();
  }

  // ---- the application's side

  setPaused(paused: boolean): void {
    if (this.paused === paused) return;
    this.paused = paused;
    if (paused) this.updateReading();
    else this.run();
  }

  sendInterim(head: Head): void {
    if (this.headSent || this.request!.http10) return;
    this.guard(() => {
      const status = parseDigits(head[1]);
      if (status < 100 || status > 199 || status === 101) {
        throw new Refusal(500, 'bad_head', 'an interim response needs a status of 1xx');
      }
      begin();
      put(statusLine(status));
      putFields(head, 2, knownHeads);
      put('\r\n');
      this.cork.commit();
      if (status === 100) this.request!.expectContinue = false;
    });
  }

  sendHead(head: Head, end: boolean): void {
    try {
      if (this.headSent) throw new Refusal(500, 'bad_head', 'a second response head');
      const stream = this.stream!;
      this.writeHead(head, end);
      if (end) this.endResponse(stream);
      else if (this.framing === 'tunnel') {
        this.reading = 'tunnel';
        this.paused = false;
        // Early bytes are delivered after this call, never from inside it.
        this.output.defer(() => this.run());
      }
    } catch (error) {
      this.caught(error);
    }
  }

  private writeHead(head: Head, end: boolean): void {
    const request = this.request!;
    const status = head[1];
    const code = status.length === 3 ? parseDigits(status) : -1;
    if (head[0] !== ':status' || code < 200) {
      throw new Refusal(500, 'bad_head', 'a response needs a final status');
    }
    const ignored = request.tunnel === 'upgrade' && head.includes(UPGRADE_IGNORED);
    if (ignored) dropField(head, 2, UPGRADE_IGNORED);
    const accepted = request.tunnel !== 'none' && code < 300 && !ignored;
    begin();
    put(accepted && request.tunnel === 'upgrade' ? switching(request, head) : statusLine(code));
    const fields = putFields(head, 2, knownHeads);
    if (accepted) {
      this.headSent = true;
      this.framing = 'tunnel';
      this.closeAfter = true;
      put('\r\n');
      this.cork.commit();
      return;
    }
    // What follows a refused tunnel may be tunnel bytes, and a client that waits for 100 may or may not send its body.
    if (request.tunnel !== 'none') {
      this.closeAfter = true;
      this.requestEnded = true;
      this.reading = 'discard';
    }
    if (fields.close || this.draining || (!this.requestEnded && (end || request.expectContinue)))
      this.closeAfter = true;
    /** To be written as content-length; -1: not. */
    let length = -1;
    const bodyless = request.method === 'HEAD' || code === 204 || code === 304;
    if (bodyless) {
      this.framing = 'none';
      if (code !== 204) length = fields.length;
    } else if (end) {
      if (fields.length > 0) throw new Refusal(500, 'bad_head', 'a content-length without its body');
      this.framing = 'none';
      length = 0;
    } else if (fields.length >= 0 && (!fields.trailer || request.http10)) {
      this.framing = 'length';
      this.writeLeft = length = fields.length;
    } else if (request.http10) {
      this.framing = 'close';
      this.closeAfter = true;
    } else this.framing = 'chunked';
    this.headSent = true;
    if (length >= 0) {
      put('content-length: ');
      put(String(length));
      put('\r\n');
    } else if (this.framing === 'chunked') put('transfer-encoding: chunked\r\n');
    if (this.closeAfter) put('connection: close\r\n');
    else if (request.http10) put('connection: keep-alive\r\n');
    put('\r\n');
    this.cork.commit();
  }

  sendData(chunk: Uint8Array, end: boolean): boolean {
    try {
      if (!this.headSent || this.responseEnded) throw new Refusal(500, 'bad_body', 'data outside of a response');
      const stream = this.stream!;
      switch (this.framing) {
        case 'length':
          this.writeLeft -= chunk.length;
          if (this.writeLeft < 0 || (end && this.writeLeft > 0)) {
            throw new Refusal(500, 'bad_body', 'a body that is not as long as its content-length');
          }
          this.cork.bytes(chunk);
          break;
        case 'chunked':
          if (chunk.length > 0) {
            this.cork.text(chunkSize(chunk.length));
            this.cork.bytes(chunk);
            this.cork.text(end ? '\r\n0\r\n\r\n' : '\r\n');
          } else if (end) this.cork.text('0\r\n\r\n');
          break;
        case 'close':
        case 'tunnel':
          this.cork.bytes(chunk);
          break;
        case 'none':
          break;
      }
      if (end) this.endResponse(stream);
    } catch (error) {
      this.caught(error);
    }
    return this.writable();
  }

  sendTrailers(fields: Head): void {
    if (this.framing !== 'chunked' || fields.length === 0) {
      if (fields.length > 0) this.counters?.count('http1_trailers_dropped');
      this.sendData(EMPTY, true);
      return;
    }
    this.guard(() => {
      if (!this.headSent || this.responseEnded) throw new Refusal(500, 'bad_body', 'trailers outside of a response');
      const stream = this.stream!;
      begin();
      put('0\r\n');
      putFields(fields, 0, knownHeads);
      put('\r\n');
      this.cork.commit();
      this.endResponse(stream);
    });
  }

  reset(code: ResetCode): void {
    this.kill(code, true);
  }

  private writable(): boolean {
    if (!this.cork.writable) this.wantsDrain = true;
    return this.cork.writable;
  }

  private endResponse(stream: Exchange): void {
    this.responseEnded = true;
    if (!this.requestEnded) {
      // Answered early: the client sees the whole answer and our end; the rest of its request is still delivered.
      if (this.framing !== 'tunnel') this.closeAfter = true;
      this.endOutput();
      this.since = this.nowMs?.();
      return;
    }
    this.settle(stream);
  }

  // ---- endings

  private endOutput(): void {
    if (this.outputEnded) return;
    this.outputEnded = true;
    this.cork.flush();
    this.output.end();
  }

  /** No further request: our direction ends, and what the peer still sends is thrown away. */
  private finishOutput(): void {
    this.endOutput();
    this.input.clear();
    if (this.reading !== 'closed') this.reading = 'discard';
    this.since = this.nowMs?.();
    this.paused = false;
    this.updateReading();
  }

  /** The answer of the codec itself, where one is possible, and the end of the connection. */
  private refuse(refusal: Refusal): void {
    this.count(refusal.counter);
    if (this.reading === 'closed') return;
    const internal = refusal.status === 500;
    if (this.outputEnded || (this.stream !== undefined && this.headSent)) {
      this.kill(refusal.detail, false, internal ? 'internal' : 'protocol');
      return;
    }
    const body = internal ? 'internal error\n' : refusal.detail + '\n';
    this.cork.text(
      statusLine(refusal.status) +
        'content-type: text/plain\r\ncontent-length: ' +
        body.length +
        // RFC 9110 15.5.22: 426 names what to come with.
        (refusal.status === 426
          ? '\r\nupgrade: HTTP/1.1\r\nconnection: upgrade, close\r\n\r\n'
          : '\r\nconnection: close\r\n\r\n') +
        (this.request?.method === 'HEAD' && this.stream !== undefined ? '' : body),
    );
    this.finishOutput();
    this.abort(internal ? 'internal' : 'protocol', refusal.detail);
  }

  /** Destroys the socket; the exchange hears of it unless `silent`. */
  private kill(detail: string, silent = false, code: ResetCode = 'cancel'): void {
    if (this.reading === 'closed') return;
    this.reading = 'closed';
    this.input.clear();
    this.cork.flush();
    this.output.destroy(detail);
    if (silent) this.detach();
    else this.abort(code, detail);
  }

  private abort(code: ResetCode, detail: string): void {
    const stream = this.detach();
    if (stream === undefined) return;
    const handler: StreamHandler = stream.handler;
    try {
      handler.onReset(stream, code, detail);
    } catch {
      this.count('internal');
    }
  }

  private detach(): Exchange | undefined {
    const stream = this.stream;
    if (stream !== undefined) stream.owner = undefined;
    this.stream = undefined;
    this.chunks = undefined;
    this.wantsDrain = false;
    return stream;
  }

  private count(name: string): void {
    this.counters?.count('http1_' + name);
  }
}

/** The start of a 101. A WebSocket server on HTTP/2 sends no answer to the client's key (RFC 8441 5): it is made here. */
function switching(request: RequestHead, head: Head): string {
  const text = statusLine(101) + 'connection: upgrade\r\nupgrade: ' + request.protocol + '\r\n';
  if (request.webSocketKey === '') return text;
  for (let i = 2; i < head.length; i += 2) if (head[i] === 'sec-websocket-accept') return text;
  return text + 'sec-websocket-accept: ' + webSocketAccept(request.webSocketKey) + '\r\n';
}
