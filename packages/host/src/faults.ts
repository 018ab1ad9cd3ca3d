/**
 * Faults for a while in the mesh's files. What is to be taken back stands on disk before a file is changed: whoever comes
 * next does it, where this process dies before it could.
 */
import { createHash } from 'node:crypto';
import {
  chownSync,
  existsSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { type Clock, systemClock, type Timer, WeftError } from '@weft/base';

const LOOK_MS = 500;
const MAX_FAULTS = 100;
/** Longer than anybody means. */
const MAX_FOR_MS = 30 * 86_400_000;

export interface FaultEntry {
  /** A DNS label. */
  readonly id: string;
  readonly service: string;
  /** In words: what happens, and to which requests. */
  readonly what: string;
  readonly file: string;
  /** The file was made for faults, and goes with the last of them. */
  readonly created: boolean;
  /** Wall milliseconds. */
  readonly untilMs: number;
}

export interface FaultRequest {
  readonly id: string;
  readonly service: string;
  readonly what: string;
  readonly file: string;
  readonly forMs: number;
  /** SHA-256 of what the file holds; empty: there is none. What was checked is what is written. */
  readonly before: string;
  /** What `FaultText.add` is to do. */
  readonly edit: unknown;
}

/** How a fault is written into a text and taken out of it: pure. */
export interface FaultText {
  add(text: string | undefined, edit: unknown): string;
  /** Undefined: there is nothing of it, or the text cannot be read. */
  remove(text: string, id: string): string | undefined;
  /** Whether there is any. */
  has(text: string): boolean;
}

export function textHash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

export class Faults {
  readonly #path: string;
  readonly #text: FaultText;
  readonly #say: (line: string) => void;
  readonly #clock: Clock;
  #entries: FaultEntry[];
  #timer: Timer | undefined;
  /** Those that could not be taken back, said once. */
  readonly #stuck = new Set<string>();

  /** `path`: where they are noted; what stands there is what an earlier process left. */
  constructor(path: string, text: FaultText, say: (line: string) => void, clock: Clock = systemClock) {
    this.#path = path;
    this.#text = text;
    this.#say = say;
    this.#clock = clock;
    this.#entries = noted(path);
  }

  list(): readonly FaultEntry[] {
    return this.#entries;
  }

  add(r: FaultRequest): FaultEntry {
    const { id, service, what, file, forMs, before } = r;
    if (!/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/.test(id)) throw new WeftError('fault', `"${id}" is no name of a fault`);
    if (!isAbsolute(file)) throw new WeftError('fault', `${file} is no absolute path`);
    if (!(forMs > 0 && forMs <= MAX_FOR_MS)) throw new WeftError('fault', 'a fault may last up to 30d');
    if (this.#entries.some((e) => e.id === id))
      throw new WeftError('fault', `there is a fault ${id} already: try again`);
    if (this.#entries.length >= MAX_FAULTS)
      throw new WeftError('fault', `there are ${MAX_FAULTS} faults already: "weft fault remove" some`);
    const now = existsSync(file) ? readFileSync(file, 'utf8') : undefined;
    if ((now === undefined ? '' : textHash(now)) !== before)
      throw new WeftError('fault', `${file} was changed in this moment: try again`);
    const text = this.#text.add(now, r.edit);
    const created = now === undefined || this.#entries.some((e) => e.created && e.file === file);
    const entry = { id, service, what, file, created, untilMs: this.#clock.wall() + forMs };
    this.#note([...this.#entries, entry]);
    try {
      replaceFile(file, text);
    } catch (error) {
      this.#note(this.#entries.filter((e) => e !== entry));
      throw new WeftError('fault', `${file} could not be written: ${(error as Error).message}`);
    }
    this.#watch();
    return entry;
  }

  /** Throws where there is no such fault, or its file cannot be written. */
  remove(id: string): FaultEntry {
    const entry = this.#entries.find((e) => e.id === id);
    const ids = this.#entries.map((e) => e.id).join(', ');
    if (!entry) throw new WeftError('fault', `there is no fault ${id}; there are: ${ids || 'none'}`);
    this.#takeBack(entry);
    return entry;
  }

  /** All of them. What cannot be taken back now stays noted. Returns what was. */
  removeAll(because: string): FaultEntry[] {
    this.#timer?.cancel();
    this.#timer = undefined;
    return this.#entries.filter((e) => this.#try(e, because));
  }

  #watch(): void {
    if (this.#timer || this.#entries.length === 0) return;
    this.#timer = this.#clock.after(LOOK_MS, () => {
      this.#timer = undefined;
      const now = this.#clock.wall();
      for (const e of this.#entries) if (e.untilMs <= now) this.#try(e, 'its time is over');
      this.#watch();
    });
  }

  #try(entry: FaultEntry, because: string): boolean {
    try {
      this.#takeBack(entry);
    } catch (error) {
      if (!this.#stuck.has(entry.id)) this.#say(`fault ${entry.id}: ${(error as Error).message}`);
      this.#stuck.add(entry.id);
      return false;
    }
    this.#say(`fault ${entry.id} (${entry.service}: ${entry.what}) is taken back: ${because}`);
    return true;
  }

  #takeBack(entry: FaultEntry): void {
    const { file, id, created } = entry;
    if (existsSync(file)) {
      const text = readFileSync(file, 'utf8');
      const without = this.#text.remove(text, id);
      // In a file that cannot be read now (somebody edits it) it may still be: it is tried again.
      if (without === undefined && this.#text.has(text) && text.includes(`-${id}-`))
        throw new WeftError('fault', `${file} cannot be read as YAML now, so it cannot be taken back from there`);
      if (created && !this.#text.has(without ?? text)) rmSync(file, { force: true });
      else if (without !== undefined) replaceFile(file, without);
    }
    this.#note(this.#entries.filter((e) => e !== entry));
    this.#stuck.delete(id);
  }

  #note(entries: FaultEntry[]): void {
    if (entries.length === 0) rmSync(this.#path, { force: true });
    else replaceFile(this.#path, JSON.stringify(entries), 0o600);
    this.#entries = entries;
  }
}

function noted(path: string): FaultEntry[] {
  try {
    const all = JSON.parse(readFileSync(path, 'utf8')) as FaultEntry[];
    return all.filter((e) => typeof e.id === 'string' && typeof e.file === 'string');
  } catch {
    return [];
  }
}

/** Whole or not at all, with the owner and the mode that it had; a link goes on leading to it. */
function replaceFile(path: string, text: string, mode = 0o644): void {
  const real = existsSync(path) ? realpathSync(path) : path;
  const old = statSync(real, { throwIfNoEntry: false });
  // Hidden: the mesh does not read it.
  const temporary = join(dirname(real), `.${basename(real)}.weft`);
  writeFileSync(temporary, text, { mode: old ? old.mode & 0o7777 : mode });
  if (old && process.getuid?.() === 0) chownSync(temporary, old.uid, old.gid);
  renameSync(temporary, real);
}
