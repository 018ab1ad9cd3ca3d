/**
 * Scripts of our own for `varnishtest`: raw bytes at both ends of a pair of proxies. Each has one subject, and names the
 * section it comes from. In a script: ${front}, ${front_h2}, ${front_tcp} are ports of A, ${back} is B's own port without
 * A and the link, ${app}, ${app_h2}, ${app_tcp} are where its server has to listen.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { debian } from '../install.ts';
import { startPair } from '../pair.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const folder = join(import.meta.dirname, '../varnish');
const SECONDS = 30;
/** Pairs side by side, each with one script at a time. */
const LANES = 2;
/** The short form takes one script in so many. */
const SHORT_PART = 8;

interface Ended {
  code: number | null;
  output: string;
}

function varnishtest(ctx: SuiteContext, macros: Readonly<Record<string, string>>, file: string): Promise<Ended> {
  const defined = Object.entries(macros).flatMap(([name, value]) => ['-D', `${name}=${value}`]);
  return new Promise((resolve, reject) => {
    const child = spawn('varnishtest', ['-t', String(SECONDS), ...defined, join(folder, file)], {
      cwd: ctx.dir,
      env: { ...process.env, TMPDIR: ctx.dir },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    ctx.cleanup(() => void child.kill('SIGTERM'));
    let output = '';
    child.stdout.on('data', (d) => {
      output += d.toString('latin1');
    });
    child.stderr.on('data', (d) => {
      output += d.toString('latin1');
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}

/** The line that says why; `----` stands before what failed a script. */
function reason(output: string): string {
  const lines = output.split('\n').filter((line) => line.startsWith('----'));
  return lines[0]?.replace(/\s+/g, ' ') ?? (output.trim().split('\n').at(-1) || 'no output');
}

async function run(ctx: SuiteContext): Promise<Tally> {
  const tally = new Tally();
  const only = process.env.VARNISHTEST_ONLY;
  const files = readdirSync(folder)
    .filter((f) => f.endsWith('.vtc') && (only === undefined || f.includes(only)))
    .sort()
    .filter((_, i) => !ctx.short || i % SHORT_PART === 0);
  let next = 0;
  const lane = async (n: number): Promise<void> => {
    // An address of its own for the servers of each lane.
    const app = `127.60.${process.pid & 255}.${n + 1}`;
    const pair = await startPair({
      ports: [
        { port: 8080, appHost: app, appPort: 8080 },
        { port: 8082, appHost: app, appPort: 8082, protocol: 'http2' },
        { port: 9000, appHost: app, appPort: 9000, protocol: 'tcp' },
      ],
      mtls: 'permissive',
    });
    ctx.cleanup(() => pair.stop());
    const macros = {
      front: `${pair.front.address}:8080`,
      front_h2: `${pair.front.address}:8082`,
      front_tcp: `${pair.front.address}:9000`,
      back: `${pair.back.address}:8080`,
      app: `${app}:8080`,
      app_h2: `${app}:8082`,
      app_tcp: `${app}:9000`,
    };
    while (next < files.length) {
      const file = files[next++];
      await tally.check(file, async () => {
        const { code, output } = await varnishtest(ctx, macros, file);
        if (only !== undefined) process.stderr.write(output);
        if (code !== 0) throw new Error(reason(output));
        const dead = pair.front.exited ?? pair.back.exited;
        if (dead !== undefined) throw new Error(dead);
        // What is still tried again would meet the next script's server, at the same address.
        await pair.settled();
      });
    }
    await tally.check(`nothing is left in pair ${n}`, () => pair.settled());
  };
  await Promise.all(Array.from({ length: ctx.short ? 1 : LANES }, (_, n) => lane(n)));
  tally.notes.push(`${files.length} scripts`);
  return tally;
}

export const suite: Suite = {
  name: 'varnishtest',
  about: 'our own varnishtest scripts: raw HTTP/1.1 and HTTP/2 bytes at both ends of a pair of proxies',
  inShortForm: true,
  install: async () => debian({ varnishtest: 'varnish' }),
  run,
};
