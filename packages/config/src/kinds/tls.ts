/** Names of TLS: versions, suites and curves that may be chosen, by Envoy's names, which are OpenSSL's too. */
import type { Schema } from '../schema.ts';

/** Suites of TLS 1.2 with forward secrecy and an AEAD. */
const SUITES = new Set(
  ['AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'CHACHA20-POLY1305'].flatMap((s) => [
    `ECDHE-ECDSA-${s}`,
    `ECDHE-RSA-${s}`,
  ]),
);

/** Suites of TLS 1.3. Strangers are offered all of them, as in Istio. */
export const SUITES_1_3: ReadonlySet<string> = new Set([
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
]);

const CURVES = new Set(['P-256', 'P-384', 'P-521', 'X25519', 'X25519MLKEM768']);

export const tlsVersion: Schema = {
  t: 'string',
  check: (v) => {
    if (v === 'TLSV1_0' || v === 'TLSV1_1') return 'versions before TLS 1.2 are not served';
    return ['TLS_AUTO', 'TLSV1_2', 'TLSV1_3'].includes(v) ? undefined : 'it may be TLS_AUTO, TLSV1_2 or TLSV1_3';
  },
};

function oneOf(names: Iterable<string>, why: string): Schema {
  const known = new Set(names);
  return {
    t: 'list',
    max: 100,
    of: { t: 'string', check: (v) => (known.has(v) ? undefined : `${why}; ${[...known].join(', ')} are`) },
  };
}

export const cipherSuites = oneOf(SUITES, 'it is not served');
/** Of links between proxies: those of TLS 1.2 may stand there, for who writes what Istio takes. */
export const meshCipherSuites = oneOf([...SUITES_1_3, ...SUITES], 'it is not served');
export const ecdhCurves = oneOf(CURVES, 'it is no curve that can be chosen');

/** Names of a list as it was read, each once. */
export function namesOf(list: unknown): string[] {
  return [...new Set(((list ?? []) as (string | undefined)[]).filter((name) => name !== undefined))];
}
