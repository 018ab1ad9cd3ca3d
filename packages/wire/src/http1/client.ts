import { own } from '../lent.ts';
import type {
  Connection,
  Head,
  Output,
  ResetCode,
  Stream,
  StreamHandler,
  WireCounters,
  WireLimits,
} from '../stream.ts';
import { allLimits, UPGRADE_IGNORED } from '../stream.ts';
import { isAuthority, isToken, TARGET_BYTES } from './chars.ts';
import { ChunkedDecoder } from './chunked.ts';
import { begin, Cork, put, putChecked } from './cork.ts';
import { asBuffer, chunkSize, EMPTY, Exchange, type ExchangeOwner, InputQueue, type WriteFraming } from './exchange.ts';
import { HeadBuffer } from './head-buffer.ts';
import { knownPlaces } from './known-lines.ts';
import { Refusal } from './refusal.ts';
import { dropField } from './request-head.ts';
import { parseResponseHead } from './response-head.ts';
import { putFields } from './serialize.ts';
import { webSocketKey } from './websocket.ts';

export interface Http1ClientOptions {
  output: Output;
  limits?: Partial<WireLimits>;
  counters?: WireCounters;
  /** Monotonic milliseconds; without it the idle timeout counts from the next `tick`. */
  nowMs?: () => number;
  /** An exchange has ended and the connection can take the next request. */
  onIdle?: () => void;
  /** The connection takes no request any more and its last exchange is over. Called once. */
  onClosed?: () => void;
}

/** What the next bytes are. 'discard' is after our own end, until the owner reports the socket closed. */
type Reading = 'idle' | 'head' | 'body' | 'tunnel' | 'discard' | 'closed';

/** Interim responses that one request may have. */
const MAX_INTERIM = 32;

/** The last authority that was found well-formed. */
let goodHost = '';

/** Heads that clients write. */
const knownHeads = knownPlaces();

/** The client side of one HTTP/1.1 connection: one request at a time, no pipelining. */
export class Http1Client implements Connection, ExchangeOwner {
  private readonly output: Output;
  private readonly limits: WireLimits;
  private readonly counters: WireCounters | undefined;
  private readonly nowMs: (() => number) | undefined;
  private readonly onIdle: (() => void) | undefined;
  private readonly onClosed: (() => void) | undefined;
  private readonly cork: Cork;
  private readonly input = new InputQueue();
  private readonly headBuffer: HeadBuffer;

  private reading: Reading = 'idle';
  private running = false;
  private inputEnded = false;
  private paused = false;
  private readingPaused = false;
  private keep = true;
  private closedTold = false;
  private since: number | undefined;

  // The exchange that runs.
  private stream: Exchange | undefined;
  private tunnel: 'none' | 'connect' | 'upgrade' = 'none';
  /** The WebSocket key was made here: nobody else waits for the answer to it. */
  private keyIsOurs = false;
  private headRequest = false;
  private framing: WriteFraming = 'none';
  private writeLeft = 0;
  private requestEnded = false;
  private responseEnded = false;
  private interims = 0;
  private chunks: ChunkedDecoder | undefined;
  /** -1: until the connection ends. */
  private bodyLeft = 0;
  /** Tunnel bytes given before the peer has accepted the tunnel; nothing may be sent earlier. */
  private early: Uint8Array[] = [];
  private earlyBytes = 0;
  private wantsDrain = false;
  private outputEnded = false;

  constructor(options: Http1ClientOptions) {
    this.output = options.output;
    this.limits = allLimits(options.limits);
    this.counters = options.counters;
    this.nowMs = options.nowMs;
    this.onIdle = options.onIdle;
    this.onClosed = options.onClosed;
    this.cork = new Cork(options.output);
    this.headBuffer = new HeadBuffer(this.limits);
    this.since = this.nowMs?.();
  }

  get open(): number {
    return this.stream === undefined ? 0 : 1;
  }

  get buffered(): number {
    return this.input.size + this.earlyBytes + (this.output.buffered ?? 0);
  }

  /** Can take a request now. */
  get idle(): boolean {
    return this.reading === 'idle' && this.keep;
  }

  /** Can take a request now or after the one that runs. */
  get reusable(): boolean {
    return this.keep && this.reading !== 'closed' && this.reading !== 'discard';
  }

