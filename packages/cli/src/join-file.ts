/** What `weft ca token --host` prints and `weft host` reads. */
import { readFileSync } from 'node:fs';
import { WeftError } from '@weft/base';
import { parseCertificates } from '@weft/identity';

export interface JoinFile {
  readonly mesh: string;
  readonly trustDomain: string;
  readonly host: string;
  readonly namespace: string;
  readonly group: string;
  /** Secret, until it was used. */
  readonly token: string;
  /** Of the certificates in `rootPem`, for people to compare. */
  readonly rootSha256: readonly string[];
  /** Whom the host believes: the control plane must prove itself by this. */
  readonly rootPem: string;
}

const TEXTS = ['mesh', 'trustDomain', 'host', 'namespace', 'group', 'token', 'rootPem'] as const;

/** SHA-256 of each certificate, as openssl writes it: `AB:CD:…`. */
export function fingerprints(pem: string): string[] {
  return parseCertificates(pem).map((c) => c.fingerprint256);
}

/** Throws `join-file` saying what is wrong with the file; `fingerprint`: a root of the file must have it. */
export function readJoinFile(path: string, fingerprint?: string): JoinFile {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new WeftError('join-file', `${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  const wrong = (what: string): WeftError =>
    new WeftError('join-file', `${path} is not what "weft ca token --host NAME --group GROUP" prints: ${what}`);
  let file: JoinFile;
  try {
    file = JSON.parse(text) as JoinFile;
  } catch {
    throw wrong('it is no JSON');
  }
  for (const name of TEXTS)
    if (typeof file?.[name] !== 'string' || file[name] === '') throw wrong(`${name} is missing`);
  let roots: string[] = [];
  try {
    roots = fingerprints(file.rootPem);
  } catch {
    // As where there is none.
  }
  if (roots.length === 0) throw wrong('rootPem holds no certificates');
  const plain = (text: string): string => text.replaceAll(':', '').toLowerCase();
  if (fingerprint !== undefined && !roots.some((r) => plain(r) === plain(fingerprint)))
    throw new WeftError('fingerprint', `${path}: its root has the SHA-256 ${roots.join(', ')}, not ${fingerprint}`);
  return file;
}
