/** Gives back from time to time what a proxy holds and does not use. */
import { dropProgramPages, trimMemory } from '@weft/capture';

/** Until then the start is over. */
const FIRST_MS = 2000;
/** What compiling code under load leaves, and bursts leave. It takes 1 or 2 ms, and again as much to come back. */
const EVERY_MS = 10_000;

/** Until the process ends. */
export function releaseMemory(): void {
  const release = (): void => {
    trimMemory();
    dropProgramPages();
    setTimeout(release, EVERY_MS).unref();
  };
  setTimeout(release, FIRST_MS).unref();
}
