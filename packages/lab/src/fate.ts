import type { Way } from './types.ts';

/** An outcome that has no probability yet. */
export type Fate = Omit<Way, 'probability' | 'draws'>;

export const blankWay: Fate = Object.freeze({
  status: 'closed',
  end: 'unreachable',
  sent: [],
  grpcStatus: -1,
  perTryTimeoutMs: 0,
  retryOn: [],
  responseOps: [],
  from: [],
  cluster: '',
  subset: '',
  endpoint: '',
  instance: '',
  flags: '',
  details: '',
  delayMs: 0,
  bytesPerSecond: 0,
  mirrors: [],
  timeoutMs: 0,
  retries: 0,
  mtls: false,
  location: '',
});
