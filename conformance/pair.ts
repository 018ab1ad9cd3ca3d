/**
 * Two proxies, each a process of its own, with an application of yours behind them:
 *
 *     you → front:PORT (the application side of A) → mesh link, TLS 1.3 + HTTP/2 → B → the application
 *     you → back:PORT (B's inbound side, plaintext where `mtls` allows it)       → the application
 *
 * No privileges: own 127.x addresses, and every PORT of the front stands for the kernel's redirect to 15001.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAuthority, createKeyAndCsr } from '@weft/identity';
import { Protocol } from '@weft/plan';
import type { ProxyLimits } from '@weft/proxy';
import proxyFlags from '../packages/cli/proxy-flags.json' with { type: 'json' };
import type { PairRecord, PolicyInit, SideAnswer, SideQuestion, SideStart } from './pair-side.ts';

export type { PairRecord, PolicyInit };

const PROTOCOLS = {
  detect: Protocol.UNSPECIFIED,
  http: Protocol.HTTP,
  http2: Protocol.HTTP2,
  grpc: Protocol.GRPC,
  tcp: Protocol.TCP,
};

export interface PairPort {
  /** The port that clients use; also the service's. */
  port: number;
  /** Where the application listens; it may start later. */
  appHost: string;
  appPort: number;
  /** Default `http`: HTTP/1.1 or h2c from the client, HTTP/1.1 to the application. `http2` and `grpc` speak h2c to it. */
  protocol?: keyof typeof PROTOCOLS;
  /** Of the route; default 15 s, 0: none. */
  timeoutMs?: number;
}

export interface PairOptions {
  ports: readonly PairPort[];
  /** Of B's ports; default strict. `disable`: plaintext between the two. */
  mtls?: 'strict' | 'permissive' | 'disable';
  /** Authorization at B. The front's principal is `cluster.local/ns/pair/sa/front`. */
  policies?: PolicyInit[];
  limits?: Partial<ProxyLimits>;
  /** Where the front reaches B's mesh port 15008, if something stands between them; default B's own address. */
  meshAddress?: string;
  /** Default true; false for floods, whose records would fill the memory of the proxies' processes. */
  records?: boolean;
  /** A gateway too, `pair.edge`, whose policies are its own. */
  edge?: boolean;
  /** Service accounts that get a certificate of the mesh without a proxy: `pair.certificates`. */
  strangers?: readonly string[];
  /** The first three numbers of both addresses; default one of this process's own. */
  network?: string;
}

/** What a side has told since it was asked before, and its counters. */
export interface SideReport {
  records: PairRecord[];
  /** By the names of LIMITS.md; since the start. */
  counters: Map<string, number>;
  /** Requests that run now. */
  inFlight: number;
  tcpClosed: number;
}

const STOP_MS = 3000;
const SETTLE_MS = 10_000;
let pairs = 0;

export class PairSide {
  readonly child: ChildProcess;
  readonly address: string;
  #next = 0;
  #waiting = new Map<number, (answer: SideAnswer) => void>();
  #exited: string | undefined;

