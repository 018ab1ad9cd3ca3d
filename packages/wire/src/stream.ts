/**
 * The one shape in which every protocol shows a message exchange: HTTP/1.1 and HTTP/2, server and client.
 *
 * A head is a flat array of names and values with the pseudo-headers first, names in lower case:
 * requests  [':method', m, ':scheme', s, ':authority', a, ':path', p, (':protocol', x,) name, value, ...]
 *           (a plain CONNECT has only ':method' and ':authority'); in exactly this order.
 * responses [':status', '200', name, value, ...]
 * Hop-by-hop fields (connection, keep-alive, proxy-connection, transfer-encoding, upgrade, te except "trailers", and
 * what Connection names) never stand in a head: the codecs take them off and put on their own.
 * An HTTP/1.1 Upgrade request is shown as extended CONNECT: ':method' 'CONNECT' and ':protocol' 'websocket' (RFC 8441),
 * and written back as an Upgrade by the HTTP/1.1 client codec; status 101 on HTTP/1.1 is shown as '200'.
 * Values are latin1 strings.
 */
export type Head = string[];

/**
 * A field that the HTTP/1.1 client codec adds to a 2xx that answers an Upgrade: the server did not switch protocols, which
 * RFC 9110 7.8 allows, and a body follows. In HTTP/2 a 2xx means that the tunnel stands, so that a head with this field
 * may go to an HTTP/1.1 client, whose codec takes it off, or to a proxy that knows it, and to nobody else.
 */
export const UPGRADE_IGNORED = 'x-weft-upgrade-ignored';

/** Why a stream ended before its end. */
export type ResetCode =
  | 'cancel' // the other side is not interested any more (RST CANCEL, H1 client went away)
  | 'refused' // not processed, safe to retry (RST REFUSED_STREAM, GOAWAY below the id)
  | 'connection' // the connection broke
  | 'protocol' // the peer sent nonsense
  | 'internal'
  | 'flow' // flow-control or flood limit
  | 'timeout';

/** One exchange, seen by the side that uses the codec. Created by a server connection or by `request()` of a client's. */
export interface Stream {
  /** Set at creation; may be replaced between events. */
  handler: StreamHandler;
  /** Owner's state; codecs do not touch it. */
  context: unknown;
  /** Sends the response (server) head. `end`: no body follows. Final heads once; 1xx by sendInterim. */
  sendHead(head: Head, end: boolean): void;
  sendInterim(head: Head): void;
  /**
   * Sends body bytes (also tunnel bytes after CONNECT). The codec may keep the buffer until it is written, unless
   * it is lent (lent.ts), and the caller must not change it. False: above the high-water mark, wait for onDrain before sending more (what was passed is taken).
   */
  sendData(chunk: Uint8Array, end: boolean): boolean;
  /** Sends trailers and ends this direction. */
  sendTrailers(fields: Head): void;
  /** Ends both directions at once. No further events come. Idempotent. */
  reset(code: ResetCode): void;
  /** Stops onData (back-pressure: the peer's window is not opened, or the socket is not read). */
  pause(): void;
  resume(): void;
  /** Bytes that wait here, either way. */
  readonly buffered: number;
}

/** Events of one stream. Order: onHead, onData*, (onTrailers)?; `end` true or onTrailers is the last of a direction. */
export interface StreamHandler {
  /** A server's request head comes through the connection's onStream instead; this is the response head of a client. */
  onHead(stream: Stream, head: Head, end: boolean): void;
  onInterim?(stream: Stream, head: Head): void;
  /** The chunk is lent (lent.ts): `own` what must outlive the call. */
  onData(stream: Stream, chunk: Uint8Array, end: boolean): void;
  onTrailers(stream: Stream, fields: Head): void;
  /** The exchange is over before its end; nothing else follows. */
  onReset(stream: Stream, code: ResetCode, detail: string): void;
  /** Room again after sendData returned false. */
  onDrain(stream: Stream): void;
  /** Both directions have ended and all bytes left. Optional. */
  onClose?(stream: Stream): void;
}

/** Takes events of a stream that nobody wants to hear of. */
export const ignoreAll: StreamHandler = { onHead() {}, onData() {}, onTrailers() {}, onReset() {}, onDrain() {} };

/** Where a codec puts bytes. Implemented over a socket by the proxy and over arrays in tests. */
export interface Output {
  /** False: above the socket's high-water mark; the owner calls `drained()` on the codec when it fell. Takes the buffer, unless it is lent (lent.ts). */
  write(bytes: Uint8Array): boolean;
  /** Half-close after what was written. */
  end(): void;
  /** Close both ways now. */
  destroy(reason?: string): void;
  /** Stop and go on reading (HTTP/1 back-pressure). */
  pauseReading(): void;
  resumeReading(): void;
  /** Bytes taken that have not left yet. */
  readonly buffered?: number;
  /** Runs `fn` once at the end of this turn of the loop (setImmediate in the proxy): all frames of a turn leave in one write. */
  defer(fn: () => void): void;
  /** As `defer`, but may wait for turns that bring more to write: for what many streams share. */
  gather?(fn: () => void): void;
  /** Runs `fn` once in a later turn: other connections have theirs before. */
  later(fn: () => void): void;
}