  /**
   * Sends a request. A connection that is not idle resets it as 'refused', a head that HTTP/1.1 cannot carry as
   * 'internal', both at the end of this turn; it never throws.
   */
  request(head: Head, end: boolean, handler: StreamHandler): Stream {
    if (!this.idle) return this.failLater(handler, 'refused', 'the connection is not idle');
    const stream = new Exchange(this, handler);
    try {
      this.writeRequest(head, end);
      this.stream = stream;
      this.requestEnded = end && this.tunnel === 'none';
      this.responseEnded = false;
      this.interims = 0;
      this.paused = false;
      this.reading = 'head';
      this.counters?.count('http1_upstream_requests');
      if (end && this.tunnel !== 'none') this.sendData(EMPTY, true);
    } catch (error) {
      const detail = error instanceof Refusal ? error.detail : String(error);
      this.count('bad_head');
      return this.failLater(handler, 'internal', detail);
    }
    return stream;
  }

  private failLater(handler: StreamHandler, code: ResetCode, detail: string): Stream {
    const stream = new Exchange(undefined, handler);
    this.output.defer(() => {
      try {
        stream.handler.onReset(stream, code, detail);
      } catch {
        this.count('internal');
      }
    });
    return stream;
  }

  /** Throws Refusal before anything is written. */
  private writeRequest(head: Head, end: boolean): void {
    let method = '';
    let authority: string | undefined;
    let path = '';
    let protocol = '';
    let from = 0;
    for (; from < head.length && head[from].charCodeAt(0) === 58; from += 2) {
      const value = head[from + 1];
      if (head[from] === ':method') method = value;
      else if (head[from] === ':authority') authority = value;
      else if (head[from] === ':path') path = value;
      else if (head[from] === ':protocol') protocol = value;
    }
    const host = authority || firstValue(head, from, 'host') || '';
    if (host !== goodHost) {
      if (!isAuthority(host, method !== 'CONNECT'))
        throw new Refusal(500, 'bad_head', 'an authority HTTP/1.1 cannot carry');
      if (host !== '') goodHost = host;
    }
    this.headRequest = method === 'HEAD';
    this.tunnel = method !== 'CONNECT' ? 'none' : protocol === '' ? 'connect' : 'upgrade';
    const { tunnel } = this;
    if (tunnel !== 'connect' && path.charCodeAt(0) !== 47 && !(path === '*' && method === 'OPTIONS')) {
      throw new Refusal(500, 'bad_head', 'a path HTTP/1.1 cannot carry');
    }
    begin();
    putRequestLine(tunnel === 'upgrade' ? 'GET' : method, tunnel === 'connect' ? host : path);
    put('host: ');
    put(host);
    put('\r\n');
    const fields = putFields(head, from, knownHeads);
    if (tunnel !== 'none') {
      this.framing = 'tunnel';
      if (tunnel === 'upgrade') {
        this.keyIsOurs = protocol === 'websocket' && firstValue(head, from, 'sec-websocket-key') === undefined;
        put(upgradeFields(head, from, protocol));
      }
    } else if (end) {
      if (fields.length > 0) throw new Refusal(500, 'bad_head', 'a content-length without its body');
      this.framing = 'none';
      if (fields.length === 0) put('content-length: 0\r\n');
    } else if (fields.length >= 0 && !fields.trailer) {
      this.framing = 'length';
      this.writeLeft = fields.length;
      put('content-length: ');
      put(String(fields.length));
      put('\r\n');
    } else {
      this.framing = 'chunked';
      put('transfer-encoding: chunked\r\n');
    }
    if (tunnel === 'none') {
      if (fields.close) this.keep = false;
      if (fields.te)
        put(fields.close ? 'te: trailers\r\nconnection: te, close\r\n' : 'te: trailers\r\nconnection: te\r\n');
      else if (fields.close) put('connection: close\r\n');
    }
    put('\r\n');
    this.cork.commit();
  }

  receive(chunk: Uint8Array): void {
    if (this.reading === 'closed' || this.reading === 'discard') return;
    this.input.push(asBuffer(chunk));
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
    this.abort('connection', detail);
    this.tellClosed();
  }

  drained(): void {
    this.cork.writable = true;
    this.offerDrain();
  }

