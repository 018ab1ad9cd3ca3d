/** The load program of bench/load/go: compiled when it is first needed, run on the load's core. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { have } from '../../conformance/install.ts';
import { cpuUs } from '../measure.ts';
import type { Chain, Stage } from '../stage.ts';

const source = path.join(import.meta.dirname, 'go');
const program = path.join(import.meta.dirname, '../../node_modules/.cache/weft/bench/load');

/** What the program says of a run. Latencies are of requests that were answered. */
export interface LoadResult {
  requests: number;
  errors: number;
  bytes: number;
  seconds: number;
  p50Ms: number;
  p90Ms: number;
  p99Ms: number;
  maxMs: number;
  firstError?: string;
}

let built = false;

/** The program's path. Throws where Go is missing. */
export function loadProgram(): string {
  if (built) return program;
  if (!have('go')) throw new Error('Go is missing: apt-get install golang-go (1.25 or newer), or from https://go.dev');
  execFileSync('go', ['build', '-o', program, '.'], { cwd: source, stdio: ['ignore', 'inherit', 'inherit'] });
  built = true;
  return program;
}

export interface Loaded extends LoadResult {
  /** CPU that both proxies used meanwhile, µs. */
  cpuUs: number;
}

/** Runs one load to its end. Throws where anything failed. */
export async function load(
  stage: Stage,
  chain: Chain,
  command: string,
  flags: Record<string, string | number>,
): Promise<Loaded> {
  const [file, ...args] = loadArgs(stage, chain, command, flags);
  const before = cpuUs(chain.pids);
  const { stdout } = await promisify(execFile)(file!, args);
  return checked(chain, { ...(JSON.parse(stdout) as LoadResult), cpuUs: cpuUs(chain.pids) - before });
}

/**
 * Like `load`, for a load that says with a line of its own that everything is open, and keeps it open at its end: CPU is
 * counted from that line on, and `finished` is called while all is still open.
 */
export async function loadAfterOpening(
  stage: Stage,
  chain: Chain,
  command: string,
  flags: Record<string, string | number>,
  finished: () => void,
): Promise<Loaded> {
  const [file, ...args] = loadArgs(stage, chain, command, flags);
  const child = spawn(file!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => resolve());
  });
  let before: number | undefined;
  let result: Loaded | undefined;
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (before === undefined) {
      before = cpuUs(chain.pids);
      return;
    }
    result = { ...(JSON.parse(line) as LoadResult), cpuUs: cpuUs(chain.pids) - before };
    finished();
    child.stdin.end();
  });
  await ended;
  if (!result) throw new Error(`${chain.peer}: the load ended without a result`);
  return checked(chain, result);
}

function loadArgs(stage: Stage, chain: Chain, command: string, flags: Record<string, string | number>): string[] {
  const given = Object.entries(flags).flatMap(([name, value]) => [`-${name}`, String(value)]);
  return stage.on('load', [loadProgram(), command, '-address', `${chain.host}:${chain.port}`, ...given]);
}

/** A figure of failures says nothing. */
function checked(chain: Chain, result: Loaded): Loaded {
  const { requests, errors, firstError } = result;
  if (errors > 0 || requests === 0)
    throw new Error(`${chain.peer}: ${errors} failed, ${requests} answered${firstError ? `: ${firstError}` : ''}`);
  return result;
}
