import type { Outcome } from './types.ts';

/** An outcome that has no probability yet. */
export type Fate = Omit<Outcome, 'probability'>;

export const blankWay: Fate = Object.freeze({
  status: 'closed',
  from: [],
  cluster: '',
  subset: '',
  endpoint: '',
  instance: '',
  flags: '',
  details: '',
  delayMs: 0,
  mirrors: [],
  timeoutMs: 0,
  retries: 0,
  mtls: false,
  location: '',
});
