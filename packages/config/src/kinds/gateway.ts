/** Istio's Gateway. */
import type {
  CredentialModel,
  GatewayModel,
  GatewayServerModel,
  GatewayTlsMode,
  GatewayTlsModel,
  KeyPairModel,
  TlsVersionName,
} from '@weft/model';
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
  type PemKind,
  type Plain,
  port,
  str,
} from './common.ts';
import { NETWORKING } from './networking.ts';
import { cipherSuites, tlsVersion } from './tls.ts';

const VALUE = 'WEFT-VALUE';

/** Protocols whose requests both HTTP codecs serve. */
const PLAIN = new Set(['HTTP', 'HTTP2', 'GRPC', 'GRPC-WEB']);
/** Protocols whose connections are carried as they are. */
const OPAQUE = new Set(['TCP', 'TLS', 'MONGO', 'MYSQL', 'REDIS']);
const MODES: readonly GatewayTlsMode[] = ['SIMPLE', 'MUTUAL', 'OPTIONAL_MUTUAL', 'PASSTHROUGH', 'ISTIO_MUTUAL'];

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

/** Certificates of one server: one of each algorithm, and of each name. */
const MOST_CERTIFICATES = 16;

/** Names, certificates or keys that a server's clients may have. */
const MOST_CLIENTS = 100;

const certificateHash: Schema = {
  t: 'string',
  check: (v) =>
    /^([0-9a-f]{64}|[0-9a-f]{2}(:[0-9a-f]{2}){31})$/i.test(v)
      ? undefined
      : 'it is no SHA-256 in hex: 64 digits, or 32 pairs of them with ":" between',
};

const keyHash: Schema = {
  t: 'string',
  check: (v) =>
    /^[A-Za-z0-9+/]{43}=$/.test(v) && btoa(atob(v)) === v
      ? undefined
      : 'it is no SHA-256 in base64: 44 characters, the last of them "="',
};

const secretInPlace: Schema = {
  t: 'string',
  check: (v) => {
    if (v.includes('/') || v.includes(':')) {
      return 'it names a Secret in the namespace of the gateway workload; other places are not supported';
    }
    return checkName(v);
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
        credentialName: secretInPlace,
        credentialNames: { t: 'list', of: secretInPlace, min: 1, max: MOST_CERTIFICATES },
        serverCertificate: nonEmpty,
        privateKey: nonEmpty,
        tlsCertificates: {
          t: 'list',
          of: {
            t: 'object',
            fields: { serverCertificate: nonEmpty, privateKey: nonEmpty, caCertificates: nonEmpty },
            required: ['serverCertificate', 'privateKey'],
          },
          min: 1,
          max: MOST_CERTIFICATES,
        },
        caCertificates: nonEmpty,
        caCrl: nonEmpty,
        caCertCredentialName: secretInPlace,
        subjectAltNames: { t: 'list', of: nonEmpty, max: MOST_CLIENTS },
        verifyCertificateHash: { t: 'list', of: certificateHash, max: MOST_CLIENTS },
        verifyCertificateSpki: { t: 'list', of: keyHash, max: MOST_CLIENTS },
        minProtocolVersion: tlsVersion,
        maxProtocolVersion: tlsVersion,
        cipherSuites,
      },
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

/** Fields for the certificates of clients. */
const CLIENTS = [
  'caCertificates',
  'caCrl',
  'caCertCredentialName',
  'subjectAltNames',
  'verifyCertificateHash',
  'verifyCertificateSpki',
];
/** Ways to say which certificate a server shows. */
const PAIRS = ['credentialName', 'credentialNames', 'serverCertificate', 'tlsCertificates'];
/** Fields for a certificate of its own, which a server has that ends the TLS of strangers. */
const OWN = [...PAIRS, 'privateKey', 'minProtocolVersion', 'maxProtocolVersion', 'cipherSuites'];

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
  for (const name of [...CLIENTS, ...(mode === 'SIMPLE' || clients ? [] : OWN)]) {
    if (clients || tls?.[name] === undefined) continue;
    const why = CLIENTS.includes(name) ? 'asks clients for no certificate' : 'has none of its own';
    report(VALUE, `a server of mode ${mode} ${why}: remove ${name}`, `${at}.${name}`);
  }
  if (mode === 'SIMPLE') {
    for (const [i, one] of ((tls?.tlsCertificates ?? []) as (Plain | undefined)[]).entries()) {
      if (one?.caCertificates === undefined) continue;
      const message = 'a server of mode SIMPLE asks clients for no certificate: remove caCertificates';
      report(VALUE, message, `${at}.tlsCertificates[${i}].caCertificates`);
    }
  }
  if (tls && (mode === 'SIMPLE' || clients)) checkPair(tls, at, report);
  const minVersion: TlsVersionName = tls?.minProtocolVersion ?? 'TLS_AUTO';
  const maxVersion: TlsVersionName = tls?.maxProtocolVersion ?? 'TLS_AUTO';
  if (minVersion === 'TLSV1_3' && maxVersion === 'TLSV1_2') {
    report(VALUE, 'is below minProtocolVersion: no version is left', `${at}.maxProtocolVersion`);
  }
  const texts = (list: unknown): string[] => ((list ?? []) as (string | undefined)[]).filter((c) => c !== undefined);
  const credentials: CredentialModel[] = [];
  if (tls?.credentialName) credentials.push({ name: tls.credentialName, namespace: '', field: `${at}.credentialName` });
  for (const [i, name] of ((tls?.credentialNames ?? []) as (string | undefined)[]).entries()) {
    if (name) credentials.push({ name, namespace: '', field: `${at}.credentialNames[${i}]` });
  }
  return {
    mode,
    credentials,
    files: tls ? readPairs(tls, at, report, context) : [],
    ...(tls && clients ? readCa(tls, at, report, context) : { caPem: '', crlPem: '' }),
    authorities:
      clients && tls?.caCertCredentialName
        ? [{ kind: 'Secret', name: tls.caCertCredentialName, namespace: '', field: `${at}.caCertCredentialName` }]
        : [],
    subjectAltNames: texts(tls?.subjectAltNames),
    certificateHashes: texts(tls?.verifyCertificateHash).map((hash) => hash.replaceAll(':', '').toLowerCase()),
    keyHashes: texts(tls?.verifyCertificateSpki),
    minVersion,
    maxVersion,
    cipherSuites: texts(tls?.cipherSuites),
  };
}

