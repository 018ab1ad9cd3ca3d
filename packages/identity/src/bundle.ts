/** Which roots speak for which trust domain. */
import { X509Certificate } from 'node:crypto';
import { WeftError } from '@weft/base';
import { Revocations } from './revocations.ts';
import { isTrustDomain } from './spiffe.ts';

/** Splits a PEM text into its certificates; throws `identity/bad-certificate`. */
export function parseCertificates(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  try {
    return blocks.map((b) => new X509Certificate(b));
  } catch (cause) {
    throw new WeftError('identity/bad-certificate', 'a certificate in PEM form cannot be parsed', { cause });
  }
}

/** At most this many are read of one answer: leaf and intermediates, or roots. */
const MAX_DER = 20;

/** Certificates in DER, one after the other, as SPIFFE's Workload API gives them; throws `identity/bad-certificate`. */
export function parseDerCertificates(bytes: Uint8Array): X509Certificate[] {
  const all: X509Certificate[] = [];
  try {
    for (let at = 0; at < bytes.length && all.length < MAX_DER; ) {
      const end = at + lengthOf(bytes.subarray(at));
      all.push(new X509Certificate(bytes.subarray(at, end)));
      at = end;
    }
  } catch (cause) {
    throw new WeftError('identity/bad-certificate', 'a certificate in DER form cannot be parsed', { cause });
  }
  return all;
}

/** Bytes of the SEQUENCE that begins here, its head included (X.690 8.1.3). */
function lengthOf(bytes: Uint8Array): number {
  const short = bytes[1] ?? 0;
  const more = short < 0x80 ? 0 : short & 0x7f;
  if (bytes[0] !== 0x30 || more > 3) throw new Error('not a certificate');
  let length = more === 0 ? short : 0;
  for (let i = 0; i < more; i++) length = length * 256 + (bytes[2 + i] ?? 0);
  const total = 2 + more + length;
  if (total > bytes.length) throw new Error('not a whole certificate');
  return total;
}

/** Whom to believe: roots by trust domain, less what is revoked. Immutable: a change makes a new one. */
export class TrustBundle {
  readonly #roots: ReadonlyMap<string, readonly X509Certificate[]>;
  /** Every root, for the TLS library's one pool. Which of them signed a peer is checked after it. */
  readonly pool: readonly string[];
  readonly revocations: Revocations;
  readonly #jwtKeys: ReadonlyMap<string, string>;
  readonly #aliases: ReadonlyMap<string, string>;

  /**
   * `roots`: trust domain → PEM text of one or more roots (several while a root is being replaced). `jwtKeys`: trust
   * domain → JSON Web Key Set of what signs its tokens. `aliases`: other name → trust domain whose roots and keys speak
   * for it too; a name with roots of its own has those alone.
   */
  constructor(
    roots: ReadonlyMap<string, string>,
    revocations: Revocations = Revocations.none,
    jwtKeys: ReadonlyMap<string, string> = new Map(),
    aliases: ReadonlyMap<string, string> = new Map(),
  ) {
    this.revocations = revocations;
    const parsed = new Map<string, readonly X509Certificate[]>();
    for (const [domain, pem] of roots) {
      const certificates = parseCertificates(pem);
      if (!isTrustDomain(domain) || certificates.length === 0) {
        throw new WeftError(
          'identity/bad-bundle',
          `the bundle of trust domain ${JSON.stringify(domain)} holds no root certificate`,
        );
      }
      parsed.set(domain, certificates);
    }
    this.pool = [...parsed.values()].flat().map((c) => c.toString());
    const keys = new Map(jwtKeys);
    this.#aliases = aliases;
    for (const [alias, domain] of aliases) {
      const own = parsed.get(domain);
      if (!own || !isTrustDomain(alias) || parsed.has(alias)) continue;
      parsed.set(alias, own);
      keys.set(alias, jwtKeys.get(domain) ?? '');
    }
    this.#roots = parsed;
    this.#jwtKeys = keys;
  }

  /** The trust domains that are believed. */
  get domains(): string[] {
    return [...this.#roots.keys()];
  }

  /** Empty where its tokens are not believed. */
  jwtKeysOf(trustDomain: string): string {
    return this.#roots.has(trustDomain) ? (this.#jwtKeys.get(trustDomain) ?? '') : '';
  }

  /** The same workload's id in the trust domain that the id's is another name of; the id itself where it is of none. */
  canonical(spiffeId: string, { trustDomain }: { trustDomain: string }): string {
    const domain = this.#aliases.get(trustDomain);
    return domain === undefined
      ? spiffeId
      : `spiffe://${domain}${spiffeId.slice('spiffe://'.length + trustDomain.length)}`;
  }

  rootsOf(trustDomain: string): readonly X509Certificate[] {
    return this.#roots.get(trustDomain) ?? [];
  }
}
