/** What a conformance suite is: somebody else's tests, or real peers, against a Weft that runs in processes of its own. */

export interface SuiteContext {
  /** The short form, for CI: at most a minute, and no download larger than some megabytes. */
  readonly short: boolean;
  /** A folder of this run, removed at its end. */
  readonly dir: string;
  /** Progress, for people: goes to standard error. */
  log(line: string): void;
  /** Runs at the end of the suite, also when it fails or is interrupted; last registered first. */
  cleanup(fn: () => void | Promise<void>): void;
}

export interface SuiteResult {
  passed: number;
  failed: number;
  /** Cases that cannot be run here; each has a line in `notes` that says why. */
  skipped: number;
  /** One line a failed case. */
  failures: string[];
  notes?: string[];
}

export interface Suite {
  readonly name: string;
  /** One line: what it shows. */
  readonly about: string;
  /** Why it cannot run here (needs root, say); undefined where it can. */
  unavailable?(): string | undefined;
  /** Part of the short form that CI runs. */
  readonly inShortForm: boolean;
  /** Installs what it needs from a registry; does nothing where it is there already. */
  install(ctx: SuiteContext): Promise<void>;
  run(ctx: SuiteContext): Promise<SuiteResult>;
}

/** Counts cases as they are judged. */
export class Tally implements SuiteResult {
  passed = 0;
  failed = 0;
  skipped = 0;
  failures: string[] = [];
  notes: string[] = [];
  /** Judges one case; what it throws is the failure, and so is having no end in time. */
  async check(name: string, run: () => void | Promise<void>, limitMs = 120_000): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no end within ${limitMs / 1000} s`)), limitMs);
    });
    try {
      await Promise.race([run(), late]);
      this.passed++;
    } catch (error) {
      this.failed++;
      this.failures.push(`${name}: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`);
    } finally {
      clearTimeout(timer);
    }
  }
}
