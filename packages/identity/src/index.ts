/** SPIFFE identities: the CA, certificates and their rotation, and TLS between proxies. */
export * from './bundle.ts';
export * from './ca.ts';
export * from './client.ts';
export * from './csr.ts';
export { appendFile, refuseIfShared, writeFileAtomic } from './files.ts';
export {
  type Issuer,
  issuerFromMemory,
  type OpenExternal,
  type SignedCertificate,
} from './issuer.ts';
export * from './jwt.ts';
export * from './jwt-keys.ts';
export * from './key-id.ts';
export * from './key-pair.ts';
export * from './local-access.ts';
export { peerCertificate } from './peer-certificate.ts';
export * from './request.ts';
export * from './revocations.ts';
export * from './spiffe.ts';
export * from './store.ts';
export * from './tls.ts';