  constructor(start: SideStart) {
    this.address = start[start.side] as string;
    this.child = fork(join(import.meta.dirname, 'pair-side.ts'), {
      execArgv: [...proxyFlags],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.child.on('exit', (code, signal) => {
      this.#exited = `the ${start.side} proxy ended: ${signal ?? `code ${code}`}`;
      for (const resolve of this.#waiting.values())
        resolve({ id: -1, records: [], counters: [], inFlight: 0, tcpClosed: 0 });
    });
    this.child.send(start);
  }

  get pid(): number {
    return this.child.pid as number;
  }
  /** Why the process is no more; undefined while it runs. */
  get exited(): string | undefined {
    return this.#exited;
  }

  async ready(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.child.once('message', () => {
        this.child.on('message', (answer: SideAnswer) => this.#waiting.get(answer.id)?.(answer));
        resolve();
      });
      this.child.once('exit', () => reject(new Error(this.#exited)));
    });
  }

  /** Takes the records that gathered, and reads the counters. Rejects where the proxy has died. */
  take(): Promise<SideReport> {
    return this.#ask({ id: this.#next++, ask: 'take' });
  }

  /** The same without taking the records. */
  peek(): Promise<SideReport> {
    return this.#ask({ id: this.#next++, ask: 'peek' });
  }

  /** Collects garbage, as a proxy does when memory is short: what is in use after it is used. */
  collect(): Promise<SideReport> {
    return this.#ask({ id: this.#next++, ask: 'collect' });
  }

  authorize(policies: PolicyInit[]): Promise<SideReport> {
    return this.#ask({ id: this.#next++, ask: 'authorize', policies });
  }

  async #ask(question: SideQuestion): Promise<SideReport> {
    const answer = await new Promise<SideAnswer>((resolve, reject) => {
      if (this.#exited !== undefined) {
        reject(new Error(this.#exited));
        return;
      }
      this.#waiting.set(question.id, resolve);
      this.child.send(question);
    });
    this.#waiting.delete(question.id);
    if (answer.id === -1) throw new Error(this.#exited);
    return { ...answer, counters: new Map(answer.counters) };
  }

  async stop(): Promise<void> {
    if (this.#exited !== undefined) return;
    const gone = new Promise<void>((resolve) => this.child.once('exit', () => resolve()));
    const force = setTimeout(() => this.child.kill('SIGKILL'), STOP_MS);
    this.child.kill('SIGTERM');
    await gone;
    clearTimeout(force);
  }
}

export interface PairCertificate {
  keyPem: string;
  chainPem: string;
  rootPem: string;
}

export class Pair {
  readonly front: PairSide;
  readonly back: PairSide;
  readonly edge: PairSide | undefined;
  /** By the names of `strangers`. */
  readonly certificates: ReadonlyMap<string, PairCertificate>;

  constructor(sides: readonly PairSide[], certificates: ReadonlyMap<string, PairCertificate>) {
    this.front = sides[0];
    this.back = sides[1];
    this.edge = sides[2];
    this.certificates = certificates;
  }

  /** Puts other policies in force at B; the next request is judged by them. */
  async authorize(policies: PolicyInit[]): Promise<void> {
    await this.back.authorize(policies);
  }

  /** Rejects where a proxy died, met an internal error, or still holds a request when all clients have gone. */
  async settled(): Promise<void> {
    for (const [name, side] of [
      ['front', this.front],
      ['back', this.back],
      ['edge', this.edge],
    ] as const) {
      if (!side) continue;
      for (const end = Date.now() + SETTLE_MS; ; ) {
        const { inFlight, counters } = await side.peek();
        if (counters.has('internal_error')) throw new Error(`the ${name} proxy counted internal errors`);
        if (inFlight === 0) break;
        if (Date.now() > end) throw new Error(`the ${name} proxy still holds ${inFlight} requests`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  async stop(): Promise<void> {
    await Promise.all([this.front.stop(), this.back.stop(), this.edge?.stop()]);
  }
}

/** Starts both proxies; they listen when it resolves. Call `stop` whatever happens (`ctx.cleanup`). */
export async function startPair(options: PairOptions): Promise<Pair> {
  const n = process.pid + pairs++;
  const network = options.network ?? `127.${64 + ((n >> 8) % 128)}.${n & 255}`;
  const dir = mkdtempSync(join(tmpdir(), 'weft-pair-'));
  try {
    const authority = await createAuthority({ dir, trustDomain: 'cluster.local' });
    const certify = async (name: string): Promise<PairCertificate> => {
      const { keyPem, csrPem } = await createKeyAndCsr();
      const spiffeId = `spiffe://cluster.local/ns/pair/sa/${name}`;
      return { keyPem, ...(await authority.sign(csrPem, { spiffeId, ttlMs: 86_400_000 })) };
    };
    const certificates = new Map<string, PairCertificate>();
    for (const name of options.strangers ?? []) certificates.set(name, await certify(name));
    const sides = await Promise.all(
      (options.edge ? (['front', 'back', 'edge'] as const) : (['front', 'back'] as const)).map(async (side) => {
        const { keyPem, chainPem, rootPem } = await certify(side);
        return new PairSide({
          side,
          front: `${network}.1`,
          back: `${network}.2`,
          edge: `${network}.3`,
          meshAddress: options.meshAddress,
          ports: options.ports.map((p) => ({
            port: p.port,
            protocol: PROTOCOLS[p.protocol ?? 'http'],
            appHost: p.appHost,
            appPort: p.appPort,
            timeoutMs: p.timeoutMs ?? 15_000,
          })),
          mtls: options.mtls ?? 'strict',
          policies: options.policies ?? [],
          limits: options.limits ?? {},
          records: options.records,
          keyPem,
          chainPem,
          rootPem,
        });
      }),
    );
    const pair = new Pair(sides, certificates);
    try {
      await Promise.all(sides.map((side) => side.ready()));
    } catch (error) {
      await pair.stop();
      throw error;
    }
    return pair;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
