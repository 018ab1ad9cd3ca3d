/** Istio's Gateway (features: B-19). */
import type { GatewayModel, GatewayServerModel, GatewayTlsMode, GatewayTlsModel, TlsVersionName } from '@weft/model';
import type { ObjectSchema, Schema } from '../schema.ts';
import {
  bool,
  checkHost,
  checkLabelName,
  checkName,
  type FieldReport,
  hasPem,
  type Kind,
  type KindContext,
  labels,
  labelsOf,
  nonEmpty,
  type Plain,
  port,
  str,
} from './common.ts';
import { NETWORKING } from './networking.ts';

const VALUE = 'WEFT-VALUE';

/** Protocols whose requests both HTTP codecs serve. */
const PLAIN = new Set(['HTTP', 'HTTP2', 'GRPC', 'GRPC-WEB']);
/** Protocols whose connections are carried as they are. */
const OPAQUE = new Set(['TCP', 'TLS', 'MONGO', 'MYSQL', 'REDIS']);
const MODES: readonly GatewayTlsMode[] = ['SIMPLE', 'MUTUAL', 'OPTIONAL_MUTUAL', 'PASSTHROUGH', 'ISTIO_MUTUAL'];

/** Suites of TLS 1.2 with forward secrecy and an AEAD; those of TLS 1.3 are not chosen, as in Istio. */
const SUITES = new Set(
  ['AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'CHACHA20-POLY1305'].flatMap((s) => [
    `ECDHE-ECDSA-${s}`,
    `ECDHE-RSA-${s}`,
  ]),
);

const tlsVersion: Schema = {
  t: 'string',
  check: (v) => {
    if (v === 'TLSV1_0' || v === 'TLSV1_1') return 'versions before TLS 1.2 are not served';
    return ['TLS_AUTO', 'TLSV1_2', 'TLSV1_3'].includes(v) ? undefined : 'it may be TLS_AUTO, TLSV1_2 or TLSV1_3';
  },
};

const host: Schema = {
  t: 'string',
  check: (v) => {
    const slash = v.indexOf('/');
    const namespace = slash < 0 ? '*' : v.slice(0, slash);
    if (namespace !== '*' && namespace !== '.' && checkLabelName(namespace) !== undefined) {
      return 'what stands before the "/" is a namespace, "." (the Gateway\'s own) or "*"';
    }
    const name = v.slice(slash + 1);
    return name === '*' ? undefined : checkHost(name);
  },
};

const server: ObjectSchema = {
  t: 'object',
  fields: {
    name: str,
    port: {
      t: 'object',
      fields: {
        number: port,
        name: str,
        protocol: {
          t: 'string',
          check: (v) => {
            const upper = v.toUpperCase();
            if (PLAIN.has(upper) || OPAQUE.has(upper) || upper === 'HTTPS') return undefined;
            if (upper === 'HTTP3' || upper === 'QUIC' || upper === 'UDP') {
              return 'it runs on UDP, which the mesh does not carry: use HTTPS';
            }
            return 'it may be HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TCP, TLS, MONGO, MYSQL or REDIS';
          },
        },
      },
      required: ['number', 'name', 'protocol'],
      unsupported: ['targetPort'],
    },
    hosts: { t: 'list', of: host, min: 1, max: 1000 },
    tls: {
      t: 'object',
      fields: {
        httpsRedirect: bool,
        mode: {
          t: 'string',
          check: (v) => {
            if ((MODES as readonly string[]).includes(v)) return undefined;
            if (v === 'AUTO_PASSTHROUGH') {
              return 'it routes by names that sidecars of other clusters put into SNI; links of this mesh carry none: use PASSTHROUGH with tls routes';
            }
            return `it may be ${MODES.join(', ')}`;
          },
        },
        credentialName: {
          t: 'string',
          check: (v) => {
            if (v.includes('/') || v.includes(':')) {
              return 'it names a Secret in the namespace of the gateway workload; other places are not supported';
            }
            return checkName(v);
          },
        },
        serverCertificate: nonEmpty,
        privateKey: nonEmpty,
        caCertificates: nonEmpty,
        subjectAltNames: { t: 'list', of: nonEmpty, max: 100 },
        minProtocolVersion: tlsVersion,
        maxProtocolVersion: tlsVersion,
        cipherSuites: {
          t: 'list',
          max: 100,
          of: {
            t: 'string',
            check: (v) => (SUITES.has(v) ? undefined : `it is not served; ${[...SUITES].join(', ')} are`),
          },
        },
      },
      unsupported: [
        'credentialNames',
        'caCrl',
        'caCertCredentialName',
        'tlsCertificates',
        'verifyCertificateSpki',
        'verifyCertificateHash',
      ],
    },
  },
  required: ['port', 'hosts'],
  unsupported: ['bind', 'defaultEndpoint'],
};