/** Certificates and their keys: Secrets or files, said in one way. */
function checkPair(tls: Plain, at: string, report: FieldReport): void {
  const said = PAIRS.filter((name) => tls[name] !== undefined);
  if (said.length === 0 && tls.privateKey !== undefined) {
    report('WEFT-FIELD', 'the field "serverCertificate" is missing: a certificate and its key go together', at);
  } else if (said.length !== 1) {
    if (PAIRS.some((name) => report.broken(`${at}.${name}`))) return;
    const message =
      'needs exactly one of credentialName and credentialNames (Secrets), serverCertificate with privateKey, and tlsCertificates (files)';
    report(VALUE, message, at);
  } else if (said[0] === 'serverCertificate' && tls.privateKey === undefined) {
    report('WEFT-FIELD', 'the field "privateKey" is missing: a certificate and its key go together', at);
  } else if (said[0] !== 'serverCertificate' && tls.privateKey !== undefined) {
    report(VALUE, `may not stand with ${said[0]}: it is the key of serverCertificate`, `${at}.privateKey`);
  }
}

/**
 * The CA of clients and what it revoked, where the certificate comes from files; with Secrets a Secret says them. CAs that
 * stand beside several certificates hold together: the client chooses which certificate it is shown.
 */
function readCa(tls: Plain, at: string, report: FieldReport, context: KindContext): { caPem: string; crlPem: string } {
  const read = (path: string, field: string, what: PemKind): string => {
    const found = context.attachment(path);
    if (found === undefined) report('WEFT-NO-FILE', noFile(path), field);
    else if (!hasPem(found, what)) report('WEFT-CERTIFICATE', `is no PEM of a ${what}`, field);
    return found ?? '';
  };
  const none = { caPem: '', crlPem: '' };
  const listed = ((tls.tlsCertificates ?? []) as (Plain | undefined)[]).flatMap((one, i) =>
    one?.caCertificates === undefined
      ? []
      : [{ path: one.caCertificates as string, field: `${at}.tlsCertificates[${i}].caCertificates` }],
  );
  if (tls.credentialName !== undefined || tls.credentialNames !== undefined || tls.caCertCredentialName !== undefined) {
    const of = 'of the Secret that caCertCredentialName names, of <name>-cacert, or of the Secret itself';
    for (const [name, entry] of [
      ['caCertificates', 'ca.crt'],
      ['caCrl', 'ca.crl'],
    ]) {
      if (tls[name] !== undefined) report(VALUE, `where a Secret has the CA, this is ${entry} ${of}`, `${at}.${name}`);
    }
    for (const { field } of listed) report(VALUE, `where a Secret has the CA, this is ca.crt ${of}`, field);
    return none;
  }
  if (tls.caCertificates !== undefined) {
    const message = "the server's own caCertificates judge its clients: lay this CA into that file, and remove it here";
    for (const { field } of listed) report(VALUE, message, field);
    listed.length = 0;
    listed.push({ path: tls.caCertificates, field: `${at}.caCertificates` });
  }
  if (listed.length > 0) {
    const pems = listed.map(({ path, field }) => read(path, field, 'CERTIFICATE'));
    const crlPem = tls.caCrl === undefined ? '' : read(tls.caCrl, `${at}.caCrl`, 'X509 CRL');
    return { caPem: [...new Set(pems)].filter(Boolean).join('\n'), crlPem };
  }
  if (tls.serverCertificate !== undefined || tls.tlsCertificates !== undefined) {
    report('WEFT-FIELD', `mode ${tls.mode} needs caCertificates: who signs clients' certificates`, at);
  }
  return none;
}

function noFile(path: string): string {
  return `the file ${path} is not among those of the mesh: lay it beside this file, or give it with -f (paths are relative to this file; .pem, .crt, .crl and .key are read)`;
}

/** What files hold: of the server's own fields, or of `tlsCertificates`. */
function readPairs(
  tls: Plain,
  at: string,
  report: FieldReport,
  context: KindContext,
): (KeyPairModel & { field: string })[] {
  const read = (from: Plain, field: string): (KeyPairModel & { field: string })[] => {
    if (from.serverCertificate === undefined || from.privateKey === undefined) return [];
    const [certificatePem, keyPem] = (['serverCertificate', 'privateKey'] as const).map((name) => {
      const found = context.attachment(from[name]);
      if (found === undefined) report('WEFT-NO-FILE', noFile(from[name]), `${field}.${name}`);
      return found;
    });
    if (certificatePem === undefined || keyPem === undefined) return [];
    const judged = context.judgePair(certificatePem, keyPem);
    const place = `${field}.serverCertificate`;
    if (!('error' in judged)) return [{ certificatePem, keyPem, names: judged.names, field: place }];
    report('WEFT-CERTIFICATE', judged.error, place);
    return [];
  };
  const listed = (tls.tlsCertificates ?? []) as (Plain | undefined)[];
  return [...read(tls, at), ...listed.flatMap((from, i) => (from ? read(from, `${at}.tlsCertificates[${i}]`) : []))];
}
