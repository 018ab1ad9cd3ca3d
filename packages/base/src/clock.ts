/** Time as an input, so that every timeout can be tested without waiting. */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Monotonic milliseconds, with fractions. */
  now(): number;
  /** Milliseconds since 1970, for what people and certificates read. */
  wall(): number;
  /** Calls `fn` once, at least `delayMs` from now. */
  after(delayMs: number, fn: () => void): Timer;
}

declare function setTimeout(fn: () => void, ms: number): { unref?(): void };
declare function clearTimeout(handle: unknown): void;
declare const performance: { now(): number };

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after(delayMs, fn) {
    const handle = setTimeout(fn, delayMs);
    return { cancel: () => clearTimeout(handle) };
  },
};

/** A clock that moves when told to. Timers fire in the order of their deadlines. */
export class VirtualClock implements Clock {
  #now = 0;
  #wall: number;
  #sequence = 0;
  #timers: { at: number; order: number; fn: () => void }[] = [];

  constructor(wallMs = Date.UTC(2026, 0, 1)) {
    this.#wall = wallMs;
  }

  now(): number {
    return this.#now;
  }

  wall(): number {
    return this.#wall + this.#now;
  }

  get pending(): number {
    return this.#timers.length;
  }

  after(delayMs: number, fn: () => void): Timer {
    const timer = { at: this.#now + delayMs, order: this.#sequence++, fn };
    this.#timers.push(timer);
    return {
      cancel: () => {
        const i = this.#timers.indexOf(timer);
        if (i >= 0) this.#timers.splice(i, 1);
      },
    };
  }

  /** Moves time on, running what falls due, also what that schedules. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      let next: { at: number; order: number; fn: () => void } | undefined;
      for (const t of this.#timers) {
        if (t.at <= end && (!next || t.at < next.at || (t.at === next.at && t.order < next.order))) next = t;
      }
      if (!next) break;
      this.#timers.splice(this.#timers.indexOf(next), 1);
      this.#now = next.at;
      next.fn();
    }
    this.#now = end;
  }
}
