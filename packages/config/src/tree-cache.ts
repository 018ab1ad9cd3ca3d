/** What was parsed once is not parsed again until its text changes. */
import { readYaml } from './yaml.ts';

type Parsed = ReturnType<typeof readYaml>;

/** What the files of one reading were parsed to. */
export class TreeCache {
  #now = new Map<string, { readonly text: string; readonly parsed: Parsed }>();
  #next = new Map<string, { readonly text: string; readonly parsed: Parsed }>();

  parse(path: string, text: string): Parsed {
    const known = this.#now.get(path);
    const entry = known?.text === text ? known : { text, parsed: readYaml(text) };
    this.#next.set(path, entry);
    return entry.parsed;
  }

  /** The reading is over: what it did not ask for is forgotten. */
  done(): void {
    this.#now = this.#next;
    this.#next = new Map();
  }
}
