/** Certificate requests, as who signs judges them. `request.ts` makes them. */
import { createHash } from 'node:crypto';
import { WeftError } from '@weft/base';
import { crypto, x509 } from './x509.ts';

const MAX_CSR_BYTES = 16 * 1024;

/** The public key of a request that its holder signed. Nothing else of a request is believed. */
export async function requestedKey(csrPem: string) {
  if (csrPem.length > MAX_CSR_BYTES) {
    throw new WeftError(
      'identity/bad-csr',
      `the certificate request has ${csrPem.length} bytes: at most ${MAX_CSR_BYTES} are read`,
    );
  }
  let request: InstanceType<typeof x509.Pkcs10CertificateRequest>;
  let algorithm: { name?: string; namedCurve?: string; modulusLength?: number };
  let signed = false;
  try {
    request = new x509.Pkcs10CertificateRequest(csrPem);
    algorithm = request.publicKey.algorithm as typeof algorithm;
    signed = await request.verify(crypto);
  } catch (cause) {
    throw new WeftError('identity/bad-csr', 'the certificate request is not a PKCS #10 request in PEM form', { cause });
  }
  if (!signed) throw new WeftError('identity/bad-csr', 'the certificate request is not signed by its own key');
  const ec = algorithm.namedCurve === 'P-256' || algorithm.namedCurve === 'P-384';
  const bits = algorithm.modulusLength ?? 0;
  if (!ec && !(algorithm.name?.startsWith('RSA') && bits >= 2048 && bits <= 4096)) {
    throw new WeftError(
      'identity/bad-csr',
      'the key of the certificate request must be ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits',
    );
  }
  return request.publicKey;
}

/** Names the key of a request that its holder signed, as `keyIdOf` does. Throws `identity/bad-csr`. */
export async function requestedKeyId(csrPem: string): Promise<string> {
  const { rawData } = await requestedKey(csrPem);
  return createHash('sha256').update(new Uint8Array(rawData)).digest('hex');
}

/** Whether a request asks for these names alone, or for none. Throws where it is no request. */
export function asksOnlyFor(csrPem: string, spiffeId: string): boolean {
  const request = new x509.Pkcs10CertificateRequest(csrPem);
  if (request.subject !== '') return false;
  const extensions = request.extensions;
  const names = extensions.filter((e) => e.type === '2.5.29.17');
  if (names.length === 0) return extensions.length === 0;
  const { items } = new x509.SubjectAlternativeNameExtension(names[0]!.rawData).names;
  return extensions.length === 1 && items.length === 1 && items[0]?.type === 'url' && items[0].value === spiffeId;
}