export const gatewayKind: Kind<GatewayModel> = {
  kind: 'Gateway',
  apiVersions: NETWORKING,
  spec: {
    t: 'object',
    fields: { selector: labels, servers: { t: 'list', of: server, min: 1, max: 1000 } },
    required: ['servers'],
  },
  specRequired: true,
  build(resource, spec, report, context) {
    const servers: GatewayServerModel[] = [];
    for (const [i, s] of ((spec.servers ?? []) as (Plain | undefined)[]).entries()) {
      const field = `spec.servers[${i}]`;
      if (s?.port?.number === undefined || s.port.protocol === undefined) continue;
      const number: number = s.port.number;
      if (number >= 15000 && number <= 15099) {
        report(VALUE, `the port ${number} is the proxy's (15000 to 15099): take another`, `${field}.port.number`);
      }
      const protocol = s.port.protocol.toUpperCase();
      const secure = protocol === 'HTTPS' || protocol === 'TLS';
      if (!secure) checkPlain(s, field, report);
      const tls = secure ? tlsOf(s.tls, protocol, field, report, context) : undefined;
      servers.push({
        field,
        port: number,
        portName: s.port.name ?? '',
        hosts: ((s.hosts ?? []) as (string | undefined)[]).flatMap((h) => (h ? [hostOf(h, resource.namespace)] : [])),
        http2: protocol === 'HTTP2' || protocol === 'GRPC',
        grpcWeb: protocol === 'GRPC-WEB',
        // What is passed on is not looked into.
        opaque: OPAQUE.has(protocol) || tls?.mode === 'PASSTHROUGH',
        tls,
        httpsRedirect: s.tls?.httpsRedirect ?? false,
        allowedRoutes: undefined,
      });
    }
    return { ...resource, selector: labelsOf(spec.selector), gatewayApi: false, className: '', servers };
  },
};

function hostOf(written: string, own: string): { namespace: string; host: string } {
  const slash = written.indexOf('/');
  const namespace = slash < 0 ? '*' : written.slice(0, slash);
  return { namespace: namespace === '.' ? own : namespace, host: written.slice(slash + 1).toLowerCase() };
}

function checkPlain(s: Plain, field: string, report: FieldReport): void {
  const http = PLAIN.has(s.port.protocol.toUpperCase());
  for (const name of Object.keys(s.tls ?? {})) {
    if ((http && name === 'httpsRedirect') || s.tls[name] === undefined) continue;
    const message = http
      ? `a server of protocol ${s.port.protocol} has no TLS but httpsRedirect: remove it, or make the protocol HTTPS`
      : `a server of protocol ${s.port.protocol} has no TLS: remove it, or make the protocol TLS`;
    report(VALUE, message, `${field}.tls.${name}`);
  }
}

/** Fields for a certificate of its own, which a server has that ends the TLS of strangers. */
const OWN = [
  'credentialName',
  'serverCertificate',
  'privateKey',
  'minProtocolVersion',
  'maxProtocolVersion',
  'cipherSuites',
];

