/** `weft demo` as a user runs it, ended with the test that started it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { weftBin } from './harness.ts';

let started = 0;

export class Demo {
  readonly name: string;
  /** Holds all that it writes: its applications have this path in their environments. */
  readonly base: string;
  readonly env: NodeJS.ProcessEnv;
  /** Its exit code, once all of its output is read. */
  readonly exit: Promise<number | null>;
  out = '';
  err = '';
  #child: ChildProcess;

  constructor(t: TestContext, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    started += 1;
    this.name = `d${process.pid % 10_000}x${started}`;
    this.base = mkdtempSync(join(tmpdir(), 'weft-demo-'));
    chmodSync(this.base, 0o755);
    this.env = { ...process.env, WEFT_STATE: join(this.base, 'state'), ...env };
    const child = spawn(process.execPath, [weftBin, 'demo', '--mesh', this.name, ...args], {
      env: this.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    child.stdout.on('data', (c: Buffer) => {
      this.out += c;
    });
    child.stderr.on('data', (c: Buffer) => {
      this.err += c;
    });
    this.exit = new Promise((resolve) => child.on('close', resolve));
    t.after(async () => {
      if (this.running) child.kill('SIGTERM');
      await this.exit;
      rmSync(this.base, { recursive: true, force: true });
    });
  }

  /** As Ctrl-C does. */
  interrupt(): void {
    this.#child.kill('SIGINT');
  }

  get running(): boolean {
    return this.#child.exitCode === null;
  }
}
