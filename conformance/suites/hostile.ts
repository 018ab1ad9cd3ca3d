/**
 * Hostile peers made with Python's h2, hyperframe and hpack: floods and bombs by clients (of the application side, and of
 * the mesh port with a valid certificate) and by an upstream server. While each runs, another client's requests go on.
 * A case holds where the attack ends within its limit, the limit's counter rises by one, memory by less than 50 MiB, and
 * the other client's p99 stays below 100 ms. On a machine with other work the p99 counts in the proportion of time in which
 * the proxies had a processor when they wanted one; the kernel tells both.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type HostileCase, hostileCases, SOME } from '../hostile/cases.ts';
import { pythonPackages } from '../install.ts';
import { type Pair, type SideReport, startPair } from '../pair.ts';
import { ask, Probe, scheduled, shareOf } from '../probe.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const PACKAGES = ['h2==4.3.0', 'hyperframe==6.1.0', 'hpack==4.1.0'];
const MOST_RSS_MIB = 50;
const MOST_P99_MS = 100;
/** Links and connections to the application that stay for a while. */
const MOST_FILES = 150;
const PORTS = { attack: 80, h2: 81, http1: 82, probe: 83 };
const folder = join(import.meta.dirname, '../hostile');

interface Result {
  error?: string;
  ready?: boolean;
  ended: boolean;
  seconds: number;
  frames: number;
  bytes: number;
  resets?: number;
  answered?: number;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The Python program, one job at a time. */
class Peers {
  #child: ChildProcess;
  #lines: AsyncIterator<string>;

  constructor(python: string) {
    this.#child = spawn(python, ['-B', join(folder, 'main.py')], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }
  send(job: object): void {
    this.#child.stdin!.write(`${JSON.stringify(job)}\n`);
  }
  async next(): Promise<Result> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the Python program ended');
    return JSON.parse(value as string) as Result;
  }
  stop(): void {
    this.#child.kill();
  }
}

function rssMib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
}

function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

interface Setup {
  pair: Pair;
  peers: Peers;
  tls: { key: string; cert: string; ca: string };
  hosts: { app: string; upstream: string; probe: string };
  short: boolean;
  worst: { rss: number; p99: number; raw: number };
  /** Of the other client's requests in all cases, in the proxies' own time. */
  times: number[];
}

function job(s: Setup, c: HostileCase): object {
  const { pair } = s;
  const count = c.count?.[s.short ? 1 : 0];
  if (c.where === 'upstream') {
    const port = c.name.startsWith('server1') ? PORTS.http1 : PORTS.h2;
    return { case: c.name, host: s.hosts.upstream, port, count, ends: c.ends };
  }
  if (c.where === 'front') return { case: c.name, host: pair.front.address, port: PORTS.attack, count, ends: c.ends };
  const authority = `${pair.back.address}:${PORTS.attack}`;
  return { case: c.name, host: pair.back.address, port: 15008, tls: s.tls, authority, count, ends: c.ends };
}

async function attack(s: Setup, c: HostileCase): Promise<Result> {
  s.peers.send(job(s, c));
  const first = await s.peers.next();
  if (!first.ready) return first;
  let result: Result | undefined;
  const over = s.peers.next().then((r) => {
    result = r;
    return r;
  });
  const port = c.name.startsWith('server1') ? PORTS.http1 : PORTS.h2;
  // A request is tried again by the proxies, so that one may meet the server more than once.
  for (let n = c.count?.[s.short ? 1 : 0] ?? 1; n > 0 && result === undefined; n--) {
    await ask(s.pair.front.address, port, undefined, c.unread);
  }
  return over;
}

