/** Identities for tests: a CA in a folder of the test's, and certificates of an hour by it. */
import { assembleIdentity, createAuthority, createKeyAndCsr, type Identity } from '@weft/identity';

/** Gives the identity of a service account of `namespace`, `spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT`. */
export async function testIdentities(dir: string, namespace: string): Promise<(account: string) => Promise<Identity>> {
  const authority = await createAuthority({ dir, trustDomain: 'cluster.local' });
  return async (account) => {
    const { keyPem, csrPem } = await createKeyAndCsr();
    const spiffeId = `spiffe://cluster.local/ns/${namespace}/sa/${account}`;
    return assembleIdentity({ keyPem, ...(await authority.sign(csrPem, { spiffeId, ttlMs: 3_600_000 })) });
  };
}
