/** Versions, suites and curves of TLS with those outside of the mesh, from a plan to Node's options. */
import { createSecureContext, type SecureContextOptions, type SecureVersion } from 'node:tls';
import { type Part, TlsVersion } from '@weft/plan';

const SUITES_1_3 = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';

export function versionOf(said: TlsVersion, unsaid: SecureVersion): SecureVersion {
  if (said === TlsVersion.TLSV1_2) return 'TLSv1.2';
  return said === TlsVersion.TLSV1_3 ? 'TLSv1.3' : unsaid;
}

/** `suites` of TLS 1.2, by OpenSSL's names; those of TLS 1.3 are always offered. */
export function ciphersOf(suites: readonly string[]): string {
  return [SUITES_1_3, ...suites].join(':');
}

/** Empty: what the library offers by itself. */
export function curvesOf(curves: readonly string[]): Pick<SecureContextOptions, 'ecdhCurve'> {
  return curves.length > 0 ? { ecdhCurve: curves.join(':') } : {};
}

/** The first curve of a part that this process' OpenSSL does not have: with it no handshake could be made. */
export function missingCurve({ kind }: Part): string | undefined {
  const named =
    kind.case === 'tls'
      ? [...kind.value.meshCurves, ...kind.value.curves]
      : kind.case === 'gateway'
        ? kind.value.servers.flatMap((s) => s.tls?.curves ?? [])
        : [];
  return named.find((curve) => !isThere(curve));
}

function isThere(curve: string): boolean {
  try {
    createSecureContext({ ecdhCurve: curve });
    return true;
  } catch {
    return false;
  }
}
