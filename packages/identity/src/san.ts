/**
 * The URI names of a certificate, from its DER bytes and nothing else of it: each handshake asks, and to take all of a
 * certificate apart costs more than the handshake's own cryptography. The TLS library has read the rest.
 */

const SEQUENCE = 0x30;
const OID = 0x06;
const BOOLEAN = 0x01;
const OCTET_STRING = 0x04;
/** [3] of TBSCertificate: extensions (RFC 5280 4.1). */
const EXTENSIONS = 0xa3;
/** [6] of GeneralName: uniformResourceIdentifier (RFC 5280 4.2.1.6). */
const URI = 0x86;
/** 2.5.29.17, subjectAltName. */
const SUBJECT_ALT_NAME = Buffer.from([0x55, 0x1d, 0x11]);

/** Elements of one constructed value, one after the other. Throws RangeError for anything that is not DER. */
class Elements {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #next: number;
  tag = 0;
  start = 0;
  end = 0;

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.#bytes = bytes;
    this.#next = start;
    this.#end = end;
  }

  /** Moves on; false at the end. */
  next(): boolean {
    if (this.#next === this.#end) return false;
    let at = this.#next;
    this.tag = this.#byte(at++);
    if ((this.tag & 0x1f) === 0x1f) throw new RangeError('a tag of several bytes');
    let length = this.#byte(at++);
    if (length >= 0x80) {
      const bytes = length & 0x7f;
      if (bytes === 0 || bytes > 4) throw new RangeError('a length that is indefinite or too long');
      length = 0;
      for (let i = 0; i < bytes; i++) length = length * 256 + this.#byte(at++);
      if (length < 0x80 || length < 256 ** (bytes - 1)) throw new RangeError('a length that is not the shortest');
    }
    if (length > this.#end - at) throw new RangeError('an element that is longer than what it is in');
    this.start = at;
    this.end = at + length;
    this.#next = this.end;
    return true;
  }

  /** The inside of the next element, which must be of this kind. */
  enter(tag: number): Elements {
    if (!this.next() || this.tag !== tag) throw new RangeError('another element was expected');
    return this.inside();
  }

  inside(): Elements {
    return new Elements(this.#bytes, this.start, this.end);
  }

  /** Nothing may follow. */
  done(): void {
    if (this.#next !== this.#end) throw new RangeError('bytes behind the last element');
  }

  #byte(at: number): number {
    if (at >= this.#end) throw new RangeError('an element that is not whole');
    return this.#bytes[at] as number;
  }
}

/** How many subjectAltName extensions there are, and the URIs of all of them. Throws RangeError where it is no certificate. */
export function uriNames(der: Uint8Array): { extensions: number; uris: string[] } {
  const whole = new Elements(der, 0, der.length);
  const certificate = whole.enter(SEQUENCE);
  whole.done();
  const signed = certificate.enter(SEQUENCE);
  const found = { extensions: 0, uris: [] as string[] };
  while (signed.next()) {
    if (signed.tag !== EXTENSIONS) continue;
    const tagged = signed.inside();
    const all = tagged.enter(SEQUENCE);
    tagged.done();
    while (all.next()) {
      if (all.tag !== SEQUENCE) throw new RangeError('an extension that is none');
      const extension = all.inside();
      extension.enter(OID);
      if (!SUBJECT_ALT_NAME.equals(der.subarray(extension.start, extension.end))) continue;
      found.extensions++;
      if (!extension.next()) throw new RangeError('an extension without a value');
      if (extension.tag === BOOLEAN && !extension.next()) throw new RangeError('an extension without a value');
      if (extension.tag !== OCTET_STRING) throw new RangeError('an extension whose value is none');
      extension.done();
      const value = extension.inside();
      const names = value.enter(SEQUENCE);
      value.done();
      while (names.next())
        if (names.tag === URI) found.uris.push(Buffer.from(der.subarray(names.start, names.end)).toString('latin1'));
    }
  }
  return found;
}