function tlsOf(
  tls: Plain | undefined,
  protocol: string,
  field: string,
  report: FieldReport,
  context: KindContext,
): GatewayTlsModel {
  const at = `${field}.tls`;
  if (!tls) report('WEFT-FIELD', `a server of protocol ${protocol} needs tls`, at);
  else if (tls.mode === undefined && !report.broken(`${at}.mode`)) {
    report('WEFT-FIELD', `needs mode: ${MODES.join(', ')}`, at);
  }
  if (tls?.httpsRedirect) {
    report(VALUE, 'a server with TLS has nothing to redirect: httpsRedirect is for HTTP', `${at}.httpsRedirect`);
  }
  const mode: GatewayTlsMode = tls?.mode ?? 'SIMPLE';
  const clients = mode === 'MUTUAL' || mode === 'OPTIONAL_MUTUAL';
  for (const name of ['caCertificates', 'subjectAltNames', ...(mode === 'SIMPLE' || clients ? [] : OWN)]) {
    if (clients || tls?.[name] === undefined) continue;
    const why =
      name === 'caCertificates' || name === 'subjectAltNames'
        ? 'asks clients for no certificate'
        : 'has none of its own';
    report(VALUE, `a server of mode ${mode} ${why}: remove ${name}`, `${at}.${name}`);
  }
  const files = [tls?.serverCertificate, tls?.privateKey].filter((f) => f !== undefined).length;
  if (tls && (mode === 'SIMPLE' || clients)) checkPair(tls, files, at, report);
  const minVersion: TlsVersionName = tls?.minProtocolVersion ?? 'TLS_AUTO';
  const maxVersion: TlsVersionName = tls?.maxProtocolVersion ?? 'TLS_AUTO';
  if (minVersion === 'TLSV1_3' && maxVersion === 'TLSV1_2') {
    report(VALUE, 'is below minProtocolVersion: no version is left', `${at}.maxProtocolVersion`);
  }
  const texts = (list: unknown): string[] => ((list ?? []) as (string | undefined)[]).filter((c) => c !== undefined);
  return {
    mode,
    credentialName: tls?.credentialName ?? '',
    credentialNamespace: '',
    files: files === 2 && tls ? readPair(tls, at, report, context) : undefined,
    caPem: tls && clients ? readCa(tls, files, at, report, context) : '',
    subjectAltNames: texts(tls?.subjectAltNames),
    minVersion,
    maxVersion,
    cipherSuites: texts(tls?.cipherSuites),
  };
}

/** A certificate and its key: a Secret, or two files. */
function checkPair(tls: Plain, files: number, at: string, report: FieldReport): void {
  if ((tls.credentialName !== undefined) === files > 0 && !report.broken(`${at}.credentialName`)) {
    report(VALUE, 'needs exactly one of credentialName (a Secret), and serverCertificate with privateKey (files)', at);
  } else if (files === 1) {
    const missing = tls.privateKey === undefined ? 'privateKey' : 'serverCertificate';
    report('WEFT-FIELD', `the field "${missing}" is missing: a certificate and its key go together`, at);
  }
}

/** The CA of clients, where the certificate comes from files; with credentialName the Secret says it. */
function readCa(tls: Plain, files: number, at: string, report: FieldReport, context: KindContext): string {
  const path: string | undefined = tls.caCertificates;
  if (path === undefined) {
    if (files > 0) report('WEFT-FIELD', `mode ${tls.mode} needs caCertificates: who signs clients' certificates`, at);
    return '';
  }
  if (tls.credentialName !== undefined) {
    report(VALUE, 'with credentialName the CA is ca.crt of that Secret, or of <name>-cacert', `${at}.caCertificates`);
    return '';
  }
  const found = context.attachment(path);
  if (found === undefined) report('WEFT-NO-FILE', noFile(path), `${at}.caCertificates`);
  else if (!hasPem(found, 'CERTIFICATE'))
    report('WEFT-CERTIFICATE', 'is no PEM of a CERTIFICATE', `${at}.caCertificates`);
  return found ?? '';
}

function noFile(path: string): string {
  return `the file ${path} is not among those of the mesh: lay it beside this file, or give it with -f (paths are relative to this file; .pem, .crt and .key are read)`;
}

function readPair(tls: Plain, at: string, report: FieldReport, context: KindContext): GatewayTlsModel['files'] {
  const read = (name: 'serverCertificate' | 'privateKey'): string | undefined => {
    const found = context.attachment(tls[name]);
    if (found === undefined) {
      report('WEFT-NO-FILE', noFile(tls[name]), `${at}.${name}`);
    }
    return found;
  };
  const certificatePem = read('serverCertificate');
  const keyPem = read('privateKey');
  if (certificatePem === undefined || keyPem === undefined) return undefined;
  const judged = context.judgePair(certificatePem, keyPem);
  if (!('error' in judged)) return { certificatePem, keyPem, names: judged.names };
  report('WEFT-CERTIFICATE', judged.error, `${at}.serverCertificate`);
  return undefined;
}
