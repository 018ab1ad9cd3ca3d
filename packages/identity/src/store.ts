/** A proxy's own key, certificate and roots on disk, so that a restarted proxy serves while the control plane is away. */
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { WeftError } from '@weft/base';
import { parseCertificates, TrustBundle } from './bundle.ts';
import { privateFolder, refuseIfShared, writeFileAtomic } from './files.ts';
import { keyIdOf, rootIdOf } from './key-id.ts';
import { spiffeIdFromCertificate } from './spiffe.ts';

/** What a workload proves itself with, and what it believes others by. Immutable. */
export interface Identity {
  readonly spiffeId: string;
  readonly trustDomain: string;
  /** PKCS #8. */
  readonly keyPem: string;
  /** Leaf first. */
  readonly chainPem: string;
  /** Roots of the own trust domain. */
  readonly rootPem: string;
  readonly bundle: TrustBundle;
  /** Wall milliseconds. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Hexadecimal. */
  readonly serial: string;
  /** Which key signed the leaf (`keyIdOf`). */
  readonly issuer: string;
  /** By what it may be said which CA made it (see `signersOf`). */
  readonly signers: readonly string[];
  /** What its links are made of; absent: the defaults. */
  readonly tls?: MeshTls;
}

/** TLS of links between proxies, in OpenSSL's names, in order of preference; an empty list: the default. */
export interface MeshTls {
  /** Groups of the key exchange. */
  readonly curves: readonly string[];
  /** Of TLS 1.3. */
  readonly cipherSuites: readonly string[];
}

/** Whom a workload believes, as the control plane says it from time to time. */
export interface Trust {
  /** Roots of the own trust domain. */
  readonly rootPem: string;
  readonly bundle: TrustBundle;
  /** What signs new certificates, as one of `Identity.signers`: a certificate without it is renewed soon. */
  readonly issuer: string;
  /** Path of the socket of a SPIFFE Workload API that gives workloads their certificates; absent: the mesh's CA does. */
  readonly workloadApi?: string;
}

/** The same key and certificate, believing others by `trust`. */
export function withTrust(identity: Identity, { rootPem, bundle }: Trust): Identity {
  return { ...identity, rootPem, bundle };
}

/** Puts an identity together; throws `identity/bad-certificate` where key, certificate and roots do not belong together. */
export function assembleIdentity(parts: { keyPem: string; chainPem: string; rootPem: string }): Identity {
  const [leaf, ...intermediates] = parseCertificates(parts.chainPem);
  if (!leaf) throw new WeftError('identity/bad-certificate', 'the certificate chain is empty');
  const name = spiffeIdFromCertificate(leaf.raw);
  if ('error' in name) throw new WeftError('identity/bad-certificate', `own ${name.error}`);
  let matches = false;
  try {
    const spki = createPublicKey(createPrivateKey(parts.keyPem)).export({ type: 'spki', format: 'der' });
    matches = spki.equals(leaf.publicKey.export({ type: 'spki', format: 'der' }));
  } catch {
    // An unreadable key is the same to the caller as another's.
  }
  if (!matches)
    throw new WeftError('identity/bad-certificate', `the certificate of ${name.spiffeId} is not for the key beside it`);
  const bundle = new TrustBundle(new Map([[name.id.trustDomain, parts.rootPem]]));
  const last = intermediates.at(-1) ?? leaf;
  const root = bundle.rootsOf(name.id.trustDomain).find((r) => last.checkIssued(r) && last.verify(r.publicKey));
  if (!root) {
    throw new WeftError(
      'identity/bad-certificate',
      `the certificate of ${name.spiffeId} was not signed by the root that came with it`,
    );
  }
  return {
    ...parts,
    spiffeId: name.spiffeId,
    trustDomain: name.id.trustDomain,
    bundle,
    notBeforeMs: leaf.validFromDate.getTime(),
    notAfterMs: leaf.validToDate.getTime(),
    serial: leaf.serialNumber.toLowerCase(),
    issuer: keyIdOf((intermediates[0] ?? root).publicKey),
    signers: [keyIdOf((intermediates[0] ?? root).publicKey), rootIdOf(root.publicKey)],
  };
}

/** Whether one of these roots (PEM) is the one above an identity. */
export function isUnder(identity: Identity, rootPem: string): boolean {
  return parseCertificates(rootPem).some((root) => identity.signers.includes(rootIdOf(root.publicKey)));
}

const FILE = 'identity.json';

/** One file, since key, certificate and roots are only of use together. */
export function writeIdentity(dir: string, identity: Identity): void {
  privateFolder(dir);
  const { keyPem, chainPem, rootPem } = identity;
  writeFileAtomic(join(dir, FILE), JSON.stringify({ keyPem, chainPem, rootPem }), 0o600);
}

/** Forgets the stored identity, if there is one. */
export function removeIdentity(dir: string): void {
  rmSync(join(dir, FILE), { force: true });
}

/** The stored identity, whatever its age; undefined where there is none. Throws where what is there is exposed or broken. */
export function readIdentity(dir: string): Identity | undefined {
  const path = join(dir, FILE);
  if (!existsSync(path)) return undefined;
  refuseIfShared(path, 'identity file', '0600');
  let parts: { keyPem?: unknown; chainPem?: unknown; rootPem?: unknown };
  try {
    parts = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new WeftError(
      'identity/bad-store',
      `${path} cannot be read: remove it, and the proxy asks for a new certificate`,
      { cause },
    );
  }
  const { keyPem, chainPem, rootPem } = parts;
  if (typeof keyPem !== 'string' || typeof chainPem !== 'string' || typeof rootPem !== 'string') {
    throw new WeftError(
      'identity/bad-store',
      `${path} lacks a key, a chain or a root: remove it, and the proxy asks for a new certificate`,
    );
  }
  return assembleIdentity({ keyPem, chainPem, rootPem });
}
