/**
 * What comes of a request after its head: passed to the attempt that runs, kept as long as another may need it, copied to
 * those who follow, and held up where it comes faster than it goes.
 */
import { type Head, own, type Stream } from '@weft/wire';

/** So much of a request is kept for a retry until its response begins. */
export const RETRY_BUFFER_BYTES = 64 * 1024;

/** Most requests have no body: one list for all of them, which stays empty. */
const NOTHING: Uint8Array[] = [];

/** Follows the request beside its attempts; never holds it up. */
export interface RequestCopy {
  /** Begins with what of the request came before. */
  begin(held: readonly Uint8Array[], trailers: Head | undefined, ended: boolean): void;
  data(chunk: Uint8Array, end: boolean): void;
  trailers(fields: Head): void;
  /** The exchange is over: if the request did not end, its rest never comes. */
  cut(): void;
}

export class RequestBody {
  /** The client has said all. */
  ended: boolean;
  /** What came so far, kept or not. */
  bytes = 0;
  /** All of what came, while `whole`. */
  kept: readonly Uint8Array[] = NOTHING;
  keptBytes = 0;
  /** Nothing of it was dropped yet: it can be sent (again) from its beginning. */
  whole = true;
  trailers: Head | undefined;
  #down: Stream;
  #paused = false;
  #copies: RequestCopy[] | undefined;

  constructor(down: Stream, ended: boolean) {
    this.#down = down;
    this.ended = ended;
  }

  /** There is one, or will be. */
  get exists(): boolean {
    return this.bytes > 0 || !this.ended;
  }

  /** A chunk came. `to`: the attempt's stream, where there is one; without, up to `wanted` bytes or a retry's worth wait. */
  data(chunk: Uint8Array, end: boolean, to: Stream | undefined, wanted: number): void {
    this.bytes += chunk.length;
    if (end) this.ended = true;
    if (!this.whole || chunk.length === 0) return;
    const kept = own(chunk);
    if (this.kept === NOTHING) this.kept = [kept];
    else (this.kept as Uint8Array[]).push(kept);
    this.keptBytes += chunk.length;
    if (this.keptBytes <= RETRY_BUFFER_BYTES) return;
    if (to) this.drop();
    else if (this.keptBytes > wanted) this.pause();
  }

  /** Passes a chunk on: to the attempt that runs, and to who follows. */
  pass(chunk: Uint8Array, end: boolean, to: Stream | undefined): void {
    if (to && !to.sendData(chunk, end)) this.pause();
    if (this.#copies) for (const copy of this.#copies) copy.data(chunk, end);
  }

  passTrailers(fields: Head, to: Stream | undefined): void {
    to?.sendTrailers(fields);
    if (this.#copies) for (const copy of this.#copies) copy.trailers(fields);
  }

  /** Sends a new attempt what came before it, and lets more come as fast as it takes it. */
  replay(to: Stream): void {
    let room = true;
    const last = this.kept.length - 1;
    for (let i = 0; i <= last; i++) {
      if (!to.sendData(this.kept[i], i === last && this.ended && !this.trailers)) room = false;
    }
    if (this.trailers) to.sendTrailers(this.trailers);
    if (this.keptBytes > RETRY_BUFFER_BYTES) this.drop();
    if (room) this.resume();
    else this.pause();
  }

  copyTo(copy: RequestCopy): void {
    if (this.#copies) this.#copies.push(copy);
    else this.#copies = [copy];
    copy.begin(this.kept, this.trailers, this.ended);
  }

  /** There will be no further attempt that needs its beginning. */
  drop(): void {
    this.whole = false;
    this.kept = NOTHING;
    this.keptBytes = 0;
  }

  /** The exchange is over. */
  release(): void {
    this.kept = NOTHING;
    if (this.#copies) for (const copy of this.#copies) copy.cut();
  }

  pause(): void {
    if (this.#paused || this.ended) return;
    this.#paused = true;
    this.#down.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#down.resume();
  }
}
