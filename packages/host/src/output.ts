/** Children's output: prefixed lines for people, and a file per child that `weft logs` reads. */

import { appendFileSync, closeSync, openSync, readFileSync, renameSync, statSync, writeSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';

const MAX_LINE_CHARS = 16_384;
const MAX_FILE_BYTES = 10 * 1024 * 1024;

/** Cuts chunks into lines; an endless line is cut at 16 KiB. */
export class LineSplitter {
  #rest = '';
  readonly #decoder = new StringDecoder('utf8');
  readonly #onLine: (line: string) => void;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(chunk: Buffer): void {
    this.#rest += this.#decoder.write(chunk);
    const lines = this.#rest.split('\n');
    this.#rest = lines.pop()!;
    for (const l of lines) this.#onLine(l);
    while (this.#rest.length > MAX_LINE_CHARS) {
      this.#onLine(this.#rest.slice(0, MAX_LINE_CHARS));
      this.#rest = this.#rest.slice(MAX_LINE_CHARS);
    }
  }

  end(): void {
    if (this.#rest) this.#onLine(this.#rest);
    this.#rest = '';
  }
}

/** A log of at most 10 MiB, with the one before it beside it as `.1`. A full disk loses lines, never the mesh. */
export class LogFile {
  readonly path: string;
  #fd: number;
  #size: number;

  constructor(path: string) {
    this.path = path;
    this.#fd = openSync(path, 'a', 0o600);
    this.#size = statSync(path).size;
  }

  line(text: string): void {
    if (this.#fd < 0) return;
    try {
      this.#size += writeSync(this.#fd, text + '\n');
      if (this.#size > MAX_FILE_BYTES) {
        closeSync(this.#fd);
        renameSync(this.path, `${this.path}.1`);
        this.#fd = openSync(this.path, 'a', 0o600);
        this.#size = 0;
      }
    } catch {
      // Nothing better can be done with a line that cannot be written.
    }
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

/** The last `lines` lines of a log, also where its file has just been set aside; empty where there is none. */
export function tail(path: string, lines: number): string[] {
  const newer = linesOf(path);
  if (newer.length >= lines) return newer.slice(-lines);
  return [...linesOf(`${path}.1`), ...newer].slice(-lines);
}

function linesOf(path: string): string[] {
  try {
    const all = readFileSync(path, 'utf8').split('\n');
    if (all.at(-1) === '') all.pop();
    return all;
  } catch {
    return [];
  }
}

/** For what ends at once after it: appended without an open file. */
export function appendLine(path: string, text: string): void {
  try {
    appendFileSync(path, text + '\n', { mode: 0o600 });
  } catch {
    // As above.
  }
}

/** Of the control plane's JSON log lines those that somebody at the terminal wants: warnings and errors. */
export function problemLines(line: string): string[] {
  try {
    const value = JSON.parse(line) as { level?: unknown; msg?: unknown };
    return typeof value.level === 'number' && value.level >= 40 ? [String(value.msg)] : [];
  } catch {
    return line.trim() ? [line] : [];
  }
}
