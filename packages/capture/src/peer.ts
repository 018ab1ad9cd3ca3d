/** Who is at the other end of a Unix socket, as the kernel says it. Linux only. */
import { fstatSync } from 'node:fs';
import type { Socket } from 'node:net';
import { WeftError } from '@weft/base';
import { libc, socketFd } from './sockets.ts';

export interface PeerCredentials {
  /** Of the process that connected, in the own pid namespace; 0 where it has none there. It may have ended since. */
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/** Throws `peer` where the socket is gone or is no Unix socket. */
export function peerCredentials(socket: Socket): PeerCredentials {
  const value = Buffer.alloc(12);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(12);
  const c = libc();
  const fd = socketFd(socket);
  if (fd < 0 || c.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, length) !== 0 || length.readUInt32LE() !== 12)
    throw new WeftError('peer', `who connected cannot be told (errno ${fd < 0 ? 0 : c.errno()})`);
  return { pid: value.readInt32LE(0), uid: value.readUInt32LE(4), gid: value.readUInt32LE(8) };
}

const AF_UNIX = 1;
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const NLM_F_REQUEST = 1;
const NLMSG_ERROR = 2;
const ENOENT = 2;
const UDIAG_SHOW_PEER = 4;
const UNIX_DIAG_PEER = 2;
const MSG_DONTWAIT = 0x40;

/**
 * Whether the other end of a Unix socket was made in the network namespace of this process. A number of a process can
 * come back with another process; where a socket was made cannot change. Throws `peer` where the kernel cannot say it.
 */
export function madeInOwnNetwork(socket: Socket): boolean {
  const fd = socketFd(socket);
  if (fd < 0) throw new WeftError('peer', 'who connected cannot be told: the connection is closed');
  const c = libc();
  const netlink = c.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (netlink < 0) throw new WeftError('peer', `socket diagnosis is not to be had (errno ${c.errno()})`);
  try {
    // The kernel looks a number up among the sockets of the asker's namespace alone. An accepted socket belongs to the
    // namespace of who connected; the other end is asked for as well, so that this does not rest on that alone.
    const other = diagnose(netlink, fstatSync(fd).ino);
    if (other === undefined) return false;
    if (other === 0) throw new WeftError('peer', 'who connected cannot be told: the other end is closed');
    return diagnose(netlink, other) !== undefined;
  } finally {
    c.close(netlink);
  }
}

/** The other end's inode (0: it has none) of a Unix socket; undefined where there is no such socket in this namespace. */
function diagnose(netlink: number, inode: number): number | undefined {
  const request = Buffer.alloc(40);
  request.writeUInt32LE(40, 0);
  request.writeUInt16LE(SOCK_DIAG_BY_FAMILY, 4);
  request.writeUInt16LE(NLM_F_REQUEST, 6);
  request[16] = AF_UNIX;
  request.writeUInt32LE(0xffffffff, 20); // states
  request.writeUInt32LE(inode, 24);
  request.writeUInt32LE(UDIAG_SHOW_PEER, 28);
  request.writeUInt32LE(0xffffffff, 32); // no cookie
  request.writeUInt32LE(0xffffffff, 36);
  const c = libc();
  const answer = Buffer.alloc(1024);
  if (c.send(netlink, request, request.length, 0) < 0)
    throw new WeftError('peer', `socket diagnosis failed (errno ${c.errno()})`);
  // The kernel has answered before send returns.
  const bytes = c.recv(netlink, answer, answer.length, MSG_DONTWAIT);
  if (bytes < 20) throw new WeftError('peer', `socket diagnosis gave no answer (errno ${c.errno()})`);
  if (answer.readUInt16LE(4) === NLMSG_ERROR) {
    const error = -answer.readInt32LE(16);
    if (error === ENOENT) return undefined;
    throw new WeftError('peer', `socket diagnosis is refused (errno ${error})`);
  }
  const end = Math.min(bytes, answer.readUInt32LE(0));
  // struct unix_diag_msg has 16 bytes; attributes follow.
  for (let at = 32; at + 4 <= end; ) {
    const size = answer.readUInt16LE(at);
    if (size < 4) break;
    if (answer.readUInt16LE(at + 2) === UNIX_DIAG_PEER) return answer.readUInt32LE(at + 4);
    at += (size + 3) & ~3;
  }
  return 0;
}
