/** Calls that were counted, as people read them: names are long, so a call has two lines rather than a row that is cut. */
import { wrap } from '@weft/lab';

export interface CalledText {
  readonly requests: number;
  /** SPIFFE id without scheme; empty: it had no certificate. */
  readonly principal: string;
  readonly source: string;
  /** `namespace/name`. */
  readonly workload: string;
  readonly port: number;
  /** Empty: a connection. */
  readonly method: string;
  readonly path: string;
  readonly lastMs: number;
}

export const time = (ms: number): string => new Date(ms).toISOString().slice(0, 19).replace('T', ' ');

const INDENT = ' '.repeat(10);

export function callText(c: CalledText, why: string): string {
  const who = c.principal || `${c.source} (no certificate)`;
  const [first, ...rest] = wrap(
    `${c.method === '' ? 'TCP' : `${c.method} ${c.path}`}  to ${c.workload}:${c.port} by ${who}`,
    INDENT,
  );
  return [
    `${String(c.requests).padStart(8)}  ${first.trimStart()}`,
    ...rest,
    ...wrap(`${why}, last ${time(c.lastMs)}`, INDENT),
  ].join('\n');
}

/** What said no, of a policy's name and its rule. */
export function refusedBy(policy: string, rule: string): string {
  // No rule of the ALLOW policies matched: the first of them stands for all.
  return policy === 'none' ? `no ALLOW rule matches (the first policy: ${rule})` : `${policy}: ${rule}`;
}
