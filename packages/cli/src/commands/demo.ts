/** `weft demo`: the shop as a mesh, load from outside it, and a live table of who calls whom. */
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { WeftError } from '@weft/base';
import { type MeshHost, stateRoot } from '@weft/host';
import type { EdgeSummary } from '@weft/telemetry';
import { type Command, Option } from 'commander';
import { type OutputOption, outputOption, print, wholeNumber } from '../common.ts';
import { compare, renderComparison } from '../demo/compare.ts';
import { type Load, type LoadReport, startLoad } from '../demo/run-load.ts';
import { duration } from '../duration.ts';
import { entrances, entranceUrl } from '../entrances.ts';
import { example } from '../example.ts';
import { renderEdges } from '../live-table.ts';
import { bringUp, onSignals } from '../mesh.ts';
import { age } from '../table.ts';

const here = path.dirname(fileURLToPath(import.meta.url));
const shop = path.resolve(here, '../../../../examples/shop');
const TABLE_WINDOW_MS = 10_000;
const COMPARE_MS = 20_000;

interface DemoOptions extends OutputOption {
  mesh: string;
  capture: 'auto' | 'transparent' | 'explicit';
  rps: number;
  duration?: number;
  compare?: boolean;
}

export function addDemo(program: Command): void {
  example(
    program
      .command('demo')
      .description('run the example shop as a mesh, with traffic and a live table, until Ctrl-C')
      .addOption(new Option('--mesh <name>', 'a name, so that several run side by side').default('demo'))
      .addOption(
        new Option('--capture <mode>', 'how traffic is captured')
          .choices(['auto', 'transparent', 'explicit'])
          .default('auto'),
      )
      .option('--rps <n>', 'requests per second from outside', wholeNumber, 40)
      .option('--duration <time>', 'end by itself after so long, e.g. 30s or 2m, with a summary', duration)
      .option(
        '--compare',
        'run the load without the mesh and with it, and print the difference (20s each, or --duration)',
      )
      .addOption(outputOption())
      .action((options: DemoOptions) => (options.compare ? demoCompare(options) : demo(options))),
    'weft demo',
    'weft demo --duration 30s -o json',
    'weft demo --compare --rps 100',
  );
}

async function demo(options: DemoOptions): Promise<void> {
  const json = options.output === 'json';
  const live = !json && process.stdout.isTTY === true;
  const say = (line: string): void => {
    process[json ? 'stderr' : 'stdout'].write(`[weft] ${line}\n`);
  };
  let end!: (signal?: NodeJS.Signals) => void;
  const ended = new Promise<NodeJS.Signals | undefined>((resolve) => {
    end = resolve;
  });
  const started = performance.now();
  await buildServices(say);
  const { host, model } = await bringUp({
    mesh: options.mesh,
    files: [path.join(shop, 'mesh')],
    capture: options.capture,
    say: (name, line) => {
      // Applications talk to their logs here: the terminal is for the table.
      if (name === 'weft' || name === 'control-plane') say(line);
    },
  });
  onSignals((signal) => {
    end(signal);
    if (!load) void host.stop();
  });
  host.onDown(() => end());
  let load: Load | undefined;
  let ok = false;
  let summary: Summary | undefined;
  let signal: NodeJS.Signals | undefined;
  try {
    say(`starting mesh "${options.mesh}"`);
    const failure = await Promise.race([host.start().then(noError, asError), ended.then(() => 'signal' as const)]);
    if (failure instanceof Error) throw failure;
    const late = failure === undefined ? await Promise.race([host.whenReady(), ended.then(() => [])]) : [];
    if (late.length > 0) say(`not ready: ${late.join(', ')} ("weft logs NAME --mesh ${options.mesh}" tells more)`);
    if (failure === undefined && late.length === 0) {
      say(`ready after ${age(performance.now() - started)}: ${host.status().length} processes`);
      const entrance = entrances(model, host.status())[0];
      if (!entrance) throw new WeftError('demo', 'the shop has no gateway');
      say(`visitors enter at ${entranceUrl(entrance)}`);
      const running = startLoad(entranceUrl(entrance), options.rps);
      load = running;
      const timer = options.duration === undefined ? undefined : setTimeout(() => end(), options.duration);
      const drawing = live ? setInterval(() => void draw(host, running, options), 1000) : undefined;
      signal = await ended;
      clearTimeout(timer);
      clearInterval(drawing);
      await running.stop();
      summary = await summarize(host, running.last);
      ok = everyServiceAnswered(host, summary);
    } else signal = await Promise.race([ended, Promise.resolve(undefined)]);
  } catch (error) {
    // Whatever went wrong, nothing that was started may stay.
    await load?.stop();
    await host.stop();
    throw error;
  }
  say('stopping');
  await host.stop();
  if (summary && json) print(JSON.stringify(summary, null, 2));
  else if (summary) printSummary(summary);
  say('stopped, nothing is left behind');
  const interrupted = signal !== undefined && options.duration !== undefined;
  process.exit(interrupted ? 128 + constants.signals[signal as NodeJS.Signals] : ok ? 0 : 1);
}

