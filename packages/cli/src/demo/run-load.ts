/** The demo's load generator as a child: its reports as they come, and its end. */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';

/** What the load generator says of itself, a line a second. */
export interface LoadReport {
  requests: number;
  failures: number;
  inFlight: number;
  failed: Record<string, number>;
  perSecond: number;
  p50Ms: number;
  p90Ms: number;
  p99Ms: number;
}

export interface Load {
  /** Once it has begun to ask, which takes a while where the machine is busy; or has ended without. */
  began: Promise<void>;
  /** The newest report; after `stop` the final one. */
  last: LoadReport;
  stop(): Promise<void>;
}

/** A process of its own that asks `url` as a visitor from outside would. */
export function startLoad(url: string, rps: number): Load {
  const script = path.join(import.meta.dirname, 'load.ts');
  const child: ChildProcess = spawn(process.execPath, [script, url, String(rps)], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  let begin!: () => void;
  const load: Load = {
    began: new Promise((resolve) => (begin = resolve)),
    last: { requests: 0, failures: 0, inFlight: 0, failed: {}, perSecond: 0, p50Ms: 0, p90Ms: 0, p99Ms: 0 },
    stop: () =>
      new Promise((resolve) => {
        if (child.exitCode !== null) return resolve();
        child.once('close', () => resolve());
        child.kill('SIGTERM');
      }),
  };
  child.once('close', () => begin());
  let rest = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    rest += chunk.toString();
    for (let at = rest.indexOf('\n'); at >= 0; at = rest.indexOf('\n')) {
      load.last = JSON.parse(rest.slice(0, at)) as LoadReport;
      begin();
      rest = rest.slice(at + 1);
    }
  });
  return load;
}
