/** What a fuzz target is, and what several of them need. */
import type { Output, StreamHandler } from '@weft/wire';

/** One input on its way, in pieces. */
export interface Session {
  push(piece: Uint8Array): void;
  /** The input is over. Returns what was understood, which may not depend on the pieces. */
  end(): string;
}

export interface Target {
  /** Also the name of its file of seeds. */
  readonly name: string;
  /** It is handed its whole input at once, and keeps nothing between the pieces that would be worth a look. */
  readonly whole?: true;
  start(): Session;
}

/** A target that sees its input only whole. */
export function whole(name: string, understand: (bytes: Buffer) => string): Target {
  return {
    name,
    whole: true,
    start() {
      const pieces: Uint8Array[] = [];
      return { push: (piece) => void pieces.push(piece), end: () => understand(Buffer.concat(pieces)) };
    },
  };
}

/** A target that is asked again with each piece until it can judge; `judge` gives undefined for "more". */
export function growing(name: string, judge: (bytes: Buffer) => string | undefined): Target {
  return {
    name,
    start() {
      let bytes = Buffer.alloc(0);
      let verdict: string | undefined;
      return {
        push(piece) {
          if (verdict !== undefined) return;
          bytes = Buffer.concat([bytes, piece]);
          verdict = judge(bytes);
        },
        end: () => verdict ?? 'more',
      };
    },
  };
}

/** An output that keeps what it needs to know; deferred work runs at the end of each piece, as at the end of a turn. */
export class Sink implements Output {
  text = '';
  reading = true;
  #work: (() => void)[] = [];
  #keep: boolean;
  constructor(keep: boolean) {
    this.#keep = keep;
  }
  write(bytes: Uint8Array): boolean {
    if (this.#keep) this.text += Buffer.from(bytes).toString('latin1');
    return true;
  }
  end(): void {
    this.text += '<end>';
  }
  destroy(): void {
    this.text += '<destroy>';
  }
  pauseReading(): void {
    this.reading = false;
  }
  resumeReading(): void {
    this.reading = true;
  }
  later(fn: () => void): void {
    this.defer(fn);
  }
  defer(fn: () => void): void {
    this.#work.push(fn);
  }
  turn(): void {
    while (this.#work.length > 0) this.#work.shift()!();
  }
}

/** Tells `note` all that a stream hears. */
export function listener(note: (text: string) => void, onEnd: () => void): StreamHandler {
  return {
    onHead(_stream, head, end) {
      note(`head ${JSON.stringify(head)}`);
      if (end) onEnd();
    },
    onInterim: (_stream, head) => note(`interim ${JSON.stringify(head)}`),
    onData(_stream, chunk, end) {
      note(Buffer.from(chunk).toString('latin1'));
      if (end) onEnd();
    },
    onTrailers(_stream, fields) {
      note(`trailers ${JSON.stringify(fields)}`);
      onEnd();
    },
    onReset: (_stream, code) => note(`reset ${code}`),
    onDrain() {},
  };
}
