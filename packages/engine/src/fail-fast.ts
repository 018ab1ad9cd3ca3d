/**
 * Fail-fast, as Linkerd has it: once a request has waited for a connection to a destination for so long in vain, others are
 * refused at once, until one that is let through as a trial is connected.
 */
import type { ClusterView } from './views.ts';

/** A trial each second. */
const TRIAL_MS = 1000;

/** Whether a request is to be refused now. One that is not, while the destination is failing, is the trial. */
export function failsFast({ state }: ClusterView, nowMs: number): boolean {
  if (state.failFastAtMs < 0) return false;
  if (nowMs - state.failFastAtMs < TRIAL_MS) return true;
  state.failFastAtMs = nowMs;
  return false;
}

/** A request has waited for `fail_fast_ms` and has no connection. */
export function waitedInVain({ state }: ClusterView, nowMs: number): void {
  state.failFastAtMs = nowMs;
}

/** A request has a connection. */
export function wasConnected({ state }: ClusterView): void {
  state.failFastAtMs = -1;
}
