/** Saturation: wrk sends the next request of a connection as soon as it has the answer (a closed loop). */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { cpuUs } from '../measure.ts';
import type { Chain, Stage } from '../stage.ts';

export interface Saturation {
  /** CPU of both proxies together. */
  cpuUsPerRequest: number;
  perSecond: number;
  bytesPerSecond: number;
  bytesPerCpuSecond: number;
  p50Ms: number;
  p99Ms: number;
}

const script = path.join(import.meta.dirname, 'requests.lua');

/**
 * Loads a chain for `seconds` through `connections`; `close` makes every request a connection of its own.
 * Throws where a request failed: a figure of failures says nothing.
 */
export async function saturate(
  stage: Stage,
  chain: Chain,
  options: { connections: number; seconds: number; path?: string; close?: boolean },
): Promise<Saturation> {
  const { connections, seconds } = options;
  const [command, ...args] = stage.on('load', [
    ...['wrk', '-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', script],
    ...[`http://${chain.host}:${chain.port}`, options.path ?? '/item/', options.close ? 'close' : 'keep'],
  ]);
  const before = cpuUs(chain.pids);
  const { stdout } = await promisify(execFile)(command!, args);
  const used = cpuUs(chain.pids) - before;
  const match = /RESULT (\d+) (\d+) (\d+) (\d+) (\d+)/.exec(stdout);
  if (!match) throw new Error(`wrk said: ${stdout}`);
  const [requests, errors, p50, p99, bytes] = match.slice(1).map(Number) as [number, number, number, number, number];
  if (errors > 0 || requests === 0) throw new Error(`${chain.peer}: ${errors} of ${requests} requests failed`);
  return {
    cpuUsPerRequest: used / requests,
    perSecond: requests / seconds,
    bytesPerSecond: bytes / seconds,
    bytesPerCpuSecond: bytes / (used / 1e6),
    p50Ms: p50 / 1000,
    p99Ms: p99 / 1000,
  };
}
