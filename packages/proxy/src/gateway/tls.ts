/** TLS of one server of a gateway: certificates, versions, suites and curves, exchangeable while connections are open. */
import { constants, hash, X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import {
  createSecureContext,
  createServer,
  type SecureContext,
  type TLSSocket,
  type Server as TlsServer,
} from 'node:tls';
import { WeftError } from '@weft/base';
import type { Snapshot } from '@weft/engine';
import { ClientCertificate, type GatewayTls, type Secret } from '@weft/plan';
import type { Core } from '../core.ts';
import { countTlsError } from '../link/server.ts';
import { hasName } from '../net/alt-names.ts';
import { allowHalfClose, handshakeOn } from '../net/handshake.ts';
import { ciphersOf, curvesOf, versionOf } from '../net/tls-choice.ts';
import { certificateElement } from './client-certificate.ts';

/** Forward secrecy and an AEAD, for clients that know no TLS 1.3. */
const SUITES_1_2 = ['AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'CHACHA20-POLY1305'].flatMap((s) => [
  `ECDHE-ECDSA-${s}`,
  `ECDHE-RSA-${s}`,
]);

function asksClients(tls: GatewayTls): boolean {
  return tls.clientCertificate !== ClientCertificate.UNSPECIFIED;
}

/** What a server's TLS is made of. */
export interface TlsMaterial {
  /** At least one. */
  readonly pairs: readonly Secret[];
  /** Who judges clients. */
  readonly authority: Secret;
}

/** Undefined: a part is not here (yet). */
export function materialOf(tls: GatewayTls, { secrets }: Pick<Snapshot, 'secrets'>): TlsMaterial | undefined {
  const pairs = [tls.secret, ...tls.moreSecrets].map((name) => secrets.get(name));
  const authority = tls.authority === '' ? pairs[0] : secrets.get(tls.authority);
  if (!authority || !pairs.every((pair) => pair !== undefined)) return undefined;
  return { pairs, authority };
}

function sameMaterial(a: TlsMaterial, b: TlsMaterial): boolean {
  const { length } = a.pairs;
  return a.authority === b.authority && length === b.pairs.length && a.pairs.every((pair, i) => pair === b.pairs[i]);
}

/**
 * The certificates of a server: one of each algorithm (RSA, ECDSA) is offered, and the client's algorithms choose. That is
 * the first that is for the name the client asks for; where none is for it at all, the first.
 */
class Shown {
  readonly #pairs: readonly { readonly secret: Secret; readonly leaf: X509Certificate; readonly algorithm: string }[];
  readonly #make: (chosen: readonly Secret[]) => SecureContext;
  /** By the places of the certificates in it. */
  readonly #contexts = new Map<string, SecureContext>();
  /** Places of those that are offered where no name says otherwise. */
  readonly #usual: readonly number[];

  /** Throws where one of them is unusable. */
  constructor(pairs: readonly Secret[], make: (chosen: readonly Secret[]) => SecureContext) {
    this.#make = make;
    this.#pairs = pairs.map((secret) => {
      const leaf = new X509Certificate(secret.certificatePem);
      make([secret]);
      return { secret, leaf, algorithm: leaf.publicKey.asymmetricKeyType ?? '' };
    });
    this.#usual = this.#firsts(() => true);
  }

  get usual(): Secret[] {
    return this.#usual.map((i) => this.#pairs[i].secret);
  }

  /** For a client that asks for `name`; undefined: the usual ones. */
  contextFor(name: string): SecureContext | undefined {
    if (this.#pairs.length === 1) return undefined;
    const fit = this.#firsts((leaf) => leaf.checkHost(name, { subject: 'never' }) !== undefined);
    const key = fit.join();
    if (fit.length === 0 || key === this.#usual.join()) return undefined;
    let context = this.#contexts.get(key);
    if (!context) this.#contexts.set(key, (context = this.#make(fit.map((i) => this.#pairs[i].secret))));
    return context;
  }

  /** The first of each algorithm among those that `fits` lets. */
  #firsts(fits: (leaf: X509Certificate) => boolean): number[] {
    const found = new Map<string, number>();
    for (const [i, { leaf, algorithm }] of this.#pairs.entries()) {
      if (!found.has(algorithm) && fits(leaf)) found.set(algorithm, i);
    }
    return [...found.values()];
  }
}

function optionsOf(tls: GatewayTls, pairs: readonly Secret[], { caPem, crlPem }: Secret) {
  const asks = asksClients(tls);
  // Without one the runtime's public roots would be believed.
  if (asks && caPem === '') throw new WeftError('gateway.ca', 'clients are asked for certificates, and no CA is known');
  return {
    key: pairs.map((pair) => pair.keyPem),
    cert: pairs.map((pair) => pair.certificatePem),
    ca: asks ? caPem : undefined,
    crl: asks && crlPem !== '' ? crlPem : undefined,
    minVersion: versionOf(tls.minVersion, 'TLSv1.2'),
    maxVersion: versionOf(tls.maxVersion, 'TLSv1.3'),
    ciphers: ciphersOf(tls.cipherSuites.length > 0 ? tls.cipherSuites : SUITES_1_2),
    ...curvesOf(tls.curves),
    honorCipherOrder: true,
    // Who shows a certificate shows it each time: it may not be believed any more.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | (asks ? constants.SSL_OP_NO_TICKET : 0),
  };
}

