/** JSON lines that stay: a file of at most so many bytes, with those before it beside it as `.1`, `.2` and so on. */
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Logger } from '@weft/base';

export interface LogLimits {
  bytes: number;
  /** Files kept, the one that is written among them. */
  files: number;
}

export const defaultLogLimits: LogLimits = { bytes: 10 * 1024 * 1024, files: 5 };

export class JsonLines {
  readonly #path: string;
  readonly #logger: Logger;
  readonly #limits: LogLimits;

  constructor(path: string, logger: Logger, limits: Partial<LogLimits> = {}) {
    this.#path = path;
    this.#logger = logger;
    this.#limits = { ...defaultLogLimits, ...limits };
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  }

  /** Never throws: what cannot be written is an error of the log, and the mesh goes on. */
  add(line: object): void {
    const text = `${JSON.stringify(line)}\n`;
    try {
      if (existsSync(this.#path) && statSync(this.#path).size + Buffer.byteLength(text) > this.#limits.bytes)
        this.#rotate();
      appendFileSync(this.#path, text, { mode: 0o600 });
    } catch (error) {
      this.#logger.error({ error: String(error), line: text.slice(0, 2000) }, 'a line of the audit cannot be written');
    }
  }

  /** All lines that are kept, the oldest first. A line that was cut by a crash is left out. */
  read(): Record<string, unknown>[] {
    const lines: Record<string, unknown>[] = [];
    for (let i = this.#limits.files - 1; i >= 0; i--) {
      const path = this.#name(i);
      if (!existsSync(path)) continue;
      for (const text of readFileSync(path, 'utf8').split('\n')) {
        if (text === '') continue;
        try {
          lines.push(JSON.parse(text));
        } catch {
          this.#logger.warn({ path }, 'a line of the audit cannot be read and is left out');
        }
      }
    }
    return lines;
  }

  #name(i: number): string {
    return i === 0 ? this.#path : `${this.#path}.${i}`;
  }

  #rotate(): void {
    rmSync(this.#name(this.#limits.files - 1), { force: true });
    for (let i = this.#limits.files - 2; i >= 0; i--)
      if (existsSync(this.#name(i))) renameSync(this.#name(i), this.#name(i + 1));
  }
}
