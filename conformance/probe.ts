/** A client beside an attack: how long its requests take, and how much of that is the machine's other work. */
import { readFileSync } from 'node:fs';
import http from 'node:http';

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A well-behaved client that asks again and again. */
export class Probe {
  readonly times: number[] = [];
  failed = 0;
  #running = true;
  #agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  #over: Promise<void>;

  constructor(host: string, port: number) {
    this.#over = this.#run(host, port);
  }
  async #run(host: string, port: number): Promise<void> {
    while (this.#running) {
      const started = performance.now();
      if ((await ask(host, port, this.#agent)) === 200) this.times.push(performance.now() - started);
      else this.failed++;
      await sleep(4);
    }
  }
  async stop(): Promise<void> {
    this.#running = false;
    await this.#over;
    this.#agent.destroy();
  }
  get p99(): number {
    const sorted = this.times.toSorted((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] ?? 0;
  }
}

/** The status of one request, 0 where none came. */
export function ask(host: string, port: number, agent?: http.Agent, unread = false, path = '/'): Promise<number> {
  return new Promise((resolve) => {
    const request = http.get({ host, port, path, agent, headers: { host: 'app' } }, (response) => {
      const status = response.statusCode ?? 0;
      if (unread) {
        setTimeout(() => request.destroy(), 2000);
        response.pause();
        response.on('close', () => resolve(status));
        return;
      }
      response.on('error', () => resolve(status));
      response.on('close', () => resolve(status));
      response.resume();
    });
    request.on('error', () => resolve(0));
    request.setTimeout(10_000, () => request.destroy());
  });
}

/** Nanoseconds on a processor, and ready without one. */
export function scheduled(pid: number): { ran: number; waited: number } {
  const [ran, waited] = readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ').map(Number);
  return { ran: ran ?? 0, waited: waited ?? 0 };
}

/** The part of the time since `before` in which all of these had a processor when they wanted one. */
export function shareOf(pids: readonly number[], before: readonly { ran: number; waited: number }[]): number {
  return Math.min(
    ...pids.map((pid, i) => {
      const now = scheduled(pid);
      const ran = now.ran - before[i].ran;
      return ran / Math.max(1, ran + now.waited - before[i].waited);
    }),
  );
}
