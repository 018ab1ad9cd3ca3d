/** TLS of one server of a gateway: a certificate, versions and suites, exchangeable while connections are open. */
import { constants, X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type SecureVersion, type TLSSocket, type Server as TlsServer } from 'node:tls';
import { WeftError } from '@weft/base';
import { ClientCertificate, type GatewayTls, type Secret, TlsVersion } from '@weft/plan';
import type { Core } from '../core.ts';
import { countTlsError } from '../link/server.ts';
import { allowHalfClose, handshakeOn } from '../net/handshake.ts';
import { hasName } from '../net/originate.ts';

const SUITES_1_3 = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';
/** Forward secrecy and an AEAD, for clients that know no TLS 1.3. */
const SUITES_1_2 = ['AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'CHACHA20-POLY1305']
  .map((s) => `ECDHE-ECDSA-${s}:ECDHE-RSA-${s}`)
  .join(':');

function version(said: TlsVersion, unsaid: SecureVersion): SecureVersion {
  if (said === TlsVersion.TLSV1_2) return 'TLSv1.2';
  return said === TlsVersion.TLSV1_3 ? 'TLSv1.3' : unsaid;
}

function asksClients(tls: GatewayTls): boolean {
  return tls.clientCertificate !== ClientCertificate.UNSPECIFIED;
}

function optionsOf(tls: GatewayTls, secret: Secret) {
  const asks = asksClients(tls);
  // Without one the runtime's public roots would be believed.
  if (asks && secret.caPem === '')
    throw new WeftError('gateway.ca', 'clients are asked for certificates, and no CA is known');
  return {
    key: secret.keyPem,
    cert: secret.certificatePem,
    ca: asks ? secret.caPem : undefined,
    minVersion: version(tls.minVersion, 'TLSv1.2'),
    maxVersion: version(tls.maxVersion, 'TLSv1.3'),
    ciphers: `${SUITES_1_3}:${tls.cipherSuites.length > 0 ? tls.cipherSuites.join(':') : SUITES_1_2}`,
    honorCipherOrder: true,
    // Who shows a certificate shows it each time: it may not be believed any more.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | (asks ? constants.SSL_OP_NO_TICKET : 0),
  };
}

/** Ends TLS on raw sockets that were accepted elsewhere, since the choice of a server needs the ClientHello first. */
export class TlsEnd {
  readonly #server: TlsServer;
  readonly #core: Core;
  #tls: GatewayTls;
  #secret: Secret;

  /** `http`: requests follow. Throws where the certificate or its key is unusable. */
  constructor(core: Core, tls: GatewayTls, secret: Secret, http: boolean, onSecure: (socket: TLSSocket) => void) {
    this.#core = core;
    this.#tls = tls;
    this.#secret = secret;
    this.#server = createServer(
      {
        ...optionsOf(tls, secret),
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
  asksTheSame(tls: GatewayTls, secret: Secret): boolean {
    const names = (t: GatewayTls): string => t.subjectAltNames.join();
    if (tls.clientCertificate !== this.#tls.clientCertificate || names(tls) !== names(this.#tls)) return false;
    return !asksClients(tls) || secret.caPem === this.#secret.caPem;
  }

  /** For handshakes from now on. A certificate that cannot be used changes nothing. */
  update(tls: GatewayTls, secret: Secret): void {
    if (tls === this.#tls && secret === this.#secret) return;
    this.#tls = tls;
    this.#secret = secret;
    try {
      this.#server.setSecureContext(optionsOf(tls, secret));
    } catch (error) {
      this.#core.observer.count('gateway_certificate_refused');
      this.#core.logger.error(
        { secret: secret.ref, error: (error as Error).message },
        'a certificate cannot be used: the last one stays',
      );
    }
  }

  handshake(socket: Socket): void {
    handshakeOn(this.#server, socket);
  }

  /** False: its certificate is not one that is asked for; the connection is closed. */
  #believed(socket: TLSSocket): boolean {
    const { clientCertificate, subjectAltNames } = this.#tls;
    if (clientCertificate === ClientCertificate.UNSPECIFIED) return true;
    const raw = socket.getPeerCertificate().raw as Buffer | undefined;
    if (!raw && clientCertificate === ClientCertificate.OPTIONAL) return true;
    const named = (): boolean => {
      if (!raw) return false;
      const certificate = new X509Certificate(raw);
      return subjectAltNames.length === 0 || subjectAltNames.some((name) => hasName(certificate, name));
    };
    if (socket.authorized && named()) return true;
    this.#core.observer.count('gateway_client_certificate_refused');
    socket.on('error', () => {});
    socket.destroy();
    return false;
  }
}
