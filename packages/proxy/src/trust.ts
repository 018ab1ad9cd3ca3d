/** Whom to believe, as the plan says it. */
import { Revocations, type Trust, TrustBundle } from '@weft/identity';
import type { Trust as TrustPart } from '@weft/plan';

/** Throws `identity/…` where it cannot be used: the proxy refuses the plan then and keeps what it has. */
export function readTrust(part: TrustPart, trustDomain: string): Trust {
  const roots = new Map([[trustDomain, part.rootPem]]);
  const keys = new Map([[trustDomain, part.jwtKeys]]);
  for (const { trustDomain: domain, rootPem, jwtKeys } of part.federated) {
    if (domain === trustDomain) continue;
    roots.set(domain, rootPem);
    keys.set(domain, jwtKeys);
  }
  const aliases = new Map(part.aliases.map((alias) => [alias, trustDomain]));
  const bundle = new TrustBundle(roots, new Revocations(part.revoked, part.revokedIds), keys, aliases);
  return { rootPem: part.rootPem, issuer: part.issuer, bundle, workloadApi: part.workloadApi };
}
