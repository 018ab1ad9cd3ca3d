/**
 * One network namespace per workload, joined to a bridge per mesh. Everything made here is found again by name
 * (namespaces `weft-<mesh>.<instance>`: mesh names hold no dot) or by the bridge's alias `weft:<mesh>`, so that a later
 * run can remove what a killed one left.
 */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { WeftError } from '@weft/base';
import { assertMeshName, chooseSubnet, shortHash, uniqueLocalPrefix } from './addresses.ts';
import { type CaptureRules, captureRules } from './rules.ts';

const RUN_NETNS = '/run/netns';
const ETC_NETNS = '/etc/netns';
/** Markers of the folders that we, not the system, made, so that the last mesh to leave removes them. */
const MARKERS = '/run/weft';

/** The program's standard output; a failure names the command and gives its own words. */
function run(program: string, args: readonly string[], input?: string): string {
  try {
    return execFileSync(program, args, { encoding: 'utf8', input, stdio: ['pipe', 'pipe', 'pipe'] });
  } catch (error) {
    const e = error as { code?: string; stderr?: string; message: string };
    if (e.code === 'ENOENT') {
      throw new WeftError(
        'missing-tool',
        `${program} is not installed: install iproute2 and nftables, or use --capture explicit`,
      );
    }
    throw new WeftError('capture', `${program} ${args.join(' ')} failed: ${(e.stderr || e.message).trim()}`, {
      cause: error,
    });
  }
}

function tryRun(program: string, args: readonly string[]): string | undefined {
  try {
    return run(program, args);
  } catch {
    return undefined; // What is absent already needs no removal.
  }
}

