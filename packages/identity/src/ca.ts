/** The mesh's certificate authority: a self-signed root that signs workload certificates directly. */
import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, systemClock, WeftError } from '@weft/base';
import { privateFolder, refuseIfShared, writeFileAtomic } from './files.ts';
import { isTrustDomain, parseSpiffeId } from './spiffe.ts';
import { type CryptoKey, type CryptoKeyPair, crypto, EC_P256, x509 } from './x509.ts';

const DAY_MS = 86_400_000;
const ROOT_TTL_MS = 3650 * DAY_MS; // Istio's self-signed root: 10 years
const MAX_TTL_MS = 90 * DAY_MS; // Istio's MAX_WORKLOAD_CERT_TTL
const BACKDATE_MS = 120_000; // for peers whose clocks are behind
const MAX_CSR_BYTES = 16 * 1024;
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/** Istio's default leaf lifetime (SECRET_TTL). */
export const DEFAULT_CERT_TTL_MS = DAY_MS;

export interface AuthorityOptions {
  /** Folder of `root-key.pem` (0600) and `root-cert.pem`; made with mode 0700 where absent. */
  dir: string;
  trustDomain: string;
  clock?: Clock;
}

export interface SignOptions {
  /** The authenticated caller's id; the only name in the certificate, whatever the request says. */
  spiffeId: string;
  ttlMs: number;
}

export interface SignedCertificate {
  certPem: string;
  /** The leaf, then its intermediates (none today): what a TLS endpoint presents. */
  chainPem: string;
  rootPem: string;
  notBeforeMs: number;
  notAfterMs: number;
  serial: string;
}

export interface Authority {
  readonly trustDomain: string;
  readonly rootPem: string;
  /** Wall milliseconds at which the root ends. */
  readonly rootNotAfterMs: number;
  /** Throws `identity/bad-csr`, `identity/bad-ttl` or `identity/bad-spiffe-id`. */
  sign(csrPem: string, options: SignOptions): Promise<SignedCertificate>;
}

/** A serial number of 127 random bits, positive as RFC 5280 4.1.2.2 asks. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0] & 0x7f) | 0x40;
  return bytes.toString('hex');
}

/** Loads the root of a folder, or makes one there. The same folder gives the same root for ever. */
export async function createAuthority(options: AuthorityOptions): Promise<Authority> {
  const { dir, trustDomain } = options;
  const clock = options.clock ?? systemClock;
  if (!isTrustDomain(trustDomain)) {
    throw new WeftError(
      'identity/bad-trust-domain',
      `${JSON.stringify(trustDomain)} is not a trust domain: use lower case letters, digits, "-", "_" and "."`,
    );
  }
  privateFolder(dir);
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
  refuseIfShared(keyPath, 'root key', '0600');
  const key = await importKeyPair(readFileSync(keyPath, 'utf8'), keyPath);
  // A crash between the two files leaves a key without a certificate; nobody has seen it, so it gets one now.
  if (!existsSync(certPath)) writeFileAtomic(certPath, `${await selfSign(key, trustDomain, clock)}\n`, 0o644);
  const root = loadRoot(readFileSync(certPath, 'utf8'), certPath, trustDomain);
  const keyDer = createPublicKey(createPrivateKey(readFileSync(keyPath, 'utf8'))).export({
    type: 'spki',
    format: 'der',
  });
  if (!Buffer.from(root.publicKey.rawData).equals(keyDer)) {
    throw new WeftError(
      'identity/root-mismatch',
      `${certPath} is not the certificate of ${keyPath}: put the pair back together`,
    );
  }
  return new RootAuthority(trustDomain, root, key.privateKey, clock);
}

async function importKeyPair(pem: string, path: string): Promise<CryptoKeyPair> {
  try {
    const node = createPrivateKey(pem);
    const pkcs8 = node.export({ type: 'pkcs8', format: 'der' });
    const spki = createPublicKey(node).export({ type: 'spki', format: 'der' });
    return {
      privateKey: await crypto.subtle.importKey('pkcs8', new Uint8Array(pkcs8), EC_P256, false, ['sign']),
      publicKey: await crypto.subtle.importKey('spki', new Uint8Array(spki), EC_P256, true, ['verify']),
    } as CryptoKeyPair;
  } catch (cause) {
    throw new WeftError('identity/bad-root-key', `${path} is not a P-256 private key in PEM form`, { cause });
  }
}