async function play(s: Setup, c: HostileCase): Promise<void> {
  const { pair } = s;
  const victim = c.where === 'front' ? pair.front : pair.back;
  const other = victim === pair.front ? pair.back : pair.front;
  const before = await victim.take();
  const otherBefore = await other.take();
  const start = new Map([pair.front, pair.back].map((side) => [side, rssMib(side.pid)]));
  const filesBefore = openFiles(victim.pid);
  let rise = 0;
  const sampler = setInterval(() => {
    for (const [side, mib] of start) if (side.exited === undefined) rise = Math.max(rise, rssMib(side.pid) - mib);
  }, 25);
  const pids = [pair.front.pid, pair.back.pid];
  const cpu = pids.map(scheduled);
  const probe = new Probe(pair.front.address, PORTS.probe);
  let result: Result;
  try {
    result = await attack(s, c);
    while (probe.times.length < (s.short ? 25 : 110) && probe.failed === 0) await sleep(20);
  } finally {
    clearInterval(sampler);
    await probe.stop();
  }
  const share = shareOf(pids, cpu);
  const problems: string[] = [];
  if (result.error) problems.push(result.error);
  if (pair.front.exited ?? pair.back.exited) throw new Error(pair.front.exited ?? pair.back.exited);
  if (result.ended !== c.ends && result.answered === undefined)
    problems.push(result.ended ? 'the connection ended' : `not ended after ${result.frames} frames`);
  if (result.answered !== undefined && result.answered !== 1) problems.push('not answered');
  const after = await settled(s, victim === pair.front);
  const otherAfter = await other.take();
  for (const [name, expected] of Object.entries(c.counters ?? {})) {
    const names = name.split('|');
    let rose = sum(after, names) - sum(before, names);
    // Which of the two sees it first is chance.
    if (expected === SOME) rose += sum(otherAfter, names) - sum(otherBefore, names);
    if (expected === SOME ? rose < 1 : rose !== expected)
      problems.push(`${name} rose by ${rose}, not by ${expected}: ${changes(before, after)}`);
  }
  for (const name of ['internal_error', 'http2_handler_error', 'http1_internal']) {
    if (after.counters.has(name)) problems.push(`${name} was counted`);
  }
  let files = openFiles(victim.pid) - filesBefore;
  // A handshake that was left half done is given up at its timeout.
  for (let n = 0; n < 60 && files > MOST_FILES; n++) {
    await sleep(100);
    files = openFiles(victim.pid) - filesBefore;
  }
  if (files > MOST_FILES) problems.push(`${files} descriptors are left`);
  if (after.inFlight > 0) problems.push(`${after.inFlight} requests are left`);
  if (rise >= MOST_RSS_MIB) problems.push(`memory rose by ${rise.toFixed(0)} MiB`);
  const p99 = probe.p99 * share;
  s.times.push(...probe.times.map((ms) => ms * share));
  // A hundredth part of a few says nothing: a short run is judged over all its cases.
  if (!s.short && p99 >= MOST_P99_MS)
    problems.push(`the other client's p99 was ${p99.toFixed(0)} ms (${probe.p99.toFixed(0)} ms by the clock)`);
  if (probe.failed > 0) problems.push(`${probe.failed} of the other client's requests failed`);
  s.worst.rss = Math.max(s.worst.rss, rise);
  s.worst.p99 = Math.max(s.worst.p99, p99);
  s.worst.raw = Math.max(s.worst.raw, probe.p99);
  if (problems.length > 0) throw new Error(`${problems.join('; ')} (${result.frames} frames, ${result.seconds} s)`);
}

/** The report once nothing runs any more; gives up waiting after a while, and the judge sees it. */
async function settled(s: Setup, front: boolean): Promise<SideReport> {
  const side = front ? s.pair.front : s.pair.back;
  for (let n = 0; ; n++) {
    const report = await side.take();
    if (report.inFlight === 0 || n === 100) return report;
    await sleep(60);
  }
}

function sum(report: SideReport, names: readonly string[]): number {
  return names.reduce((n, name) => n + (report.counters.get(name) ?? 0), 0);
}

function changes(before: SideReport, after: SideReport): string {
  const rose = [...after.counters].filter(([name, n]) => n !== before.counters.get(name) && !name.endsWith('requests'));
  return rose.map(([name, n]) => `${name} ${n - (before.counters.get(name) ?? 0)}`).join(', ') || 'nothing did';
}

