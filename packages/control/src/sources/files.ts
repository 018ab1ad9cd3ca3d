/** Watches the mesh's files. `fs.watch` only hints; what counts is a look every 250 ms, which works on every file system. */
import { type FSWatcher, readdirSync, readFileSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { type Clock, type Logger, systemClock, type Timer } from '@weft/base';
import { isAttachment, isTestFile, MAX_FILE_BYTES, sourceFile } from '@weft/config';
import type { SourceFile } from '../state.ts';

const POLL_MS = 250;
/** A change is taken once two looks this far apart agree: editors write in steps. */
const SETTLE_MS = 40;
/** As the command line: a folder's own files of these kinds, and what they may name, not hidden ones. */
const isSource = (name: string): boolean =>
  (/\.(ya?ml|json)$/.test(name) || isAttachment(name)) && !isTestFile(name) && !name.startsWith('.');
const MAX_FILES = 10_000;

/** Files that cannot be read, with why; the others are not used then, since half a mesh is not the mesh. */
export interface ReadResult {
  files: SourceFile[];
  errors: { path: string; message: string; line?: number }[];
}

/** All files behind `paths`, sorted within each folder. */
export function readSources(paths: readonly string[]): ReadResult {
  const result: ReadResult = { files: [], errors: [] };
  const seen = new Set<string>();
  for (const path of paths) {
    try {
      const names = statSync(path).isDirectory()
        ? readdirSync(path)
            .filter(isSource)
            .sort()
            .map((n) => join(path, n))
        : [path];
      for (const name of names) {
        if (seen.has(name)) continue;
        seen.add(name);
        readOne(name, result);
      }
    } catch (error) {
      result.errors.push({ path, message: reason(error) });
    }
  }
  return result;
}

function readOne(path: string, result: ReadResult): void {
  try {
    const stat = statSync(path);
    if (stat.isDirectory()) return;
    if (!stat.isFile()) throw new Error('is not a regular file');
    if (stat.size > MAX_FILE_BYTES) throw new Error(`has ${stat.size} bytes: at most ${MAX_FILE_BYTES} are read`);
    if (result.files.length >= MAX_FILES) throw new Error(`is past the limit of ${MAX_FILES} files`);
    const { text, unreadable } = sourceFile(path, readFileSync(path));
    if (unreadable) result.errors.push({ path, ...unreadable });
    else result.files.push({ path, text });
  } catch (error) {
    result.errors.push({ path, message: reason(error) });
  }
}

function reason(error: unknown): string {
  const code = (error as NodeJS.ErrnoException)?.code;
  if (code === 'ENOENT') return 'does not exist';
  if (code === 'EACCES') return 'may not be read by this user';
  return error instanceof Error ? error.message : String(error);
}

function fingerprint(result: ReadResult): string {
  return JSON.stringify([result.files.map((f) => [f.path, f.text]), result.errors]);
}

export interface FileSourceOptions {
  paths: readonly string[];
  onChange(result: ReadResult): void;
  logger: Logger;
  clock?: Clock;
}

export class FileSource {
  readonly #options: FileSourceOptions;
  readonly #clock: Clock;
  #seen = '';
  #stats = '';
  #timer: Timer | undefined;
  #settling = false;
  #watchers: FSWatcher[] = [];
  #stopped = false;

  constructor(options: FileSourceOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Reads once and says so, then watches. */
  start(): void {
    this.#stats = this.#statAll();
    const first = readSources(this.#options.paths);
    this.#seen = fingerprint(first);
    this.#options.onChange(first);
    for (const path of this.#options.paths) {
      try {
        const watcher = watch(path, { persistent: false }, () => this.#look());
        watcher.on('error', () => {});
        this.#watchers.push(watcher);
      } catch {
        // Polling sees it.
      }
    }
    this.#poll();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    for (const watcher of this.#watchers) watcher.close();
  }

  #poll(): void {
    if (this.#stopped) return;
    this.#timer = this.#clock.after(POLL_MS, () => {
      this.#look();
      this.#poll();
    });
  }

  /** Cheap look: names, sizes and times of all files. */
  #statAll(): string {
    const parts: string[] = [];
    const add = (path: string) => {
      try {
        const s = statSync(path, { bigint: true });
        parts.push(`${path} ${s.ino} ${s.size} ${s.mtimeNs} ${s.ctimeNs}`);
        return s.isDirectory();
      } catch (error) {
        parts.push(`${path} ${(error as NodeJS.ErrnoException).code}`);
        return false;
      }
    };
    for (const path of this.#options.paths) {
      if (!add(path)) continue;
      try {
        for (const name of readdirSync(path)) if (isSource(name)) add(join(path, name));
      } catch {
        // The next look finds it or not.
      }
    }
    return parts.join('\n');
  }

  #look(): void {
    if (this.#stopped || this.#settling) return;
    const stats = this.#statAll();
    if (stats === this.#stats) return;
    this.#settling = true;
    this.#settle(stats);
  }

  #settle(before: string): void {
    this.#clock.after(SETTLE_MS, () => {
      if (this.#stopped) return;
      const stats = this.#statAll();
      if (stats !== before) {
        this.#settle(stats);
        return;
      }
      this.#settling = false;
      this.#stats = stats;
      const result = readSources(this.#options.paths);
      const now = fingerprint(result);
      if (now === this.#seen) return;
      this.#seen = now;
      try {
        this.#options.onChange(result);
      } catch (error) {
        this.#options.logger.error({ error: String(error) }, 'taking in a change of the files failed');
      }
    });
  }
}