async function selfSign(keys: CryptoKeyPair, trustDomain: string, clock: Clock): Promise<string> {
  const now = clock.wall();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: newSerial(),
      name: [{ O: [trustDomain] }, { CN: ['Weft root CA'] }],
      notBefore: new Date(now - BACKDATE_MS),
      notAfter: new Date(now + ROOT_TTL_MS),
      keys,
      signingAlgorithm: EC_P256,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `spiffe://${trustDomain}` }], false),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, crypto),
      ],
    },
    crypto,
  );
  return certificate.toString('pem');
}

function loadRoot(pem: string, path: string, trustDomain: string) {
  let root: InstanceType<typeof x509.X509Certificate>;
  try {
    root = new x509.X509Certificate(pem);
  } catch (cause) {
    throw new WeftError('identity/bad-root', `${path} is not a certificate in PEM form`, { cause });
  }
  const uris =
    root.getExtension(x509.SubjectAlternativeNameExtension)?.names.items.filter((n) => n.type === 'url') ?? [];
  if (uris.length !== 1 || uris[0].value !== `spiffe://${trustDomain}`) {
    throw new WeftError(
      'identity/wrong-trust-domain',
      `${path} is the root of ${uris[0]?.value ?? 'no trust domain'}, not of spiffe://${trustDomain}: set the trust domain it was made for, or use another folder`,
    );
  }
  return root;
}

class RootAuthority implements Authority {
  readonly trustDomain: string;
  readonly rootPem: string;
  readonly rootNotAfterMs: number;
  readonly #root: InstanceType<typeof x509.X509Certificate>;
  readonly #key: CryptoKey;
  readonly #clock: Clock;

  constructor(trustDomain: string, root: InstanceType<typeof x509.X509Certificate>, key: CryptoKey, clock: Clock) {
    this.trustDomain = trustDomain;
    this.#root = root;
    this.#key = key;
    this.#clock = clock;
    this.rootPem = `${root.toString('pem')}\n`;
    this.rootNotAfterMs = root.notAfter.getTime();
  }

  async sign(csrPem: string, { spiffeId, ttlMs }: SignOptions): Promise<SignedCertificate> {
    if (parseSpiffeId(spiffeId)?.trustDomain !== this.trustDomain) {
      throw new WeftError(
        'identity/bad-spiffe-id',
        `${JSON.stringify(spiffeId)} is not an id of trust domain ${this.trustDomain}`,
      );
    }
    if (!(ttlMs >= 1000 && ttlMs <= MAX_TTL_MS)) {
      throw new WeftError('identity/bad-ttl', `a certificate of ${ttlMs} ms was asked for: ask for 1 s to 90 days`);
    }
    const publicKey = await requestedKey(csrPem);
    const now = this.#clock.wall();
    const notBefore = new Date(now - BACKDATE_MS);
    const notAfter = new Date(Math.min(now + ttlMs, this.rootNotAfterMs));
    const serial = newSerial();
    const certificate = await x509.X509CertificateGenerator.create(
      {
        serialNumber: serial,
        issuer: this.#root.subjectName,
        notBefore,
        notAfter,
        publicKey,
        signingKey: this.#key,
        signingAlgorithm: EC_P256,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
          new x509.ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH], false),
          // Critical, since the subject is empty (RFC 5280 4.2.1.6).
          new x509.SubjectAlternativeNameExtension([{ type: 'url', value: spiffeId }], true),
          await x509.AuthorityKeyIdentifierExtension.create(this.#root.publicKey, false, crypto),
        ],
      },
      crypto,
    );
    const certPem = `${certificate.toString('pem')}\n`;
    return {
      certPem,
      chainPem: certPem,
      rootPem: this.rootPem,
      // X.509 times have whole seconds.
      notBeforeMs: certificate.notBefore.getTime(),
      notAfterMs: certificate.notAfter.getTime(),
      serial,
    };
  }
}

/** The public key of a request that its holder signed. Nothing else of a request is believed. */
async function requestedKey(csrPem: string) {
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
