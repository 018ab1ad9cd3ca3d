import { own } from '../lent.ts';
import type { Head } from '../stream.ts';
import { ignoreAll } from '../stream.ts';
import type { Http2Connection } from './connection.ts';
import { http2Counter, TokenBucket } from './floods.ts';
import type { FrameSink } from './frames.ts';
import { defaultWindow, flag, frame, frameHeaderBytes, h2Error, maxWindow, resetOfError } from './frames.ts';
import { H2Stream } from './h2-stream.ts';
import { isGrpc, mostInterims, newFacts, requestHead, responseHead, trailerFields } from './heads.ts';
import { decoded, HpackDecoder } from './hpack-decoder.ts';
import { applySetting, settingError } from './settings.ts';

/** DATA frames below this are tiny. */
const tinyBytes = 256;

/** The receiving half of a connection: frames in, stream events out. Handlers return false when the connection is over. */
export class Receiver implements FrameSink {
  #c: Http2Connection;
  #decoder: HpackDecoder;
  #facts = newFacts();
  #trailerLimits: { headerBytes: number; headerFieldBytes: number; headerCount: number };
  #resets: TokenBucket;
  /** Window of the connection as the peer sees it, and what it used since our last update. */
  #window: number;
  #used = 0;
  #settingsAcked = false;
  #emptyFrames = 0;
  #updates = 0;
  #priorities = 0;
  #tiny: TokenBucket;
  /** The peer is a proxy of the mesh: see `trustProxy`. */
  #trusted = false;
  /** Highest id before this read; resets of later ones came with their requests. */
  #readFrom = 0;
  #pendingResets = 0;
  /** Requests in this turn. */
  #begun = 0;
  #serverResets = 0;
  // A header block that goes on in CONTINUATION.
  #blockId = 0;
  #blockEnd = false;
  #parts: Buffer[] = [];
  #blocks = 0;
  #seenBlocks = -1;
  #blockSinceMs = 0;

