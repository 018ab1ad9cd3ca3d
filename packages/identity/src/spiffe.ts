/** SPIFFE ids as Istio writes them: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. */
import { WeftError } from '@weft/base';
import { uriNames } from './san.ts';

export interface SpiffeId {
  trustDomain: string;
  namespace: string;
  serviceAccount: string;
}

/** SPIFFE ID 2.3: at most 2048 bytes; a trust domain at most 255. */
const MAX_ID_BYTES = 2048;
const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/;
const SEGMENT = /^[A-Za-z0-9._-]{1,253}$/;

function validSegment(s: string): boolean {
  return SEGMENT.test(s) && s !== '.' && s !== '..';
}

/** Parses a workload's id; undefined for anything else, also for a trust domain's own id without a path. */
export function parseSpiffeId(id: string): SpiffeId | undefined {
  if (id.length > MAX_ID_BYTES || !id.startsWith('spiffe://')) return undefined;
  const parts = id.slice('spiffe://'.length).split('/');
  if (parts.length !== 5 || parts[1] !== 'ns' || parts[3] !== 'sa') return undefined;
  const [trustDomain, , namespace, , serviceAccount] = parts;
  if (!TRUST_DOMAIN.test(trustDomain) || !validSegment(namespace) || !validSegment(serviceAccount)) return undefined;
  return { trustDomain, namespace, serviceAccount };
}

/** Writes an id; throws `identity/bad-spiffe-id` where a part could not stand in one. */
export function formatSpiffeId(id: SpiffeId): string {
  const text = `spiffe://${id.trustDomain}/ns/${id.namespace}/sa/${id.serviceAccount}`;
  if (!parseSpiffeId(text)) {
    throw new WeftError(
      'identity/bad-spiffe-id',
      `${JSON.stringify(text)} is not a SPIFFE id: use letters, digits, "-", "_" and "." in its parts (trust domain in lower case)`,
    );
  }
  return text;
}

export function isTrustDomain(name: string): boolean {
  return TRUST_DOMAIN.test(name);
}

/** The form that policies use: without `spiffe://`. */
export function principalOf(spiffeId: string): string {
  return spiffeId.startsWith('spiffe://') ? spiffeId.slice('spiffe://'.length) : spiffeId;
}

/**
 * The SPIFFE id in a certificate (DER): it must have exactly one URI SAN, and that must be a workload's id
 * (X.509-SVID 2). Parsed from the bytes: the text form of SANs that TLS libraries print can be forged by names with commas.
 */
export function spiffeIdFromCertificate(der: Uint8Array): { spiffeId: string; id: SpiffeId } | { error: string } {
  let found: ReturnType<typeof uriNames>;
  try {
    found = uriNames(der);
  } catch {
    return { error: 'certificate cannot be parsed' };
  }
  const { extensions, uris } = found;
  if (extensions !== 1) return { error: `certificate has ${extensions} SAN extensions, not one` };
  if (uris.length !== 1) return { error: `certificate has ${uris.length} URI SANs, not one` };
  const id = parseSpiffeId(uris[0]);
  if (!id) return { error: `URI SAN ${JSON.stringify(uris[0].slice(0, 200))} is not the id of a workload` };
  return { spiffeId: uris[0], id };
}