function shownOf(tls: GatewayTls, { pairs, authority }: TlsMaterial): Shown {
  return new Shown(pairs, (chosen) => createSecureContext(optionsOf(tls, chosen, authority)));
}

/** Ends TLS on raw sockets that were accepted elsewhere, since the choice of a server needs the ClientHello first. */
export class TlsEnd {
  readonly #server: TlsServer;
  readonly #core: Core;
  #tls: GatewayTls;
  #material: TlsMaterial;
  #shown: Shown;

  /** `http`: requests follow. Throws where a certificate or its key is unusable. */
  constructor(
    core: Core,
    tls: GatewayTls,
    material: TlsMaterial,
    http: boolean,
    onSecure: (socket: TLSSocket) => void,
  ) {
    this.#core = core;
    this.#tls = tls;
    this.#material = material;
    this.#shown = shownOf(tls, material);
    this.#server = createServer(
      {
        ...optionsOf(tls, this.#shown.usual, material.authority),
        SNICallback: (name, done) => done(null, this.#contextFor(name)),
        ALPNProtocols: http ? ['h2', 'http/1.1'] : undefined,
        handshakeTimeout: core.limits.tlsHandshakeTimeoutMs,
        requestCert: asksClients(tls),
        rejectUnauthorized: tls.clientCertificate === ClientCertificate.REQUIRED,
      },
      (socket) => {
        allowHalfClose(socket);
        if (this.#believed(socket)) onSecure(socket);
      },
    );
    this.#server.on('tlsClientError', (error: Error & { code?: string }, socket: TLSSocket) => {
      countTlsError(core.counters, error);
      socket.on('error', () => {});
      socket.destroy();
    });
  }

  /** Whether it still asks clients for what they were asked for: else it is to be replaced, and its connections go. */
  asksTheSame(tls: GatewayTls, { authority }: TlsMaterial): boolean {
    const asked = (t: GatewayTls): string =>
      [t.subjectAltNames, t.certificateHashes, t.keyHashes].map((list) => list.join()).join(' ');
    if (tls.clientCertificate !== this.#tls.clientCertificate || asked(tls) !== asked(this.#tls)) return false;
    const before = this.#material.authority;
    return !asksClients(tls) || (authority.caPem === before.caPem && authority.crlPem === before.crlPem);
  }

  /** For handshakes from now on. A certificate that cannot be used changes nothing. */
  update(tls: GatewayTls, material: TlsMaterial): void {
    if (tls === this.#tls && sameMaterial(material, this.#material)) return;
    this.#tls = tls;
    this.#material = material;
    try {
      const shown = shownOf(tls, material);
      this.#server.setSecureContext(optionsOf(tls, shown.usual, material.authority));
      this.#shown = shown;
    } catch (error) {
      this.#core.observer.count('gateway_certificate_refused');
      this.#core.logger.error(
        { secret: tls.secret, error: (error as Error).message },
        'a certificate cannot be used: the last one stays',
      );
    }
  }

  #contextFor(name: string): SecureContext | undefined {
    try {
      return this.#shown.contextFor(name);
    } catch {
      return undefined; // a name that no certificate can have
    }
  }

  handshake(socket: Socket): void {
    handshakeOn(this.#server, socket);
  }

  /** What is said of the certificate that a client showed, which is judged by now; '': it showed none. */
  certificateOf(socket: TLSSocket): string {
    if (!asksClients(this.#tls) || !socket.authorized) return '';
    const raw = socket.getPeerCertificate().raw as Buffer | undefined;
    return raw ? certificateElement(raw) : '';
  }

  /** False: its certificate is not one that is asked for; the connection is closed. */
  #believed(socket: TLSSocket): boolean {
    const { clientCertificate } = this.#tls;
    if (clientCertificate === ClientCertificate.UNSPECIFIED) return true;
    const raw = socket.getPeerCertificate().raw as Buffer | undefined;
    if (!raw && clientCertificate === ClientCertificate.OPTIONAL) return true;
    if (socket.authorized && raw && isAskedFor(this.#tls, raw)) return true;
    this.#core.observer.count('gateway_client_certificate_refused');
    socket.on('error', () => {});
    socket.destroy();
    return false;
  }
}

/** Whether a client's certificate, which is good, is one of those that a server asks for: by a name, and by a hash. */
function isAskedFor({ subjectAltNames, certificateHashes, keyHashes }: GatewayTls, raw: Buffer): boolean {
  try {
    const certificate = new X509Certificate(raw);
    if (subjectAltNames.length > 0 && !subjectAltNames.some((name) => hasName(certificate, name))) return false;
    if (certificateHashes.length === 0 && keyHashes.length === 0) return true;
    if (certificateHashes.includes(hash('sha256', raw, 'hex'))) return true;
    if (keyHashes.length === 0) return false;
    const key = certificate.publicKey.export({ type: 'spki', format: 'der' });
    return keyHashes.includes(hash('sha256', key, 'base64'));
  } catch {
    return false; // what cannot be read is nobody's
  }
}
