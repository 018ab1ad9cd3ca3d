import { write } from 'node:fs';

export interface LineWriterOptions {
  /** File descriptor, 1 for standard output. */
  fd: number;
  /** Bytes (UTF-16 units) that may wait; lines past it are dropped and counted as `access_log_dropped`. Default 4 MiB. */
  maxQueued?: number;
  count?: (name: string) => void;
  /** For tests: as fs.write. */
  write?: (fd: number, data: Buffer, offset: number, done: (error: Error | null, written: number) => void) => void;
}

/**
 * Writes lines to a descriptor without ever holding up the loop: process.stdout is synchronous on pipes, so that a
 * supervisor which stops reading would stop the traffic. All lines of a turn leave in one write.
 */
export class LineWriter {
  readonly #fd: number;
  readonly #max: number;
  readonly #count: (name: string) => void;
  readonly #write: NonNullable<LineWriterOptions['write']>;
  #queue = '';
  #busy = false;
  #scheduled = false;
  #broken = false;
  #idle: (() => void)[] = [];

  constructor(options: LineWriterOptions) {
    this.#fd = options.fd;
    this.#max = options.maxQueued ?? 4 * 1024 * 1024;
    this.#count = options.count ?? (() => {});
    this.#write = options.write ?? ((fd, data, offset, done) => write(fd, data, offset, done));
  }

  /** Takes a line with its line feed. */
  line(text: string): void {
    if (this.#broken || this.#queue.length + text.length > this.#max) {
      this.#count('access_log_dropped');
      return;
    }
    this.#queue += text;
    if (this.#busy || this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  /** Resolves once all that was taken is written or has failed. */
  drained(): Promise<void> {
    if (!this.#busy && this.#queue === '') return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #flush(): void {
    if (this.#busy) return;
    if (this.#queue === '' || this.#broken) {
      this.#queue = '';
      for (const done of this.#idle.splice(0)) done();
      return;
    }
    const data = Buffer.from(this.#queue);
    this.#queue = '';
    this.#busy = true;
    this.#writeAll(data, 0);
  }

  #writeAll(data: Buffer, offset: number): void {
    this.#write(this.#fd, data, offset, (error, written) => {
      if (error && (error as NodeJS.ErrnoException).code === 'EAGAIN') {
        setTimeout(() => this.#writeAll(data, offset), 10);
        return;
      }
      if (error) {
        // The reader is gone (EPIPE): the traffic goes on without a log.
        this.#broken = true;
        this.#count('access_log_broken');
      } else if (offset + written < data.length) {
        this.#writeAll(data, offset + written);
        return;
      }
      this.#busy = false;
      this.#flush();
    });
  }
}
