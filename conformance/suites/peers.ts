import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startGatewayMesh } from '../../test/gateway-mesh.ts';
import { peers as peerManifests } from '../../test/harness.ts';
import { debian, npmPackages, pythonPackages } from '../install.ts';
import { type PairPort, startPair } from '../pair.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const folder = join(import.meta.dirname, '../peers');
const PYTHON = ['h2==4.4.1', 'h11==0.16.0', 'httpx==0.28.1'];
const UNDICI = 'undici@7.30.2';
const MANY = 100;
const CASE_MS = 30_000;

let python = '';
let undici = '';

const big = Buffer.alloc(1_000_000, Buffer.from(Array.from({ length: 251 }, (_, i) => i)));

/** Applications behind the inbound side; a port of the pair for each. */
type Server = 'node-http' | 'node-http2' | 'python-h11' | 'python-h2' | 'nghttpd';
/** What nghttpd can: files, and to give an upload back. */
const NGHTTPD_CASES = ['hello', 'echo'];

/** Where clients ask, and the folder of the run for their files. */
interface Place {
  base: string;
  dir: string;
}

interface Run {
  stdout: Buffer;
  stderr: string;
}

function command(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Run> {
  return new Promise((resolve, reject) => {
    execFile(
      program,
      args,
      { timeout: CASE_MS, maxBuffer: 64 << 20, encoding: 'buffer', env: { ...process.env, ...env } },
      (error, stdout, stderr) => {
        const told = stderr.toString().trim();
        if (error) reject(new Error(`${program} ${args.join(' ')}: ${told.split('\n').at(-1) || error.message}`));
        else resolve({ stdout, stderr: told });
      },
    );
  });
}

function equal(got: unknown, wanted: unknown): void {
  if (got !== wanted) throw new Error(`${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`);
}
function has(text: string, part: string): void {
  if (!text.includes(part)) throw new Error(`no ${JSON.stringify(part)} in ${JSON.stringify(text.slice(-600))}`);
}
function same(body: Buffer): void {
  if (!body.equals(big)) throw new Error(`${body.length} bytes came back, and not those that were sent`);
}

interface Client {
  name: string;
  cases: readonly string[];
  /** Runs these cases, and judges each. */
  run(place: Place, cases: readonly string[], judge: (name: string, error: string | undefined) => void): Promise<void>;
}

/** A client that is a program of ours on somebody's library: it prints a line of JSON a case. */
function program(name: string, argv: () => string[], cases: readonly string[]): Client {
  return {
    name,
    cases,
    async run(place, chosen, judge) {
      const [file, ...args] = argv() as [string, ...string[]];
      const left = new Set(chosen);
      let told = '';
      try {
        const { stdout } = await command(file, [...args, name, place.base, ...chosen], { WEFT_UNDICI: undici });
        told = stdout.toString();
      } catch (error) {
        told = '';
        judge('all', String(error));
      }
      for (const line of told.split('\n').filter((l) => l.startsWith('{'))) {
        const result = JSON.parse(line) as { case: string; error: string | null };
        left.delete(result.case);
        judge(result.case, result.error ?? undefined);
      }
      for (const name of left) judge(name, 'was not run');
    },
  };
}

/** A client that is a command; one run a case. */
function tool(name: string, cases: Readonly<Record<string, (place: Place) => Promise<void>>>): Client {
  return {
    name,
    cases: Object.keys(cases),
    async run(place, chosen, judge) {
      for (const name of chosen) {
        try {
          await cases[name]?.(place);
          judge(name, undefined);
        } catch (error) {
          judge(name, (error as Error).message);
        }
      }
    },
  };
}

let gates = 0;
/** Opens once 100 requests wait at it: each client needs one of its own. */
const gate = (place: Place): string => `${place.base}/gate/suite${++gates}?n=${MANY}`;
const bigFile = (place: Place): string => join(place.dir, 'big');
const smallFile = (place: Place): string => join(place.dir, 'small');

function curl(name: string, version: string, more: Readonly<Record<string, (place: Place) => Promise<void>>>): Client {
  const ask = (args: readonly string[]) => {
    // With TLS it is ALPN that chooses.
    const chosen = version !== '--http1.1' && args.some((a) => a.startsWith('https:')) ? '--http2' : version;
    return command('curl', ['-sSk', chosen, '--max-time', '25', ...args]);
  };
  const upload = (place: Place) => ['--data-binary', `@${bigFile(place)}`, `${place.base}/echo`];
  return tool(name, {
    async hello(place) {
      const { stdout } = await ask(['-w', ' %{http_version}', `${place.base}/hello`]);
      equal(stdout.toString(), `hello ${version === '--http1.1' ? '1.1' : '2'}`);
    },
    async echo(place) {
      same((await ask(upload(place))).stdout);
    },
    async answerTrailers(place) {
      const { stdout } = await ask(['-D', '-', '--data-binary', `@${smallFile(place)}`, `${place.base}/trailers`]);
      has(stdout.toString(), 'x-body-bytes: 5000');
    },
    async early(place) {
      const { stdout } = await ask(['-D', '-', `${place.base}/early`]);
      has(stdout.toString(), ' 103');
      has(stdout.toString(), 'late');
    },
    async gate(place) {
      const urls = new Array<string>(MANY).fill(gate(place));
      const { stdout } = await ask(['-Z', '--parallel-immediate', '--parallel-max', String(MANY), ...urls]);
      equal(stdout.toString(), 'open'.repeat(MANY));
    },
    ...more,
  });
}

const curl1 = curl('curl', '--http1.1', {
  async continue(place) {
    const dump = join(place.dir, 'heads');
    const wait = ['-H', 'expect: 100-continue', '--expect100-timeout', '20', '-D', dump];
    const args = ['-sSk', '--http1.1', '--max-time', '25', ...wait, '--data-binary', `@${bigFile(place)}`];
    same((await command('curl', [...args, `${place.base}/echo`])).stdout);
    has(readFileSync(dump, 'latin1'), '100 Continue');
  },
});

const nghttp = tool('nghttp', {
  async hello(place) {
    equal((await command('nghttp', [`${place.base}/hello`])).stdout.toString(), 'hello');
  },
  async echo(place) {
    same((await command('nghttp', ['-d', bigFile(place), `${place.base}/echo`])).stdout);
  },
  async trailers(place) {
    const args = [
      '-v',
      '--no-content-length',
      '-d',
      smallFile(place),
      '--trailer',
      'x-check: checked',
      `${place.base}/trailers`,
    ];
    const { stdout } = await command('nghttp', args);
    has(stdout.toString(), 'x-body-bytes: 5000');
    has(stdout.toString(), 'x-echo: checked');
  },
  async early(place) {
    has((await command('nghttp', ['-nv', `${place.base}/early`])).stdout.toString(), ':status: 103');
  },
  async continue(place) {
    // Not the echo: nghttp sends nothing where the 100 and the answer come in one read.
    const args = ['-nv', '--expect-continue', '-d', bigFile(place), `${place.base}/trailers`];
    const { stdout } = await command('nghttp', args);
    has(stdout.toString(), ':status: 100');
    has(stdout.toString(), 'x-body-bytes: 1000000');
  },
  async gate(place) {
    const { stdout } = await command('nghttp', ['-m', String(MANY), gate(place)]);
    equal(stdout.toString(), 'open'.repeat(MANY));
  },
});

function h2load(name: string, flags: readonly string[], gateFlags: readonly string[]): Client {
  const load = async (count: number, args: readonly string[]): Promise<void> => {
    const { stdout } = await command('h2load', ['-n', String(count), ...flags, ...args]);
    has(stdout.toString(), `status codes: ${count} 2xx, 0 3xx, 0 4xx, 0 5xx`);
    has(stdout.toString(), `${count} succeeded, 0 failed, 0 errored, 0 timeout`);
  };
  return tool(name, {
    hello: (place) => load(1000, ['-c', '4', `${place.base}/hello`]),
    echo: (place) => load(20, ['-c', '2', '-d', bigFile(place), `${place.base}/echo`]),
    gate: (place) => load(MANY, [...gateFlags, gate(place)]),
  });
}

const js = (): string[] => [process.execPath, join(folder, 'client.mjs')];
const py = (): string[] => [join(python, 'python'), join(folder, 'client.py')];

const clients: readonly Client[] = [
  program('node-http', js, ['hello', 'echo', 'trailers', 'early', 'continue', 'gate']),
  program('node-http2', js, ['hello', 'echo', 'trailers', 'early', 'continue', 'gate']),
  program('undici', js, ['hello', 'echo', 'answerTrailers', 'early', 'gate']),
  program('undici-h2c', js, ['hello', 'echo', 'gate']),
  program('python-h11', py, ['hello', 'echo', 'trailers', 'early', 'continue', 'gate']),
  program('python-h2', py, ['hello', 'echo', 'trailers', 'early', 'continue', 'gate']),
  program('httpx', py, ['hello', 'echo', 'gate']),
  program('httpx-h2', py, ['hello', 'echo', 'gate']),
  curl1,
  curl('curl-h2', '--http2-prior-knowledge', {}),
  nghttp,
  h2load('h2load', ['-m', '100'], ['-c', '1']),
  h2load('h2load-h1', ['--h1'], ['-c', String(MANY)]),
];

/** Starts a program that prints the ports of its servers as one line of JSON. */
async function ports(ctx: SuiteContext, file: string, args: readonly string[]): Promise<Record<string, number>> {
  const child: ChildProcess = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  ctx.cleanup(() => void child.kill('SIGKILL'));
  let line = '';
  for await (const chunk of child.stdout as NodeJS.ReadableStream) {
    line += String(chunk);
    if (line.includes('\n')) break;
  }
  if (line === '') throw new Error(`${file} ${args.join(' ')} ended before it listened`);
  return JSON.parse(line) as Record<string, number>;
}

async function nghttpd(ctx: SuiteContext, host: string): Promise<number> {
  const files = join(ctx.dir, 'files');
  mkdirSync(files);
  writeFileSync(join(files, 'hello'), 'hello');
  writeFileSync(join(files, 'echo'), '');
  const port = 9399;
  const child = spawn('nghttpd', ['--no-tls', '-a', host, '-d', files, '--echo-upload', String(port)], {
    stdio: 'ignore',
  });
  ctx.cleanup(() => void child.kill('SIGKILL'));
  return port;
}

/** The pair's port for each server. */
const FRONT: Readonly<Record<Server, Pick<PairPort, 'port' | 'protocol'>>> = {
  'node-http': { port: 8081, protocol: 'http' },
  'node-http2': { port: 8082, protocol: 'http2' },
  'python-h11': { port: 8083, protocol: 'http' },
  'python-h2': { port: 8084, protocol: 'http2' },
  nghttpd: { port: 8085, protocol: 'http2' },
};

interface NamedPlace extends Place {
  name: string;
  /** Those that can be asked there; default all. */
  cases?: readonly string[];
  /** Part of the short form. */
  brief: boolean;
}

/** A gateway, with TLS and without, in front of Node's HTTP/1.1 server. */
async function edgePlaces(ctx: SuiteContext): Promise<NamedPlace[]> {
  const edge = await startGatewayMesh('explicit', {
    prepare(mesh) {
      copyFileSync(join(folder, 'servers.mjs'), join(mesh.folder, 'apps/servers.mjs'));
      mesh.write('services.yaml', peerManifests({ front: { v1: 1 } }).replace('apps/peer.mjs', 'apps/servers.mjs'));
    },
  });
  ctx.cleanup(() => edge.close());
  return [
    { name: 'edge, TLS', base: `https://${edge.address}:${edge.https}`, dir: ctx.dir, brief: false },
    { name: 'edge', base: `http://${edge.address}:${edge.http}`, dir: ctx.dir, brief: false },
  ];
}

export const suite: Suite = {
  name: 'peers',
  about: 'HTTP clients and servers that people use, of both versions, through two sidecars and through a gateway',
  inShortForm: true,
  async install() {
    debian({ curl: 'curl', nghttp: 'nghttp2-client', h2load: 'nghttp2-client', nghttpd: 'nghttp2-server' });
    python = pythonPackages('peers', PYTHON);
    undici = join(npmPackages('peers', [UNDICI]), 'undici');
  },
  async run(ctx) {
    const tally = new Tally();
    const network = `127.62.${process.pid % 250}`;
    const appHost = `${network}.9`;
    const app: Record<string, number> = {
      ...(await ports(ctx, process.execPath, [join(folder, 'servers.mjs'), appHost])),
      ...(await ports(ctx, join(python, 'python'), [join(folder, 'server.py'), appHost])),
      nghttpd: await nghttpd(ctx, appHost),
    };
    const servers = Object.keys(FRONT) as Server[];
    const pair = await startPair({
      network,
      ports: servers.map((name) => ({ ...FRONT[name], appHost, appPort: app[name] as number })),
    });
    ctx.cleanup(() => pair.stop());
    writeFileSync(join(ctx.dir, 'big'), big);
    writeFileSync(join(ctx.dir, 'small'), Buffer.alloc(5000));
    const places: NamedPlace[] = servers.map((server) => ({
      name: server,
      base: `http://${pair.front.address}:${FRONT[server].port}`,
      dir: ctx.dir,
      cases: server === 'nghttpd' ? NGHTTPD_CASES : undefined,
      brief: server === 'node-http' || server === 'python-h2',
    }));
    if (!ctx.short) places.push(...(await edgePlaces(ctx)));
    // In short, each client goes to one place; in full, to all of them.
    const brief = places.filter((place) => place.brief);
    for (const place of places) {
      for (const [i, client] of clients.entries()) {
        if (ctx.short && brief[i % brief.length] !== place) continue;
        const cases = client.cases.filter((name) => place.cases?.includes(name) ?? true);
        const started = performance.now();
        await client.run(place, cases, (name, error) => {
          if (error === undefined) tally.passed++;
          else {
            tally.failed++;
            tally.failures.push(`${client.name} → ${place.name}: ${name}: ${error}`);
          }
        });
        ctx.log(`${client.name} → ${place.name}: ${cases.length} cases, ${Math.round(performance.now() - started)} ms`);
      }
    }
    return tally;
  },
};
