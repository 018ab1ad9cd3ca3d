/** Certificates that people bring, for the edge: whether they can be served at all, and for which names. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';

/** `names`: DNS names and IP addresses that the certificate is for; `error` in words that show nothing of the key. */
export type JudgedKeyPair = { readonly names: readonly string[] } | { readonly error: string };

/** Judges a certificate chain (leaf first) and its key, both PEM. */
export function judgeKeyPair(certificatePem: string, keyPem: string): JudgedKeyPair {
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(certificatePem);
  } catch {
    return { error: 'the certificate cannot be read' };
  }
  let key: ReturnType<typeof createPrivateKey>;
  try {
    key = createPrivateKey(keyPem);
  } catch {
    return { error: 'the private key cannot be read: it may not be encrypted' };
  }
  if (!leaf.checkPrivateKey(key))
    return { error: 'the private key is not that of the certificate (the chain begins with its own)' };
  try {
    createSecureContext({ cert: certificatePem, key: keyPem });
  } catch (error) {
    return { error: `TLS does not take the certificate: ${(error as Error).message}` };
  }
  // Clients look at subjectAltName alone (RFC 9525 6.3), so that a common name is no name here either.
  const names = [...(leaf.subjectAltName ?? '').matchAll(/(?:DNS|IP Address):([^,\s"]+)/g)].map((m) => m[1]);
  return { names };
}
