import { type CryptoKeyPair, crypto, EC_P256, x509 } from './x509.ts';

export interface KeyAndCsr {
  /** PKCS #8. It never leaves the process that made it. */
  keyPem: string;
  csrPem: string;
}

/** A new P-256 key and a request for it. The request names nobody: who asks is known from how it is asked. */
export async function createKeyAndCsr(): Promise<KeyAndCsr> {
  const keys = (await crypto.subtle.generateKey(EC_P256, true, ['sign', 'verify'])) as CryptoKeyPair;
  const request = await x509.Pkcs10CertificateRequestGenerator.create(
    { keys, signingAlgorithm: EC_P256 } as Parameters<typeof x509.Pkcs10CertificateRequestGenerator.create>[0],
    crypto,
  );
  const pkcs8 = await crypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { keyPem: x509.PemConverter.encode(pkcs8, 'PRIVATE KEY'), csrPem: request.toString('pem') };
}