/** Without the mesh, with it, and the difference. Exit code 1 where a request failed. */
async function demoCompare(options: DemoOptions): Promise<void> {
  const json = options.output === 'json';
  const say = (line: string): void => {
    process[json ? 'stderr' : 'stdout'].write(`[weft] ${line}\n`);
  };
  let signal: NodeJS.Signals | undefined;
  const interrupted = new Promise<never>((_, reject) => {
    onSignals((name) => {
      signal = name;
      reject(new WeftError('interrupted', `ended by ${name}`));
    });
  });
  interrupted.catch(() => {}); // Told by the race that is lost to it, which may begin later.
  await buildServices(say);
  try {
    const result = await compare({
      mesh: options.mesh,
      capture: options.capture,
      rps: options.rps,
      durationMs: options.duration ?? COMPARE_MS,
      folder: path.join(shop, 'mesh'),
      say,
      interrupted,
    });
    print(json ? JSON.stringify(result, null, 2) : renderComparison(result));
    const ok = [result.without, result.with].every((side) => side.requests > 0 && side.failures === 0);
    process.exit(ok ? 0 : 1);
  } catch (error) {
    if (signal === undefined) throw error;
    say('stopped, nothing is left behind');
    process.exit(128 + constants.signals[signal]);
  }
}

function noError(): undefined {
  return undefined;
}

function asError(error: unknown): Error {
  return error as Error;
}

/** The Go service is compiled ahead, into the state folder; without Go its Node version runs and says so. */
async function buildServices(say: (line: string) => void): Promise<void> {
  const bin = path.join(stateRoot(), 'shop-bin');
  mkdirSync(stateRoot(), { recursive: true, mode: 0o711 });
  mkdirSync(bin, { recursive: true, mode: 0o755 });
  process.env.SHOP_BIN = bin;
  say('building the shop (the first time takes about 20 s)');
  try {
    const { stdout } = await promisify(execFile)('sh', [path.join(shop, 'build.sh'), bin]);
    if (stdout.trim()) say(stdout.trim());
  } catch (error) {
    say(`the Go service was not built, its Node version will run: ${(error as Error).message.split('\n')[1] ?? error}`);
  }
}

const byName = (a: EdgeSummary, b: EdgeSummary): number =>
  a.source.localeCompare(b.source) || a.destination.localeCompare(b.destination) || a.version.localeCompare(b.version);

async function edges(host: MeshHost, window: string): Promise<EdgeSummary[]> {
  const answer = await host.control<{ edges: EdgeSummary[] }>('GET', `/v1/edges?window=${window}`);
  return answer.edges.sort(byName);
}

async function draw(host: MeshHost, load: Load, options: DemoOptions): Promise<void> {
  let rows: EdgeSummary[];
  try {
    rows = await edges(host, String(TABLE_WINDOW_MS));
  } catch {
    return; // The control plane is away for the moment; the next second draws again.
  }
  const columns = Math.min(process.stdout.columns ?? 100, 140);
  const table = renderEdges(rows, {
    columns,
    color: process.env.NO_COLOR === undefined,
    maxRows: Math.max(5, (process.stdout.rows ?? 40) - 6),
  });
  const { requests, failures, p50Ms, p99Ms } = load.last;
  process.stdout.write(
    `\u001b[H\u001b[2Jmesh ${options.mesh}: ${requests} requests from outside, ${failures} failed, p50 ${p50Ms} ms, p99 ${p99Ms} ms; last ${TABLE_WINDOW_MS / 1000} s of every edge:\n\n${table}\n\nCtrl-C ends it and cleans up. In another terminal: weft ps, weft logs NAME, weft scale payment-v2 3\n`,
  );
}

interface Summary {
  requests: number;
  failures: number;
  failed: Record<string, number>;
  epoch: number;
  edges: {
    from: string;
    to: string;
    version: string;
    requests: number;
    failures: number;
    p50Ms: number;
    p90Ms: number;
    p99Ms: number;
    mtls: boolean;
  }[];
}

async function summarize(host: MeshHost, load: LoadReport): Promise<Summary> {
  await new Promise((resolve) => setTimeout(resolve, 1500)); // Proxies report each second: the last ones are on their way.
  const { epoch } = await host.control<{ epoch: number }>('GET', '/v1/epoch');
  return {
    requests: load.requests,
    failures: load.failures,
    failed: load.failed,
    epoch,
    edges: (await edges(host, 'all')).map((e) => ({
      from: e.source,
      to: e.destination,
      version: e.version,
      requests: e.requests,
      failures: e.failures,
      p50Ms: e.p50Ms,
      p90Ms: e.p90Ms,
      p99Ms: e.p99Ms,
      mtls: e.mtls,
    })),
  };
}

/** Every service of the shop was asked and answered, and nobody outside saw a failure. */
function everyServiceAnswered(host: MeshHost, summary: Summary): boolean {
  const asked = new Set(summary.edges.filter((e) => e.requests > e.failures).map((e) => e.to.split('.')[0]));
  const services = new Set(
    host
      .status()
      .filter((i) => i.state !== 'completed' && !i.gateway)
      .map((i) => i.workload.replace(/-v\d+$/, '')),
  );
  const silent = [...services].filter((name) => !asked.has(name));
  for (const name of silent) process.stderr.write(`[weft] service ${name} answered nothing\n`);
  return silent.length === 0 && summary.requests > 0 && summary.failures === 0;
}

function printSummary(summary: Summary): void {
  print(
    renderEdges(
      summary.edges.map((e) => ({
        source: e.from,
        destination: e.to,
        version: e.version,
        requestsPerSecond: e.requests,
        successRate: e.requests > 0 ? 1 - e.failures / e.requests : null,
        p50Ms: e.p50Ms,
        p90Ms: e.p90Ms,
        p99Ms: e.p99Ms,
        inFlight: 0,
        mtls: e.mtls,
      })),
      { columns: 100, color: process.stdout.isTTY === true && process.env.NO_COLOR === undefined },
    ).replace('REQ/S', 'TOTAL'),
  );
  print(`${summary.requests} requests from outside, ${summary.failures} failed, epoch ${summary.epoch}`);
}
