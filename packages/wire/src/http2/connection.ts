import { own } from '../lent.ts';
import type { Connection, Head, OnStream, Output, Stream, StreamHandler, WireCounters, WireLimits } from '../stream.ts';
import { allLimits } from '../stream.ts';
import { http2Counter, TokenBucket } from './floods.ts';
import { FrameReader, frame, h2Error, preface, setting } from './frames.ts';
import { H2Stream } from './h2-stream.ts';
import { isGrpc } from './heads.ts';
import { listBytes } from './hpack-encoder.ts';
import { Receiver } from './receiver.ts';
import { Sender } from './sender.ts';
import { announceSettings } from './settings.ts';
import { StreamTable } from './stream-table.ts';

export interface Http2Options {
  role: 'client' | 'server';
  output: Output;
  /** Servers: gets each request. Without it every request is refused. */
  onStream?: OnStream;
  limits?: Partial<WireLimits>;
  counters?: WireCounters;
  /** Extra SETTINGS ids to announce. */
  announce?: ReadonlyMap<number, number>;
  /** Servers: announce extended CONNECT (RFC 8441). */
  enableConnectProtocol?: boolean;
  /** The peer's SETTINGS, all known so far. */
  onSettings?(peer: ReadonlyMap<number, number>): void;
  /** A stream has ended: there may be room for another. Not for those that end with the connection. */
  onRoom?(): void;
  /** The peer takes no new streams any more. */
  onGoaway?(): void;
  /** The connection is over, called once: it failed, and closes when the peer had a moment to read why, or is closed. */
  onClosed?(detail: string): void;
  /** Monotonic ms; without it the last tick's time is used. */
  nowMs?: () => number;
}

/** Before SETTINGS came, a client opens this many streams at most (RFC 9113 6.5.2 recommends at least 100). */
const streamsBeforeSettings = 100;
const lastStreamId = 0x7fffffff;
/** So many closed streams are remembered with how the peer ended them. */
const endedStreams = 64;

/**
 * HTTP/2 over bytes (RFC 9113, RFC 7541, RFC 8441), either side. It announces its settings at once; it never throws:
 * a peer's error ends the connection with GOAWAY, and what a handler throws ends it with INTERNAL_ERROR.
 */
export class Http2Connection implements Connection {
  readonly isServer: boolean;
  readonly limits: WireLimits;
  readonly sender: Sender;
  readonly options: Http2Options;
  readonly streams = new StreamTable<H2Stream>();
  readonly bufferBytes: number;
  readonly initialWindow: number;
  /** What the peer announced. */
  readonly peerSettings = new Map<number, number>();
  /** The peer's first SETTINGS has come. */
  ready = false;
  /** The peer's limit on streams that we open. */
  peerMaxStreams = streamsBeforeSettings;
  /** Highest stream id the peer opened; our next one. */
  lastPeerId = 0;
  nextId = 1;
  goawayReceived = false;
  /** We said GOAWAY with this last id; streams above are not looked at. */
  acceptedUpTo = lastStreamId;
  dead = false;

  #receiver: Receiver;
  /** What of a read waits for a later turn. */
  #rest: Buffer[] | undefined;
  #reader: FrameReader;
  #prefaceAt = 0;
  #counters: WireCounters | undefined;
  #lastTickMs = 0;
  #resetsSent: TokenBucket;
  #glitches: TokenBucket;
  #growth: number;
  /** Streams we reset last, whose frames still on the way are no error. */
  #resetByUs = new Set<number>();
  /** Streams that the peer ended last, by their number: the id, negative where it was reset. */
  #endedByPeer = new Int32Array(endedStreams);
  #pings: { cb: (rttMs: number) => void; sentMs: number; id: number }[] = [];
  #pingId = 0;
  #controlQueued = 0;
  #draining = false;
  #ended = false;
  #closed = false;
  #idleSinceMs = -1;
  #openedMs = -1;
  #diedMs = -1;

  constructor(options: Http2Options) {
    this.options = options;
    this.isServer = options.role === 'server';
    this.limits = allLimits(options.limits);
    this.bufferBytes = this.limits.bufferBytes;
    this.initialWindow = this.limits.initialWindowBytes;
    this.#counters = options.counters;
    this.#growth = this.limits.connectionWindowBytes;
    const now = (): number => this.nowMs();
    this.#resetsSent = new TokenBucket(this.limits.resetBurst, this.limits.resetPerSecond, now);
    this.#glitches = new TokenBucket(this.limits.glitchBurst, this.limits.glitchPerSecond, now);
    this.sender = new Sender(
      options.output,
      this.limits.hpackTableBytes,
      (run) => this.#guard(run),
      () => this.#endIfDone(),
    );
    this.#receiver = new Receiver(this);
    this.#reader = new FrameReader(this.#receiver, this.limits.maxFrameBytes);
    if (!this.isServer) {
      this.#prefaceAt = preface.length;
      this.sender.writer.room(preface.length);
      this.sender.writer.slab.set(preface, this.sender.writer.pos);
      this.sender.writer.pos += preface.length;
    }
    announceSettings(this.sender, this.limits, this.isServer, options.enableConnectProtocol === true, options.announce);
  }

