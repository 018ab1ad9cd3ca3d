/** Keeps in touch with the other machines of a mesh: where they are, and for a host, that it lives and with what. */
import { systemClock, type Timer } from '@weft/base';
import type { EntranceProcess, Place } from './entrance.ts';

const BEAT_MS = 2000;
const ANSWER_MS = 5000;

export interface MachinesOptions {
  readonly entrance: EntranceProcess;
  /** Where the entrances are, as the control plane says it. */
  networks(timeoutMs: number): Promise<Readonly<Record<string, Place>>>;
  /** Says again what runs here, so that a control plane that forgot it, or gave it up, has it again. */
  register?: (() => Promise<unknown>) | undefined;
  say(line: string): void;
}

export class Machines {
  readonly #options: MachinesOptions;
  #timer: Timer | undefined;
  #stopped = false;
  #away = false;

  constructor(options: MachinesOptions) {
    this.#options = options;
  }

  /** Resolves after the first answer; rejects without one. */
  async start(): Promise<void> {
    this.#options.entrance.setNetworks(await this.#options.networks(ANSWER_MS));
    this.#next();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #next(): void {
    if (this.#stopped) return;
    this.#timer = systemClock.after(BEAT_MS, () => {
      this.#beat().finally(() => this.#next());
    });
  }

  async #beat(): Promise<void> {
    const { entrance, networks, register, say } = this.#options;
    try {
      const now = await networks(ANSWER_MS);
      if (this.#stopped) return;
      entrance.setNetworks(now);
      await register?.();
      if (this.#away) say('the control plane is reached again');
      this.#away = false;
    } catch (error) {
      if (this.#away || this.#stopped || !register) return;
      this.#away = true;
      say(`the control plane is not reached (${(error as Error).message}); workloads go on with what they have`);
    }
  }
}
