/** What a proxy tells a collector of one request: the caller's proxy one span of kind CLIENT, the called one's a SERVER. */
export interface Span {
  /** Trace, own id and flags, as the request carried it on. */
  readonly traceparent: string;
  /** '' where the trace begins here. */
  readonly parentSpanId: string;
  readonly server: boolean;
  readonly name: string;
  readonly startWallMs: number;
  readonly durationMs: number;
  readonly error: boolean;
  /** The other end: its service or workload, and `ip:port`; each '' where unknown. */
  readonly peerName: string;
  readonly peerAddress: string;
  /** Names and values, one behind the other. */
  readonly tags: readonly string[];
}

/** Whose spans they are. */
export interface SpanSource {
  /** e.g. `payment.shop` */
  readonly serviceName: string;
  readonly address: string;
  /** What all spans of it have, beside their own. */
  readonly tags: readonly string[];
}

/** One request body for a collector. */
export type SpanEncoder = (spans: readonly Span[], source: SpanSource) => Uint8Array;
