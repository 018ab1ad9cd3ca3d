/** Privileges: a sidecar loads its code as root and then becomes uid 1337; applications start as somebody ordinary. */

import { WeftError } from '@weft/base';
import { PROXY_UID } from './rules.ts';
import { dieWithParent, loadSystemCalls } from './sockets.ts';

/**
 * Becomes `uid`:`gid` for good, in the right order (groups, gid, uid), and proves it. Does nothing where the process is
 * not root. The wish to die with the parent is renewed, since the kernel forgets it with the uid.
 */
export function dropPrivileges(uid = PROXY_UID, gid = PROXY_UID): void {
  if (process.getuid?.() !== 0) return;
  loadSystemCalls(); // The library may live where the new uid cannot read.
  process.setgroups!([]);
  process.setgid!(gid);
  process.setuid!(uid);
  if (
    process.getuid() !== uid ||
    process.geteuid!() !== uid ||
    process.getgid!() !== gid ||
    process.getegid!() !== gid
  ) {
    throw new WeftError('drop', `could not become uid ${uid}`);
  }
  try {
    process.setuid!(0);
  } catch {
    dieWithParent();
    return;
  }
  throw new WeftError('drop', 'root could be taken back after it was given up');
}

/** What root has in a container: not what changes the rules of capture, other namespaces or the machine. */
const CONTAINER_CAPABILITIES = [
  ...['audit_write', 'chown', 'dac_override', 'fowner', 'fsetid', 'kill', 'mknod', 'net_bind_service', 'net_raw'],
  ...['setfcap', 'setgid', 'setpcap', 'setuid', 'sys_chroot'],
];

export interface RunAs {
  uid: number;
  gid: number;
}

/**
 * What to put before an application's command: another uid, no way back to root by a setuid program, and death with
 * the supervisor. Empty where nothing of it can be done (`setpriv` is util-linux).
 * Throws for the proxy's uid, which capture exempts.
 */
export function runAsArgv(runAs: RunAs | undefined, options: { setpriv: boolean }): string[] {
  if (runAs?.uid === PROXY_UID) {
    throw new WeftError(
      'proxy-uid',
      `an application may not run as uid ${PROXY_UID}: that is the proxy's, whose traffic is not captured`,
    );
  }
  if (!options.setpriv) {
    if (runAs)
      throw new WeftError(
        'missing-tool',
        'setpriv is not installed, so the application would run as root: install util-linux',
      );
    return [];
  }
  const argv = ['setpriv', '--pdeathsig', 'KILL'];
  if (runAs) argv.push('--reuid', String(runAs.uid), '--regid', String(runAs.gid), '--clear-groups');
  if (runAs && runAs.uid !== 0) argv.push('--no-new-privs');
  if (runAs?.uid === 0) argv.push(`--bounding-set=-all,${CONTAINER_CAPABILITIES.map((name) => `+${name}`).join(',')}`);
  argv.push('--');
  return argv;
}