  drain(): void {
    this.keep = false;
    if (this.reading === 'idle') this.finish();
  }

  tick(nowMs: number): void {
    if (this.reading !== 'idle') return;
    if (this.since === undefined) this.since = nowMs;
    else if (nowMs - this.since > this.limits.idleTimeoutMs) this.finish();
  }

  // ---- reading

  private run(): void {
    if (this.running) return;
    this.running = true;
    try {
      while (this.step());
      if (this.inputEnded && this.input.size === 0) this.endOfInput();
    } catch (error) {
      this.caught(error);
    }
    this.running = false;
    this.updateReading();
  }

  private guard(code: () => void): void {
    try {
      code();
    } catch (error) {
      this.caught(error);
    }
  }

  private caught(error: unknown): void {
    const refusal = error instanceof Refusal ? error : new Refusal(500, 'internal', String(error));
    this.count(refusal.counter);
    this.kill(refusal.detail, refusal.status === 500 ? 'internal' : 'protocol');
  }

  private step(): boolean {
    if (this.reading === 'closed' || this.reading === 'discard') {
      this.input.clear();
      return false;
    }
    if (this.paused && this.reading !== 'head') return false;
    const bytes = this.input.take();
    if (bytes === undefined) return false;
    const stream = this.stream;
    if (this.reading === 'idle' || stream === undefined) {
      throw new Refusal(502, 'unasked_response', 'bytes without a request');
    }
    if (this.reading === 'head') {
      const next = this.headBuffer.push(bytes, 0);
      if (next === -1) return true;
      this.input.unread(bytes, next);
      this.takeHead(stream, bytes);
    } else if (this.reading === 'tunnel') stream.handler.onData(stream, bytes, false);
    else this.takeBody(stream, bytes);
    return true;
  }

  private takeHead(stream: Exchange, bytes: Buffer): void {
    const { gathered, start, end: headEnd } = this.headBuffer;
    const response = parseResponseHead(gathered ?? bytes, start, headEnd, this.limits);
    const status = response.status;
    if (status < 200 && status !== 101) {
      if (++this.interims > MAX_INTERIM) throw new Refusal(502, 'interim_flood', 'too many interim responses');
      stream.handler.onInterim?.(stream, dropLength(response.head));
      return;
    }
    // Only 101 switches protocols; with any other 2xx the server has ignored the upgrade.
    const ignored = this.tunnel === 'upgrade' && status >= 200 && status < 300;
    if (status === 101) {
      if (this.tunnel !== 'upgrade') throw new Refusal(502, 'bad_upgrade', 'an upgrade that nobody asked for');
      response.head[1] = '200';
    } else if (ignored) response.head.push(UPGRADE_IGNORED, '1');
    if (!response.keepAlive) this.keep = false;
    if (this.tunnel !== 'none') {
      this.keep = false;
      if (status < 300 && !ignored) {
        this.reading = 'tunnel';
        if (this.keyIsOurs) dropField(response.head, 2, 'sec-websocket-accept');
        stream.handler.onHead(stream, dropLength(response.head), false);
        this.openTunnel(stream);
        return;
      }
      // Refused or ignored: what was to go through the tunnel is never sent.
      this.early = [];
      this.earlyBytes = 0;
      this.requestEnded = true;
    }
    const framing = this.headRequest || status === 204 || status === 304 ? 'none' : response.framing;
    const end = framing === 'none';
    this.chunks = framing === 'chunked' ? new ChunkedDecoder(this.limits) : undefined;
    this.bodyLeft = framing === 'length' ? response.length : -1;
    if (framing === 'close') this.keep = false;
    this.reading = 'body';
    if (end) this.endResponse();
    stream.handler.onHead(stream, response.head, end);
    if (end) this.settle(stream);
  }

