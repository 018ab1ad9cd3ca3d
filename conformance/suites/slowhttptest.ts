/**
 * slowhttptest: slow headers, slow bodies, range headers and slow reading, 1000 connections each. The service stays
 * available by slowhttptest's own probe, and another client's p99 stays below 50 ms of the proxies' own time.
 */
import { execFile, fork } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { debian } from '../install.ts';
import { startPair } from '../pair.ts';
import { Probe, scheduled, shareOf } from '../probe.ts';
import { type Suite, Tally } from '../suite.ts';

const PORT = 80;
const MOST_P99_MS = 50;
const TOOLS = { slowhttptest: 'slowhttptest' };
/** Heads must be whole in this time, so that a run shows what becomes of those that are not. */
const HEADERS_TIMEOUT_MS = 4000;

const MODES = [
  { flag: '-H', name: 'slow headers', args: ['-x', '24'], path: '/' },
  { flag: '-B', name: 'slow bodies', args: ['-s', '8192', '-x', '10'], path: '/read' },
  { flag: '-R', name: 'range headers', args: ['-t', 'GET', '-a', '10', '-b', '1500'], path: '/mid' },
  {
    flag: '-X',
    name: 'slow reading',
    args: ['-w', '10', '-y', '20', '-n', '2', '-z', '32', '-k', '3'],
    path: '/large',
  },
];

export const suite: Suite = {
  name: 'slowhttptest',
  about: 'slow clients in four modes, 1000 connections each: the service stays available',
  inShortForm: true,
  async install() {
    debian(TOOLS);
  },
  async run(ctx) {
    const tally = new Tally();
    const network = `127.${192 + (process.pid % 60)}.${(process.pid >> 6) & 255}`;
    const appHost = `${network}.3`;
    const app = fork(join(import.meta.dirname, '../hostile/app.ts'), [appHost, String(PORT)], { execArgv: [] });
    ctx.cleanup(() => void app.kill());
    await new Promise((resolve) => app.once('message', resolve));
    const pair = await startPair({
      network,
      ports: [{ port: PORT, appHost, appPort: PORT, timeoutMs: 0 }],
      limits: { headersTimeoutMs: HEADERS_TIMEOUT_MS },
      records: false,
    });
    ctx.cleanup(() => pair.stop());
    const host = pair.front.address;
    const connections = ctx.short ? 150 : 1000;
    const seconds = ctx.short ? 6 : 22;
    const pids = [pair.front.pid, pair.back.pid, app.pid as number];

    const one = async (mode: (typeof MODES)[number]): Promise<void> => {
      await tally.check(mode.name, async () => {
        const url = `http://${host}:${PORT}${mode.path}`;
        const args = [mode.flag, '-c', String(connections), '-r', '100', '-i', '2', '-p', '10'];
        // It is over when all its connections are ended, as those of unfinished heads are: a busy machine takes longer.
        const mostSeconds = mode.flag === '-H' ? Math.max(seconds, 40) : seconds;
        const all = [...args, '-l', String(mostSeconds), '-v', '1', '-u', url, ...mode.args];
        // It ends with 0 when its time is over or all connections are closed; what it saw stands in its output.
        const { stdout } = await promisify(execFile)('slowhttptest', all, { timeout: 120_000, maxBuffer: 1 << 26 });
        const text = stdout.replace(/\x1b\[[0-9;]*[A-Za-z]/g, '');
        const seen = [...text.matchAll(/service available:\s+(YES|NO)/g)].map((m) => m[1]);
        if (seen.length === 0) throw new Error(`no verdict in its output: ${text.slice(-200)}`);
        const no = seen.filter((v) => v !== 'YES').length;
        if (no > 0) throw new Error(`not available at ${no} of ${seen.length} looks`);
      });
    };
    const watch = async (run: () => Promise<unknown>, what: string): Promise<void> => {
      const before = pids.map(scheduled);
      const probe = new Probe(host, PORT);
      await run();
      await probe.stop();
      const p99 = probe.p99 * shareOf(pids, before);
      await tally.check(`${what}: another client`, () => {
        if (probe.failed > 0) throw new Error(`${probe.failed} of its requests failed`);
        // A short run has too few requests for a hundredth part of them to say anything.
        if (!ctx.short && p99 >= MOST_P99_MS) throw new Error(`its p99 was ${p99.toFixed(0)} ms`);
      });
      tally.notes.push(
        `${what}: another client's p99 ${p99.toFixed(0)} ms (${probe.p99.toFixed(0)} ms by the clock) in ${probe.times.length} requests`,
      );
    };

    if (ctx.short) await watch(() => Promise.all(MODES.map(one)), 'all modes');
    else for (const mode of MODES) await watch(() => one(mode), mode.name);

    await tally.check('unfinished heads are ended, each counted', async () => {
      const { counters } = await pair.front.take();
      const ended = counters.get('http1_headers_timeout') ?? 0;
      if (ended < connections * 0.9)
        throw new Error(`http1_headers_timeout is ${ended} after ${connections} connections`);
    });
    await tally.check('nothing is left', async () => {
      for (let n = 0; ; n++) {
        const { inFlight } = await pair.front.take();
        if (inFlight === 0) return;
        if (n === 50) throw new Error(`${inFlight} requests are left`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    });
    return tally;
  },
};
