/** What runs, in no order: adding and taking out cost the same however many there are. */

export interface Placed {
  /** Where it stands in its list; -1: nowhere. For the list alone. */
  place: number;
}

export class InFlightList<T extends Placed> implements Iterable<T> {
  #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  add(item: T): void {
    if (item.place >= 0) return;
    item.place = this.#items.length;
    this.#items.push(item);
  }

  delete(item: T): void {
    const { place } = item;
    if (place < 0) return;
    item.place = -1;
    const last = this.#items.pop() as T;
    if (last === item) return;
    this.#items[place] = last;
    last.place = place;
  }

  /** What stands in it now; what is taken out meanwhile is left out. */
  *[Symbol.iterator](): Iterator<T> {
    for (const item of [...this.#items]) if (item.place >= 0) yield item;
  }
}