  constructor(connection: Http2Connection) {
    this.#c = connection;
    const limits = connection.limits;
    this.#decoder = new HpackDecoder(limits, limits.hpackTableBytes);
    this.#trailerLimits = {
      headerBytes: limits.trailerBytes,
      headerFieldBytes: limits.headerFieldBytes,
      headerCount: limits.trailerCount,
    };
    this.#resets = new TokenBucket(limits.resetBurst, limits.resetPerSecond, () => connection.nowMs());
    this.#tiny = new TokenBucket(limits.tinyDataBytes, limits.tinyDataBytes, () => connection.nowMs());
    this.#window = Math.max(limits.connectionWindowBytes, defaultWindow);
  }

  /** As many requests of this read were begun as one turn may have. */
  get enough(): boolean {
    return this.#begun >= this.#c.limits.requestsPerRead;
  }

  /** What was left of a read comes. */
  newTurn(): void {
    this.#begun = 0;
  }

  /** Bytes came in. */
  newRead(): void {
    this.#begun = 0;
    this.#readFrom = this.#c.lastPeerId;
    this.#pendingResets = 0;
  }

  trustProxy(burst: number, perSecond: number): void {
    this.#trusted = true;
    this.#resets = new TokenBucket(burst, perSecond, () => this.#c.nowMs());
  }

  tick(nowMs: number): void {
    if (this.#blockId === 0) {
      this.#seenBlocks = -1;
    } else if (this.#seenBlocks !== this.#blocks) {
      this.#seenBlocks = this.#blocks;
      this.#blockSinceMs = nowMs;
    } else if (nowMs - this.#blockSinceMs >= this.#c.limits.headersTimeoutMs) {
      this.#c.count(http2Counter.headersTimeout);
      this.#c.fail(h2Error.enhanceYourCalm, 'a header block is not finished in time');
    }
  }

  onOversize(_id: number): void {
    this.#c.fail(h2Error.frameSize, 'a frame above SETTINGS_MAX_FRAME_SIZE');
  }

  onFrame(type: number, flags: number, id: number, buf: Buffer, start: number, end: number): boolean {
    const c = this.#c;
    if (c.dead) return false;
    if (!c.ready && type !== frame.settings) return c.fail(h2Error.protocol, 'the first frame is not SETTINGS');
    if (this.#blockId !== 0 && (type !== frame.continuation || id !== this.#blockId)) {
      return c.fail(h2Error.protocol, 'a header block is interrupted by another frame');
    }
    switch (type) {
      case frame.data:
        return this.#data(flags, id, buf, start, end) && !c.dead;
      case frame.headers:
        return this.#headers(flags, id, buf, start, end) && !c.dead;
      case frame.continuation:
        return this.#continuation(flags, id, buf, start, end) && !c.dead;
      case frame.windowUpdate:
        return this.#windowUpdate(id, buf, start, end) && !c.dead;
      case frame.rstStream:
        return this.#rstStream(id, buf, start, end) && !c.dead;
      case frame.settings:
        return this.#settings(flags, id, buf, start, end) && !c.dead;
      case frame.ping:
        return this.#ping(flags, id, buf, start, end) && !c.dead;
      case frame.goaway:
        if (id !== 0) return c.fail(h2Error.protocol, 'GOAWAY on a stream');
        if (end - start < 8) return c.fail(h2Error.frameSize, 'GOAWAY is cut off');
        c.peerGoaway(buf.readUInt32BE(start) & 0x7fffffff);
        return c.glitch() && !c.dead;
      case frame.priority:
        if (id === 0) return c.fail(h2Error.protocol, 'PRIORITY without a stream');
        if (end - start !== 5)
          return c.streamError(id, h2Error.frameSize, c.streams.get(id), 'PRIORITY is not 5 bytes');
        if ((buf.readUInt32BE(start) & 0x7fffffff) === id) {
          return c.streamError(id, h2Error.protocol, c.streams.get(id), 'a stream that depends on itself');
        }
        if (++this.#priorities <= c.limits.priorityFrames * (1 + this.#opened)) return true;
        c.count(http2Counter.priority);
        return c.fail(h2Error.enhanceYourCalm, 'too many PRIORITY frames');
      case frame.pushPromise:
        return c.fail(h2Error.protocol, 'PUSH_PROMISE, which is switched off');
      default:
        return c.glitch(); // unknown types are ignored (RFC 9113 5.5)
    }
  }

  /** A stream that has not been opened yet. */
  #idle(id: number): boolean {
    const c = this.#c;
    const peers = (id & 1) === (c.isServer ? 1 : 0);
    if (peers && id > c.acceptedUpTo) return false; // sent before the peer saw our GOAWAY; not tracked
    return peers ? id > c.lastPeerId : c.isServer || id >= c.nextId;
  }

  /** Streams of this connection until now, ours or the peer's. */
  get #opened(): number {
    return this.#c.isServer ? (this.#c.lastPeerId + 1) >>> 1 : this.#c.nextId >>> 1;
  }

  #data(flags: number, id: number, buf: Buffer, start: number, end: number): boolean {
    const c = this.#c;
    if (id === 0) return c.fail(h2Error.protocol, 'DATA without a stream');
    const flow = end - start;
    this.#window -= flow;
    if (this.#window < 0) {
      c.count(http2Counter.flowControl);
      return c.fail(h2Error.flowControl, 'DATA above the window of the connection');
    }
    // The connection's window is opened on receipt: a stream that is not read must not hold up the others.
    this.#used += flow;
    if (this.#used * 4 >= c.limits.connectionWindowBytes) {
      c.sender.windowUpdate(0, this.#used);
      this.#window += this.#used;
      this.#used = 0;
    }
    if ((flags & flag.padded) !== 0) {
      const padding = start < end ? buf[start] : 256;
      if (padding >= end - start) return c.fail(h2Error.protocol, 'padding longer than the frame');
      start++;
      end -= padding;
    }
    const last = (flags & flag.endStream) !== 0;
    if (start === end && !last) {
      if (!this.#empty()) return false;
    } else {
      this.#emptyFrames = 0;
    }
    const stream = c.streams.get(id);
    if (stream === undefined || stream.remoteEnded) {
      if (this.#idle(id)) return c.fail(h2Error.protocol, 'DATA on a stream that was never opened');
      // On its way when we reset the stream: legal, and the windows bound it.
      if (stream === undefined && (c.wasResetByUs(id) || id > c.acceptedUpTo)) return true;
      if (stream === undefined && c.endedByPeer(id) === 'end')
        return c.fail(h2Error.streamClosed, 'DATA after the end');
      return c.streamError(id, h2Error.streamClosed, stream, 'DATA after the end');
    }
    if (!stream.headReceived) return c.streamError(id, h2Error.protocol, stream, 'DATA before the head');
    const lacking = tinyBytes - (end - start);
    if (lacking > 0 && !last && !stream.smallFrames && !this.#trusted && !this.#tiny.take(lacking)) {
      c.count(http2Counter.tinyData);
      return c.fail(h2Error.enhanceYourCalm, 'a flood of tiny DATA frames');
    }
    if (stream.bodyLeft >= 0) {
      stream.bodyLeft -= end - start;
      if (stream.bodyLeft < 0 || (last && stream.bodyLeft > 0)) {
        c.count(http2Counter.malformed);
        return c.streamError(id, h2Error.protocol, stream, 'the body is not as long as content-length says');
      }
    }
    if (stream.received(buf.subarray(start, end), flow, last)) return true;
    c.count(http2Counter.flowControl);
    return c.streamError(id, h2Error.flowControl, stream, 'DATA above the window of the stream');
  }

  #empty(): boolean {
    if (++this.#emptyFrames <= this.#c.limits.emptyFrames) return true;
    this.#c.count(http2Counter.emptyFrames);
    return this.#c.fail(h2Error.enhanceYourCalm, 'empty frames');
  }

  #headers(flags: number, id: number, buf: Buffer, start: number, end: number): boolean {
    const c = this.#c;
    if (id === 0) return c.fail(h2Error.protocol, 'HEADERS without a stream');
    let padding = 0;
    if ((flags & flag.padded) !== 0) padding = start < end ? buf[start++] : 1;
    if ((flags & flag.priority) !== 0) {
      if (end - start < 5) return c.fail(h2Error.frameSize, 'HEADERS is cut off');
      if ((buf.readUInt32BE(start) & 0x7fffffff) === id)
        return c.fail(h2Error.protocol, 'a stream that depends on itself');
      start += 5;
    }
    if (padding > end - start) return c.fail(h2Error.protocol, 'padding longer than the frame');
    end -= padding;
    const last = (flags & flag.endStream) !== 0;
    if ((flags & flag.endHeaders) !== 0) return this.#block(id, last, buf, start, end);
    if (start === end && !this.#empty()) return false;
    this.#blockId = id;
    this.#blockEnd = last;
    this.#blocks++;
    this.#parts.push(own(buf.subarray(start, end)));
    return true;
  }

  #continuation(flags: number, id: number, buf: Buffer, start: number, end: number): boolean {
    const c = this.#c;
    if (this.#blockId === 0) return c.fail(h2Error.protocol, 'CONTINUATION without HEADERS');
    if (this.#parts.length > c.limits.continuationFrames) {
      c.count(http2Counter.continuationFlood);
      return c.fail(h2Error.enhanceYourCalm, 'too many CONTINUATION frames');
    }
    const whole = (flags & flag.endHeaders) !== 0;
    if (start === end && !whole && !this.#empty()) return false;
    this.#parts.push(own(buf.subarray(start, end)));
    if (!whole) return true;
    const block = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#blockId = 0;
    return this.#block(id, this.#blockEnd, block, 0, block.length);
  }

  /** A whole header block. It is always decoded, since the table is the connection's. */
  #block(id: number, last: boolean, buf: Buffer, start: number, end: number): boolean {
    const c = this.#c;
    const stream = c.streams.get(id);
    const trailers = stream?.headReceived === true;
    const head = this.#decoder.newList();
    const code = this.#decoder.decode(buf, start, end, head, trailers ? this.#trailerLimits : undefined);
    if (code === decoded.broken) return c.fail(h2Error.compression, 'a header block that cannot be decoded');
    if (code === decoded.abusive) {
      c.count(http2Counter.headerAbuse);
      return c.fail(h2Error.enhanceYourCalm, 'a header list far above the limit');
    }
    const tooLarge = code === decoded.tooLarge;
    if (stream !== undefined) {
      if (stream.remoteEnded) return c.streamError(id, h2Error.streamClosed, stream, 'HEADERS after the end');
      return trailers ? this.#trailers(stream, head, last, tooLarge) : this.#response(stream, head, last, tooLarge);
    }
    if (!this.#idle(id)) {
      if (!c.isServer) return this.#lateHead(id);
      if (c.wasResetByUs(id) || id > c.acceptedUpTo) return c.glitch();
      return c.fail(h2Error.streamClosed, 'HEADERS on a closed stream');
    }
    if (!c.isServer || (id & 1) === 0)
      return c.fail(h2Error.protocol, 'HEADERS with a stream id that is not the peer’s');
    return this.#request(id, head, last, tooLarge);
  }

  /** HEADERS on a stream of ours that is closed: mostly the answer to a request we gave up. */
  #lateHead(id: number): boolean {
    const c = this.#c;
    switch (c.endedByPeer(id)) {
      case 'end':
        return c.fail(h2Error.streamClosed, 'HEADERS after the end');
      case 'reset':
        return c.streamError(id, h2Error.streamClosed, undefined, '');
      default:
        return true;
    }
  }

  #request(id: number, head: Head, last: boolean, tooLarge: boolean): boolean {
    const c = this.#c;
    if (id > c.acceptedUpTo) return c.glitch(); // our GOAWAY has told the peer
    c.lastPeerId = id;
    const onStream = c.options.onStream;
    // An answer without a body leaves its stream at once, so that the bound on streams does not bound what piles up.
    if (c.sender.queuedFrames > c.limits.queuedFrames || c.sender.queuedBytes > c.limits.queuedHeadBytes) {
      c.count(http2Counter.outboundQueue);
      return c.fail(h2Error.enhanceYourCalm, 'answers are not read');
    }
    if (c.streams.size >= c.limits.maxConcurrentStreams || onStream === undefined) {
      c.count(http2Counter.streamsExceeded);
      return c.streamError(id, h2Error.refusedStream, undefined, '') && c.glitch();
    }
    if (tooLarge) {
      c.count(http2Counter.headerTooLarge);
      c.sender.headers(id, [':status', '431', 'content-length', '0'], true);
      return c.streamError(id, h2Error.none, undefined, '');
    }
    const facts = this.#facts;
    requestHead(head, this.#decoder.kinds, facts, c.options.enableConnectProtocol === true);
    if (facts.problem === '' && last && facts.contentLength > 0) facts.problem = 'content-length without a body';
    if (facts.problem !== '') {
      c.count(http2Counter.malformed);
      return c.streamError(id, h2Error.protocol, undefined, facts.problem);
    }
    const stream = new H2Stream(c, id, ignoreAll);
    stream.isHead = facts.isHead;
    stream.isConnect = facts.isConnect;
    stream.smallFrames = facts.isConnect || (!last && isGrpc(head));
    stream.bodyLeft = last ? -1 : facts.contentLength;
    c.streams.add(stream);
    stream.remoteEnded = last;
    this.#begun++;
    stream.handler = onStream(stream, head, last);
    if (last) stream.endedWithHead();
    return true;
  }

  #response(stream: H2Stream, head: Head, last: boolean, tooLarge: boolean): boolean {
    const c = this.#c;
    const facts = this.#facts;
    if (tooLarge) {
      c.count(http2Counter.headerTooLarge);
      return c.streamError(stream.id, h2Error.cancel, stream, 'the response head is above the limit');
    }
    responseHead(head, this.#decoder.kinds, facts);
    const interim = facts.status < 200;
    if (facts.problem === '' && interim && last) facts.problem = 'an interim response that ends';
    const bodiless = stream.isHead || facts.status === 204 || facts.status === 304;
    if (facts.problem === '' && last && facts.contentLength > 0 && !bodiless) {
      facts.problem = 'content-length without a body';
    }
    if (facts.problem !== '') {
      c.count(http2Counter.malformed);
      return c.streamError(stream.id, h2Error.protocol, stream, facts.problem);
    }
    if (interim) {
      if (++stream.interims > mostInterims) {
        c.count(http2Counter.interims);
        return c.streamError(stream.id, h2Error.enhanceYourCalm, stream, 'too many interim responses');
      }
      stream.handler.onInterim?.(stream, head);
      return true;
    }
    stream.headReceived = true;
    const tunnel = stream.isConnect && facts.status < 300;
    stream.bodyLeft = last || tunnel || bodiless ? -1 : facts.contentLength;
    stream.remoteEnded = last;
    stream.handler.onHead(stream, head, last);
    if (last) stream.endedWithHead();
    return true;
  }

  #trailers(stream: H2Stream, fields: Head, last: boolean, tooLarge: boolean): boolean {
    const c = this.#c;
    trailerFields(fields, this.#decoder.kinds, this.#facts);
    let problem = this.#facts.problem;
    if (!last) problem = 'trailers that do not end the stream';
    if (stream.bodyLeft > 0) problem = 'the body is shorter than content-length says';
    if (tooLarge) problem = 'trailers above the limit';
    if (problem !== '') {
      c.count(tooLarge ? http2Counter.trailerTooLarge : http2Counter.malformed);
      return c.streamError(stream.id, h2Error.protocol, stream, problem);
    }
    stream.receivedEnd(fields);
    return true;
  }

  #windowUpdate(id: number, buf: Buffer, start: number, end: number): boolean {
    const c = this.#c;
    if (end - start !== 4) return c.fail(h2Error.frameSize, 'WINDOW_UPDATE is not 4 bytes');
    const increment = buf.readUInt32BE(start) & 0x7fffffff;
    if (id === 0) {
      if (increment === 0) return c.fail(h2Error.protocol, 'WINDOW_UPDATE of 0');
      if (!c.sender.open(increment)) return c.fail(h2Error.flowControl, 'the connection’s window overflows');
      return this.#updateBudget();
    }
    const stream = c.streams.get(id);
    if (stream === undefined) {
      if (this.#idle(id)) return c.fail(h2Error.protocol, 'WINDOW_UPDATE on a stream that was never opened');
      return this.#updateBudget();
    }
    if (increment === 0) return c.streamError(id, h2Error.protocol, stream, 'WINDOW_UPDATE of 0');
    stream.sendWindow += increment;
    if (stream.sendWindow > maxWindow) {
      c.count(http2Counter.flowControl);
      return c.streamError(id, h2Error.flowControl, stream, 'the stream’s window overflows');
    }
    c.sender.enqueue(stream);
    return this.#updateBudget();
  }

  /** What streams and DATA explain; each one more than that costs us a look at a stream for nothing. */
  #updateBudget(): boolean {
    const c = this.#c;
    if (++this.#updates <= 5 + 2 * (this.#opened + 10 * c.sender.dataFrames)) return true;
    c.count(http2Counter.windowUpdate);
    return c.fail(h2Error.enhanceYourCalm, 'WINDOW_UPDATE frames that no DATA explains');
  }

  #rstStream(id: number, buf: Buffer, start: number, end: number): boolean {
    const c = this.#c;
    if (end - start !== 4) return c.fail(h2Error.frameSize, 'RST_STREAM is not 4 bytes');
    if (id === 0 || this.#idle(id)) return c.fail(h2Error.protocol, 'RST_STREAM on a stream that was never opened');
    const stream = c.streams.get(id);
    if (stream !== undefined) {
      const error = buf.readUInt32BE(start);
      if (error === h2Error.none && stream.remoteEnded && !c.isServer) {
        stream.answeredEarly();
        return true;
      }
      c.remove(stream, false);
      stream.failed(resetOfError(error), `the peer reset the stream (code ${error})`);
    }
    if (!c.isServer) {
      // A client opened these streams itself (CVE-2023-44487 is the other way), but each needs no more than one.
      if (++this.#serverResets <= 100 + 2 * this.#opened) return true;
      c.count(http2Counter.resetReceived);
      return c.fail(h2Error.enhanceYourCalm, 'more RST_STREAM frames than streams');
    }
    if (id > this.#readFrom && !this.#trusted && ++this.#pendingResets > c.limits.resetsPendingAccept) {
      c.count(http2Counter.resetPendingAccept);
      return c.fail(h2Error.enhanceYourCalm, 'requests that are reset as they come');
    }
    if (this.#resets.take()) return true;
    c.count(http2Counter.resetReceived);
    return c.fail(h2Error.enhanceYourCalm, 'too many RST_STREAM frames');
  }

  #settings(flags: number, id: number, buf: Buffer, start: number, end: number): boolean {
    const c = this.#c;
    if (id !== 0) return c.fail(h2Error.protocol, 'SETTINGS on a stream');
    if ((flags & flag.ack) !== 0) {
      if (end !== start) return c.fail(h2Error.frameSize, 'a SETTINGS ACK with a payload');
      if (!c.ready) return c.fail(h2Error.protocol, 'the first frame is not SETTINGS');
      if (this.#settingsAcked) return c.glitch();
      this.#settingsAcked = true;
      this.#decoder.allow(c.limits.hpackTableBytes);
      return true;
    }
    if ((end - start) % 6 !== 0) return c.fail(h2Error.frameSize, 'SETTINGS is no multiple of 6 bytes');
    if ((end - start) / 6 > c.limits.settingsEntries) {
      c.count(http2Counter.settingsEntries);
      return c.fail(h2Error.enhanceYourCalm, 'too many SETTINGS entries');
    }
    for (let at = start; at < end; at += 6) {
      const key = buf.readUInt16BE(at);
      const value = buf.readUInt32BE(at + 2);
      const error = settingError(key, value, c.isServer, c.peerSettings.get(key));
      if (error !== 0) return c.fail(error, `setting ${key} may not be ${value}`);
      if (c.peerSettings.size < 64 || c.peerSettings.has(key)) c.peerSettings.set(key, value);
      if (!applySetting(c, key, value)) return c.fail(h2Error.flowControl, 'a stream’s window overflows');
    }
    const first = !c.ready;
    c.ready = true;
    if (!c.control()) return false;
    c.sender.writer.room(frameHeaderBytes);
    c.sender.writer.header(0, frame.settings, flag.ack, 0);
    c.sender.schedule();
    c.options.onSettings?.(c.peerSettings);
    return first || c.glitch();
  }

  #ping(flags: number, id: number, buf: Buffer, start: number, end: number): boolean {
    const c = this.#c;
    if (id !== 0) return c.fail(h2Error.protocol, 'PING on a stream');
    if (end - start !== 8) return c.fail(h2Error.frameSize, 'PING is not 8 bytes');
    if ((flags & flag.ack) !== 0) return c.pong(buf.readUInt32BE(start + 4)) || c.glitch();
    if (!c.control()) return false;
    c.sender.writer.frame(frame.ping, flag.ack, 0, buf.subarray(start, end));
    c.sender.schedule();
    return c.glitch();
  }
}
