/**
 * One signing certificate and its key, from a folder: an own self-signed root (`root-key.pem`, `root-cert.pem`), or an
 * intermediate that somebody brought, under the names of Istio's `cacerts` (`ca-cert.pem`, `ca-key.pem`,
 * `root-cert.pem`, `cert-chain.pem`).
 */
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, type X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, WeftError } from '@weft/base';
import { parseCertificates } from './bundle.ts';
import { requestedKey } from './csr.ts';
import { privateFolder, refuseIfShared, writeFileAtomic } from './files.ts';
import { keyIdOf, rootIdOf } from './key-id.ts';
import { type CryptoKey, type CryptoKeyPair, crypto, EC_P256, x509 } from './x509.ts';

const DAY_MS = 86_400_000;
const ROOT_TTL_MS = 3650 * DAY_MS; // Istio's self-signed root: 10 years
const BACKDATE_MS = 120_000; // for peers whose clocks are behind
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

export interface SignedCertificate {
  certPem: string;
  /** The leaf, then the intermediates up to the root, without it: what a TLS endpoint presents. */
  chainPem: string;
  /** Every root that is trusted now. */
  rootPem: string;
  notBeforeMs: number;
  notAfterMs: number;
  /** Hexadecimal, lower case. */
  serial: string;
}

/** What signs certificates for the mesh. */
export interface Issuer {
  readonly rootPem: string;
  readonly rootNotAfterMs: number;
  /** End of the certificate that signs, the root's own where there is no intermediate: no leaf outlives it. */
  readonly notAfterMs: number;
  /** What is among `Identity.signers` of what it signs. */
  readonly id: string;
  /** The key that signs (`keyIdOf`); empty where it is somebody else's, who may change it. */
  readonly keyId: string;
  /** Throws `identity/bad-csr`. The caller has judged the id and the time asked for. */
  sign(csrPem: string, spiffeId: string, ttlMs: number, clock: Clock): Promise<Omit<SignedCertificate, 'rootPem'>>;
}

/** Opens a CA that is somebody else's service, from a folder with `external.json` and `root-cert.pem`. */
export type OpenExternal = (dir: string, root: X509Certificate) => Issuer | Promise<Issuer>;

class KeyIssuer implements Issuer {
  readonly rootPem: string;
  readonly rootNotAfterMs: number;
  readonly notAfterMs: number;
  readonly keyId: string;
  readonly #certificate: InstanceType<typeof x509.X509Certificate>;
  readonly #intermediatesPem: string;
  readonly #key: CryptoKey;
  readonly #algorithm: SigningAlgorithm;

  constructor(parts: {
    signer: X509Certificate;
    intermediates: X509Certificate[];
    root: X509Certificate;
    key: LoadedKey;
  }) {
    const { signer, intermediates, root, key } = parts;
    this.rootPem = root.toString();
    this.rootNotAfterMs = root.validToDate.getTime();
    this.notAfterMs = Math.min(this.rootNotAfterMs, ...intermediates.map((c) => c.validToDate.getTime()));
    this.keyId = keyIdOf(signer.publicKey);
    this.#certificate = new x509.X509Certificate(signer.raw as unknown as ArrayBuffer);
    this.#intermediatesPem = intermediates.map((c) => c.toString()).join('');
    this.#key = key.signing;
    this.#algorithm = key.algorithm;
  }

  get id(): string {
    return this.keyId;
  }

  async sign(
    csrPem: string,
    spiffeId: string,
    ttlMs: number,
    clock: Clock,
  ): Promise<Omit<SignedCertificate, 'rootPem'>> {
    const publicKey = await requestedKey(csrPem);
    const now = clock.wall();
    const serial = newSerial();
    const certificate = await x509.X509CertificateGenerator.create(
      {
        serialNumber: serial,
        issuer: this.#certificate.subjectName,
        notBefore: new Date(now - BACKDATE_MS),
        notAfter: new Date(Math.min(now + ttlMs, this.notAfterMs)),
        publicKey,
        signingKey: this.#key,
        signingAlgorithm: this.#algorithm,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
          new x509.ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH], false),
          // Critical, since the subject is empty (RFC 5280 4.2.1.6).
          new x509.SubjectAlternativeNameExtension([{ type: 'url', value: spiffeId }], true),
          this.#authorityKey(
            await x509.AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey, false, crypto),
          ),
        ],
      },
      crypto,
    );
    const certPem = `${certificate.toString('pem')}\n`;
    return {
      certPem,
      chainPem: certPem + this.#intermediatesPem,
      // X.509 times have whole seconds.
      notBeforeMs: certificate.notBefore.getTime(),
      notAfterMs: certificate.notAfter.getTime(),
      serial,
    };
  }

  /** The signer says itself how its key is named; who made it may have hashed otherwise than we would. */
  #authorityKey(computed: InstanceType<typeof x509.AuthorityKeyIdentifierExtension>) {
    const own = this.#certificate.getExtension(x509.SubjectKeyIdentifierExtension);
    return own ? new x509.AuthorityKeyIdentifierExtension(own.keyId, false) : computed;
  }
}