  private takeBody(stream: Exchange, bytes: Buffer): void {
    const chunks = this.chunks;
    if (this.responseEnded) throw new Refusal(502, 'unasked_response', 'bytes after the response');
    if (chunks === undefined) {
      if (this.bodyLeft === -1) {
        stream.handler.onData(stream, bytes, false);
        return;
      }
      const size = Math.min(this.bodyLeft, bytes.length);
      this.bodyLeft -= size;
      this.input.unread(bytes, size);
      this.deliver(stream, size === bytes.length ? bytes : bytes.subarray(0, size), this.bodyLeft === 0);
      return;
    }
    chunks.offset = 0;
    const step = chunks.next(bytes);
    if (step === 'data') {
      const data = bytes.subarray(chunks.dataStart, chunks.offset);
      const end = chunks.takePlainEnd(bytes);
      this.input.unread(bytes, chunks.offset);
      this.deliver(stream, data, end);
    } else if (step === 'end') {
      this.input.unread(bytes, chunks.offset);
      if (chunks.trailers.length === 0) {
        this.deliver(stream, EMPTY, true);
        return;
      }
      this.endResponse();
      stream.handler.onTrailers(stream, chunks.trailers);
      this.settle(stream);
    }
  }

  private deliver(stream: Exchange, data: Uint8Array, end: boolean): void {
    if (end) this.endResponse();
    stream.handler.onData(stream, data, end);
    if (end) this.settle(stream);
  }

  private endResponse(): void {
    this.responseEnded = true;
    // Answered before the request was sent: the server may stop reading it at any byte.
    if (!this.requestEnded) this.keep = false;
  }

  private settle(stream: Exchange): void {
    if (this.stream !== stream || !this.requestEnded || !this.responseEnded) return;
    this.detach();
    this.paused = false;
    if (this.input.size > 0) this.keep = false;
    if (this.keep && !this.inputEnded) {
      this.reading = 'idle';
      // The idle time counts from the next tick.
      this.since = undefined;
      stream.handler.onClose?.(stream);
      if (this.idle) this.onIdle?.();
      return;
    }
    this.finish();
    stream.handler.onClose?.(stream);
  }

  private endOfInput(): void {
    const stream = this.stream;
    switch (this.reading) {
      case 'idle':
        this.finish();
        break;
      case 'head':
        this.kill('the server closed before its response', 'connection');
        break;
      case 'tunnel':
      case 'body':
        if (this.paused || stream === undefined || this.responseEnded) return;
        if (this.reading === 'body' && (this.chunks !== undefined || this.bodyLeft !== -1)) {
          this.kill('the server closed inside its response', 'connection');
          return;
        }
        this.deliver(stream, EMPTY, true);
        break;
    }
  }

  private updateReading(): void {
    if (this.paused === this.readingPaused || this.reading === 'closed') return;
    this.readingPaused = this.paused;
    if (this.paused) this.output.pauseReading();
    else this.output.resumeReading();
  }

  // ---- the application's side

  setPaused(paused: boolean): void {
    if (this.paused === paused) return;
    this.paused = paused;
    if (paused) this.updateReading();
    else this.run();
  }

  sendHead(): void {
    this.kill('a request has one head', 'internal');
  }

  sendInterim(): void {
    // Requests have no interim heads; nothing would read one.
  }

  sendData(chunk: Uint8Array, end: boolean): boolean {
    try {
      const stream = this.stream!;
      if (this.requestEnded) {
        if (this.tunnel !== 'none') return this.taken();
        throw new Refusal(500, 'bad_body', 'data after the end of the request');
      }
      switch (this.framing) {
        case 'tunnel':
          if (this.reading !== 'tunnel') {
            this.early.push(own(chunk));
            this.earlyBytes += chunk.length;
            if (end) this.writeLeft = -1;
            return this.taken();
          }
          this.cork.bytes(chunk);
          break;
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
      }
      if (end) this.endRequest(stream);
    } catch (error) {
      this.caught(error);
    }
    return this.taken();
  }

  /** Whether more may be given at once. */
  private taken(): boolean {
    const writable = this.cork.writable && this.earlyBytes < this.limits.bufferBytes;
    if (!writable) this.wantsDrain = true;
    return writable;
  }

  sendTrailers(fields: Head): void {
    if (this.framing !== 'chunked' || fields.length === 0) {
      if (fields.length > 0) this.counters?.count('http1_trailers_dropped');
      this.sendData(EMPTY, true);
      return;
    }
    this.guard(() => {
      if (this.requestEnded) throw new Refusal(500, 'bad_body', 'trailers after the end of the request');
      begin();
      put('0\r\n');
      putFields(fields, 0, knownHeads);
      put('\r\n');
      this.cork.commit();
      this.endRequest(this.stream!);
    });
  }

