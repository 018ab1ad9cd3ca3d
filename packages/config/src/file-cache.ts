/** What was read once is not read again until its text changes. */
import type { Position } from '@weft/base';
import type { Resource } from '@weft/model';
import type { SourceFile } from './source.ts';
import { readYaml } from './yaml.ts';

type Parsed = ReturnType<typeof readYaml>;

/** A resource that a file brought, its ref and where its fields stand. */
export interface Brought {
  readonly id: string;
  readonly resource: Resource;
  readonly places: ReadonlyMap<string, Position>;
}

interface Entry {
  readonly text: string;
  /** What came of it, where nothing was wrong with it and it named no other file. */
  readonly brought?: readonly Brought[];
  /** Otherwise. */
  readonly parsed?: Parsed;
}

/**
 * Of one reading after the other of the same files. A file that nothing was reported of brings the same objects again, so
 * that who compares two models sees at once what is as it was.
 */
export class FileCache {
  #now = new Map<string, Entry>();
  #next = new Map<string, Entry>();
  #settings = '';

  /** A reading begins. `settings`: by what else than its text a file's resources are made. */
  begin(settings: string): void {
    if (settings !== this.#settings) this.#now.clear();
    this.#settings = settings;
  }

  brought(file: SourceFile): readonly Brought[] | undefined {
    const known = this.#now.get(file.path);
    if (known?.text !== file.text) return undefined;
    if (known.brought) this.#next.set(file.path, known);
    return known.brought;
  }

  parse({ path, text }: SourceFile): Parsed {
    const known = this.#now.get(path);
    const entry = known?.text === text && known.parsed ? known : { text, parsed: readYaml(text) };
    this.#next.set(path, entry);
    return entry.parsed as Parsed;
  }

  /** The file that was parsed last brought this, and nothing was wrong. */
  keep({ path, text }: SourceFile, brought: readonly Brought[]): void {
    this.#next.set(path, { text, brought });
  }

  /** The reading is over: what it did not ask for is forgotten. */
  done(): void {
    this.#now = this.#next;
    this.#next = new Map();
  }
}
