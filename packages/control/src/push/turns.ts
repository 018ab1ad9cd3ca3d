/**
 * Who may wait, in the order in which they came: some are served each few milliseconds, so that what happens meanwhile is
 * served with it, and what is urgent comes in between.
 */
import type { Clock, Timer } from '@weft/base';

const TURN_MS = 10;

export class Turns<T> {
  readonly #clock: Clock;
  readonly #aTurn: number;
  readonly #serve: (one: T) => void;
  readonly #waiting = new Set<T>();
  #timer: Timer | undefined;

  /** `serve` is called for each of them once, when it does not wait any more; it may not throw. */
  constructor(clock: Clock, perSecond: number, serve: (one: T) => void) {
    this.#clock = clock;
    this.#aTurn = Math.max(1, Math.round((perSecond * TURN_MS) / 1000));
    this.#serve = serve;
  }

  get size(): number {
    return this.#waiting.size;
  }

  has(one: T): boolean {
    return this.#waiting.has(one);
  }

  /** Whoever waits already keeps the place. */
  add(one: T): void {
    this.#waiting.add(one);
  }

  delete(one: T): void {
    this.#waiting.delete(one);
  }

  /** Begins at once, unless a turn was just now: few need not wait at all. */
  begin(): void {
    if (!this.#timer && this.#waiting.size > 0) this.#turn();
  }

  /** Serves all, now. */
  finish(): void {
    for (const one of this.#waiting) this.#take(one);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#waiting.clear();
  }

  #turn(): void {
    this.#timer = undefined;
    let left = this.#aTurn;
    for (const one of this.#waiting) {
      if (left-- === 0) break;
      this.#take(one);
    }
    if (left < this.#aTurn) this.#timer = this.#clock.after(TURN_MS, () => this.#turn());
  }

  #take(one: T): void {
    this.#waiting.delete(one);
    this.#serve(one);
  }
}
