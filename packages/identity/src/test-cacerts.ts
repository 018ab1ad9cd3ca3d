/** For tests: another CA's folder, made by OpenSSL. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

export const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];

/** Root and intermediates made by another tool than ours, as in Istio's `cacerts`. */
export function cacerts(dir: string, name: string, key: readonly string[]): string {
  const folder = join(dir, name);
  mkdirSync(folder, { mode: 0o700 });
  const run = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] });
  const ca = ['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'];
  run(
    'req',
    '-x509',
    ...key,
    '-nodes',
    '-keyout',
    'r.pem',
    '-out',
    'root-cert.pem',
    '-subj',
    '/O=Own/CN=Root',
    '-days',
    '9',
    ...ca,
  );
  const below = (who: string, certificate: string, by: [string, string]) => {
    run(
      'req',
      '-new',
      ...key,
      '-nodes',
      '-keyout',
      `${who}.pem`,
      '-out',
      `${who}.csr`,
      '-subj',
      `/O=Own/CN=${who}`,
      ...ca,
    );
    const issuer = ['-CA', by[0], '-CAkey', by[1], '-CAcreateserial', '-copy_extensions', 'copyall', '-days', '5'];
    run('x509', '-req', '-in', `${who}.csr`, ...issuer, '-out', certificate);
  };
  below('middle', 'cert-chain.pem', ['root-cert.pem', 'r.pem']);
  below('ca-key', 'ca-cert.pem', ['cert-chain.pem', 'middle.pem']);
  chmodSync(join(folder, 'ca-key.pem'), 0o600);
  return folder;
}
