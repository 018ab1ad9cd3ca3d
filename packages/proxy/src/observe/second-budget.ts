/** So many in each second; what is past that is only counted. */
export class SecondBudget {
  readonly #nowMs: () => number;
  readonly #perSecond: () => number;
  #second = -1;
  #left = 0;

  constructor(nowMs: () => number, perSecond: () => number) {
    this.#nowMs = nowMs;
    this.#perSecond = perSecond;
  }

  take(): boolean {
    const second = Math.floor(this.#nowMs() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#left = this.#perSecond();
    }
    return this.#left-- > 0;
  }
}
