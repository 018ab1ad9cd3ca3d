/**
 * What the proxy does before the kernel or V8 would end it for its memory. Above `overloadPercent` of a limit it says
 * GOAWAY (HTTP/1: connection: close) and answers new requests with 503; above `overloadCriticalPercent` it also refuses
 * connections and resets the exchanges that hold most. Admin, health, metrics and probe ports are not part of this.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Logger } from '@weft/base';
import { trimMemory } from '@weft/capture';
import type { ProxyLimits } from '../limits.ts';
import type { MemoryReading } from './memory.ts';

/** 0: none; 1: requests are refused; 2: connections too, and what holds most is reset. */
export type OverloadLevel = 0 | 1 | 2;

/** How far below a threshold the pressure must fall to leave its level, in percent of the limit. */
const HYSTERESIS = { refuse: 5, critical: 2 };
/** Between two rounds of resets or collections: what was let go must have the time to show. */
const ROUND_MS = 1000;
/**
 * A burst is looked at within it too: after so many new connections and requests, at most this often. A look reads files of
 * the kernel (some 50 µs): it is oftener where over half of what is allowed is used.
 */
const EARLY_ADMISSIONS = 64;
const EARLY_MS = { near: 20, far: 100 };

export interface OverloadDeps {
  limits: Pick<ProxyLimits, 'overloadPercent' | 'overloadCriticalPercent'>;
  read(): MemoryReading;
  count(name: string): void;
  logger: Logger;
  nowMs(): number;
  /** Tells all downstream connections to go elsewhere, once per overload. */
  goaway(): void;
  /** Resets what holds most, until `bytes` are let go; returns how many were reset. */
  shed(bytes: number): number;
  collect?(): void;
}

export class Overload {
  level: OverloadLevel = 0;
  /** The last sample. */
  reading: MemoryReading = { memory: 0, heap: 0, usedBytes: 0, limitBytes: 0 };
  #deps: OverloadDeps;
  #roundMs = 0;
  #sampledMs = 0;
  #admissions = 0;
  #earlyMs = EARLY_MS.near;

  constructor(deps: OverloadDeps) {
    this.#deps = deps;
  }

  /** Something new was let in, which may hold memory. */
  admitted(): void {
    if (++this.#admissions < EARLY_ADMISSIONS) return;
    this.#admissions = 0;
    if (this.#deps.nowMs() - this.#sampledMs >= this.#earlyMs) this.sample();
  }

  /** Looks once, and acts. */
  sample(): void {
    const now = this.#deps.nowMs();
    this.#sampledMs = now;
    const { limits, count, logger } = this.#deps;
    this.reading = this.#deps.read();
    const percent = Math.max(this.reading.memory, this.reading.heap) * 100;
    this.#earlyMs = percent * 2 < limits.overloadPercent ? EARLY_MS.far : EARLY_MS.near;
    const before = this.level;
    this.level = next(before, percent, limits);
    if (this.level > before) {
      if (before === 0) count('overload');
      if (this.level === 2) count('overload_critical');
      logger.warn({ percent: Math.round(percent), level: this.level, ...this.reading }, 'memory is short');
      if (before === 0) this.#deps.goaway();
      this.#roundMs = now - ROUND_MS;
    } else if (this.level === 0 && before > 0) {
      logger.info({ percent: Math.round(percent) }, 'memory is enough again');
    }
    if (this.level === 0) return;
    if (now - this.#roundMs < ROUND_MS) return;
    this.#roundMs = now;
    if (this.level === 2) this.#shed(percent);
    // Without work there is nothing that would make V8 collect, and the pressure would stay for ever.
    (this.#deps.collect ?? collectGarbage)();
  }

  #shed(percent: number): void {
    const { limits, logger } = this.#deps;
    const target = limits.overloadPercent - HYSTERESIS.refuse;
    const { limitBytes, usedBytes } = this.reading;
    const bytes = limitBytes > 0 ? usedBytes - (limitBytes * target) / 100 : Number.POSITIVE_INFINITY;
    const reset = this.#deps.shed(Math.max(bytes, 1));
    if (reset > 0) logger.warn({ reset, percent: Math.round(percent) }, 'exchanges were reset to free memory');
  }
}

function next(level: OverloadLevel, percent: number, limits: OverloadDeps['limits']): OverloadLevel {
  const { overloadPercent: refuse, overloadCriticalPercent: critical } = limits;
  if (percent >= critical) return 2;
  if (level === 2 && percent >= critical - HYSTERESIS.critical) return 2;
  if (percent >= refuse) return 1;
  return level > 0 && percent >= refuse - HYSTERESIS.refuse ? 1 : 0;
}

/** What could be let go to free memory. */
export interface Holder {
  /** Bytes it keeps here: heads, bodies held for a retry, and what waits to leave. */
  readonly heldBytes: number;
  /** Ends it for want of memory. */
  shed(): void;
}

/** What holds less is not worth an error to somebody. */
const SMALLEST_HELD_BYTES = 16 * 1024;

/** Ends the largest until `bytes` are let go, at most half of those worth it: a next round follows if that was not enough. */
export function shedLargest(holders: readonly Holder[], bytes: number): number {
  const sizes: { holder: Holder; bytes: number }[] = [];
  for (const holder of holders) {
    const held = holder.heldBytes;
    if (held >= SMALLEST_HELD_BYTES) sizes.push({ holder, bytes: held });
  }
  sizes.sort((a, b) => b.bytes - a.bytes);
  const most = Math.ceil(sizes.length / 2);
  let count = 0;
  for (let left = bytes; left > 0 && count < most; count++) {
    left -= sizes[count].bytes;
    sizes[count].holder.shed();
  }
  return count;
}

let collector: (() => void) | undefined;

/** A full collection, and back to the kernel with what it freed: it is the kernel's limit that presses. */
function collectGarbage(): void {
  if (collector === undefined) {
    collector = (globalThis as { gc?: () => void }).gc;
    if (collector === undefined) {
      setFlagsFromString('--expose-gc');
      collector = runInNewContext('gc') as () => void;
    }
  }
  collector();
  trimMemory();
}
