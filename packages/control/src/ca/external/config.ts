/** `external.json` of a CA's folder: which service signs, and by what it is asked. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { WeftError } from '@weft/base';
import { refuseIfShared } from '@weft/identity';

export interface ExternalConfig {
  /**
   * spiffe: a SPIFFE Workload API (`unix:///path`) that gives us a CA's certificate, by which we sign ourselves.
   * vault: `POST /v1/MOUNT/sign/ROLE` of HashiCorp's Vault. istio: IstioCertificateService, as istiod and istio-csr serve it.
   */
  readonly kind: 'vault' | 'istio' | 'spiffe';
  readonly address: URL;
  /** Vault's mount of the PKI, default pki, and its role. */
  readonly mount: string;
  readonly role: string;
  readonly namespace: string;
  /** File (0600) of the token by which we are known; read at each request, since others renew it. */
  readonly tokenFile: string | undefined;
  /** The name in the server's certificate where it is not that of the address. */
  readonly serverName: string | undefined;
  /** What the server's certificate is verified by (`server-ca.pem`, else the CA's own root), and our certificate and key. */
  readonly serverCa: string;
  readonly certPem: string | undefined;
  readonly keyPem: string | undefined;
}

const NAME = /^[A-Za-z0-9_-][A-Za-z0-9_.-]*(\/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$/;
const KNOWN = ['kind', 'address', 'mount', 'role', 'namespace', 'tokenFile', 'serverName'];

/** Throws `control/bad-external-ca` naming the field, `identity/exposed-secret` where a secret can be read by others. */
export function readExternal(dir: string): ExternalConfig {
  const path = join(dir, 'external.json');
  const bad = (what: string) => new WeftError('control/bad-external-ca', `${path}: ${what}`);
  let given: Record<string, unknown>;
  try {
    given = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    if (typeof given !== 'object' || given === null) throw new Error('it is no object');
  } catch (cause) {
    throw new WeftError('control/bad-external-ca', `${path} cannot be read as JSON: ${String(cause)}`, { cause });
  }
  for (const [name, value] of Object.entries(given)) {
    if (!KNOWN.includes(name)) throw bad(`${name} is not known; known are ${KNOWN.join(', ')}`);
    if (typeof value !== 'string') throw bad(`${name} must be a text`);
  }
  const { kind, mount = 'pki', role = '', namespace = '', tokenFile, serverName } = given as Record<string, string>;
  if (kind !== 'vault' && kind !== 'istio' && kind !== 'spiffe') throw bad('kind must be vault, istio or spiffe');
  if (kind === 'vault' && !NAME.test(role)) throw bad('role must name the role of the PKI that signs for the mesh');
  if (!NAME.test(mount) || (namespace !== '' && !NAME.test(namespace)))
    throw bad('mount and namespace are names of letters, digits, "_", "-" and "."');
  let address: URL;
  try {
    address = new URL(given.address as string);
  } catch {
    throw bad('address must be a URL, as https://vault.example:8200');
  }
  const host = address.hostname.replace(/^\[|\]$/g, '');
  const loopback = host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
  if ((kind === 'spiffe') !== (address.protocol === 'unix:'))
    throw bad('address must be unix:///PATH for spiffe, and for nothing else');
  if (address.protocol !== 'https:' && kind !== 'spiffe' && !(address.protocol === 'http:' && loopback))
    throw bad('address must begin with https://: without TLS anybody could sign for the mesh');
  const text = (name: string): string | undefined => {
    try {
      return readFileSync(join(dir, name), 'utf8');
    } catch {
      return undefined;
    }
  };
  const keyPem = text('client-key.pem');
  if (keyPem) refuseIfShared(join(dir, 'client-key.pem'), 'client key', '0600');
  return {
    ...{ kind, address, mount, role, namespace, serverName, keyPem },
    tokenFile: tokenFile === undefined ? undefined : resolve(dir, tokenFile),
    serverCa: text('server-ca.pem') ?? text('root-cert.pem') ?? '',
    certPem: text('client-cert.pem'),
  };
}

/** The token as it is now; undefined where none is configured. */
export function readToken({ tokenFile }: ExternalConfig): string | undefined {
  if (tokenFile === undefined) return undefined;
  refuseIfShared(tokenFile, 'token', '0600');
  return readFileSync(tokenFile, 'utf8').trim();
}
