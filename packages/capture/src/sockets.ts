/** System calls that Node has no name for, through koffi. Linux only; loaded at the first use. */

import { createRequire } from 'node:module';
import net from 'node:net';
import { canonicalIp, WeftError } from '@weft/base';

interface Libc {
  getsockopt(fd: number, level: number, option: number, value: Buffer, length: Buffer): number;
  setsockopt(fd: number, level: number, option: number, value: Buffer, length: number): number;
  socket(domain: number, type: number, protocol: number): number;
  connect(fd: number, address: Buffer, length: number): number;
  close(fd: number): number;
  send(fd: number, bytes: Buffer, length: number, flags: number): number;
  recv(fd: number, bytes: Buffer, length: number, flags: number): number;
  prctl(option: number, argument: bigint, a: bigint, b: bigint, c: bigint): number;
  setns(fd: number, kind: number): number;
  /** `syscall` with the number and the arguments of seccomp(2). */
  seccomp(number: number, operation: number, flags: number, program: { len: number; filter: Buffer }): number;
  getppid(): number;
  madvise(address: bigint, length: number, advice: number): number;
  /** glibc alone has it. */
  mallocTrim: ((keep: number) => number) | undefined;
  errno(): number;
}

const EINPROGRESS = 115;
const SOL_SOCKET = 1;
const SO_KEEPALIVE = 9;
const SO_MARK = 36;
const IPPROTO_TCP = 6;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const SO_ORIGINAL_DST = 80;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const PR_SET_PDEATHSIG = 1;
const CLONE_NEWNET = 0x40000000;

let loaded: Libc | undefined;

/** The C library's functions; for this package alone. */
export function libc(): Libc {
  if (loaded) return loaded;
  if (process.platform !== 'linux')
    throw new WeftError('platform', `this system call exists on Linux only, this is ${process.platform}`);
  const koffi = createRequire(import.meta.url)('koffi') as {
    load(path: string | null): { func(prototype: string): (...a: unknown[]) => number };
    struct(name: string, members: Record<string, string>): unknown;
    errno(): number;
  };
  koffi.struct('sock_fprog', { len: 'uint16_t', filter: 'uint8_t *' });
  const c = koffi.load(null); // The C library that the process itself is linked with, glibc or musl.
  loaded = {
    getsockopt: c.func('int getsockopt(int, int, int, _Inout_ uint8_t *, _Inout_ uint8_t *)'),
    setsockopt: c.func('int setsockopt(int, int, int, uint8_t *, uint32_t)'),
    socket: c.func('int socket(int, int, int)'),
    connect: c.func('int connect(int, uint8_t *, uint32_t)'),
    close: c.func('int close(int)'),
    send: c.func('int64_t send(int, uint8_t *, size_t, int)'),
    recv: c.func('int64_t recv(int, _Inout_ uint8_t *, size_t, int)'),
    prctl: c.func('int prctl(int, uint64_t, uint64_t, uint64_t, uint64_t)') as Libc['prctl'],
    setns: c.func('int setns(int, int)'),
    seccomp: c.func('int64_t syscall(int64_t, int64_t, int64_t, sock_fprog *)') as Libc['seccomp'],
    getppid: c.func('int getppid()'),
    madvise: c.func('int madvise(uint64_t, size_t, int)') as unknown as Libc['madvise'],
    mallocTrim: optional(() => c.func('int malloc_trim(size_t)')),
    errno: () => koffi.errno(),
  };
  return loaded;
}

function optional<T>(load: () => T): T | undefined {
  try {
    return load();
  } catch {
    return undefined;
  }
}

/** Loads the library now: before privileges are dropped, and not during the first connection. */
export function loadSystemCalls(): void {
  libc();
}

/** The file descriptor below a socket, or -1 (destroyed). */
export function socketFd(socket: net.Socket): number {
  const handle = (socket as unknown as { _handle?: { fd?: number } | null })._handle;
  return handle?.fd ?? -1;
}

export interface Destination {
  host: string;
  port: number;
}

const address = Buffer.alloc(28);
const length = Buffer.alloc(4);

/**
 * Where a redirected connection wanted to go, or undefined where it was not redirected (or the socket is gone).
 * A dual-stack listener sees IPv4 peers on an IPv6 socket, so the IPv4 level is asked first whatever the family.
 */
export function originalDestination(socket: net.Socket): Destination | undefined {
  const fd = socketFd(socket);
  if (fd < 0) return undefined;
  const c = libc();
  length.writeUInt32LE(16);
  if (c.getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, address, length) === 0) {
    return { host: `${address[4]}.${address[5]}.${address[6]}.${address[7]}`, port: address.readUInt16BE(2) };
  }
  length.writeUInt32LE(28);
  if (c.getsockopt(fd, SOL_IPV6, SO_ORIGINAL_DST, address, length) === 0) {
    const groups: string[] = [];
    for (let i = 0; i < 8; i++) groups.push(address.readUInt16BE(8 + 2 * i).toString(16));
    return { host: canonicalIp(groups.join(':')), port: address.readUInt16BE(2) };
  }
  return undefined;
}

const option = Buffer.alloc(4);

/**
 * Has the kernel probe a connected socket that is idle for `timeMs`, each `intervalMs`, and end it after so many `probes`
 * without an answer; seconds count, 0 leaves the system's setting. Off Linux only the first of them is known. False: the
 * socket is gone.
 */