  get open(): number {
    return this.streams.size;
  }

  /** Streams a client may open now. */
  get availableStreams(): number {
    if (this.dead || this.goawayReceived || this.#draining || this.nextId > lastStreamId) return 0;
    return Math.max(0, this.peerMaxStreams - this.streams.size);
  }

  nowMs(): number {
    return this.options.nowMs === undefined ? this.#lastTickMs : this.options.nowMs();
  }

  /**
   * Opens a stream (client). One that cannot be made gets onReset 'refused' later in the turn. What the peer has said
   * that it does not take is answered in its place: 431 for a head above its SETTINGS_MAX_HEADER_LIST_SIZE, 501 for an
   * extended CONNECT that it did not announce (RFC 8441).
   */
  request(head: Head, end: boolean, handler: StreamHandler): Stream {
    if (this.isServer || this.availableStreams === 0) {
      const refused = new H2Stream(this, 0, handler);
      refused.done = true;
      this.options.output.defer(() =>
        this.#guard(() => refused.failed('refused', 'the connection takes no new stream')),
      );
      return refused;
    }
    const bytes = listBytes(head);
    const status = this.#refusal(head, bytes);
    if (status !== '') {
      const answered = new H2Stream(this, 0, handler);
      answered.done = true;
      this.options.output.defer(() => this.#guard(() => answered.answeredHere([':status', status])));
      return answered;
    }
    const stream = new H2Stream(this, this.nextId, handler);
    this.nextId += 2;
    stream.isHead = head[1] === 'HEAD';
    stream.isConnect = head[1] === 'CONNECT';
    stream.smallFrames = stream.isConnect || isGrpc(head);
    this.streams.add(stream);
    this.sender.headers(stream.id, head, end, bytes);
    if (end) stream.localEnded = true;
    return stream;
  }

  /** The status of a request that this peer is not to be asked; '' where it may be. */
  #refusal(head: Head, bytes: number): string {
    if (bytes > this.sender.maxHeaderList) {
      this.count(http2Counter.peerHeaderList);
      return '431';
    }
    // RFC 8441 4: only a peer that announced extended CONNECT gets one.
    const extended = head[1] === 'CONNECT' && head.length > 8 && head[8] === ':protocol';
    return extended && this.peerSettings.get(setting.enableConnectProtocol) !== 1 ? '501' : '';
  }

  /** Sends a PING; `cb` gets the round trip in ms. It is not called when the connection ends before. */
  ping(cb: (rttMs: number) => void): void {
    if (this.dead || this.#pings.length >= 100) return;
    const id = ++this.#pingId;
    this.#pings.push({ cb, sentMs: this.nowMs(), id });
    const payload = Buffer.alloc(8);
    payload.writeUInt32BE(id, 4);
    this.sender.writer.frame(frame.ping, 0, 0, payload);
    this.sender.schedule();
  }

  /** The ACK of a PING came. */
  pong(id: number): boolean {
    const at = this.#pings.findIndex((ping) => ping.id === id);
    if (at < 0) return false;
    const [ping] = this.#pings.splice(at, 1);
    ping.cb(this.nowMs() - ping.sentMs);
    return true;
  }

  /** Finishes running streams, takes no new ones, then ends. A server first says so, and fixes the last id a round trip later. */
  goaway(): void {
    if (this.dead || this.#draining) return;
    this.#draining = true;
    if (this.isServer) {
      this.sender.goaway(lastStreamId, h2Error.none, '');
      this.ping(() => this.#lastGoaway());
    } else {
      this.sender.goaway(0, h2Error.none, '');
    }
  }

  drain(): void {
    this.goaway();
  }

  #lastGoaway(): void {
    if (this.dead || this.acceptedUpTo !== lastStreamId) return;
    this.acceptedUpTo = this.lastPeerId;
    this.sender.goaway(this.lastPeerId, h2Error.none, '');
  }

  receive(chunk: Uint8Array): void {
    if (this.dead) return;
    const buf = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (this.#rest !== undefined) {
      this.#rest.push(own(buf));
      return;
    }
    try {
      let at = 0;
      while (this.#prefaceAt < preface.length && at < buf.length) {
        if (buf[at++] !== preface[this.#prefaceAt++]) {
          this.fail(h2Error.protocol, 'the client preface is missing');
          return;
        }
      }
      this.#receiver.newRead();
      const rest = this.#reader.push(at === 0 ? buf : buf.subarray(at));
      if (rest !== undefined) this.#wait([own(rest)]);
    } catch (error) {
      this.#handlerError(error);
    }
  }

  /** A read with very many requests: the others wait for a later turn, and nothing more is read meanwhile. */
  #wait(rest: Buffer[]): void {
    if (this.dead) return;
    this.count(http2Counter.requestsPerRead);
    this.#rest = rest;
    this.options.output.pauseReading();
    this.options.output.later(this.#goOn);
  }

  #goOn = (): void => {
    const chunks = this.#rest ?? [];
    this.#rest = undefined;
    if (this.dead) return;
    this.#receiver.newTurn();
    try {
      for (let i = 0; i < chunks.length && !this.dead; i++) {
        const rest = this.#reader.push(chunks[i]);
        if (rest === undefined) continue;
        this.#wait([rest, ...chunks.slice(i + 1)]);
        return;
      }
      if (!this.dead) this.options.output.resumeReading();
    } catch (error) {
      this.#handlerError(error);
    }
  };

  receiveEnd(): void {
    if (this.dead) return;
    this.#guard(() => {
      this.#die('the peer closed the connection');
      this.#end();
    });
  }

  closed(detail: string): void {
    this.#guard(() => {
      this.#ended = true;
      this.#closed = true;
      this.#die(detail);
    });
  }

  drained(): void {
    this.#controlQueued = 0;
    this.#guard(() => this.sender.drained());
  }

  tick(nowMs: number): void {
    this.#lastTickMs = nowMs;
    if (this.dead) {
      // The peer had its time to read the GOAWAY.
      if (this.#diedMs < 0) this.#diedMs = nowMs;
      else if (nowMs - this.#diedMs >= 1000 && !this.#closed) this.options.output.destroy('HTTP/2 connection error');
      return;
    }
    if (this.#openedMs < 0) this.#openedMs = nowMs;
    if (!this.ready && nowMs - this.#openedMs >= this.limits.headersTimeoutMs) {
      this.count(http2Counter.headersTimeout);
      this.fail(h2Error.settingsTimeout, 'no SETTINGS in time');
      return;
    }
    this.#guard(() => this.#receiver.tick(nowMs));
    if (this.dead) return;
    this.#guard(() => this.#flushTimeouts(nowMs));
    if (this.streams.size > 0) {
      this.#idleSinceMs = -1;
    } else if (this.#idleSinceMs < 0) {
      this.#idleSinceMs = nowMs;
    } else if (nowMs - this.#idleSinceMs >= this.limits.idleTimeoutMs && !this.#draining) {
      this.count(http2Counter.idleTimeout);
      this.goaway();
    } else if (this.#draining && nowMs - this.#idleSinceMs >= 1000) {
      this.#lastGoaway(); // the peer does not answer our PING
      this.sender.schedule();
    }
  }

  /** Messages that are finished here, but whose last bytes the peer gives no window for. */
  #flushTimeouts(nowMs: number): void {
    for (const stream of this.streams.all()) {
      const { queue } = stream;
      if (queue.bytes === 0 || !queue.finished) continue;
      if (queue.bytes !== queue.stalledBytes) {
        queue.stalledBytes = queue.bytes;
        queue.stalledSinceMs = nowMs;
      } else if (nowMs - queue.stalledSinceMs >= this.limits.flushTimeoutMs) {
        this.count(http2Counter.flushTimeout);
        this.sender.reset(stream.id, h2Error.cancel);
        this.remove(stream, true);
        stream.failed('timeout', 'the peer does not read the rest of the message');
      }
    }
  }

  /**
   * The peer is a proxy that has proved who it is and carries many clients' traffic as it comes: other bounds for its
   * RST_STREAM frames, and none for how they arrive or how small its DATA is.
   */
  trustProxy(resetBurst: number, resetsPerSecond: number): void {
    this.#receiver.trustProxy(resetBurst, resetsPerSecond);
  }

  // What follows is for the streams, the receiver and the sender.

  count(name: string): void {
    this.#counters?.count(name);
  }

  growWindow(window: number): number {
    const more = Math.max(0, Math.min(window, this.limits.maxWindowBytes - window, this.#growth));
    this.#growth -= more;
    return more;
  }

  giveBack(bytes: number): void {
    this.#growth += bytes;
  }

  remove(stream: H2Stream, resetByUs: boolean): void {
    const { id } = stream;
    this.streams.delete(id);
    if (resetByUs) {
      if (this.#resetByUs.size >= 2000) this.#resetByUs.delete(this.#resetByUs.values().next().value!);
      this.#resetByUs.add(id);
    } else {
      this.#endedByPeer[(id >>> 1) % endedStreams] = stream.remoteEnded ? id : -id;
    }
    if (this.streams.size === 0) this.sender.schedule();
    this.options.onRoom?.();
  }

  wasResetByUs(id: number): boolean {
    return this.#resetByUs.has(id);
  }

  /**
   * Whether the peer itself has ended this closed stream: 'end' by END_STREAM, 'reset' by RST_STREAM; undefined where it
   * did not, or where that is long ago. After either it may not send on it any more (RFC 9113 5.1).
   */
  endedByPeer(id: number): 'end' | 'reset' | undefined {
    const last = this.#endedByPeer[(id >>> 1) % endedStreams];
    return last === id ? 'end' : last === -id ? 'reset' : undefined;
  }

  /** Resets a stream for an error of the peer's. `stream` may be gone or never have been. False: that was one too many. */
  streamError(id: number, error: number, stream: H2Stream | undefined, detail: string): boolean {
    this.sender.reset(id, error);
    if (stream === undefined) {
      if (this.#resetByUs.size < 2000) this.#resetByUs.add(id);
    } else {
      this.remove(stream, true);
      stream.failed(error === h2Error.flowControl ? 'flow' : 'protocol', detail);
    }
    if (this.#resetsSent.take()) return true;
    this.count(http2Counter.resetSent);
    return this.fail(h2Error.enhanceYourCalm, 'too many stream errors');
  }

  /** Something legal that nobody does often. False: it was done too often. */
  glitch(): boolean {
    this.count(http2Counter.glitch);
    if (this.#glitches.take()) return true;
    this.count(http2Counter.glitchFlood);
    return this.fail(h2Error.enhanceYourCalm, 'too many unusual frames');
  }

  /** An ACK is to be sent. False: the peer lets them pile up. */
  control(): boolean {
    if (!this.sender.writer.blocked) this.#controlQueued = 0;
    if (++this.#controlQueued <= this.limits.queuedControlFrames || !this.sender.writer.blocked) return true;
    this.count(http2Counter.controlQueue);
    return this.fail(h2Error.enhanceYourCalm, 'acknowledgements are not read');
  }

  /** Ends the connection for an error of the peer's. Always false. */
  fail(error: number, detail: string): false {
    if (this.dead) return false;
    this.count(http2Counter.connectionError);
    this.sender.goaway(this.lastPeerId, error, detail);
    this.sender.writer.flush();
    this.#guard(() => this.#die(detail));
    this.#end();
    // What a flood still sends is not worth reading; the peer has a second to read the GOAWAY.
    this.options.output.pauseReading();
    return false;
  }

  /** The peer said GOAWAY. */
  peerGoaway(lastId: number): void {
    const first = !this.goawayReceived;
    this.goawayReceived = true;
    if (!this.isServer) {
      for (const stream of this.streams.all()) {
        if (stream.id <= lastId) continue;
        this.remove(stream, true);
        stream.failed('refused', 'the peer said GOAWAY before it saw the stream');
      }
    }
    if (first) this.options.onGoaway?.();
    this.sender.schedule();
  }

  #die(detail: string): void {
    if (this.dead) return;
    this.dead = true;
    this.sender.dead = true;
    this.#reader.stop();
    const streams = this.streams.all();
    this.streams.clear();
    for (const stream of streams) {
      try {
        stream.failed('connection', detail);
      } catch {
        this.count(http2Counter.handlerError);
      }
    }
    this.options.onClosed?.(detail);
  }

  #endIfDone(): void {
    if (this.streams.size > 0 || this.dead) return;
    const over = this.isServer
      ? this.acceptedUpTo !== lastStreamId || (this.goawayReceived && this.ready)
      : this.#draining || this.goawayReceived;
    if (over) this.#end();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.options.output.end();
  }

  #guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#handlerError(error);
    }
  }

  #handlerError(error: unknown): void {
    this.count(http2Counter.handlerError);
    this.fail(h2Error.internal, error instanceof Error ? error.message : 'a handler threw');
  }
}
