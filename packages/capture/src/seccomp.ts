/**
 * A list of system calls that a proxy has no use for once it runs, denied by the kernel for good: other programs, other
 * processes' memory, mounts, namespaces, modules, clocks, keys. What breaks into a proxy finds those doors shut, also the
 * ones that an ordinary user has (user namespaces, io_uring, bpf, userfaultfd), where most ways to root began.
 */
import { WeftError } from '@weft/base';
import { libc } from './sockets.ts';

/** Name → number on x86-64 and on arm64; undefined where the machine does not have it. */
const DENIED: Readonly<Record<string, readonly [x64: number, arm64: number | undefined]>> = {
  // Another program, with what this one holds open.
  execve: [59, 221],
  execveat: [322, 281],
  // Other processes.
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  pidfd_getfd: [438, 438],
  process_madvise: [440, 440],
  kcmp: [312, 272],
  // Namespaces, mounts, roots.
  setns: [308, 268],
  unshare: [272, 97],
  mount: [165, 40],
  umount2: [166, 39],
  mount_setattr: [442, 442],
  move_mount: [429, 429],
  open_tree: [428, 428],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fspick: [433, 433],
  pivot_root: [155, 41],
  chroot: [161, 51],
  mknod: [133, undefined],
  mknodat: [259, 33],
  open_by_handle_at: [304, 265],
  name_to_handle_at: [303, 264],
  // The kernel's own code, and its larger surfaces.
  bpf: [321, 280],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  // The runtime's own ring, made before this, goes on.
  io_uring_setup: [425, 425],
  io_uring_register: [427, 427],
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
  modify_ldt: [154, undefined],
  iopl: [172, undefined],
  ioperm: [173, undefined],
  // The machine.
  reboot: [169, 142],
  swapon: [167, 224],
  swapoff: [168, 225],
  syslog: [103, 116],
  acct: [163, 89],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  sethostname: [170, 161],
  setdomainname: [171, 162],
  settimeofday: [164, 170],
  clock_settime: [227, 112],
  clock_adjtime: [305, 266],
  adjtimex: [159, 171],
  vhangup: [153, 58],
  fanotify_init: [300, 262],
};

export const DENIED_SYSTEM_CALLS: readonly string[] = Object.keys(DENIED);

interface Machine {
  audit: number;
  seccomp: number;
  clone: number;
  clone3: number;
  column: 0 | 1;
}
const MACHINES: Readonly<Record<string, Machine>> = {
  x64: { audit: 0xc000003e, seccomp: 317, clone: 56, clone3: 435, column: 0 },
  arm64: { audit: 0xc00000b7, seccomp: 277, clone: 220, clone3: 435, column: 1 },
};

const PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_SET_MODE_FILTER = 1;
/** For every thread of the process; and none of the guards for programs that run other people's code, which this is not. */
const TSYNC_AND_SPEC_ALLOW = 1 | 4;

const LOAD_WORD = 0x20;
const JUMP_EQUAL = 0x15;
const JUMP_ANY_BIT = 0x45;
const JUMP_AT_LEAST = 0x35;
const RETURN = 0x06;
const ALLOW = 0x7fff0000;
const ERRNO = 0x00050000;
const EPERM = 1;
const ENOSYS = 38;
/** Of `struct seccomp_data`. */
const NUMBER_AT = 0;
const MACHINE_AT = 4;
const FIRST_ARGUMENT_AT = 16;
/** x86-64 also takes the calls of its 32-bit ABI, under numbers from here. */
const X32 = 0x40000000;
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const NEW_NAMESPACES = 0x7e020000;

/** The program for one kind of machine, as the kernel reads it; 8 bytes an instruction. */
export function seccompProgram(arch: string): Buffer {
  const machine = MACHINES[arch];
  if (!machine) throw new WeftError('seccomp', `no list of system calls for ${arch}`);
  const numbers = Object.values(DENIED)
    .map((n) => n[machine.column])
    .filter((n) => n !== undefined);
  const code: [op: number, value: number, ifTrue: number, ifFalse: number][] = [];
  // The three returns are at the end: 5 instructions before the list (one more on x64), 3 behind it.
  const allow = 5 + (arch === 'x64' ? 1 : 0) + numbers.length + 3;
  const [deny, unknown] = [allow + 1, allow + 2];
  const over = (target: number): number => target - code.length - 1;
  code.push([LOAD_WORD, MACHINE_AT, 0, 0]);
  code.push([JUMP_EQUAL, machine.audit, 1, 0]);
  code.push([RETURN, ERRNO | EPERM, 0, 0]);
  code.push([LOAD_WORD, NUMBER_AT, 0, 0]);
  if (arch === 'x64') code.push([JUMP_AT_LEAST, X32, over(deny), 0]);
  // glibc then takes `clone`, whose flags can be seen here.
  code.push([JUMP_EQUAL, machine.clone3, over(unknown), 0]);
  for (const n of numbers) code.push([JUMP_EQUAL, n, over(deny), 0]);
  code.push([JUMP_EQUAL, machine.clone, 0, over(allow)]);
  code.push([LOAD_WORD, FIRST_ARGUMENT_AT, 0, 0]);
  code.push([JUMP_ANY_BIT, NEW_NAMESPACES, over(deny), 0]);
  code.push([RETURN, ALLOW, 0, 0], [RETURN, ERRNO | EPERM, 0, 0], [RETURN, ERRNO | ENOSYS, 0, 0]);
  const bytes = Buffer.alloc(code.length * 8);
  for (const [i, [op, value, ifTrue, ifFalse]] of code.entries()) {
    bytes.writeUInt16LE(op, i * 8);
    bytes.writeUInt8(ifTrue, i * 8 + 2);
    bytes.writeUInt8(ifFalse, i * 8 + 3);
    bytes.writeUInt32LE(value, i * 8 + 4);
  }
  return bytes;
}

/**
 * Denies them to this process and all its threads from now on, and that a program it started could get more rights.
 * Throws WeftError `seccomp` where the kernel or the machine cannot; then nothing is denied.
 */
export function denySystemCalls(): void {
  const machine = MACHINES[process.arch];
  if (process.platform !== 'linux' || !machine)
    throw new WeftError('seccomp', `there is no list of system calls for ${process.platform} on ${process.arch}`);
  const c = libc();
  const program = seccompProgram(process.arch);
  if (c.prctl(PR_SET_NO_NEW_PRIVS, 1n, 0n, 0n, 0n) !== 0)
    throw new WeftError('seccomp', `no-new-privileges could not be set: errno ${c.errno()}`);
  const filter = { len: program.length / 8, filter: program };
  const done = c.seccomp(machine.seccomp, SECCOMP_SET_MODE_FILTER, TSYNC_AND_SPEC_ALLOW, filter);
  if (done !== 0)
    throw new WeftError('seccomp', `the kernel does not take the list of system calls: errno ${c.errno()}`);
}
