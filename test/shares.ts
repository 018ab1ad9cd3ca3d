/** Shares of requests, and what a proxy counted of them: for tests that draw, and that must not fail by a draw. */
import assert from 'node:assert/strict';
import { request } from './harness.ts';

/**
 * `k` of `of` draws of probability `p`, within five standard deviations and three draws: real proxies draw anew each time,
 * and this lets one right run in a million fail.
 */
export function near(k: number | undefined, of: number, p: number, what: string): void {
  const most = 5 * Math.sqrt(of * p * (1 - p)) + 3;
  assert.ok(Math.abs((k ?? 0) - of * p) <= most, `${what}: ${k} of ${of}, expected ${of * p} ± ${most.toFixed(1)}`);
}

export interface Faults {
  delayed: number;
  aborted: number;
  both: number;
}

/** How many calls to one service the proxy at `address` has delayed alone, aborted alone, and both: its flags DI and FI. */
export async function faultsOf(address: string, service: string): Promise<Faults> {
  const found: Faults = { delayed: 0, aborted: 0, both: 0 };
  for (const line of (await request(address, 15090, '/stats/prometheus')).text.split('\n')) {
    if (!line.startsWith('istio_requests_total{') || !line.includes(`destination_service_name="${service}"`)) continue;
    if (!line.includes('reporter="source"')) continue;
    const flags = (/response_flags="([^"]*)"/.exec(line)?.[1] ?? '').split(',');
    const n = Number(line.slice(line.lastIndexOf(' ')));
    if (flags.includes('DI') && flags.includes('FI')) found.both += n;
    else if (flags.includes('DI')) found.delayed += n;
    else if (flags.includes('FI')) found.aborted += n;
  }
  return found;
}
