/** Kubernetes' Secret, as far as it holds a certificate: type kubernetes.io/tls, or Opaque with the same keys. */
import type { SecretModel } from '@weft/model';
import type { Schema } from '../schema.ts';
import { bool, type FieldReport, hasPem, type Kind, type Plain } from './common.ts';

/** Not checked by the schema, whose messages show values. */
const values: Schema = { t: 'map', of: { t: 'string' } };
const CERTIFICATES = ['tls.crt', 'cert'];
const KEYS = ['tls.key', 'key'];
/** Who signs the certificates of a gateway's clients. */
const AUTHORITIES = ['ca.crt', 'cacert'];
/** Which of those were revoked. */
const REVOCATIONS = ['ca.crl'];

export const secretKind: Kind<SecretModel> = {
  kind: 'Secret',
  apiVersions: ['v1'],
  spec: undefined,
  specRequired: false,
  top: {
    fields: {
      type: {
        t: 'string',
        check: (v) =>
          v === 'kubernetes.io/tls' || v === 'Opaque'
            ? undefined
            : 'only kubernetes.io/tls and Opaque are read here: nothing uses other Secrets',
      },
      data: values,
      stringData: values,
      immutable: bool,
    },
  },
  build(resource, read, report, context) {
    const caPem = entry(read, AUTHORITIES, report) ?? '';
    const field = read.data ? 'data' : 'stringData';
    if (caPem !== '' && !hasPem(caPem, 'CERTIFICATE')) {
      report('WEFT-CERTIFICATE', `${AUTHORITIES[0]} is no PEM of a CERTIFICATE`, field);
    }
    const crlPem = entry(read, REVOCATIONS, report) ?? '';
    if (crlPem !== '' && !hasPem(crlPem, 'X509 CRL')) {
      report('WEFT-CERTIFICATE', `${REVOCATIONS[0]} is no PEM of an X509 CRL`, field);
    } else if (crlPem !== '' && caPem === '') {
      report('WEFT-FIELD', `${REVOCATIONS[0]} needs ${AUTHORITIES[0]} beside it: who signed what it revokes`, field);
    }
    const certificatePem = entry(read, CERTIFICATES, report);
    const keyPem = entry(read, KEYS, report);
    const none = { ...resource, certificatePem: '', keyPem: '', names: [], caPem, crlPem };
    // As the Secret `<name>-cacert` has it.
    if (caPem !== '' && certificatePem === undefined && keyPem === undefined) return none;
    if (certificatePem === undefined) missing(CERTIFICATES, read, report);
    if (keyPem === undefined) missing(KEYS, read, report);
    if (certificatePem !== undefined && keyPem !== undefined) {
      const judged = context.judgePair(certificatePem, keyPem);
      if (!('error' in judged)) return { ...resource, certificatePem, keyPem, names: judged.names, caPem, crlPem };
      report('WEFT-CERTIFICATE', judged.error, field);
    }
    return none;
  },
};

/** `stringData` is plain and wins over `data`, which is base64. What is wrong is said without the value. */
function entry(read: Plain, names: readonly string[], report: FieldReport): string | undefined {
  for (const name of names) {
    const plain = read.stringData?.[name];
    if (typeof plain === 'string') return plain;
    const encoded = read.data?.[name];
    if (typeof encoded !== 'string') continue;
    try {
      return atob(encoded.replace(/\s/g, ''));
    } catch {
      report('WEFT-VALUE', 'is not base64; plain text belongs under stringData', `data.${name}`);
      return undefined;
    }
  }
  return undefined;
}

function missing(names: readonly string[], read: Plain, report: FieldReport): void {
  if (names.some((n) => typeof read.data?.[n] === 'string')) return; // told already
  report('WEFT-FIELD', `needs "${names[0]}" in data or stringData`, 'data');
}
