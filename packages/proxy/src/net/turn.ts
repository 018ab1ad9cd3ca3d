/**
 * Turns of the loop: the clock, read once in each, and their end, when codecs flush what they made and then sockets write,
 * each once. HTTP/2 connections, which many requests share (mesh links first of all), may wait for what the next turns
 * bring (`gather`).
 */

/** What goes wrong inside a callback of a socket ends that socket, and is told here. Set once by the process. */
let report: (error: unknown) => void = () => {};
export function onSocketError(fn: (error: unknown) => void): void {
  report = fn;
}
export function socketError(error: unknown): void {
  report(error);
}

/**
 * How long these may wait while every turn brings something: turns, and reads of sockets and their bytes in all. A turn of
 * a loaded proxy brings a few requests. Sent at once they are a TLS record, a wake-up and, where cores are short, a switch
 * to another process of their own, each of which begins with cold caches: one request of a batch costs half of what
 * its first one does (decisions/007). It is work that waits for work, never for time to pass.
 */
const GATHER_TURNS = 8;
const GATHER_READS = 32;
const GATHER_BYTES = 32 * 1024;

// A new list each turn: to cut one costs a call of the runtime.
let deferred: (() => void)[] = [];
let gathered: (() => void)[] = [];
let dirty: { flush(): void }[] = [];
let scheduled = false;

/** Reads of sockets since the last turn ended, and their bytes. */
let turnReads = 0;
let turnBytes = 0;
/** Since they wait: turns, reads, bytes, and the reads of the first turn. */
let turns = 0;
let reads = 0;
let bytes = 0;
let firstReads = 0;
/** Waiting brought something the last time. */
let paid = false;

/** The monotonic clock as it was read first in this turn; -1: not yet. */
let turnStartMs = -1;

/**
 * The monotonic clock, read once a turn: for what happens in a turn and is measured in milliseconds, of which a turn
 * takes few. What must not be early, as a deadline, reads the clock itself.
 */
export function turnMs(): number {
  if (turnStartMs < 0) {
    turnStartMs = performance.now();
    schedule();
  }
  return turnStartMs;
}

/** Something in this turn may have taken long, or time has brought it: what follows goes by `nowMs`. */
export function timePassed(nowMs: number): void {
  if (turnStartMs >= 0) turnStartMs = nowMs;
}

/** A socket was read. */
export function arrived(size: number): void {
  turnReads++;
  turnBytes += size;
}

/** Runs `fn` at the end of this turn of the loop, together with everything else that waits for it. */
export function endOfTurn(fn: () => void): void {
  deferred.push(fn);
  schedule();
}

/** As `endOfTurn`; while there is much to do, at the end of a later turn, with all that came meanwhile. */
export function gather(fn: () => void): void {
  gathered.push(fn);
  schedule();
}

/** `socket` is flushed at the end of this turn, once. */
export function flushAtEnd(socket: { flush(): void }): void {
  dirty.push(socket);
  schedule();
}

function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  setImmediate(endTurn);
}

function endTurn(): void {
  // What these write joins the same turn's writes of sockets.
  run(deferred);
  deferred = [];
  if (gathered.length > 0 && !mayWait()) {
    run(gathered);
    gathered = [];
  }
  turnReads = 0;
  turnBytes = 0;
  scheduled = false;
  for (let i = 0; i < dirty.length; i++) dirty[i].flush();
  dirty = [];
  turnStartMs = -1;
  // Those that wait, and what those that did not wait have deferred.
  if (gathered.length > 0 || deferred.length > 0) schedule();
}

function mayWait(): boolean {
  if (turns++ === 0) firstReads = turnReads;
  reads += turnReads;
  bytes += turnBytes;
  // A single read may be all there is; to look for more costs a turn of the loop.
  const more = turnReads > 1 || (turnReads === 1 && paid);
  if (more && turns <= GATHER_TURNS && reads < GATHER_READS && bytes < GATHER_BYTES) return true;
  if (turns > 1) paid = reads > firstReads;
  turns = 0;
  reads = 0;
  bytes = 0;
  return false;
}

function run(list: (() => void)[]): void {
  for (let i = 0; i < list.length; i++) {
    try {
      list[i]();
    } catch (error) {
      report(error);
    }
  }
}
