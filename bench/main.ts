/**
 * `npm run bench`: CPU µs per request of a client and a server proxy together, Weft against HAProxy, 1 KB answers.
 *
 * Both are the same chain: wrk → proxy A → HTTP/2 over mutual TLS → proxy B → nginx, one core for the proxies and the
 * other one for load and application (where there are two), rounds interleaved, nothing but loopback. What to trust on a
 * machine with other work is the ratio. `BENCH_ROUNDS` (3), `BENCH_SECONDS` (5) and `BENCH_PROFILE=DIR` (CPU profiles of
 * both Weft proxies) change the run.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createAuthority, createKeyAndCsr } from '@weft/identity';
import type { SideConfig } from './side.ts';

const here = path.dirname(fileURLToPath(import.meta.url));
const FRONT = '127.7.9.1';
const BACK = '127.7.9.2';
const APP = '127.7.9.3';
const APP_PORT = 8080;
const HAPROXY_PORTS = { front: 16_001, back: 16_008 };
const TICKS_PER_SECOND = 100;
const rounds = Number(process.env.BENCH_ROUNDS ?? 3);
const seconds = Number(process.env.BENCH_SECONDS ?? 5);
const profile = process.env.BENCH_PROFILE;

const TOOLS = { wrk: 'wrk', haproxy: 'haproxy', nginx: 'nginx-light', taskset: 'util-linux' };
process.env.PATH = `${process.env.PATH}:/usr/sbin:/sbin`;
const missing = Object.entries(TOOLS).filter(([tool]) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0);
if (missing.length > 0) {
  process.stderr.write(
    `bench: ${missing.map(([tool]) => tool).join(', ')} missing: apt-get install ${missing.map(([, p]) => p).join(' ')}\n`,
  );
  process.exit(1);
}

const dir = mkdtempSync(path.join(tmpdir(), 'weft-bench-'));
const children: ChildProcess[] = [];
const cores = availableParallelism() > 1 ? { proxies: '0', load: '1' } : { proxies: '0', load: '0' };

function start(core: string, argv: string[]): ChildProcess {
  const child = spawn('taskset', ['-c', core, ...argv], { stdio: ['ignore', 'ignore', 'inherit'] });
  children.push(child);
  return child;
}

async function listening(host: string, port: number): Promise<void> {
  for (const end = Date.now() + 10_000; ; ) {
    const ok = await new Promise<boolean>((resolve) => {
      const s = net.connect({ host, port }, () => resolve(true));
      s.on('error', () => resolve(false));
      s.on('close', () => resolve(false));
      setTimeout(() => s.destroy(), 200).unref();
    });
    if (ok) return;
    if (Date.now() > end) throw new Error(`nothing listens on ${host}:${port}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function startApplication(): void {
  const file = path.join(dir, 'nginx.conf');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((n) => `${n}_temp_path ${dir}/${n};`)
    .join(' ');
  writeFileSync(
    file,
    `daemon off; master_process off; worker_processes 1; pid ${dir}/nginx.pid; error_log ${dir}/nginx.log;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; ${temporary}
server { listen ${APP}:${APP_PORT}; location / { default_type text/plain; return 200 "${'x'.repeat(1024)}"; } } }\n`,
  );
  start(cores.load, ['nginx', '-c', file, '-e', `${dir}/nginx.log`]);
}

interface Certificate {
  keyPem: string;
  chainPem: string;
  rootPem: string;
}
interface Chain {
  name: string;
  pids: number[];
  url: string;
}

async function startWeft(certificates: Record<'front' | 'back', Certificate>): Promise<Chain> {
  const pids = (['back', 'front'] as const).map((side) => {
    const file = path.join(dir, `${side}.json`);
    const config: SideConfig = { side, front: FRONT, back: BACK, app: APP, appPort: APP_PORT, ...certificates[side] };
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    const flags = ['--max-semi-space-size=4', '--disable-warning=ExperimentalWarning'];
    if (profile) {
      mkdirSync(profile, { recursive: true });
      flags.push('--cpu-prof', `--cpu-prof-dir=${path.resolve(profile)}`, `--cpu-prof-name=${side}.cpuprofile`);
    }
    return start(cores.proxies, [process.execPath, ...flags, path.join(here, 'side.ts'), file]).pid!;
  });
  await listening(FRONT, 15_001);
  await listening(BACK, 15_008);
  return { name: 'Weft', pids, url: `http://${FRONT}:15001` };
}

async function startHaproxy(certificates: Record<'front' | 'back', Certificate>): Promise<Chain> {
  const common = `global\n  nbthread 1\n  maxconn 2000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n  http-reuse always\n`;
  const tls = 'ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256';
  const pids = (['back', 'front'] as const).map((side) => {
    const c = certificates[side];
    const pem = path.join(dir, `${side}.pem`);
    const root = path.join(dir, 'root.pem');
    writeFileSync(pem, c.chainPem + c.keyPem, { mode: 0o600 });
    writeFileSync(root, c.rootPem);
    const text =
      side === 'back'
        ? `frontend f\n  bind ${BACK}:${HAPROXY_PORTS.back} ssl crt ${pem} ca-file ${root} verify required alpn h2 ${tls}\n  http-request deny unless METH_GET { path_beg /item/ }\n  default_backend b\nbackend b\n  server s ${APP}:${APP_PORT}\n`
        : `frontend f\n  bind ${FRONT}:${HAPROXY_PORTS.front}\n  default_backend b\nbackend b\n  timeout server 15s\n  server s ${BACK}:${HAPROXY_PORTS.back} ssl crt ${pem} ca-file ${root} verify required alpn h2 ${tls}\n`;
    const file = path.join(dir, `haproxy-${side}.cfg`);
    writeFileSync(file, common + text);
    return start(cores.proxies, ['haproxy', '-db', '-q', '-f', file]).pid!;
  });
  await listening(FRONT, HAPROXY_PORTS.front);
  await listening(BACK, HAPROXY_PORTS.back);
  return { name: 'HAProxy', pids, url: `http://${FRONT}:${HAPROXY_PORTS.front}` };
}

/** CPU time of the processes, user and system, in µs. */
function cpuUs(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return (ticks * 1e6) / TICKS_PER_SECOND;
}

