/** One supervised child: its process group, its output, its restarts, its end. */

import { type ChildProcess, spawn } from 'node:child_process';
import { backoffMs, type Clock, type Random, systemClock, systemRandom, type Timer } from '@weft/base';
import { LineSplitter } from './output.ts';

const BACKOFF_BASE_MS = 1000;
const BACKOFF_MAX_MS = 60_000;
/** Running so long forgets the failures before (Kubernetes: 10 minutes). */
const HEALTHY_AFTER_MS = 600_000;

export interface ChildSpec {
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly restartPolicy: 'Always' | 'OnFailure' | 'Never';
  /** Longest and first wait before a restart; 60 s and 1 s where absent. */
  readonly backoffMaxMs?: number;
  readonly backoffBaseMs?: number;
}

export interface ChildExit {
  readonly code: number | undefined;
  readonly signal: string | undefined;
  /** In words: `exit 1`, `SIGKILL`, `command not found`. */
  readonly text: string;
  readonly ok: boolean;
}

export interface ChildEvents {
  onLine(line: string, stream: 'stdout' | 'stderr'): void;
  onStart?(pid: number): void;
  /** `restartInMs` is undefined where it stays down. */
  onExit?(exit: ChildExit, restartInMs: number | undefined): void;
}

export class Child {
  readonly #spec: ChildSpec;
  readonly #events: ChildEvents;
  readonly #clock: Clock;
  readonly #random: Random;
  #process: ChildProcess | undefined;
  #restart: Timer | undefined;
  #stopping = false;
  #failures = 0;
  #startedAt = 0;
  #waiters: (() => void)[] = [];
  restarts = 0;

  constructor(spec: ChildSpec, events: ChildEvents, clock: Clock = systemClock, random: Random = systemRandom) {
    this.#spec = spec;
    this.#events = events;
    this.#clock = clock;
    this.#random = random;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  get running(): boolean {
    return this.#process !== undefined;
  }

  start(): void {
    if (this.#process || this.#stopping) return;
    this.#startedAt = this.#clock.now();
    const [program, ...args] = this.#spec.argv;
    // A process group of its own: a Ctrl-C of the terminal reaches the supervisor alone, which then stops things in order.
    const child = spawn(program!, args, {
      cwd: this.#spec.cwd,
      env: this.#spec.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#process = child;
    let ended = false;
    const end = (exit: ChildExit) => {
      if (ended) return;
      ended = true;
      this.#onExit(exit);
    };
    for (const name of ['stdout', 'stderr'] as const) {
      const splitter = new LineSplitter((line) => this.#events.onLine(line, name));
      child[name]!.on('data', (d: Buffer) => splitter.push(d));
      child[name]!.on('end', () => splitter.end());
      child[name]!.on('error', () => {});
    }
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (child.pid !== undefined) return; // A signal that could not be sent; the exit still comes.
      const text =
        error.code === 'ENOENT' ? `${program} (or the folder ${this.#spec.cwd}) does not exist` : error.message;
      end({ code: 127, signal: undefined, text, ok: false });
    });
    child.on('exit', (code, signal) => {
      const text = signal ?? `exit ${code}`;
      end({ code: code ?? undefined, signal: signal ?? undefined, text, ok: code === 0 });
    });
    if (child.pid !== undefined) this.#events.onStart?.(child.pid);
  }

  #onExit(exit: ChildExit): void {
    const pid = this.#process?.pid;
    this.#process = undefined;
    if (pid !== undefined) signalGroup(pid, 'SIGKILL'); // What it forked does not outlive it.
    for (const w of this.#waiters.splice(0)) w();
    const again =
      !this.#stopping &&
      (this.#spec.restartPolicy === 'Always' || (this.#spec.restartPolicy === 'OnFailure' && !exit.ok));
    if (!again) {
      this.#events.onExit?.(exit, undefined);
      return;
    }
    if (this.#clock.now() - this.#startedAt > HEALTHY_AFTER_MS) this.#failures = 0;
    const base = this.#spec.backoffBaseMs ?? BACKOFF_BASE_MS;
    const max = this.#spec.backoffMaxMs ?? BACKOFF_MAX_MS;
    const ceiling = Math.min(max, base * 2 ** Math.min(this.#failures, 30));
    // Half fixed, half random: full jitter would often restart at once.
    const delay = ceiling / 2 + backoffMs(0, ceiling / 2, ceiling / 2, this.#random);
    this.#failures += 1;
    this.#restart = this.#clock.after(delay, () => {
      this.#restart = undefined;
      this.restarts += 1;
      this.start();
    });
    this.#events.onExit?.(exit, delay);
  }

  signal(name: NodeJS.Signals): void {
    if (this.pid !== undefined) signalGroup(this.pid, name);
  }

  /** SIGTERM to the group, SIGKILL after `deadlineMs`; resolves when the process has ended. Idempotent. */
  async stop(deadlineMs: number): Promise<void> {
    this.#stopping = true;
    this.#restart?.cancel();
    this.#restart = undefined;
    const pid = this.pid;
    if (pid === undefined) return;
    const ended = new Promise<void>((resolve) => this.#waiters.push(resolve));
    signalGroup(pid, 'SIGTERM');
    const kill = this.#clock.after(deadlineMs, () => signalGroup(pid, 'SIGKILL'));
    await ended;
    kill.cancel();
  }
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // The group is empty.
  }
}
