/** Readiness: asked of the proxy's 15020 for injected workloads (as it is on Kubernetes), else of the application. */

import { spawn } from 'node:child_process';
import http from 'node:http';
import net from 'node:net';
import { type Clock, systemClock, type Timer } from '@weft/base';
import type { ProbeSpec } from './specs.ts';

/** Until the first success a probe is repeated this often: a new replica takes its share soon, whatever its period. */
const STARTUP_PERIOD_MS = 200;

/** Resolves with whether the answer was 200–399; never rejects. */
export function probeHttp(host: string, port: number, path: string, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = http.get(
      { host, port, path, timeout: timeoutMs, agent: false, headers: { 'user-agent': 'weft-probe/1' } },
      (response) => {
        response.resume();
        resolve(response.statusCode! >= 200 && response.statusCode! < 400);
      },
    );
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(false));
    setTimeout(() => request.destroy(), timeoutMs + 50).unref();
    request.on('close', () => resolve(false));
  });
}

export function probeTcp(host: string, port: number, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port });
    const done = (ok: boolean) => {
      socket.destroy();
      resolve(ok);
    };
    socket.setTimeout(timeoutMs, () => done(false));
    socket.on('connect', () => done(true));
    socket.on('error', () => done(false));
  });
}

export function probeExec(
  argv: readonly string[],
  options: { cwd: string; env: Record<string, string> },
  timeoutMs: number,
): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      ...options,
      stdio: 'ignore',
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    child.on('error', () => resolve(false));
    child.on('exit', (code) => resolve(code === 0));
  });
}

/** Repeats a probe by its thresholds and tells changes. It starts not ready. */
export class Prober {
  readonly #spec: ProbeSpec;
  readonly #ask: () => Promise<boolean>;
  readonly #onChange: (ready: boolean) => void;
  readonly #clock: Clock;
  #timer: Timer | undefined;
  #running = false;
  #generation = 0;
  #ready = false;
  #successes = 0;
  #failures = 0;

  constructor(
    spec: ProbeSpec,
    ask: () => Promise<boolean>,
    onChange: (ready: boolean) => void,
    clock: Clock = systemClock,
  ) {
    this.#spec = spec;
    this.#ask = ask;
    this.#onChange = onChange;
    this.#clock = clock;
  }

  start(): void {
    this.stop();
    this.#running = true;
    this.#schedule(this.#spec.initialDelayMs, this.#generation);
  }

  stop(): void {
    this.#running = false;
    this.#generation += 1;
    this.#timer?.cancel();
    this.#ready = false;
    this.#successes = 0;
    this.#failures = 0;
  }

  #schedule(delayMs: number, generation: number): void {
    this.#timer = this.#clock.after(delayMs, () => {
      void this.#ask().then((ok) => {
        if (!this.#running || generation !== this.#generation) return;
        this.#result(ok);
        this.#schedule(
          this.#ready ? this.#spec.periodMs : Math.min(this.#spec.periodMs, STARTUP_PERIOD_MS),
          generation,
        );
      });
    });
  }

  #result(ok: boolean): void {
    this.#successes = ok ? this.#successes + 1 : 0;
    this.#failures = ok ? 0 : this.#failures + 1;
    if (!this.#ready && this.#successes >= this.#spec.successThreshold) {
      this.#ready = true;
      this.#onChange(true);
    } else if (this.#ready && this.#failures >= this.#spec.failureThreshold) {
      this.#ready = false;
      this.#onChange(false);
    }
  }
}