interface Measure {
  cpu: number;
  perSecond: number;
  p50: number;
  p99: number;
}

async function load(chain: Chain, connections: number, forSeconds: number): Promise<Measure> {
  const before = cpuUs(chain.pids);
  const argv = ['-c', cores.load, 'wrk', '-t1', `-c${connections}`, `-d${forSeconds}s`];
  const { stdout } = await promisify(execFile)('taskset', [...argv, '-s', path.join(here, 'requests.lua'), chain.url]);
  const used = cpuUs(chain.pids) - before;
  const match = /RESULT (\d+) (\d+) (\d+) (\d+)/.exec(stdout);
  if (!match) throw new Error(`wrk said: ${stdout}`);
  const [requests, errors, p50, p99] = match.slice(1).map(Number) as [number, number, number, number];
  if (errors > 0 || requests === 0) throw new Error(`${chain.name}: ${errors} of ${requests} requests failed`);
  return { cpu: used / requests, perSecond: requests / forSeconds, p50: p50 / 1000, p99: p99 / 1000 };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

async function certificate(authority: Awaited<ReturnType<typeof createAuthority>>, name: string): Promise<Certificate> {
  const { keyPem, csrPem } = await createKeyAndCsr();
  const spiffeId = `spiffe://cluster.local/ns/bench/sa/${name}`;
  const { chainPem, rootPem } = await authority.sign(csrPem, { spiffeId, ttlMs: 3_600_000 });
  return { keyPem, chainPem, rootPem };
}

async function run(): Promise<void> {
  const authority = await createAuthority({ dir: path.join(dir, 'ca'), trustDomain: 'cluster.local' });
  const certificates = {
    front: await certificate(authority, 'front'),
    back: await certificate(authority, 'back'),
  };
  startApplication();
  await listening(APP, APP_PORT);
  const chains = [await startHaproxy(certificates), await startWeft(certificates)];
  for (const chain of chains) await load(chain, 16, 4); // Warm: connections, and code that is compiled as it runs.
  for (const connections of [16, 64]) {
    const seen = new Map<string, Measure[]>(chains.map((c) => [c.name, []]));
    for (let i = 0; i < rounds; i++) {
      for (const chain of i % 2 === 0 ? chains : [...chains].reverse()) {
        seen.get(chain.name)!.push(await load(chain, connections, seconds));
      }
    }
    for (const [name, all] of seen) {
      const of = (key: keyof Measure): number => median(all.map((m) => m[key]));
      const cpus = all.map((m) => m.cpu.toFixed(1)).join(' ');
      process.stdout.write(
        `c${connections}  ${name.padEnd(8)} ${of('cpu').toFixed(1).padStart(6)} µs CPU/request (${cpus})  ${of('perSecond').toFixed(0).padStart(6)}/s  p50 ${of('p50').toFixed(2)} ms  p99 ${of('p99').toFixed(2)} ms\n`,
      );
    }
    const ratios = seen.get('Weft')!.map((m, i) => m.cpu / seen.get('HAProxy')![i]!.cpu);
    process.stdout.write(`c${connections}  Weft / HAProxy: ${median(ratios).toFixed(2)}\n`);
  }
}

try {
  await run();
} catch (error) {
  process.stderr.write(`bench: ${(error as Error).message}\n`);
  process.exitCode = 1;
} finally {
  await Promise.all(
    children.map((child) => {
      const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      child.kill('SIGTERM');
      return child.exitCode === null && child.signalCode === null ? ended : undefined;
    }),
  );
  rmSync(dir, { recursive: true, force: true });
}
