/**
 * `npm run bench -- push [--quick]`: what one change costs a control plane that serves a large mesh: 1000 services and
 * 2000 proxies (300 and 500 with --quick), one core for the control plane and another one for the simulated proxies.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { seededRandom } from '@weft/base';
import { localRequest, processMemory } from '@weft/host';
import { cpuUs } from '../measure.ts';
import type { Line } from '../results.ts';
import type { ClientSpec, FromClients, ToClients } from './clients.ts';
import { MeshFiles, namespaceOf, workload } from './files.ts';

const root = join(import.meta.dirname, '../..');
const CLIENT_PROCESSES = 2;
/** Services that each proxy uses, of all. */
const USED = 20;
const SEED = 20_261_122;
/** What istiod needed for one changed weight, one core, 1000 services: measured once beside this project, not in this run. */
const ISTIOD = { 2000: { ms: 11_000, mb: 977, rss: 5600, cpu: 10.4 }, 500: { ms: 2300, mb: 244, rss: 1960, cpu: 2.1 } };

interface Result {
  what: string;
  ms: number;
  /** Until those have it that use the service; 0: it is nothing that they hear of sooner. */
  usersMs: number;
  users: number;
  mb: number;
  cpuSeconds: number;
  parts: number;
}

class Api {
  readonly #socket: string;
  constructor(socket: string) {
    this.#socket = socket;
  }
  call<T>(method: string, path: string, body?: unknown): Promise<T> {
    return localRequest<T>(this.#socket, method, path, body, 120_000);
  }
}

async function until<T>(what: string, ask: () => Promise<T | undefined>, withinMs = 300_000): Promise<T> {
  let why: unknown;
  for (const end = Date.now() + withinMs; ; ) {
    const found = await ask().catch((error) => {
      why = error;
      return undefined;
    });
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`${what}: not within ${withinMs} ms`, { cause: why });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Simulated proxies in processes of their own, and what they say together. */
class Clients {
  readonly #processes: ChildProcess[];
  constructor(processes: ChildProcess[]) {
    this.#processes = processes;
  }
  async ask(messages: readonly ToClients[]): Promise<FromClients> {
    const answers = await Promise.all(
      this.#processes.map(
        (p, i) =>
          new Promise<FromClients>((resolve, reject) => {
            p.once('message', (m) => resolve(m as FromClients));
            p.once('exit', (code) => reject(new Error(`a process of simulated proxies ended with ${code}`)));
            p.send(messages[i % messages.length] as ToClients);
          }),
      ),
    );
    return {
      done: true,
      atMs: Math.max(...answers.map((a) => a.atMs)),
      usersAtMs: Math.max(...answers.map((a) => a.usersAtMs)),
      users: answers.reduce((sum, a) => sum + a.users, 0),
      bytes: answers.reduce((sum, a) => sum + a.bytes, 0),
      parts: answers.reduce((sum, a) => sum + a.parts, 0),
    };
  }
}

export async function benchPush(options: { quick: boolean; json: boolean }): Promise<void> {
  const [services, proxies] = options.quick ? [300, 500] : [1000, 2000];
  const dir = mkdtempSync(join(tmpdir(), 'weft-bench-push-'));
  const children: ChildProcess[] = [];
  const close = (): void => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      close();
      process.exit(130);
    });
  }
  try {
    await run(services, proxies, dir, children, options);
  } finally {
    close();
  }
}

