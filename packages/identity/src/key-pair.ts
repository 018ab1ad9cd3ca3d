/** Certificates that people bring, for the edge: whether they can be served at all. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';

/** What is wrong with a certificate chain (leaf first) and its key, both PEM, in words that show nothing of the key. */
export function checkKeyPair(certificatePem: string, keyPem: string): string | undefined {
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(certificatePem);
  } catch {
    return 'the certificate cannot be read';
  }
  let key: ReturnType<typeof createPrivateKey>;
  try {
    key = createPrivateKey(keyPem);
  } catch {
    return 'the private key cannot be read: it may not be encrypted';
  }
  if (!leaf.checkPrivateKey(key))
    return 'the private key is not that of the certificate (the chain begins with its own)';
  try {
    createSecureContext({ cert: certificatePem, key: keyPem });
  } catch (error) {
    return `TLS does not take the certificate: ${(error as Error).message}`;
  }
  return undefined;
}
