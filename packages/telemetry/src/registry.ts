import { WeftError } from '@weft/base';
import { bucketIndex } from './histogram.ts';

/**
 * Metrics as slots of one typed array. A caller looks a slot up once, keeps the number, and adds to it from then on;
 * names and labels matter again only when somebody scrapes.
 */

export type FamilyType = 'counter' | 'gauge' | 'histogram';

/** One label set of a family. A histogram's slots are a count per bucket, the +Inf bucket, then the sum. */
export interface Series {
  /** `{a="b",c="d"}` as the text format has it, or empty. */
  readonly labels: string;
  readonly slot: number;
}

export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: FamilyType;
  readonly buckets: readonly number[];
  readonly series: Series[];
  /** Read at scrape time in the place of series, for values somebody else holds. */
  readonly read?: () => number;
}

export interface RegistryOptions {
  /** Label sets in the whole registry; past it they fold into one whose labels are "other". */
  maxLabelSets?: number;
}

export const defaultMaxLabelSets = 10_000;
/** Names of plain counters come from code; the bound is for a caller that gets this wrong. */
const maxCounterNames = 1000;

export class Registry {
  /** Replaced when it grows: read it through the registry, do not keep it. */
  values: Float64Array = new Float64Array(1024);
  readonly families: Family[] = [];
  readonly maxLabelSets: number;
  #used = 0;
  #labelSets = 0;
  #byName = new Map<string, Family>();
  #events = new Map<string, number>();
  #eventFamily: Family;
  #foldedSlot: number;

  constructor(options: RegistryOptions = {}) {
    this.maxLabelSets = options.maxLabelSets ?? defaultMaxLabelSets;
    this.#eventFamily = this.family(
      'weft_events_total',
      'counter',
      'Limits hit and other events, by name (LIMITS.md).',
    );
    const folded = this.family(
      'weft_metrics_label_sets_folded_total',
      'counter',
      'Look-ups of new label sets answered with "other" since the limit was reached.',
    );
    this.#foldedSlot = this.addSeries(folded, '');
    this.gauge('weft_metrics_label_sets', 'Label sets held now.', () => this.#labelSets);
  }

  /** Makes or finds a family. Throws WeftError `metric-conflict` if the name is taken by another type. */
  family(name: string, type: FamilyType, help: string, buckets: readonly number[] = []): Family {
    const existing = this.#byName.get(name);
    if (existing) {
      if (existing.type !== type || existing.buckets.length !== buckets.length || existing.read) {
        throw new WeftError('metric-conflict', `metric ${name} exists as a ${existing.type}; choose another name`);
      }
      return existing;
    }
    const family: Family = { name, type, help, buckets, series: [] };
    this.families.push(family);
    this.#byName.set(name, family);
    return family;
  }

  /** A value that is read when somebody scrapes. A second one of the same name replaces the first. */
  gauge(name: string, help: string, read: () => number): void {
    const existing = this.#byName.get(name);
    const family: Family = { name, type: 'gauge', help, buckets: [], series: [], read };
    if (existing) this.families[this.families.indexOf(existing)] = family;
    else this.families.push(family);
    this.#byName.set(name, family);
  }

  /** Reserves `count` slots next to each other and returns the first. */
  allocate(count: number): number {
    const slot = this.#used;
    this.#used += count;
    if (this.#used > this.values.length) {
      const grown = new Float64Array(Math.max(this.#used, this.values.length * 2));
      grown.set(this.values);
      this.values = grown;
    }
    return slot;
  }

  /** Adds one label set (rendered by `renderLabels`) to a family; the caller keeps the slot. */
  addSeries(family: Family, labels: string, slot = this.allocate(slotsOf(family))): number {
    family.series.push({ labels, slot });
    return slot;
  }

  /** Asks for room for one more label set. False: use the one named "other"; counted. */
  admitLabelSet(): boolean {
    if (this.#labelSets >= this.maxLabelSets) {
      this.values[this.#foldedSlot] += 1;
      return false;
    }
    this.#labelSets++;
    return true;
  }

  get labelSets(): number {
    return this.#labelSets;
  }

  get folded(): number {
    return this.values[this.#foldedSlot];
  }

  add(slot: number, delta: number): void {
    this.values[slot] += delta;
  }

  observe(slot: number, buckets: readonly number[], value: number): void {
    this.values[slot + bucketIndex(buckets, value)] += 1;
    this.values[slot + buckets.length + 1] += value;
  }

  /** Slot of the plain counter `name` (`weft_events_total{event="name"}`), for who counts often. */
  eventSlot(name: string): number {
    const known = this.#events.get(name);
    if (known !== undefined) return known;
    if (this.#events.size >= maxCounterNames && name !== 'other') return this.eventSlot('other');
    const slot = this.addSeries(this.#eventFamily, renderLabels(['event'], [name]));
    this.#events.set(name, slot);
    return slot;
  }

  /** Raises the plain counter `name` by one. Fits wire's WireCounters. */
  count(name: string): void {
    this.values[this.eventSlot(name)] += 1;
  }

  /** Plain counters with their values, sorted by name. */
  events(): [name: string, value: number][] {
    return [...this.#events]
      .map(([name, slot]): [string, number] => [name, this.values[slot]])
      .sort((a, b) => (a[0] < b[0] ? -1 : 1));
  }
}

export function slotsOf(family: Family): number {
  return family.type === 'histogram' ? family.buckets.length + 2 : 1;
}

/** `{name="value",…}` with values escaped; undefined values are left out (Prometheus: absent is empty). */
export function renderLabels(names: readonly string[], values: readonly (string | undefined)[]): string {
  let out = '';
  for (let i = 0; i < names.length; i++) {
    const value = values[i];
    if (value === undefined) continue;
    out += `${out === '' ? '{' : ','}${names[i]}="${escapeLabel(value)}"`;
  }
  return out === '' ? '' : out + '}';
}

function escapeLabel(value: string): string {
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i);
    if (c === 34 || c === 92 || c < 32) {
      return value.replace(/[\\"\u0000-\u001f]/g, (x) =>
        x === '\n' ? '\\n' : x === '"' ? '\\"' : x === '\\' ? '\\\\' : '?',
      );
    }
  }
  return value;
}