  reset(code: ResetCode): void {
    this.detach();
    this.kill(code, code);
  }

  private endRequest(stream: Exchange): void {
    this.requestEnded = true;
    if (this.framing === 'tunnel') this.endOutput();
    this.settle(stream);
  }

  private openTunnel(stream: Exchange): void {
    if (this.stream !== stream) return;
    const early = this.early;
    const ended = this.writeLeft === -1;
    this.early = [];
    this.earlyBytes = 0;
    for (const chunk of early) this.cork.bytes(chunk);
    if (ended) this.endRequest(stream);
    else this.offerDrain();
  }

  private offerDrain(): void {
    const stream = this.stream;
    if (!this.wantsDrain || stream === undefined || !this.cork.writable) return;
    if (this.earlyBytes >= this.limits.bufferBytes) return;
    this.wantsDrain = false;
    this.guard(() => stream.handler.onDrain(stream));
  }

  // ---- endings

  private endOutput(): void {
    if (this.outputEnded) return;
    this.outputEnded = true;
    this.cork.flush();
    this.output.end();
  }

  /** The last exchange is over: nothing that may still come is wanted, but the last bytes of a tunnel have to leave. */
  private finish(): void {
    this.keep = false;
    if (this.reading === 'closed' || this.reading === 'discard') return;
    this.reading = 'discard';
    this.input.clear();
    this.endOutput();
    if (this.tunnel === 'none') this.output.destroy();
    this.tellClosed();
  }

  private kill(detail: string, code: ResetCode): void {
    if (this.reading === 'closed') return;
    this.reading = 'closed';
    this.input.clear();
    this.output.destroy(detail);
    this.abort(code, detail);
    this.tellClosed();
  }

  private abort(code: ResetCode, detail: string): void {
    const stream = this.detach();
    if (stream === undefined) return;
    try {
      stream.handler.onReset(stream, code, detail);
    } catch {
      this.count('internal');
    }
  }

  private detach(): Exchange | undefined {
    const stream = this.stream;
    if (stream !== undefined) stream.owner = undefined;
    this.stream = undefined;
    this.chunks = undefined;
    this.early = [];
    this.earlyBytes = 0;
    this.writeLeft = 0;
    this.wantsDrain = false;
    return stream;
  }

  private tellClosed(): void {
    this.keep = false;
    if (this.closedTold) return;
    this.closedTold = true;
    try {
      this.onClosed?.();
    } catch {
      this.count('internal');
    }
  }

  private count(name: string): void {
    this.counters?.count('http1_' + name);
  }
}

/** Interim and tunnel answers have no body, whatever they say about its length. */
function dropLength(head: Head): Head {
  dropField(head, 2, 'content-length');
  return head;
}

/** A WebSocket request that came over HTTP/2 has no key (RFC 8441); an HTTP/1.1 server wants one. */
function upgradeFields(head: Head, from: number, protocol: string): string {
  if (!isUpgradeProtocol(protocol)) throw new Refusal(500, 'bad_head', 'a protocol HTTP/1.1 cannot carry');
  let text = 'connection: upgrade\r\nupgrade: ' + protocol + '\r\n';
  if (protocol !== 'websocket') return text;
  if (firstValue(head, from, 'sec-websocket-key') === undefined)
    text += 'sec-websocket-key: ' + webSocketKey() + '\r\n';
  if (firstValue(head, from, 'sec-websocket-version') === undefined) text += 'sec-websocket-version: 13\r\n';
  return text;
}

/** Of the first field of that name. */
function firstValue(head: Head, from: number, name: string): string | undefined {
  for (let i = from; i < head.length; i += 2) if (head[i] === name) return head[i + 1];
  return undefined;
}

function putRequestLine(method: string, target: string): void {
  if (isToken(method)) {
    put(method);
    put(' ');
    if (target !== '' && putChecked(target, TARGET_BYTES)) {
      put(' HTTP/1.1\r\n');
      return;
    }
  }
  throw new Refusal(500, 'bad_head', 'a method or path HTTP/1.1 cannot carry');
}

function isUpgradeProtocol(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    const fine =
      (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122) || c === 45 || c === 46 || c === 47;
    if (!fine) return false;
  }
  return text.length > 0;
}
