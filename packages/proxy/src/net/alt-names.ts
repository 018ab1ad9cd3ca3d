/** Names in a certificate's subjectAltName, as the runtime prints them: `DNS:a.test, URI:spiffe://…`. */
import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';

/** A DNS name (a certificate's wildcard covers one label), an IP address or a URI. */
export function hasName(certificate: X509Certificate, name: string): boolean {
  if (name.includes('://')) return altNames(certificate, 'URI').includes(name);
  if (isIP(name)) return certificate.checkIP(name) !== undefined;
  return certificate.checkHost(name, { subject: 'never' }) !== undefined;
}

/**
 * Names of one kind, in order. Values that could be taken for several are printed in quotes, as JSON: each entry is read to
 * its end, so that none is found inside of another. What cannot be read ends the list.
 */
export function altNames(certificate: X509Certificate, kind: 'DNS' | 'URI'): string[] {
  const text = certificate.subjectAltName ?? '';
  const entry = /(?:^|, )([^:",]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?=, |$)/y;
  const names: string[] = [];
  for (let m = entry.exec(text); m; m = entry.exec(text)) {
    if (m[1] === kind) names.push(m[2].startsWith('"') ? (JSON.parse(m[2]) as string) : m[2]);
    if (entry.lastIndex === text.length) break;
  }
  return names;
}
