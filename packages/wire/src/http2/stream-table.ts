/**
 * The open streams of a connection by their id.
 *
 * Not a Map: one that is filled and emptied all the time makes a new table again and again, and each table it has left
 * points to its successor. As soon as one of them has grown old, the collector of young objects takes that whole chain,
 * with every stream that ever stood in it, for alive. Here nothing that was left points to a stream.
 */

interface Numbered {
  readonly id: number;
}

/** A power of two. */
const fewest = 16;

export class StreamTable<T extends Numbered> {
  /** Of a power of two, at most half full: a stream stands at the place its number says, or in the next free one. */
  #slots: (T | undefined)[] = empty(fewest);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: number): T | undefined {
    return this.#slots[this.#find(id)];
  }

  /** Takes the place of one with the same id. */
  add(stream: T): void {
    const at = this.#find(stream.id);
    if (this.#slots[at] === undefined) this.#size++;
    this.#slots[at] = stream;
    if (this.#size > this.#slots.length >>> 1) this.#grow();
  }

  delete(id: number): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let gap = this.#find(id);
    if (slots[gap] === undefined) return;
    this.#size--;
    // Those behind it move up, unless that puts them before their own place.
    for (let at = (gap + 1) & mask; ; at = (at + 1) & mask) {
      const stream = slots[at];
      if (stream === undefined) break;
      if (((at - place(stream.id)) & mask) < ((at - gap) & mask)) continue;
      slots[gap] = stream;
      gap = at;
    }
    slots[gap] = undefined;
  }

  clear(): void {
    this.#slots.fill(undefined);
    this.#size = 0;
  }

  /** A list of its own, in no order. */
  all(): T[] {
    const found: T[] = [];
    for (const stream of this.#slots) if (stream !== undefined) found.push(stream);
    return found;
  }

  /** Where it stands, or would. A peer may choose ids that meet: it has as many streams as the limit lets it. */
  #find(id: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let at = place(id) & mask;
    for (let stream = slots[at]; stream !== undefined && stream.id !== id; stream = slots[at]) at = (at + 1) & mask;
    return at;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = empty(old.length * 2);
    for (const stream of old) if (stream !== undefined) this.#slots[this.#find(stream.id)] = stream;
    old.fill(undefined); // It may be old, and is to keep nothing alive.
  }
}

/** A connection's streams have every second number. */
function place(id: number): number {
  return id >>> 1;
}

function empty<T>(size: number): (T | undefined)[] {
  return new Array<T | undefined>(size).fill(undefined);
}