/** Why transparent capture cannot work here, or undefined where it can. */
export function transparentUnavailable(): string | undefined {
  if (process.platform !== 'linux') return `transparent capture needs Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return 'transparent capture needs root';
  for (const tool of ['ip', 'nft', 'setpriv', 'nsenter', 'unshare', 'mount']) {
    const found = (process.env.PATH ?? '')
      .concat(':/usr/sbin:/sbin')
      .split(':')
      .some((d) => d && existsSync(`${d}/${tool}`));
    if (!found) return `${tool} is not installed (Debian: apt-get install iproute2 nftables util-linux)`;
  }
  return undefined;
}

export interface Workspace {
  /** The namespace's name for `ip netns`. */
  namespace: string;
  /** The workload's address on the mesh's bridge. */
  address: string;
  /** Its IPv6 address there; undefined where this machine has no IPv6. */
  address6: string | undefined;
  /** The interface on the bridge's side, where a packet capture sees what leaves. */
  hostInterface: string;
}

function bridges(): { name: string; mesh: string }[] {
  const text = tryRun('ip', ['-j', 'link', 'show', 'type', 'bridge']);
  if (!text?.trim()) return [];
  const links = JSON.parse(text) as { ifname?: string; ifalias?: string }[];
  return links
    .filter((l) => l.ifname && l.ifalias?.startsWith('weft:'))
    .map((l) => ({ name: l.ifname!, mesh: l.ifalias!.slice(5) }));
}

/** Ranges that this machine routes already, and the name servers it must go on reaching. */
function takenRanges(): string[] {
  const routes = JSON.parse(run('ip', ['-j', '-4', 'route', 'show', 'table', 'all']) || '[]') as {
    dst?: string;
    gateway?: string;
  }[];
  const taken = routes.flatMap((r) => [r.dst ?? '', r.gateway ?? '']).filter((d) => d && d !== 'default');
  return [...taken, ...nameServers()];
}

function nameServers(): string[] {
  try {
    return [...readFileSync('/etc/resolv.conf', 'utf8').matchAll(/^\s*nameserver\s+(\S+)/gm)].map((m) => m[1]!);
  } catch {
    return []; // A machine without resolv.conf has none.
  }
}

/** Ports below this need root; a namespace has its own. */
const LOWEST_PORT = '/proc/sys/net/ipv4/ip_unprivileged_port_start';
/** Routes come from us alone: a neighbour on the bridge that announces some is not believed. */
const strangersRoutes = (device: string): string[] =>
  ['accept_ra', 'accept_redirects'].map((name) => `/proc/sys/net/ipv6/conf/${device}/${name}`);

function ownFolder(path: string, marker: string): void {
  if (existsSync(path)) return;
  mkdirSync(MARKERS, { recursive: true, mode: 0o755 });
  writeFileSync(`${MARKERS}/${marker}`, '');
  mkdirSync(path, { recursive: true, mode: 0o755 });
}

function disownFolders(): void {
  const empty = (p: string) => existsSync(p) && readdirSync(p).length === 0;
  if (existsSync(`${MARKERS}/.made-run-netns`) && empty(RUN_NETNS)) {
    tryRun('umount', [RUN_NETNS]); // `ip netns add` mounts it over itself, to share it.
    removeEmpty(RUN_NETNS, '.made-run-netns');
  }
  if (existsSync(`${MARKERS}/.made-etc-netns`) && empty(ETC_NETNS)) removeEmpty(ETC_NETNS, '.made-etc-netns');
  try {
    rmdirSync(MARKERS);
  } catch {
    // Another mesh still uses it, or it was never made.
  }
}

function removeEmpty(path: string, marker: string): void {
  try {
    rmdirSync(path);
    rmSync(`${MARKERS}/${marker}`, { force: true });
  } catch {
    // Somebody made something inside in this moment: the next removal tries again.
  }
}

/** The bridge of one mesh and the namespaces on it. Construction makes the bridge; `close` removes everything. */
export class MeshNetwork {
  readonly mesh: string;
  readonly bridge: string;
  /** The host's address on the bridge, where the control plane listens. */
  readonly gateway: string;
  /** The mesh's range. */
  readonly cidr: string;
  /** The first half of the mesh's IPv6 addresses, which ends in a colon; undefined where this machine has no IPv6. */
  readonly prefix6: string | undefined;
  readonly #octet: number;
  readonly #hash: string;
  #next = 2;
  readonly #used = new Map<string, number>();

  /**
   * Throws where the network cannot be made; nothing is left then. Leftovers of an earlier run are removed first.
   * `taken`: blocks of addresses of other machines that workloads here must be able to name.
   */
  constructor(mesh: string, taken: readonly string[] = []) {
    assertMeshName(mesh);
    removeMesh(mesh);
    this.mesh = mesh;
    const links = new Set((JSON.parse(run('ip', ['-j', 'link', 'show'])) as { ifname: string }[]).map((l) => l.ifname));
    let salt = 0;
    while (links.has(`weft-${shortHash(`${mesh} ${salt}`)}`)) salt++;
    this.#hash = shortHash(`${mesh} ${salt}`);
    this.bridge = `weft-${this.#hash}`;
    this.#octet = chooseSubnet(mesh, [...takenRanges(), ...taken]);
    this.gateway = `10.${this.#octet}.0.1`;
    this.cidr = `10.${this.#octet}.0.0/16`;
    try {
      run('ip', ['link', 'add', this.bridge, 'type', 'bridge']);
      run('ip', ['link', 'set', this.bridge, 'alias', `weft:${mesh}`]);
      run('ip', ['address', 'add', `${this.gateway}/16`, 'dev', this.bridge]);
      for (const path of strangersRoutes(this.bridge)) if (existsSync(path)) writeFileSync(path, '0');
      run('ip', ['link', 'set', this.bridge, 'up']);
      const prefix6 = uniqueLocalPrefix(mesh);
      // No duplicates are looked for: nobody else gives addresses here, and looking takes a second.
      const added = tryRun('ip', ['-6', 'address', 'add', `${prefix6}:1/64`, 'dev', this.bridge, 'nodad']);
      this.prefix6 = added === undefined ? undefined : prefix6;
    } catch (error) {
      tryRun('ip', ['link', 'delete', this.bridge]);
      throw error;
    }
  }

  /**
   * Makes a workload's namespace, with the capture rules where `rules` is given (an injected workload), before any
   * process runs in it. `dnsSearch` is written to its resolv.conf. `lowPorts`: anybody in it may listen below 1024.
   * `hosts`: names and addresses for who has no proxy to ask; other names are then asked of the machine's own servers.
   */
  add(
    instance: string,
    options: {
      rules?: CaptureRules | undefined;
      dnsSearch?: readonly string[];
      lowPorts?: boolean;
      hosts?: string | undefined;
    } = {},
  ): Workspace {
    const n = this.#allocate();
    const namespace = namespaceName(this.mesh, instance);
    const hostInterface = `wv${this.#hash}-${n.toString(16)}`;
    const address = `10.${this.#octet}.${n >> 8}.${n & 255}`;
    const address6 = this.prefix6 && `${this.prefix6}:${n.toString(16)}`;
    this.#used.set(instance, n);
    try {
      ownFolder(RUN_NETNS, '.made-run-netns');
      run('ip', ['netns', 'add', namespace]);
      run('ip', ['link', 'add', hostInterface, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace]);
      run('ip', ['link', 'set', hostInterface, 'master', this.bridge, 'up']);
      const zero = [...(options.lowPorts ? [LOWEST_PORT] : []), ...(address6 ? strangersRoutes('eth0') : [])];
      const settings = zero.map((path) => `echo 0 > ${path}`).join('; ');
      if (zero.length > 0) run('ip', ['netns', 'exec', namespace, 'sh', '-ec', settings]);
      // One process for all of the inside.
      const inside = ['link set lo up', `address add ${address}/16 dev eth0`];
      if (address6) inside.push(`address add ${address6}/64 dev eth0 nodad`);
      inside.push('link set eth0 up', `route add default via ${this.gateway}`);
      if (address6) inside.push(`route add default via ${this.prefix6}:1`);
      run('ip', ['-n', namespace, '-batch', '-'], `${inside.join('\n')}\n`);
      if (options.rules) run('ip', ['netns', 'exec', namespace, 'nft', '-f', '-'], captureRules(options.rules));
      ownFolder(ETC_NETNS, '.made-etc-netns');
      mkdirSync(`${ETC_NETNS}/${namespace}`, { recursive: true, mode: 0o755 });
      const search = options.dnsSearch?.length ? `search ${options.dnsSearch.join(' ')}\noptions ndots:5\n` : '';
      const servers = options.hosts === undefined ? ['127.0.0.1'] : nameServers().filter((s) => !s.startsWith('127.'));
      const resolv = `${servers.map((s) => `nameserver ${s}\n`).join('')}${search}`;
      writeFileSync(`${ETC_NETNS}/${namespace}/resolv.conf`, resolv, { mode: 0o644 });
      if (options.hosts !== undefined) this.setHosts(instance, options.hosts);
    } catch (error) {
      this.remove(instance);
      throw error;
    }
    return { namespace, address, address6, hostInterface };
  }

  /** Other names and addresses for a workload that was made with `hosts`; its processes see them at their next look-up. */
  setHosts(instance: string, hosts: string): void {
    // In its place: what is mounted in a process's view is this file, not its name.
    writeFileSync(`${ETC_NETNS}/${namespaceName(this.mesh, instance)}/hosts`, hosts, { mode: 0o644 });
  }

  /** Removes a workload's namespace; processes that still run in it are killed. Does nothing where there is none. */
  remove(instance: string): void {
    const n = this.#used.get(instance);
    if (n === undefined) return;
    this.#used.delete(instance);
    tryRun('ip', ['link', 'delete', `wv${this.#hash}-${n.toString(16)}`]);
    removeNamespace(namespaceName(this.mesh, instance));
  }

  /** Removes everything of this mesh. */
  close(): void {
    this.#used.clear();
    removeMesh(this.mesh);
  }

  /** Counts up and wraps, so that an address is not given again while peers may still remember it. */
  #allocate(): number {
    const taken = new Set(this.#used.values());
    for (let i = 0; i < 65_000; i++) {
      const n = this.#next++;
      if (this.#next > 65_000) this.#next = 2;
      if ((n & 255) !== 0 && (n & 255) !== 255 && !taken.has(n)) return n;
    }
    throw new WeftError('no-address', `mesh ${this.mesh} has no free address left in ${this.cidr}`);
  }
}

export function namespaceName(mesh: string, instance: string): string {
  return `weft-${mesh}.${instance}`;
}

function removeNamespace(namespace: string): void {
  for (const pid of (tryRun('ip', ['netns', 'pids', namespace]) ?? '').split('\n')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
  tryRun('ip', ['netns', 'delete', namespace]);
  rmSync(`${ETC_NETNS}/${namespace}`, { recursive: true, force: true });
}

/** Namespaces of a mesh that exist now, made by this process or by one that was killed. */
export function meshNamespaces(mesh: string): string[] {
  const names = new Set<string>();
  for (const folder of [RUN_NETNS, ETC_NETNS]) {
    if (!existsSync(folder)) continue;
    for (const f of readdirSync(folder)) if (f.startsWith(`weft-${mesh}.`)) names.add(f);
  }
  return [...names];
}

/** Removes every namespace, link and file of a mesh, whoever made them; returns what it removed. Idempotent. */
export function removeMesh(mesh: string): string[] {
  assertMeshName(mesh);
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return [];
  const removed: string[] = [];
  for (const namespace of meshNamespaces(mesh)) {
    removeNamespace(namespace);
    removed.push(`netns ${namespace}`);
  }
  for (const bridge of bridges()) {
    if (bridge.mesh !== mesh) continue;
    // Namespaces end some time after the last process in them; their links go now.
    const text = tryRun('ip', ['-j', 'link', 'show', 'master', bridge.name]);
    for (const l of text?.trim() ? (JSON.parse(text) as { ifname: string }[]) : [])
      tryRun('ip', ['link', 'delete', l.ifname]);
    tryRun('ip', ['link', 'delete', bridge.name]);
    removed.push(`link ${bridge.name}`);
  }
  disownFolders();
  return removed;
}

/** What to put before a command so that it runs in a namespace with that namespace's resolv.conf. */
export function inNamespaceArgv(namespace: string): string[] {
  return ['ip', 'netns', 'exec', namespace];
}

/** The same with the host's files (its resolv.conf): for proxies, whose own look-ups must not come back to them. */
export function inNetworkOnlyArgv(namespace: string): string[] {
  return ['nsenter', `--net=${RUN_NETNS}/${namespace}`, '--'];
}
