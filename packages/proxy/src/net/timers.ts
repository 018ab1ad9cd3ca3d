/**
 * Coarse shared timers: one interval drives every deadline of the data path, and one drives the once-a-second ticks.
 * A deadline fires at most `SLOT_MS` late and never early; cancelling is free of searches.
 */
import { performance } from 'node:perf_hooks';

const SLOT_MS = 20;
const SLOTS = 512;

export interface TimerOwner {
  onTimer(id: number): void;
}

/** One deadline. Cancel by `cancel()`; the owner is let go at once. */
export class Deadline {
  owner: TimerOwner | undefined;
  readonly id: number;
  readonly atMs: number;
  constructor(owner: TimerOwner, id: number, atMs: number) {
    this.owner = owner;
    this.id = id;
    this.atMs = atMs;
  }
  cancel(): void {
    this.owner = undefined;
  }
}

/** A hashed wheel. Its interval runs only while something waits in it. */
export class TimerWheel {
  #slots: Deadline[][] = Array.from({ length: SLOTS }, () => []);
  #count = 0;
  #position = 0;
  #handle: NodeJS.Timeout | undefined;
  #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void = () => {}) {
    this.#onError = onError;
  }

  /** `owner.onTimer(id)` once, at least `delayMs` from now. */
  add(delayMs: number, owner: TimerOwner, id = 0): Deadline {
    const at = performance.now() + delayMs;
    if (this.#count === 0 && this.#handle === undefined) {
      this.#position = Math.floor(performance.now() / SLOT_MS);
      this.#handle = setInterval(() => this.#run(), SLOT_MS);
      this.#handle.unref();
    }
    const deadline = new Deadline(owner, id, at);
    const slot = Math.max(this.#position, Math.ceil(at / SLOT_MS));
    this.#slots[slot % SLOTS].push(deadline);
    this.#count++;
    return deadline;
  }

  /** Stops everything; for the end of a test or process. */
  close(): void {
    if (this.#handle) clearInterval(this.#handle);
    this.#handle = undefined;
    for (const slot of this.#slots) slot.length = 0;
    this.#count = 0;
  }

  #run(): void {
    const now = performance.now();
    const until = Math.floor(now / SLOT_MS);
    // A loop that slept long visits each slot once, not once per missed turn.
    if (until - this.#position >= SLOTS) this.#position = until - SLOTS + 1;
    for (; this.#position <= until; this.#position++) {
      const index = this.#position % SLOTS;
      const slot = this.#slots[index];
      if (slot.length === 0) continue;
      this.#slots[index] = [];
      for (const deadline of slot) {
        if (deadline.owner === undefined) {
          this.#count--;
        } else if (deadline.atMs > now) {
          this.#slots[index].push(deadline); // a later turn of the wheel
        } else {
          this.#count--;
          const owner = deadline.owner;
          deadline.owner = undefined;
          try {
            owner.onTimer(deadline.id);
          } catch (error) {
            this.#onError(error);
          }
        }
      }
    }
    if (this.#count === 0 && this.#handle) {
      clearInterval(this.#handle);
      this.#handle = undefined;
    }
  }
}

export interface Ticking {
  tick(nowMs: number): void;
}

/** Calls `tick` of all members once a second. */
export class Ticker {
  #members = new Set<Ticking>();
  #handle: NodeJS.Timeout | undefined;
  #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void = () => {}) {
    this.#onError = onError;
  }

  add(member: Ticking): void {
    this.#members.add(member);
    if (this.#handle === undefined) {
      this.#handle = setInterval(() => this.#run(), 1000);
      this.#handle.unref();
    }
  }

  delete(member: Ticking): void {
    this.#members.delete(member);
    if (this.#members.size === 0) this.close();
  }

  close(): void {
    if (this.#handle) clearInterval(this.#handle);
    this.#handle = undefined;
  }

  #run(): void {
    const now = performance.now();
    for (const member of this.#members) {
      try {
        member.tick(now);
      } catch (error) {
        this.#onError(error);
      }
    }
  }
}