export function setKeepalive(
  socket: net.Socket,
  settings: { readonly probes: number; readonly timeMs: number; readonly intervalMs: number },
): boolean {
  const fd = socketFd(socket);
  if (fd < 0) return false;
  if (process.platform !== 'linux') {
    socket.setKeepAlive(true, settings.timeMs);
    return true;
  }
  const c = libc();
  const set = (level: number, name: number, value: number): boolean => {
    option.writeUInt32LE(value);
    return c.setsockopt(fd, level, name, option, 4) === 0;
  };
  let good = set(SOL_SOCKET, SO_KEEPALIVE, 1);
  if (settings.timeMs > 0) good = set(IPPROTO_TCP, TCP_KEEPIDLE, Math.ceil(settings.timeMs / 1000)) && good;
  if (settings.intervalMs > 0) good = set(IPPROTO_TCP, TCP_KEEPINTVL, Math.ceil(settings.intervalMs / 1000)) && good;
  if (settings.probes > 0) good = set(IPPROTO_TCP, TCP_KEEPCNT, settings.probes) && good;
  return good;
}

function socketAddress(host: string, port: number): { family: number; bytes: Buffer } {
  if (net.isIPv4(host)) {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt16LE(AF_INET, 0);
    bytes.writeUInt16BE(port, 2);
    host.split('.').forEach((p, i) => {
      bytes[4 + i] = Number(p);
    });
    return { family: AF_INET, bytes };
  }
  if (!net.isIPv6(host))
    throw new WeftError('address', `"${host}" is not an IP address: names are resolved before a marked dial`);
  const bytes = Buffer.alloc(28);
  bytes.writeUInt16LE(AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  const [left, right] = host.split('::') as [string, string | undefined];
  const words = (t: string | undefined) => (t ? t.split(':') : []);
  const head = words(left);
  const tail = words(right);
  head.forEach((w, i) => {
    bytes.writeUInt16BE(Number.parseInt(w, 16), 8 + 2 * i);
  });
  tail.forEach((w, i) => {
    bytes.writeUInt16BE(Number.parseInt(w, 16), 8 + 2 * (8 - tail.length + i));
  });
  return { family: AF_INET6, bytes };
}

/**
 * Dials from the network namespace behind `namespaceFd` (the own one where absent) with SO_MARK set, which exempts the
 * connection from capture (needs CAP_NET_ADMIN). `net.connect` cannot do either: it makes its socket in another turn.
 * The socket is returned while it connects: writes wait for it, then `connect` is emitted; a refusal is its `error`.
 * Half-open is allowed.
 */
export function dialMarked(
  host: string,
  port: number,
  options: { mark?: number; namespaceFd?: number } = {},
): net.Socket {
  const c = libc();
  const target = socketAddress(host, port);
  const make = () => c.socket(target.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const fd = options.namespaceFd === undefined ? make() : inNamespace(options.namespaceFd, make);
  if (fd < 0) throw new WeftError('socket', `socket() failed with errno ${c.errno()}`);
  if (options.mark !== undefined) {
    const mark = Buffer.alloc(4);
    mark.writeUInt32LE(options.mark);
    if (c.setsockopt(fd, SOL_SOCKET, SO_MARK, mark, 4) !== 0) {
      const errno = c.errno();
      c.close(fd);
      throw new WeftError('socket-mark', `SO_MARK failed with errno ${errno}: it needs CAP_NET_ADMIN`);
    }
  }
  if (c.connect(fd, target.bytes, target.bytes.length) !== 0) {
    const errno = c.errno();
    if (errno !== EINPROGRESS) {
      c.close(fd);
      throw new WeftError('connect', `connecting to ${host}:${port} failed with errno ${errno}`);
    }
  }
  const wrapped = { fd, readable: true, writable: true, manualStart: true, allowHalfOpen: true };
  const socket = new net.Socket(wrapped as net.SocketConstructorOpts);
  // Node takes the descriptor for connected. A write of nothing waits in the kernel until it is, or fails as it does.
  socket.write(Buffer.alloc(0), (error) => {
    if (!error && !socket.destroyed) socket.emit('connect');
  });
  return socket;
}

let ownNamespace = -1;

/**
 * Runs `fn` with this thread in the network namespace behind the open file `fd` (of /run/netns/NAME or /proc/PID/ns/net).
 * Synchronous on purpose: sockets made inside belong there for good, and nothing else may run meanwhile. Needs CAP_SYS_ADMIN.
 */
export function inNamespace<T>(fd: number, fn: () => T): T {
  const c = libc();
  if (ownNamespace < 0) {
    const fs = createRequire(import.meta.url)('node:fs') as typeof import('node:fs');
    ownNamespace = fs.openSync('/proc/self/ns/net', 'r');
  }
  if (c.setns(fd, CLONE_NEWNET) !== 0)
    throw new WeftError('setns', `entering the network namespace failed with errno ${c.errno()}`);
  try {
    return fn();
  } finally {
    if (c.setns(ownNamespace, CLONE_NEWNET) !== 0) {
      // Going on would open every later socket in the workload's namespace.
      process.stderr.write('weft: cannot return to the own network namespace\n');
      process.abort();
    }
  }
}

/**
 * Lets the kernel send this process `signal` when its parent dies. Cleared by a change of uid, so it is called again after one.
 * Where the parent `expectedParent` has died already the process ends at once. Does nothing off Linux.
 */
export function dieWithParent(expectedParent?: number, signal = 9): void {
  if (process.platform !== 'linux') return;
  const c = libc();
  c.prctl(PR_SET_PDEATHSIG, BigInt(signal), 0n, 0n, 0n);
  if (expectedParent !== undefined && c.getppid() !== expectedParent) process.exit(137);
}
