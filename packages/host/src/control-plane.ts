/** The control plane of a mesh as a child process, which comes back when it ends. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock, WeftError } from '@weft/base';
import { localRequest } from './control-client.ts';
import { LogFile, problemLines } from './output.ts';
import { Child } from './process.ts';
import type { MeshPaths } from './state.ts';
import { pause } from './wait.ts';

const READY_MS = 20_000;
const STOP_MS = 3000;

export interface ControlPlaneOptions {
  readonly command: readonly string[];
  readonly paths: MeshPaths;
  readonly env: Readonly<Record<string, string>>;
  /** What the file that WEFT_CONTROL names holds. */
  readonly config: Readonly<Record<string, unknown>>;
  say(name: string, line: string): void;
  /** It answers again after a restart, and knows of no instance. */
  onReturn(): Promise<unknown>;
}

export class ControlPlane {
  readonly #options: ControlPlaneOptions;
  readonly #log: LogFile;
  readonly #child: Child;
  #errors: string[] = [];
  #starts = 0;
  #stopping = false;

  constructor(options: ControlPlaneOptions) {
    this.#options = options;
    const { command, paths, env, say } = options;
    const path = join(paths.root, 'control.json');
    writeFileSync(path, JSON.stringify(options.config), { mode: 0o600 });
    this.#log = new LogFile(join(paths.logs, 'control-plane.log'));
    this.#child = new Child(
      {
        argv: command,
        cwd: '/',
        env: { ...env, WEFT_CONTROL: path, WEFT_PARENT_PID: String(process.pid) },
        restartPolicy: 'Always',
        backoffBaseMs: 400,
        backoffMaxMs: 4000,
      },
      {
        onLine: (line) => {
          this.#log.line(line);
          this.#errors.push(line);
          if (this.#errors.length > 5) this.#errors.shift();
          for (const l of problemLines(line)) say('control-plane', l);
        },
        onStart: () => {
          this.#starts += 1;
          if (this.#starts > 1) void this.#returned();
        },
        onExit: (exit, again) => {
          if (this.#stopping || (this.#starts === 1 && again === undefined)) return;
          say('weft', `control plane ended (${exit.text}); proxies go on with what they have`);
        },
      },
    );
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Until it answers. Throws with what it said where it does not. */
  async start(): Promise<void> {
    this.#child.start();
    const end = systemClock.now() + READY_MS;
    while (!(await this.#answers())) {
      if (this.#stopping) throw new WeftError('stopped', 'stopped while it started');
      if (!this.#child.running || this.#child.restarts > 0 || systemClock.now() > end) {
        throw new WeftError(
          'control-start',
          `the control plane did not start: ${this.#errors.join(' | ') || 'it said nothing'} (see ${this.#log.path})`,
        );
      }
      await pause(25);
    }
  }

  /** From now on its end is no news. */
  ending(): void {
    this.#stopping = true;
  }

  async stop(): Promise<void> {
    this.ending();
    await this.#child.stop(STOP_MS);
    this.#log.close();
  }

  async #returned(): Promise<void> {
    const end = systemClock.now() + READY_MS;
    while (!this.#stopping && systemClock.now() < end) {
      try {
        if (await this.#answers()) {
          await this.#options.onReturn();
          return;
        }
      } catch {
        // It is away again: asked once more below.
      }
      await pause(50);
    }
  }

  #answers(): Promise<boolean> {
    return localRequest(this.#options.paths.controlSocket, 'GET', '/v1/epoch', undefined, 1000).then(
      () => true,
      () => false,
    );
  }
}
