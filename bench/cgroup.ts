/** Memory cgroups, of either version: a bound that the kernel keeps, and what it saw. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const V1 = '/sys/fs/cgroup/memory';
const V2 = '/sys/fs/cgroup';

export class MemoryCgroup {
  readonly #dir: string;
  readonly #v1: boolean;

  /** Throws where cgroups may not be made here. */
  constructor(name: string, bytes: number) {
    this.#v1 = existsSync(path.join(V1, 'memory.limit_in_bytes'));
    this.#dir = path.join(this.#v1 ? V1 : V2, name);
    try {
      mkdirSync(this.#dir);
      this.#write(this.#v1 ? 'memory.limit_in_bytes' : 'memory.max', bytes);
      if (!this.#v1 && existsSync(path.join(this.#dir, 'memory.swap.max'))) this.#write('memory.swap.max', 0);
    } catch (cause) {
      throw new Error(`no memory cgroup can be made at ${this.#dir}: ${(cause as Error).message}`, { cause });
    }
  }

  #write(file: string, value: number): void {
    writeFileSync(path.join(this.#dir, file), String(value));
  }

  /** The command that puts itself inside and becomes `argv`: all its memory counts, from the first page on. */
  run(argv: readonly string[]): string[] {
    return ['sh', '-c', 'echo $$ > "$0" && exec "$@"', path.join(this.#dir, 'cgroup.procs'), ...argv];
  }

  /** Processes the kernel killed because the bound was reached. */
  get kills(): number {
    const text = readFileSync(path.join(this.#dir, this.#v1 ? 'memory.oom_control' : 'memory.events'), 'utf8');
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
  }

  /** Removes it; its processes must have ended. */
  remove(): void {
    rmdirSync(this.#dir);
  }
}
