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