async function run(
  services: number,
  proxies: number,
  dir: string,
  children: ChildProcess[],
  options: { quick: boolean; json: boolean },
): Promise<void> {
  const say = (line: string): void => void process.stderr.write(`bench: push: ${line}\n`);
  const pinned = (core: number): string[] => (availableParallelism() > 1 ? ['taskset', '-c', String(core)] : []);
  say(`${services} services, ${proxies} proxies`);
  const files = new MeshFiles(join(dir, 'mesh'), services);
  const socket = join(dir, 'api.sock');
  mkdirSync(join(dir, 'state'), { mode: 0o700 });
  const config = join(dir, 'control.json');
  const port = 20_000 + (process.pid % 10_000);
  const listen = { xds: { host: '127.0.0.1', port } };
  writeFileSync(
    config,
    JSON.stringify({
      mesh: 'push',
      stateDir: join(dir, 'state'),
      files: [files.dir],
      listen,
      socket,
      capture: 'transparent',
      logLevel: 'error',
    }),
    { mode: 0o600 },
  );
  const argv = [...pinned(0), process.execPath, join(root, 'bin/weft.mjs'), 'control-plane'];
  const control = spawn(argv[0]!, argv.slice(1), {
    env: { ...process.env, WEFT_CONTROL: config },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  children.push(control);
  const api = new Api(socket);
  await until('the control plane', () =>
    api.call<{ epoch: number }>('GET', '/v1/epoch').then((e) => (e.epoch ? e : undefined)),
  );

  const hostOf = (service: number): string => `svc${service}.${namespaceOf(service)}.svc.cluster.local`;
  const random = seededRandom(SEED);
  const specs: ClientSpec[] = [];
  let rootPem = '';
  for (let n = 0; n < proxies; n++) {
    const { instance, ...body } = workload(n, services);
    await api.call('PUT', `/v1/instances/${instance}`, body);
    const made = await api.call<{ token: string; rootPem: string }>('POST', '/v1/tokens', { instance });
    rootPem = made.rootPem;
    const uses = new Set<string>();
    while (uses.size < USED) uses.add(`endpoints/${hostOf(Math.floor(random.next() * services))}:8080`);
    specs.push({ instance, namespace: body.namespace, token: made.token, uses: [...uses] });
  }
  const pid = controlPid(control);
  const cost = (): string =>
    `${(cpuUs([pid]) / 1e6).toFixed(1)} CPU s so far, ${(processMemory(pid).rssBytes / 1e6).toFixed(0)} MB resident`;
  say(`registered: ${cost()}`);
  const processes = Array.from({ length: CLIENT_PROCESSES }, () => {
    const child = fork(join(import.meta.dirname, 'clients.ts'), { execArgv: ['--max-old-space-size=4096'] });
    if (availableParallelism() > 1) spawn('taskset', ['-acp', '1', String(child.pid)], { stdio: 'ignore' });
    children.push(child);
    return child;
  });
  const clients = new Clients(processes);
  const started = Date.now();
  const first = await clients.ask(
    processes.map((_, p) => ({
      do: 'connect',
      port,
      rootPem,
      clients: specs.filter((_s, i) => i % CLIENT_PROCESSES === p),
    })),
  );
  const tookS = (Date.now() - started) / 1000;
  say(`connected in ${tookS.toFixed(1)} s, ${(first.bytes / 1e6).toFixed(0)} MB: ${cost()}`);

  const results: Result[] = [];
  const measure = async (what: string, waitFor: ToClients & { do: 'await' }, change: () => void | Promise<void>) => {
    // The answer to one change must not be taken for that to the next.
    const waiting = clients.ask([waitFor]);
    const cpu = cpuUs([pid]);
    const from = performance.timeOrigin + performance.now();
    await change();
    const { atMs, usersAtMs, users, bytes, parts } = await waiting;
    const cpuSeconds = (cpuUs([pid]) - cpu) / 1e6;
    const usersMs = users > 0 ? usersAtMs - from : 0;
    results.push({ what, ms: atMs - from, usersMs, users, mb: bytes / 1e6, cpuSeconds, parts });
  };
  const rounds = options.quick ? 2 : 3;
  let { epoch } = await api.call<{ epoch: number }>('GET', '/v1/epoch');
  for (let i = 0; i < rounds; i++) {
    const service = 7 + i;
    const host = hostOf(service);
    const { instance, ...body } = workload(service, services);
    await measure('one endpoint', { do: 'await', resource: `endpoints/${host}:8080` }, () =>
      api.call('PUT', `/v1/instances/${instance}`, { ...body, ready: false }),
    );
    epoch++;
    await measure('one weight', { do: 'await', resource: `service/${host}` }, () => files.weight(service, 50));
    epoch++;
    await measure('one blank line', { do: 'await', epoch }, () => files.blankLine(service, 50));
  }
  report(results, processMemory(pid).rssBytes / 1e6, proxies, options);
}

/** `weft` may run itself again with the runtime and flags that it needs: the control plane is then its child. */
function controlPid(child: ChildProcess): number {
  const pid = child.pid as number;
  const own = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0];
  return own ? Number(own) : pid;
}

function report(all: readonly Result[], rssMb: number, proxies: number, options: { json: boolean }): void {
  const anchor = ISTIOD[proxies as keyof typeof ISTIOD];
  const lines: Line[] = [];
  const line = (what: string, weft: number, peerValue: number, unit: string): void => {
    const row = `push ${what}`;
    lines.push({ row, peer: 'istiod (recorded)', weft: round(weft), peerValue, ratio: round(weft / peerValue), unit });
  };
  const text: string[][] = [
    ['change', 'who uses it ms', 'last proxy ms', 'MB on the wire', 'control plane CPU s', 'plan parts sent'],
  ];
  for (const what of new Set(all.map((r) => r.what))) {
    // The slowest of the rounds: a change is made once.
    const of = all.filter((r) => r.what === what);
    const worst = (key: 'ms' | 'usersMs' | 'mb' | 'cpuSeconds' | 'parts'): number => Math.max(...of.map((r) => r[key]));
    text.push([
      what,
      of[0]!.users > 0 ? worst('usersMs').toFixed(0) : '-',
      worst('ms').toFixed(0),
      worst('mb').toFixed(2),
      worst('cpuSeconds').toFixed(2),
      String(worst('parts')),
    ]);
    if (what === 'one weight') {
      line(what, worst('ms'), anchor.ms, 'ms to the last proxy');
      line(what, worst('mb'), anchor.mb, 'MB on the wire');
      line(what, worst('cpuSeconds'), anchor.cpu, 'CPU seconds');
    }
  }
  line('memory', rssMb, anchor.rss, 'MB RSS of the control plane');
  if (options.json) for (const l of lines) process.stdout.write(`${JSON.stringify(l)}\n`);
  else {
    const widths = text[0]!.map((_, i) => Math.max(...text.map((r) => r[i]!.length)));
    for (const r of text)
      process.stdout.write(
        `${r.map((c, i) => (i === 0 ? c.padEnd(widths[i]!) : c.padStart(widths[i]!))).join('  ')}\n`,
      );
    process.stdout.write(`control plane: ${rssMb.toFixed(0)} MB RSS\n`);
  }
}

const round = (n: number): number => Number(n.toPrecision(4));
