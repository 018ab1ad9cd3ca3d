/**
 * Peak EWMA: an endpoint's latency as a moving average that jumps to every peak at once and forgets it slowly. Its load
 * is that latency times the requests it would have to serve, so that slow endpoints get less although they are idle.
 */
import type { EndpointState } from './views.ts';

/** Until something was seen. */
const DEFAULT_RTT_MS = 30;
/** After so long an observation weighs 1/e. */
const DECAY_MS = 10_000;

/** Takes note of the latency of a response. */
export function observeLatency(state: EndpointState, latencyMs: number, nowMs: number): void {
  if (state.ewmaMs < 0 || latencyMs > state.ewmaMs) state.ewmaMs = latencyMs;
  else {
    const weight = Math.exp(-Math.max(nowMs - state.ewmaAtMs, 0) / DECAY_MS);
    state.ewmaMs = state.ewmaMs * weight + latencyMs * (1 - weight);
  }
  state.ewmaAtMs = nowMs;
}

/** What a further request would cost here; without news the latency fades, so that a slow endpoint is tried again. */
export function peakEwmaLoad(state: EndpointState, nowMs: number): number {
  const weight = Math.exp(-Math.max(nowMs - state.ewmaAtMs, 0) / DECAY_MS);
  const latency = state.ewmaMs < 0 ? DEFAULT_RTT_MS : state.ewmaMs * weight;
  return latency * (state.active + 1);
}