/** A codec that owns one connection, fed by whoever owns the socket. */
export interface Connection {
  /** Bytes came in. They may be lent (lent.ts). */
  receive(chunk: Uint8Array): void;
  /** Peer half-closed. */
  receiveEnd(): void;
  /** The socket is gone (error or close). Idempotent. */
  closed(detail: string): void;
  /** The output fell below its high-water mark. */
  drained(): void;
  /** Finish running exchanges, take no new ones, then end (H2 GOAWAY; H1 connection: close). */
  drain(): void;
  /** Exchanges open now. */
  readonly open: number;
  /** Coarse timer: the owner calls it about once a second with monotonic ms; idle and header timeouts act here. */
  tick(nowMs: number): void;
}

/** Called when a server connection has a request. Returns the handler for its body; `stream.sendHead` answers. */
export type OnStream = (stream: Stream, head: Head, end: boolean) => StreamHandler;

/** Counters a codec raises; names are stable and listed in LIMITS.md. */
export interface WireCounters {
  count(name: string): void;
}

/** Limits of codecs, with the defaults of workloads (LIMITS.md; gateways have narrower ones). Sizes in bytes. */
export interface WireLimits {
  headerBytes: number; // decoded: name + value + 32 each
  headerFieldBytes: number;
  headerCount: number;
  requestLineBytes: number;
  trailerBytes: number;
  trailerCount: number;
  chunkExtensionBytes: number;
  chunkExtensionTotalBytes: number;
  headersTimeoutMs: number;
  idleTimeoutMs: number;
  /** A finished message whose last bytes the peer does not take for so long is given up (CVE-2026-49975). */
  flushTimeoutMs: number;
  bufferBytes: number; // high-water mark of a stream's unsent bytes
  maxConcurrentStreams: number;
  initialWindowBytes: number;
  maxWindowBytes: number;
  connectionWindowBytes: number;
  maxFrameBytes: number;
  hpackTableBytes: number;
  continuationFrames: number;
  resetBurst: number;
  resetPerSecond: number;
  glitchBurst: number;
  glitchPerSecond: number;
  queuedControlFrames: number;
  /** Heads and resets that wait for a peer that does not read, before its next request ends the connection. */
  queuedFrames: number;
  queuedHeadBytes: number;
  /** RST_STREAM frames that come in one read with the requests they end. */
  resetsPendingAccept: number;
  /** PRIORITY frames allowed per stream opened, and as many beside. */
  priorityFrames: number;
  /** DATA frames below 256 bytes cost what they lack; the credit refills once a second. gRPC and tunnels cost nothing. */
  tinyDataBytes: number;
  settingsEntries: number;
  emptyFrames: number;
  /** Requests of one read that are begun in one turn; the others wait for the next. */
  requestsPerRead: number;
}

export const defaultWireLimits: Readonly<WireLimits> = Object.freeze({
  headerBytes: 60 * 1024,
  headerFieldBytes: 16 * 1024,
  headerCount: 100,
  requestLineBytes: 8 * 1024,
  trailerBytes: 8 * 1024,
  trailerCount: 32,
  chunkExtensionBytes: 1024,
  chunkExtensionTotalBytes: 16 * 1024,
  headersTimeoutMs: 60_000,
  idleTimeoutMs: 3_600_000,
  flushTimeoutMs: 60_000,
  bufferBytes: 1024 * 1024,
  maxConcurrentStreams: 200,
  initialWindowBytes: 64 * 1024,
  maxWindowBytes: 4 * 1024 * 1024,
  connectionWindowBytes: 16 * 1024 * 1024,
  maxFrameBytes: 16_384,
  hpackTableBytes: 4096,
  continuationFrames: 8,
  resetBurst: 1000,
  resetPerSecond: 33,
  glitchBurst: 10_000,
  glitchPerSecond: 330,
  queuedControlFrames: 1000,
  queuedFrames: 10_000,
  queuedHeadBytes: 4 * 1024 * 1024,
  resetsPendingAccept: 20,
  priorityFrames: 100,
  tinyDataBytes: 4 * 1024 * 1024,
  settingsEntries: 32,
  emptyFrames: 1,
  requestsPerRead: 200,
});

/** The limits of a connection. What names them all is taken as it is: connections share it, and nobody changes it any more. */
export function allLimits(given: Partial<WireLimits> = defaultWireLimits): Readonly<WireLimits> {
  for (const name in defaultWireLimits) if (!(name in given)) return { ...defaultWireLimits, ...given };
  return given as WireLimits;
}
