/** TLS between proxies, and the one place where a peer's identity is judged. */
import { constants, type KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { type Clock, systemClock } from '@weft/base';
import { parseCertificates, TrustBundle } from './bundle.ts';
import { keyIdOf, rootIdOf } from './key-id.ts';
import './peer-certificate.ts';
import { spiffeIdFromCertificate } from './spiffe.ts';
import type { Identity } from './store.ts';

const CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';
const ALPN = ['h2'];

function material(identity: Identity) {
  const { curves, cipherSuites } = identity.tls ?? { curves: [], cipherSuites: [] };
  return {
    key: identity.keyPem,
    cert: identity.chainPem,
    ca: [...identity.bundle.pool],
    minVersion: 'TLSv1.3' as const,
    ciphers: cipherSuites.length > 0 ? cipherSuites.join(':') : CIPHERS,
    ecdhCurve: curves.length > 0 ? curves.join(':') : undefined,
    // No session tickets: a resumed client sees no peer certificate to judge.
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_CIPHER_SERVER_PREFERENCE,
  };
}

const contexts = new WeakMap<Identity, SecureContext>();

/** The one SecureContext of an identity: building it costs more than a handshake. */
export function createContexts(identity: Identity): SecureContext {
  let context = contexts.get(identity);
  if (!context) contexts.set(identity, (context = createSecureContext(material(identity))));
  return context;
}

/**
 * Options of `tls.createServer`, and of `server.setSecureContext` when the identity is replaced. The server refuses a
 * client without a certificate of the pool; the caller asks `checkPeer` on `secureConnection` whose it is.
 */
export function serverTlsOptions(identity: Identity) {
  return {
    ...material(identity),
    ALPNProtocols: ALPN,
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout: 10_000,
  };
}

/**
 * Options of `tls.connect`, to be joined with the address or the socket. A server that is not one of `expectedIds`
 * (undefined: anyone of the bundle's trust domains) fails the connection before `secureConnect`.
 */
export function clientTlsOptions(identity: Identity, expectedIds?: ReadonlySet<string>, clock: Clock = systemClock) {
  return {
    secureContext: createContexts(identity),
    ALPNProtocols: ALPN,
    minVersion: 'TLSv1.3' as const,
    rejectUnauthorized: true,
    checkServerIdentity: (_host: string, certificate: PresentedCertificate) => {
      const result = checkCertificate(certificate, { bundle: identity.bundle, expected: expectedIds, clock });
      return 'error' in result ? new Error(result.error) : undefined;
    },
  };
}

export interface PeerRules {
  bundle: TrustBundle;
  /** Whole ids (`spiffe://…`); undefined allows every identity of the bundle's trust domains. */
  expected?: ReadonlySet<string>;
  clock?: Clock;
}

/** Why a peer is refused. `untrusted`: no root of its trust domain signed it; `unexpected`: it is somebody else. */
export type PeerProblem = 'malformed' | 'untrusted' | 'revoked' | 'expired' | 'not-yet-valid' | 'unexpected';
export type PeerRefusal = { error: string; problem: PeerProblem };
export type PeerResult = { spiffeId: string; certificate: X509Certificate } | PeerRefusal;

/** What this needs of Node's detailed peer certificate. */
interface PresentedCertificate {
  raw: Buffer;
  issuerCertificate?: PresentedCertificate;
}

/**
 * Who the peer of a finished handshake is. The TLS library has checked the chain against one pool of all roots; this
 * checks that there is exactly one SPIFFE id, that a root of *that id's* trust domain signed it, the time, and that the
 * id is expected. Never throws; the errors are for logs.
 */
export function checkPeer(socket: TLSSocket, rules: PeerRules): PeerResult {
  if (!socket.authorized) {
    const why = String(socket.authorizationError ?? 'no certificate').slice(0, 200);
    return { error: `peer is not authorized: ${why}`, problem: 'untrusted' };
  }
  const presented = socket.getPeerCertificate(true) as unknown as PresentedCertificate | undefined;
  if (!presented?.raw) return { error: 'peer presented no certificate', problem: 'malformed' };
  return checkCertificate(presented, rules);
}

/** What made the certificate of a peer that `checkPeer` has accepted: the key that signed it (`keyIdOf`), and its root (`rootIdOf`). */
export function signersOf(socket: TLSSocket, bundle: TrustBundle): readonly string[] {
  const chain = chainOf(socket);
  const [leaf, above] = chain;
  const name = leaf && spiffeIdFromCertificate(leaf.raw);
  if (!leaf || !name || 'error' in name) return [];
  const roots = bundle.rootsOf(name.id.trustDomain);
  const signed = (c: X509Certificate) => (by: X509Certificate) => c.checkIssued(by) && c.verify(by.publicKey);
  const issuer = [...roots, ...(above ? [above] : [])].find(signed(leaf));
  for (const top of chain) {
    const root = roots.find(signed(top));
    if (root) return [...(issuer ? [keyIdOf(issuer.publicKey)] : []), rootIdOf(root.publicKey)];
  }
  return issuer ? [keyIdOf(issuer.publicKey)] : [];
}

/** What the peer showed, leaf first, and the root that Node adds; at most MAX_CHAIN. */
function chainOf(socket: TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let at = socket.getPeerCertificate(true) as unknown as PresentedCertificate | undefined;
  while (at?.raw && chain.length < MAX_CHAIN) {
    chain.push(new X509Certificate(at.raw));
    at = at.issuerCertificate === at ? undefined : at.issuerCertificate;
  }
  return chain;
}

const MAX_CHAIN = 5;

function checkCertificate(
  presented: PresentedCertificate,
  { bundle, expected, clock = systemClock }: PeerRules,
): PeerResult {
  const name = spiffeIdFromCertificate(presented.raw);
  if ('error' in name) return { error: name.error, problem: 'malformed' };
  const roots = bundle.rootsOf(name.id.trustDomain);
  if (roots.length === 0)
    return { error: `no roots are known for trust domain ${name.id.trustDomain}`, problem: 'untrusted' };
  const { revocations } = bundle;
  const canonical = bundle.canonical(name.spiffeId, name.id);
  if (revocations.refusesId(name.spiffeId) || revocations.refusesId(canonical))
    return { error: `${name.spiffeId} is revoked`, problem: 'revoked' };
  const now = clock.wall();
  try {
    const leaf = new X509Certificate(presented.raw);
    let link: PresentedCertificate | undefined = presented;
    for (let depth = 0; link && depth < MAX_CHAIN; depth++) {
      const certificate = depth === 0 ? leaf : new X509Certificate(link.raw);
      if (now > certificate.validToDate.getTime())
        return { error: `certificate of ${name.spiffeId} expired at ${certificate.validTo}`, problem: 'expired' };
      if (now < certificate.validFromDate.getTime())
        return {
          error: `certificate of ${name.spiffeId} is not valid before ${certificate.validFrom}`,
          problem: 'not-yet-valid',
        };
      if (depth === 0 && certificate.ca)
        return { error: `certificate of ${name.spiffeId} is a CA's`, problem: 'malformed' };
      const up: PresentedCertificate | undefined = link.issuerCertificate;
      const root = roots.find((r) => certificate.checkIssued(r) && certificate.verify(r.publicKey));
      if (!revocations.empty) {
        const key = root?.publicKey ?? (up ? publicKeyOf(up) : undefined);
        if (revocations.refusesCertificate(key ? keyIdOf(key) : '', certificate.serialNumber))
          return {
            error: `certificate ${certificate.serialNumber.toLowerCase()} of ${name.spiffeId} is revoked`,
            problem: 'revoked',
          };
      }
      if (root) {
        if (expected && !expected.has(name.spiffeId) && !expected.has(canonical))
          return { error: `peer is ${name.spiffeId}, which is not expected here`, problem: 'unexpected' };
        return { spiffeId: name.spiffeId, certificate: leaf };
      }
      // Upwards through intermediates; each link was checked by the TLS library.
      link = up === link ? undefined : up;
    }
  } catch {
    return { error: 'certificate chain cannot be parsed', problem: 'malformed' };
  }
  return {
    error: `certificate of ${name.spiffeId} was not signed by a root of trust domain ${name.id.trustDomain}`,
    problem: 'untrusted',
  };
}

/** The chain that a peer showed, believed or not, in PEM form: leaf first, and the root that Node adds where it knows it. */
export function presentedChain(socket: TLSSocket): string {
  return chainOf(socket)
    .map((c) => c.toString())
    .join('');
}

/** Judges a chain in PEM form, leaf first, as `checkPeer` judges that of a handshake. Never throws. */
export function judgeChain(chainPem: string, rules: PeerRules): PeerResult {
  let chain: X509Certificate[];
  try {
    chain = parseCertificates(chainPem);
  } catch {
    return { error: 'certificate chain cannot be parsed', problem: 'malformed' };
  }
  let presented: PresentedCertificate | undefined;
  for (let i = Math.min(chain.length, MAX_CHAIN) - 1; i >= 0; i--) {
    const up: X509Certificate | undefined = chain[i + 1];
    // In a handshake the TLS library has checked the links.
    const linked = up !== undefined && chain[i].checkIssued(up) && chain[i].verify(up.publicKey);
    presented = { raw: chain[i].raw, ...(linked && presented ? { issuerCertificate: presented } : {}) };
  }
  if (!presented) return { error: 'there is no certificate', problem: 'malformed' };
  return checkCertificate(presented, rules);
}

const publicKeyOf = (certificate: PresentedCertificate): KeyObject => new X509Certificate(certificate.raw).publicKey;

/** The control plane's own id in a trust domain. */
export function controlPlaneId(trustDomain: string): string {
  return `spiffe://${trustDomain}/ns/weft-system/sa/control-plane`;
}

/**
 * Options for connecting to the control plane: nothing but its own id, signed by `rootPem`, is accepted. Without an
 * identity (before the first certificate) no certificate is shown; then only `Sign` with a token is answered.
 */
export function controlTlsOptions(options: {
  rootPem: string;
  trustDomain: string;
  identity?: Identity;
  clock?: Clock;
}) {
  const { rootPem, trustDomain, identity, clock } = options;
  const bundle = new TrustBundle(new Map([[trustDomain, rootPem]]));
  const expected = new Set([controlPlaneId(trustDomain)]);
  return {
    ...(identity ? { key: identity.keyPem, cert: identity.chainPem } : {}),
    ca: [...bundle.pool],
    minVersion: 'TLSv1.3' as const,
    rejectUnauthorized: true,
    checkServerIdentity: (_host: string, certificate: PresentedCertificate) => {
      const result = checkCertificate(certificate, { bundle, expected, clock });
      return 'error' in result ? new Error(result.error) : undefined;
    },
  };
}
