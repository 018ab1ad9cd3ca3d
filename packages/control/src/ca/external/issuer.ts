/** A CA that is somebody else's service. What it answers is believed no further than it can be checked here. */
import { createHash, type X509Certificate } from 'node:crypto';
import { type Clock, WeftError } from '@weft/base';
import {
  asksOnlyFor,
  type Issuer,
  MAX_CERT_TTL_MS,
  parseCertificates,
  requestedKeyId,
  rootIdOf,
  type SignedCertificate,
  spiffeIdFromCertificate,
} from '@weft/identity';
import { readExternal } from './config.ts';
import { askIstio } from './istio.ts';
import { askWorkloadApi } from './spiffe.ts';
import { askVault } from './vault.ts';

/** Intermediates that an answer may bring. */
const MAX_CHAIN = 4;
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
/** How far its clock may be from ours. */
const SKEW_MS = 300_000;

/** What a service is asked for; answers with certificates in PEM form, the leaf first, in any order after it. */
export type Ask = (csrPem: string, spiffeId: string, ttlMs: number) => Promise<string>;

const refused = (what: string) => new WeftError('control/external-ca', `the external CA's answer is not used: ${what}`);

/** Throws `control/bad-external-ca`. */
export function openExternal(dir: string, root: X509Certificate): Issuer {
  const config = readExternal(dir);
  const ask =
    config.kind === 'vault'
      ? askVault(config)
      : config.kind === 'istio'
        ? askIstio(config)
        : askWorkloadApi(config, root);
  return externalIssuer(root, ask);
}

export function externalIssuer(root: X509Certificate, ask: Ask): Issuer {
  const rootNotAfterMs = root.validToDate.getTime();
  return {
    rootPem: root.toString(),
    rootNotAfterMs,
    notAfterMs: rootNotAfterMs,
    id: rootIdOf(root.publicKey),
    keyId: '',
    async sign(csrPem, spiffeId, ttlMs, clock) {
      const keyId = await requestedKeyId(csrPem);
      // It may read names where our own CA reads none.
      if (!asksOnlyFor(csrPem, spiffeId))
        throw new WeftError('identity/bad-csr', `the certificate request asks for more than to be ${spiffeId}`);
      const answer = await ask(csrPem, spiffeId, ttlMs);
      return judge(answer, root, { keyId, spiffeId, clock });
    },
  };
}

function judge(
  answer: string,
  root: X509Certificate,
  { keyId, spiffeId, clock }: { keyId: string; spiffeId: string; clock: Clock },
): Omit<SignedCertificate, 'rootPem'> {
  const [leaf, ...others] = parseCertificates(answer);
  if (!leaf) throw refused('it holds no certificate');
  if (others.length > 2 * MAX_CHAIN) throw refused(`it holds ${others.length + 1} certificates`);
  const spki = leaf.publicKey.export({ type: 'spki', format: 'der' });
  if (createHash('sha256').update(spki).digest('hex') !== keyId) throw refused('it is for another key');
  const name = spiffeIdFromCertificate(leaf.raw);
  if ('error' in name) throw refused(name.error);
  if (name.spiffeId !== spiffeId) throw refused(`it names ${name.spiffeId} instead of ${spiffeId}`);
  if (leaf.ca) throw refused('it may sign certificates itself');
  const uses = leaf.keyUsage as string[] | undefined;
  if (uses && !(uses.includes(SERVER_AUTH) && uses.includes(CLIENT_AUTH)))
    throw refused('it is not for both servers and clients (extended key usage)');
  const now = clock.wall();
  const notBeforeMs = leaf.validFromDate.getTime();
  const notAfterMs = leaf.validToDate.getTime();
  if (notBeforeMs > now + SKEW_MS || notAfterMs <= now)
    throw refused(`it is valid from ${leaf.validFrom} to ${leaf.validTo}`);
  if (notAfterMs > now + MAX_CERT_TTL_MS + SKEW_MS)
    throw refused(`it is valid to ${leaf.validTo}, longer than 90 days`);
  const chain = [leaf];
  for (let at = leaf; !(at.checkIssued(root) && at.verify(root.publicKey)); ) {
    const up = others.find((c) => !chain.includes(c) && c.ca && at.checkIssued(c) && at.verify(c.publicKey));
    if (!up || chain.length > MAX_CHAIN) throw refused('no chain leads from it to root-cert.pem');
    chain.push(up);
    at = up;
  }
  return {
    certPem: leaf.toString(),
    chainPem: chain.map((c) => c.toString()).join(''),
    notBeforeMs,
    notAfterMs,
    serial: leaf.serialNumber.toLowerCase(),
  };
}
