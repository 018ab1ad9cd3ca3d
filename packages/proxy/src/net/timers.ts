/**
 * Coarse shared timers: one interval drives every deadline of the data path, and one drives the once-a-second ticks.
 * A deadline fires at most `SLOT_MS` late and never early; cancelling is free of searches.
 */
import { performance } from 'node:perf_hooks';
import { timePassed } from './turn.ts';

const SLOT_MS = 20;
const SLOTS = 512;

export interface TimerOwner {
  onTimer(id: number): void;
}

/** One deadline. Cancel by `cancel()`; the wheel lets go of it, and it of its owner, at once. */
export class Deadline {
  owner: TimerOwner | undefined;
  readonly id: number;
  readonly atMs: number;
  /** Neighbours in the slot's ring; undefined: in no slot. */
  next: Deadline | undefined;
  previous: Deadline | undefined;
  #wheel: TimerWheel;

  constructor(wheel: TimerWheel, owner: TimerOwner | undefined, id: number, atMs: number) {
    this.#wheel = wheel;
    this.owner = owner;
    this.id = id;
    this.atMs = atMs;
  }
  cancel(): void {
    this.owner = undefined;
    if (this.next !== undefined) this.#wheel.remove(this);
  }
}

/**
 * A hashed wheel. Its interval runs only while something waits in it. Most deadlines are cancelled long before their time,
 * so that one which stayed in its slot would outlive its request by seconds, and the collector would carry it along.
 */
export class TimerWheel {
  /** The head of each slot's ring, which is no deadline itself. */
  #slots: Deadline[] = [];
  #count = 0;
  #position = 0;
  #handle: NodeJS.Timeout | undefined;
  #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void = () => {}) {
    this.#onError = onError;
    for (let i = 0; i < SLOTS; i++) this.#slots.push(ring(new Deadline(this, undefined, 0, 0)));
  }

  /** `owner.onTimer(id)` once, at least `delayMs` from now. */
  add(delayMs: number, owner: TimerOwner, id = 0): Deadline {
    const now = performance.now();
    if (this.#handle === undefined) {
      this.#position = Math.floor(now / SLOT_MS);
      this.#handle = setInterval(() => this.#run(), SLOT_MS);
      this.#handle.unref();
    }
    const deadline = new Deadline(this, owner, id, now + delayMs);
    this.#insert(deadline, Math.max(this.#position, Math.ceil(deadline.atMs / SLOT_MS)) % SLOTS);
    return deadline;
  }

  /** For Deadline alone. */
  remove(deadline: Deadline): void {
    const { next, previous } = deadline as { next: Deadline; previous: Deadline };
    previous.next = next;
    next.previous = previous;
    deadline.next = undefined;
    deadline.previous = undefined;
    this.#count--;
  }

  /** Stops everything; for the end of a test or process. */
  close(): void {
    this.#stop();
    for (const head of this.#slots) while (head.next !== head) this.remove(head.next as Deadline);
  }

  #insert(deadline: Deadline, index: number): void {
    const head = this.#slots[index];
    const last = head.previous as Deadline;
    last.next = deadline;
    deadline.previous = last;
    deadline.next = head;
    head.previous = deadline;
    this.#count++;
  }

  #stop(): void {
    if (this.#handle) clearInterval(this.#handle);
    this.#handle = undefined;
  }

  #run(): void {
    const now = performance.now();
    timePassed(now);
    const until = Math.floor(now / SLOT_MS);
    // A loop that slept long visits each slot once, not once per missed turn.
    if (until - this.#position >= SLOTS) this.#position = until - SLOTS + 1;
    for (; this.#position <= until; this.#position++) {
      const index = this.#position % SLOTS;
      const head = this.#slots[index];
      if (head.next === head) continue;
      // Taken out as a whole first: what fires may cancel others of them, and add to this slot for a later turn.
      const due = ring(new Deadline(this, undefined, 0, 0));
      splice(head, due);
      while (due.next !== due) {
        const deadline = due.next as Deadline;
        this.remove(deadline);
        if (deadline.atMs > now) this.#insert(deadline, index);
        else this.#fire(deadline);
      }
    }
    if (this.#count === 0) this.#stop();
  }

  #fire(deadline: Deadline): void {
    const { owner } = deadline;
    deadline.owner = undefined;
    try {
      owner?.onTimer(deadline.id);
    } catch (error) {
      this.#onError(error);
    }
  }
}

function ring(head: Deadline): Deadline {
  head.next = head;
  head.previous = head;
  return head;
}

/** Moves all members of a ring that has some to one that has none. */
function splice(from: Deadline, to: Deadline): void {
  const { next, previous } = from as { next: Deadline; previous: Deadline };
  to.next = next;
  to.previous = previous;
  next.previous = to;
  previous.next = to;
  ring(from);
}

/** A tick that comes so late: the process, or its machine, was stopped meanwhile. */
const STOPPED_MS = 3000;
/** What arrived while it was stopped is read first: what is judged by the clock then would be judged unheard. */
const RESUME_MS = 250;

export interface Ticking {
  tick(nowMs: number): void;
  /** Where it stands in its ticker; -1 or absent: nowhere. For the ticker alone. */
  tickPlace?: number;
}

/**
 * Calls `tick` of all members once a second. Connections come and go: a list with places, not a Set, whose left tables
 * would keep them alive (InFlightList says it of what runs; decision 012).
 */
export class Ticker {
  #members: Ticking[] = [];
  #handle: NodeJS.Timeout | undefined;
  #onError: (error: unknown) => void;
  #lastMs = 0;

  constructor(onError: (error: unknown) => void = () => {}) {
    this.#onError = onError;
  }

  add(member: Ticking): void {
    if ((member.tickPlace ?? -1) < 0) {
      member.tickPlace = this.#members.length;
      this.#members.push(member);
    }
    if (this.#handle === undefined) {
      this.#lastMs = performance.now();
      this.#handle = setInterval(() => this.#onTime(), 1000);
      this.#handle.unref();
    }
  }

  delete(member: Ticking): void {
    const place = member.tickPlace ?? -1;
    if (place < 0) return;
    member.tickPlace = -1;
    const last = this.#members.pop() as Ticking;
    if (last !== member) {
      this.#members[place] = last;
      last.tickPlace = place;
    }
    if (this.#members.length === 0) this.close();
  }

  close(): void {
    if (this.#handle) clearInterval(this.#handle);
    this.#handle = undefined;
  }

  #onTime(): void {
    const late = performance.now() - this.#lastMs;
    this.#lastMs = performance.now();
    if (late < STOPPED_MS) this.#run();
    else setTimeout(() => this.#run(), RESUME_MS).unref();
  }

  #run(): void {
    const now = performance.now();
    timePassed(now);
    for (const member of [...this.#members]) {
      if ((member.tickPlace ?? -1) < 0) continue; // Taken out by one before it.
      try {
        member.tick(now);
      } catch (error) {
        this.#onError(error);
      }
    }
  }
}
