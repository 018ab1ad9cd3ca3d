/** TLS that a proxy begins for its application: DestinationRule `tls.mode` SIMPLE and MUTUAL. */
import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import {
  checkServerIdentity,
  createSecureContext,
  getCACertificates,
  type PeerCertificate,
  type SecureContext,
  connect as tlsConnect,
} from 'node:tls';
import { WeftError } from '@weft/base';
import { type Cluster, type Secret, type TlsOrigination, type TlsSettings, TlsVersion } from '@weft/plan';
import { hasName } from './alt-names.ts';
import type { Connector } from './dial.ts';
import { ciphersOf, curvesOf, versionOf } from './tls-choice.ts';

/** How often the files are looked at for a change, at most; a certificate that was replaced is used by new connections. */
const LOOK_MS = 2000;

/** What it needs of the plan in force. */
export interface OriginationPlan {
  readonly secrets: ReadonlyMap<string, Secret>;
  readonly tls?: TlsSettings | undefined;
}
export type PlanNow = () => OriginationPlan | undefined;

/** What contexts are made of beside certificates. */
function choiceOf(said: TlsSettings | undefined) {
  const suites = said?.cipherSuites ?? [];
  return {
    minVersion: versionOf(said?.minVersion ?? TlsVersion.UNSPECIFIED, 'TLSv1.2'),
    ...(suites.length > 0 && { ciphers: ciphersOf(suites) }),
    ...curvesOf(said?.curves ?? []),
  };
}

/** The TLS of one cluster. Two clusters with the same settings and host share one. */
export class Originator {
  readonly #settings: TlsOrigination;
  readonly #serverName: string;
  readonly #nowMs: () => number;
  readonly #plan: PlanNow;
  #context: SecureContext | undefined;
  #lookedMs = 0;
  #state = '';
  /** The context is made of it. */
  #secret: Secret | undefined;
  /** And of these. */
  #said: TlsSettings | undefined;

  constructor(settings: TlsOrigination, host: string, nowMs: () => number, plan: PlanNow) {
    this.#settings = settings;
    this.#plan = plan;
    this.#serverName = settings.sni || host;
    this.#nowMs = nowMs;
  }

  /** Wraps a connector. `alpn` undefined: none is offered (opaque TCP). Throws as the files cannot be read. */
  connector(plain: Connector, alpn: string | undefined): Connector {
    return (host, port) => {
      const secureContext = this.#contextNow();
      const raw = plain(host, port);
      const socket = tlsConnect({
        socket: raw,
        secureContext,
        servername: isIP(this.#serverName) ? '' : this.#serverName,
        ALPNProtocols: alpn ? [alpn] : undefined,
        rejectUnauthorized: !this.#settings.insecureSkipVerify,
        checkServerIdentity: this.#check,
      });
      raw.on('error', (error) => socket.destroy(error));
      return socket;
    };
  }

  #check = (_name: string, certificate: PeerCertificate): Error | undefined => {
    const names = this.#settings.subjectAltNames;
    if (names.length === 0) return checkServerIdentity(this.#serverName, certificate);
    if (names.some((name) => hasName(new X509Certificate(certificate.raw), name))) return undefined;
    const error: Error & { code?: string } = new Error(`the server's certificate has none of ${names.join(', ')}`);
    error.code = 'ERR_TLS_CERT_ALTNAME_INVALID';
    return error;
  };

  /** Throws where the plan has no such Secret: without it nothing may leave. */
  #fromSecret(name: string): SecureContext {
    const plan = this.#plan();
    const secret = plan?.secrets.get(name);
    if (!secret) {
      const text = `${name} is not here: credentialName is for gateways, and its Secret stands in their namespace`;
      throw new WeftError('proxy.tls_secret', text);
    }
    if (this.#context && secret === this.#secret && plan?.tls === this.#said) return this.#context;
    const { certificatePem, keyPem, caPem, crlPem } = secret;
    const pair = certificatePem ? { cert: certificatePem, key: keyPem } : {};
    const crl = crlPem ? { crl: crlPem } : {};
    this.#context = createSecureContext({ ca: caPem || systemRoots(), ...crl, ...pair, ...choiceOf(plan?.tls) });
    this.#secret = secret;
    this.#said = plan?.tls;
    return this.#context;
  }

  #contextNow(): SecureContext {
    if (this.#settings.credential) return this.#fromSecret(this.#settings.credential);
    const now = this.#nowMs();
    const said = this.#plan()?.tls;
    // One that was made by other settings serves nobody any more.
    if (said !== this.#said) this.#context = undefined;
    this.#said = said;
    if (this.#context && now - this.#lookedMs < LOOK_MS) return this.#context;
    this.#lookedMs = now;
    const { caCertificates, caPem, caCrl, clientCertificate, privateKey } = this.#settings;
    const state = [caCertificates, caCrl, clientCertificate, privateKey].map(changed).join();
    if (this.#context && state === this.#state) return this.#context;
    try {
      this.#context = createSecureContext({
        ca: caPem || (caCertificates ? read(caCertificates) : systemRoots()),
        crl: caCrl ? read(caCrl) : undefined,
        cert: clientCertificate ? read(clientCertificate) : undefined,
        key: privateKey ? read(privateKey) : undefined,
        ...choiceOf(said),
      });
      this.#state = state;
    } catch (error) {
      // Half of a replacement: what was good before still is.
      if (!this.#context) throw error;
    }
    return this.#context;
  }
}

/** Finds the originator of a cluster; undefined where its connections are not to begin TLS. */
export class Originators {
  readonly #nowMs: () => number;
  readonly #byCluster = new WeakMap<Cluster, Originator>();
  readonly #bySettings = new Map<string, Originator>();
  readonly #plan: PlanNow;

  constructor(nowMs: () => number, plan: PlanNow) {
    this.#nowMs = nowMs;
    this.#plan = plan;
  }

  of(cluster: Cluster): Originator | undefined {
    const settings = cluster.origination;
    if (!settings) return undefined;
    let found = this.#byCluster.get(cluster);
    if (!found) {
      // Once per part of a plan: a part that comes anew with the same settings keeps its connections.
      const { sni, subjectAltNames, insecureSkipVerify, caPem, credential } = settings;
      const { caCertificates, caCrl, clientCertificate, privateKey } = settings;
      const files = [caCertificates, caCrl, clientCertificate, privateKey];
      const key = JSON.stringify([cluster.host, sni, subjectAltNames, files, insecureSkipVerify, caPem, credential]);
      found = this.#bySettings.get(key) ?? new Originator(settings, cluster.host, this.#nowMs, this.#plan);
      this.#bySettings.set(key, found);
      this.#byCluster.set(cluster, found);
    }
    return found;
  }
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new WeftError('proxy.tls_file', `cannot read ${path} (${why}): it must be readable to the proxy's user`);
  }
}

function changed(path: string): string {
  if (path === '') return '';
  const at = statSync(path, { throwIfNoEntry: false });
  return at ? `${at.mtimeMs}.${at.size}.${at.ino}` : 'none';
}

let roots: string[] | undefined;

/** What the machine trusts; where it says nothing, what comes with the runtime. */
function systemRoots(): string[] {
  if (!roots) {
    const own = getCACertificates('system');
    roots = own.length > 0 ? own : getCACertificates('bundled');
  }
  return roots;
}
