/** Refills by time, read only when it runs low: the clock is not asked per event. */
export class TokenBucket {
  #burst: number;
  #perMs: number;
  #tokens: number;
  #filledMs: number;
  #nowMs: () => number;

  constructor(burst: number, perSecond: number, nowMs: () => number) {
    this.#burst = burst;
    this.#perMs = perSecond / 1000;
    this.#tokens = burst;
    this.#nowMs = nowMs;
    this.#filledMs = nowMs();
  }

  /** Takes `cost` tokens; false when there are not as many. */
  take(cost = 1): boolean {
    if (this.#tokens < cost) {
      const now = this.#nowMs();
      this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, now - this.#filledMs) * this.#perMs);
      this.#filledMs = now;
      if (this.#tokens < cost) return false;
    }
    this.#tokens -= cost;
    return true;
  }
}

/** Names of the counters HTTP/2 raises, one per limit (LIMITS.md). */
export const http2Counter = Object.freeze({
  resetReceived: 'http2_reset_received_flood',
  resetPendingAccept: 'http2_reset_pending_accept',
  resetSent: 'http2_reset_sent_flood',
  glitch: 'http2_glitch',
  glitchFlood: 'http2_glitch_flood',
  continuationFlood: 'http2_continuation_flood',
  emptyFrames: 'http2_empty_frame_flood',
  settingsEntries: 'http2_settings_entries',
  controlQueue: 'http2_control_queue',
  outboundQueue: 'http2_outbound_queue',
  priority: 'http2_priority_flood',
  windowUpdate: 'http2_window_update_flood',
  tinyData: 'http2_tiny_data_flood',
  headerTooLarge: 'http2_header_too_large',
  headerAbuse: 'http2_header_abuse',
  trailerTooLarge: 'http2_trailer_too_large',
  requestsPerRead: 'http2_requests_per_read',
  streamsExceeded: 'http2_max_concurrent_streams',
  flowControl: 'http2_flow_control',
  malformed: 'http2_malformed',
  peerHeaderList: 'http2_peer_header_list',
  interims: 'http2_interim_flood',
  headersTimeout: 'http2_headers_timeout',
  idleTimeout: 'http2_idle_timeout',
  flushTimeout: 'http2_flush_timeout',
  connectionError: 'http2_connection_error',
  handlerError: 'http2_handler_error',
});
