/** Kinds of heads that are remembered. */
const PLACES = 16;
/** Of one head; as many as a number has bits. */
const KNOWN_LINES = 31;
const KNOWN_BYTES = 1024;
/** Heads with more new lines than usual until one is learned. */
const PATIENCE = 64;
/** More than a head can have. */
const ANY = 1 << 30;
const NO_BYTES = new Uint8Array(0);

/**
 * The field lines of one head, learned so that what the next has in common with it is neither checked nor made again: the
 * messages of a peer differ in few lines. Lines are compared with those in the same place. Of fixed size, and whoever
 * learns leaves out the values of secret names (strings.ts).
 */
export class KnownLines {
  /** Of each line its name and its value; undefined where it is none to know, which has no bytes either. */
  readonly texts: (string | undefined)[] = [];
  /** A bit for each line, the first the lowest: the codec reads the field itself. */
  special = 0;
  /** Where each line begins in `bytes`, and where the last one ends. */
  readonly starts: number[] = [0];
  /** The lines, each with its CRLF. */
  readonly bytes: Buffer = Buffer.alloc(KNOWN_BYTES);
  count = 0;
  /** This head is learned: `add` or `skip` is to be called for each of its lines. */
  learning = true;
  /** New lines of the heads since. */
  private usual = 0;
  private worse = 0;
  private full = false;

  /** A head begins. */
  begin(): void {
    if (!this.learning) return;
    this.count = 0;
    this.special = 0;
    this.full = false;
  }

  /** The next line of a head that is learned is none to know. */
  skip(): void {
    this.add(undefined, undefined, false, NO_BYTES);
  }

  add(name: string | undefined, value: string | undefined, special: boolean, line: Uint8Array): void {
    const { count, starts } = this;
    this.full ||= count === KNOWN_LINES || starts[count] + line.length > KNOWN_BYTES;
    if (this.full) return;
    this.texts[2 * count] = name;
    this.texts[2 * count + 1] = value;
    if (special) this.special |= 1 << count;
    this.bytes.set(line, starts[count]);
    starts[count + 1] = starts[count] + line.length;
    this.count = count + 1;
  }

  /** The head was good, and `fresh` of its lines were not known. */
  done(fresh: number): void {
    if (this.learning) {
      this.learning = false;
      this.usual = ANY;
      this.worse = 0;
    } else if (fresh <= this.usual) this.usual = fresh;
    else if (++this.worse === PATIENCE) this.learning = true;
  }
}

/** Heads that one side of a codec has to do with, by a number that heads of one kind have in common. */
export function knownPlaces(): KnownLines[] {
  return Array.from({ length: PLACES }, () => new KnownLines());
}

/** Of what `knownPlaces` gave. */
export function knownAt(places: KnownLines[], kind: number): KnownLines {
  return places[kind & (PLACES - 1)];
}
