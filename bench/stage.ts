/** What every part of a benchmark stands on: a folder, addresses, cores, certificates, and processes that all end with it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { createAuthority, createKeyAndCsr } from '@weft/identity';
import { MemoryCgroup } from './cgroup.ts';

/** What travels through a chain, and so which application answers at its end. */
export type Kind = 'http' | 'grpc' | 'tcp' | 'websocket';

export interface Certificate {
  spiffeId: string;
  keyPem: string;
  chainPem: string;
  rootPem: string;
}

/** One data plane between the load and the application: client → front → mTLS → back → application. */
export interface Chain {
  peer: string;
  kind: Kind;
  /** Processes of the proxies: the client's, then the server's. None where the load meets the application itself. */
  pids: readonly number[];
  /** Where the load enters. */
  host: string;
  port: number;
  /** Where the server's proxy takes links; the application's own place where there is none. */
  mesh: { host: string; port: number };
  stop(): Promise<void>;
}

export interface Peer {
  name: string;
  /** Programs it needs, with the Debian package of each. */
  needs: Readonly<Record<string, string>>;
  kinds: readonly Kind[];
  /** Its own name and version, for the report. */
  version(): string;
  start(stage: Stage, kind: Kind): Promise<Chain>;
}

/** What the rules before the last one allow: prefixes that no load asks for. */
export function otherPaths(rules: number): string[] {
  return Array.from({ length: rules - 1 }, (_, i) => `/other/${i}/`);
}

const START_MS = 30_000;

export class Stage {
  readonly dir = mkdtempSync(path.join(tmpdir(), 'weft-bench-'));
  /** Own loopback addresses, so that two benchmarks on one machine do not meet. */
  readonly addresses: { front: string; back: string; app: string; load: string };
  /** One core for the proxies, the other one for load and application; the same one where there is but one. */
  readonly cores: { proxies: string; load: string };
  readonly appPorts: Readonly<Record<Kind, number>> = { http: 8080, grpc: 8081, tcp: 8082, websocket: 8083 };
  readonly certificates: { front: Certificate; back: Certificate };
  /** Rules of the server's proxy about who may ask for what; the last one lets the load in. */
  rules = 1;
  /** Set: every proxy started from now on is in a memory cgroup of its own, of this size. */
  proxyMemoryBytes: number | undefined;
  #children = new Set<ChildProcess>();
  #cgroups: MemoryCgroup[] = [];

  constructor(certificates: { front: Certificate; back: Certificate }) {
    const net24 = `127.${16 + (process.pid % 200)}.${1 + (Math.floor(process.pid / 200) % 250)}`;
    this.addresses = { front: `${net24}.1`, back: `${net24}.2`, app: `${net24}.3`, load: `${net24}.4` };
    this.cores = availableParallelism() > 1 ? { proxies: '0', load: '1' } : { proxies: '0', load: '0' };
    this.certificates = certificates;
  }

  file(name: string): string {
    return path.join(this.dir, name);
  }

  /** The arguments that run `argv` on a core. The program takes taskset's place, so the pid stays. */
  on(core: 'proxies' | 'load', argv: readonly string[]): string[] {
    // Killed with the benchmark, even where that had no time to clean up.
    return ['setpriv', '--pdeathsig', 'KILL', 'taskset', '-c', this.cores[core], ...argv];
  }

  /** Starts a process that lives as long as the stage, or until `stop`. */
  start(core: 'proxies' | 'load', argv: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const [command, ...args] = this.on(core, core === 'proxies' ? this.#bounded(argv) : argv);
    const child = spawn(command!, args, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, ...env } });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  #bounded(argv: readonly string[]): readonly string[] {
    if (this.proxyMemoryBytes === undefined) return argv;
    const name = `weft-bench-${process.pid}-${this.#cgroups.length}`;
    const cgroup = new MemoryCgroup(name, this.proxyMemoryBytes);
    this.#cgroups.push(cgroup);
    return cgroup.run(argv);
  }

  /** Processes that were killed for their memory so far. */
  get kills(): number {
    return this.#cgroups.reduce((sum, c) => sum + c.kills, 0);
  }

  /** Both proxies of a chain; resolves when both listen. Throws when one ends before. */
  async chain(
    peer: string,
    kind: Kind,
    children: readonly ChildProcess[],
    ports: { front: number; back: number },
  ): Promise<Chain> {
    const { front, back } = this.addresses;
    await this.listening(front, ports.front, children[0]);
    await this.listening(back, ports.back, children[1]);
    return {
      peer,
      kind,
      pids: children.map((c) => c.pid!),
      host: front,
      port: ports.front,
      mesh: { host: back, port: ports.back },
      stop: () => this.stop(children),
    };
  }

  async stop(children: readonly ChildProcess[]): Promise<void> {
    await Promise.all(children.map(end));
  }

  /** Resolves when something listens there; throws after 30 s, or when `child` ends before. */
  async listening(host: string, port: number, child?: ChildProcess): Promise<void> {
    for (const end = Date.now() + START_MS; ; ) {
      if (await accepts(host, port)) return;
      if (child && (child.exitCode !== null || child.signalCode !== null)) {
        throw new Error(`${child.spawnargs.join(' ')} ended with ${child.exitCode ?? child.signalCode}`);
      }
      if (Date.now() > end) throw new Error(`nothing listens on ${host}:${port}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Ends every process and removes the folder. */
  async close(): Promise<void> {
    await this.stop([...this.#children]);
    for (const cgroup of this.#cgroups) cgroup.remove();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A stage with fresh certificates for both proxies, of one authority. */
export async function openStage(): Promise<Stage> {
  const dir = mkdtempSync(path.join(tmpdir(), 'weft-bench-ca-'));
  try {
    const authority = await createAuthority({ dir, trustDomain: 'cluster.local' });
    const certificate = async (name: string): Promise<Certificate> => {
      const { keyPem, csrPem } = await createKeyAndCsr();
      const spiffeId = `spiffe://cluster.local/ns/bench/sa/${name}`;
      const { chainPem, rootPem } = await authority.sign(csrPem, { spiffeId, ttlMs: 24 * 3_600_000 });
      return { spiffeId, keyPem, chainPem, rootPem };
    };
    return new Stage({ front: await certificate('front'), back: await certificate('back') });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port }, () => {
      resolve(true);
      socket.destroy();
    });
    socket.on('error', () => resolve(false));
  });
}

const KILL_AFTER_MS = 10_000;

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
  await ended;
  clearTimeout(timer);
}
