/** Which certificates and identities are refused although a root signed them. */
import { WeftError } from '@weft/base';
import { parseSpiffeId } from './spiffe.ts';

export interface RevokedCertificate {
  /** The key that signed it (`keyIdOf`); empty: any. Two CAs may give the same number. */
  readonly issuer: string;
  /** Hexadecimal, lower case, without leading zeros. */
  readonly serial: string;
}

/** A serial number as people copy it (colons, upper case, leading zeros) in the one form that is compared. */
export function canonicalSerial(text: string): string {
  const hex = text.replaceAll(':', '').toLowerCase();
  if (!/^[0-9a-f]{1,64}$/.test(hex))
    throw new WeftError(
      'identity/bad-serial',
      `${JSON.stringify(text.slice(0, 100))} is not a serial number in hexadecimal`,
    );
  return hex.replace(/^0+(?=.)/, '');
}

/** Immutable. */
export class Revocations {
  static readonly none: Revocations = new Revocations([], []);
  readonly certificates: readonly RevokedCertificate[];
  readonly ids: ReadonlySet<string>;
  readonly #issuers = new Map<string, Set<string>>();

  /** Throws `identity/bad-serial` or `identity/bad-spiffe-id`. */
  constructor(certificates: Iterable<RevokedCertificate>, ids: Iterable<string>) {
    this.certificates = [...certificates].map(({ issuer, serial }) => ({ issuer, serial: canonicalSerial(serial) }));
    this.ids = new Set(ids);
    for (const { issuer, serial } of this.certificates) {
      const issuers = this.#issuers.get(serial);
      if (issuers) issuers.add(issuer);
      else this.#issuers.set(serial, new Set([issuer]));
    }
    for (const id of this.ids)
      if (!parseSpiffeId(id))
        throw new WeftError(
          'identity/bad-spiffe-id',
          `${JSON.stringify(id.slice(0, 200))} is not the SPIFFE id of a workload`,
        );
  }

  refusesCertificate(issuer: string, serial: string): boolean {
    const issuers = this.#issuers.get(canonicalSerial(serial));
    return issuers !== undefined && (issuers.has(issuer) || issuers.has(''));
  }

  refusesId(spiffeId: string): boolean {
    return this.ids.has(spiffeId);
  }

  get empty(): boolean {
    return this.ids.size === 0 && this.certificates.length === 0;
  }
}