async function setUp(ctx: SuiteContext, python: string): Promise<Setup> {
  const network = `127.${192 + (process.pid % 60)}.${(process.pid >> 6) & 255}`;
  const hosts = { app: `${network}.3`, upstream: `${network}.4`, probe: `${network}.5` };
  const app = fork(join(folder, 'app.ts'), [hosts.app, String(PORTS.attack)], { execArgv: [] });
  ctx.cleanup(() => void app.kill());
  await new Promise((resolve) => app.once('message', resolve));
  const good = http.createServer((_request, response) => response.end('fine'));
  await new Promise<void>((resolve) => good.listen(PORTS.probe, hosts.probe, resolve));
  ctx.cleanup(() => {
    good.closeAllConnections();
    good.close();
  });
  const pair = await startPair({
    network,
    ports: [
      { port: PORTS.attack, appHost: hosts.app, appPort: PORTS.attack, timeoutMs: 0 },
      { port: PORTS.h2, appHost: hosts.upstream, appPort: PORTS.h2, protocol: 'http2', timeoutMs: 4000 },
      { port: PORTS.http1, appHost: hosts.upstream, appPort: PORTS.http1, timeoutMs: 4000 },
      { port: PORTS.probe, appHost: hosts.probe, appPort: PORTS.probe },
    ],
    strangers: ['attacker'],
    records: false,
    // Waits of minutes would say the same.
    limits: { flushTimeoutMs: 2000, streamIdleTimeoutMs: 4000, tlsHandshakeTimeoutMs: 2000 },
  });
  ctx.cleanup(() => pair.stop());
  const { keyPem, chainPem, rootPem } = pair.certificates.get('attacker')!;
  const tls = { key: join(ctx.dir, 'key.pem'), cert: join(ctx.dir, 'cert.pem'), ca: join(ctx.dir, 'ca.pem') };
  writeFileSync(tls.key, keyPem, { mode: 0o600 });
  writeFileSync(tls.cert, chainPem);
  writeFileSync(tls.ca, rootPem);
  const peers = new Peers(python);
  ctx.cleanup(() => peers.stop());
  return { pair, peers, tls, hosts, short: ctx.short, worst: { rss: 0, p99: 0, raw: 0 }, times: [] };
}

/** Brings code and buffers of the proxies to where they stay, so that what a case adds is its own. */
async function warmUp(s: Setup): Promise<void> {
  for (const name of ['late-reset', 'ping-flood', 'unknown-frames']) {
    await attack(s, { name, where: 'front', ends: true });
  }
  const large = Array.from({ length: 30 }, () => ask(s.pair.front.address, PORTS.attack, undefined, false, '/big'));
  await Promise.all(large);
  for (let i = 0; i < 200; i++) await ask(s.pair.front.address, PORTS.probe);
}

export const suite: Suite = {
  name: 'hostile',
  about: 'floods and bombs by HTTP/2 and HTTP/1 peers, as clients, mesh peers and upstreams',
  inShortForm: true,
  async install() {
    pythonPackages('hostile', PACKAGES);
  },
  async run(ctx) {
    const tally = new Tally();
    const s = await setUp(ctx, join(pythonPackages('hostile', PACKAGES), 'python'));
    await warmUp(s);
    const only = process.env.HOSTILE_CASE;
    for (const c of hostileCases) {
      if (ctx.short && !c.short) continue;
      if (only !== undefined && c.name !== only && `${c.where}/${c.name}` !== only) continue;
      const started = performance.now();
      await tally.check(`${c.where}/${c.name}`, () => play(s, c));
      ctx.log(`${c.where}/${c.name} ${(performance.now() - started).toFixed(0)} ms`);
    }
    await tally.check('the other client, over all cases', () => {
      const sorted = s.times.toSorted((a, b) => a - b);
      const p99 = sorted[Math.floor(sorted.length * 0.99)] ?? 0;
      if (p99 >= MOST_P99_MS) throw new Error(`its p99 was ${p99.toFixed(0)} ms in ${sorted.length} requests`);
    });
    tally.notes.push(
      `memory rose by at most ${s.worst.rss.toFixed(0)} MiB, the other client's p99 was at most ${s.worst.p99.toFixed(0)} ms (${s.worst.raw.toFixed(0)} ms by the clock)`,
    );
    return tally;
  },
};