type SigningAlgorithm = { name: string; hash: string; namedCurve?: string };
interface LoadedKey {
  node: KeyObject;
  signing: CryptoKey;
  algorithm: SigningAlgorithm;
}

/** A serial number of 127 random bits, positive as RFC 5280 4.1.2.2 asks. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0] & 0x7f) | 0x40;
  return bytes.toString('hex');
}

/** For who needs to know the root alone. */
function nobodyToAsk(dir: string, root: X509Certificate): Issuer {
  return {
    rootPem: root.toString(),
    rootNotAfterMs: root.validToDate.getTime(),
    notAfterMs: root.validToDate.getTime(),
    id: rootIdOf(root.publicKey),
    keyId: '',
    sign: async () => {
      throw new WeftError('identity/external', `the CA of ${dir} is asked by the control plane alone`);
    },
  };
}

/** Loads what is in the folder, or makes a root there. The same folder gives the same issuer for ever. */
export async function openIssuer(
  dir: string,
  trustDomain: string,
  clock: Clock,
  openExternal: OpenExternal = nobodyToAsk,
): Promise<Issuer> {
  privateFolder(dir);
  if (existsSync(join(dir, 'external.json'))) return openExternal(dir, oneCertificate(join(dir, 'root-cert.pem')));
  return existsSync(join(dir, 'ca-key.pem')) || existsSync(join(dir, 'ca-cert.pem'))
    ? openIntermediate(dir)
    : openOwnRoot(dir, trustDomain, clock);
}

async function openOwnRoot(dir: string, trustDomain: string, clock: Clock): Promise<Issuer> {
  const keyPath = join(dir, 'root-key.pem');
  const certPath = join(dir, 'root-cert.pem');
  if (!existsSync(keyPath)) {
    if (existsSync(certPath)) {
      throw new WeftError(
        'identity/lost-root-key',
        `${certPath} exists but ${keyPath} does not: put the key back, or remove the certificate too and restart every proxy`,
      );
    }
    const keys = (await crypto.subtle.generateKey(EC_P256, true, ['sign', 'verify'])) as CryptoKeyPair;
    const pkcs8 = await crypto.subtle.exportKey('pkcs8', keys.privateKey);
    writeFileAtomic(keyPath, `${x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')}\n`, 0o600);
  }
  const key = await loadKey(keyPath, 'root key');
  // A crash between the two files leaves a key without a certificate; nobody has seen it, so it gets one now.
  if (!existsSync(certPath)) writeFileAtomic(certPath, `${await selfSign(key, trustDomain, clock)}\n`, 0o644);
  const root = oneCertificate(certPath);
  const uris = [...(root.subjectAltName ?? '').matchAll(/URI:([^,\s]+)/g)].map((m) => m[1]);
  if (uris.length !== 1 || uris[0] !== `spiffe://${trustDomain}`) {
    throw new WeftError(
      'identity/wrong-trust-domain',
      `${certPath} is the root of ${uris[0] ?? 'no trust domain'}, not of spiffe://${trustDomain}: set the trust domain it was made for, or use another folder`,
    );
  }
  if (!root.checkPrivateKey(key.node)) throw mismatch('identity/root-mismatch', certPath, keyPath);
  return new KeyIssuer({ signer: root, intermediates: [], root, key });
}

const mismatch = (code: string, certPath: string, keyPath: string) =>
  new WeftError(code, `${certPath} is not the certificate of ${keyPath}: put the pair back together`);

/** Refuses what no peer could verify: a chain with a gap, a certificate that may not sign, or one that ended. */
async function openIntermediate(dir: string): Promise<Issuer> {
  const path = (name: string) => {
    const full = join(dir, name);
    if (!existsSync(full))
      throw new WeftError(
        'identity/incomplete-ca',
        `${full} is missing: an intermediate needs ca-cert.pem, ca-key.pem, root-cert.pem and, where more stand between it and the root, cert-chain.pem`,
      );
    return full;
  };
  const key = await loadKey(path('ca-key.pem'), 'CA key');
  const signer = oneCertificate(path('ca-cert.pem'));
  if (!signer.checkPrivateKey(key.node))
    throw mismatch('identity/ca-mismatch', path('ca-cert.pem'), path('ca-key.pem'));
  const root = oneCertificate(path('root-cert.pem'));
  const chainPath = join(dir, 'cert-chain.pem');
  const given = existsSync(chainPath) ? parseCertificates(readFileSync(chainPath, 'utf8')) : [];
  return intermediateIssuer({ signer, given, root, key }, dir);
}

/**
 * An intermediate that is in memory alone: its certificate, then those above it, and its key, both PEM. `where` names it
 * in errors (`identity/not-a-ca`, `identity/broken-chain`, `identity/bad-root-key`).
 */
export async function issuerFromMemory(
  parts: { chainPem: string; keyPem: string; root: X509Certificate },
  where: string,
): Promise<Issuer> {
  const [signer, ...given] = parseCertificates(parts.chainPem);
  const key = await usableKey(parts.keyPem, where);
  if (!signer?.checkPrivateKey(key.node)) throw mismatch('identity/ca-mismatch', where, where);
  return intermediateIssuer({ signer, given, root: parts.root, key }, where);
}

function intermediateIssuer(
  parts: { signer: X509Certificate; given: X509Certificate[]; root: X509Certificate; key: LoadedKey },
  dir: string,
): Issuer {
  const { signer, given, root, key } = parts;
  const intermediates: X509Certificate[] = [];
  let at = signer;
  while (at.fingerprint256 !== root.fingerprint256) {
    if (!at.ca)
      throw new WeftError('identity/not-a-ca', `${nameOf(at)} in ${dir} may not sign certificates (CA:FALSE)`);
    if (intermediates.includes(at) || intermediates.length === 3) throw gap(dir, at);
    intermediates.push(at);
    const from: X509Certificate = at;
    const up = [root, ...given].find((c) => from.checkIssued(c) && from.verify(c.publicKey));
    if (!up) throw gap(dir, at);
    at = up;
  }
  return new KeyIssuer({ signer, intermediates, root, key });
}

const nameOf = (c: X509Certificate) => JSON.stringify(c.subject.replaceAll('\n', ', ').slice(0, 200));

function gap(dir: string, at: X509Certificate): WeftError {
  return new WeftError(
    'identity/broken-chain',
    `${dir}: no chain of at most 3 intermediates leads from ${nameOf(at)} to root-cert.pem: put what signed it into cert-chain.pem`,
  );
}

function oneCertificate(path: string): X509Certificate {
  let certificates: X509Certificate[] = [];
  try {
    certificates = parseCertificates(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new WeftError('identity/bad-root', `${path} is not a certificate in PEM form`, { cause });
  }
  if (certificates.length !== 1)
    throw new WeftError('identity/bad-root', `${path} holds ${certificates.length} certificates, not one`);
  return certificates[0];
}

/** P-256, P-384, or RSA of 2048 bits or more. */
async function loadKey(path: string, what: string): Promise<LoadedKey> {
  refuseIfShared(path, what, '0600');
  return usableKey(readFileSync(path, 'utf8'), path);
}

async function usableKey(pem: string, path: string): Promise<LoadedKey> {
  try {
    const node = createPrivateKey(pem);
    const algorithm = algorithmOf(node);
    const pkcs8 = new Uint8Array(node.export({ type: 'pkcs8', format: 'der' }));
    return { node, algorithm, signing: await crypto.subtle.importKey('pkcs8', pkcs8, algorithm, false, ['sign']) };
  } catch (cause) {
    throw new WeftError(
      'identity/bad-root-key',
      `${path} is not a private key that can sign: use ECDSA P-256 or P-384, or RSA of 2048 bits or more, in PEM form`,
      { cause },
    );
  }
}

function algorithmOf(key: KeyObject): SigningAlgorithm {
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === 'ec' && namedCurve === 'prime256v1') return EC_P256;
  if (key.asymmetricKeyType === 'ec' && namedCurve === 'secp384r1')
    return { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' };
  if (key.asymmetricKeyType === 'rsa' && modulusLength >= 2048) return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
  throw new Error('not a kind of key that signs here');
}

async function selfSign(key: LoadedKey, trustDomain: string, clock: Clock): Promise<string> {
  const now = clock.wall();
  const spki = new Uint8Array(createPublicKey(key.node).export({ type: 'spki', format: 'der' }));
  const publicKey = await crypto.subtle.importKey('spki', spki, key.algorithm, true, ['verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: newSerial(),
      name: [{ O: [trustDomain] }, { CN: ['Weft root CA'] }],
      notBefore: new Date(now - BACKDATE_MS),
      notAfter: new Date(now + ROOT_TTL_MS),
      keys: { privateKey: key.signing, publicKey } as CryptoKeyPair,
      signingAlgorithm: key.algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `spiffe://${trustDomain}` }], false),
        await x509.SubjectKeyIdentifierExtension.create(publicKey, false, crypto),
      ],
    },
    crypto,
  );
  return certificate.toString('pem');
}
