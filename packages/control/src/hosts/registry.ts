/**
 * Hosts: machines that run workloads of the mesh without a `weft up` of their own. A join token lets one host bring
 * instances of one WorkloadGroup, and nothing else: name, namespace, identity and labels of what it registers are given
 * here, by its token and the group, never by the host.
 */
import { isIP } from 'node:net';
import { type Clock, inBlock, type Logger, parseIp, parseIpBlock, type Timer, WeftError } from '@weft/base';
import { type GroupSpec, groupSpecs, type Instance, serviceSpecs } from '@weft/model';
import { MESH_NETWORK } from '@weft/plan';
import { parseInstance } from '../api/instance.ts';
import type { MeshTrust } from '../ca/trust.ts';
import type { Listen } from '../config.ts';
import type { Mesh } from '../mesh.ts';
import type { Peer } from '../peer.ts';
import type { State, StoredHost } from '../state.ts';

export const DEFAULT_HOST_LEASE_MS = 20_000;
export const DEFAULT_MAX_HOST_INSTANCES = 100;
const LOOK_MS = 1000;
/** Reserved: the control plane's own, and hosts'. */
const SYSTEM_NAMESPACE = 'weft-system';
const NAME = /^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$/;
/** Where the addresses of workloads may be: a host cannot pretend to be just anybody's. */
const RANGES = { transparent: ['10.0.0.0/8', 'fd00::/8'], explicit: ['127.0.0.0/8'] } as const;
const SUBJECT = 'host:';

export interface HostsOptions {
  mesh: Mesh;
  state: State;
  trust: Pick<MeshTrust, 'current'>;
  clock: Clock;
  logger: Logger;
  capture: 'transparent' | 'explicit';
  /** Where hosts reach the workloads of the mesh's own machine; undefined: none can join. */
  entrance: Listen | undefined;
  /** Instances of a host that was not heard of for so long are taken out. */
  leaseMs?: number | undefined;
  /** Of one host. */
  maxInstances?: number | undefined;
}

export interface HostCounters {
  /** Hosts whose instances were taken out since nothing was heard of them. */
  lost: number;
  /** Calls of hosts that they have no right to. */
  refused: number;
}

/** A host, as the local API shows it. */
export interface HostStatus {
  name: string;
  namespace: string;
  group: string;
  entrance: Listen | undefined;
  /** Milliseconds; -1: not since this control plane started. */
  seenAgoMs: number;
  instances: string[];
}

/** What is known of a host by its calls. */
interface Seen {
  atMs: number;
  /** Of its certificate. */
  signers: readonly string[];
  /** The roots that it was told last. */
  rootPem: string;
}

/** A host that was heard of within this time is connected: it calls every 2 s. */
const CONNECTED_MS = 6000;

function refuse(message: string): WeftError {
  return new WeftError('control/host', message);
}

export class Hosts {
  readonly counters: HostCounters = { lost: 0, refused: 0 };
  readonly #options: HostsOptions;
  readonly #seen = new Map<string, Seen>();
  #timer: Timer | undefined;

  constructor(options: HostsOptions) {
    this.#options = options;
    this.#look();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** A host for which a token is to be made. Another token for a host that there is ends what it had before. */
  add(name: string, namespace: string, group: string): { subject: string; identity: string } {
    if (!this.#options.entrance)
      throw refuse(
        'this mesh listens for no hosts: start it by "weft up --listen ADDRESS", an address that they reach',
      );
    if (!NAME.test(name) || name === MESH_NETWORK)
      throw refuse(
        `"${name}" cannot be a host's name: at most 30 lower-case letters, digits and "-", beginning with a letter, and not "${MESH_NETWORK}"`,
      );
    this.#group(namespace, group);
    const before = this.#options.state.hosts.get(name);
    if (before && (before.namespace !== namespace || before.group !== group))
      for (const i of this.instancesOf(name)) this.#options.mesh.deleteInstance(i.name);
    this.#options.state.setHost(name, { namespace, group, serials: [] });
    return { subject: SUBJECT + name, identity: this.#identity(name) };
  }

  /** The identity for which a token of this subject (`add`) is good; undefined where it is no host's. */
  identityOf(subject: string): string | undefined {
    if (!subject.startsWith(SUBJECT)) return undefined;
    const name = subject.slice(SUBJECT.length);
    return this.#options.state.hosts.has(name) ? this.#identity(name) : undefined;
  }

  /** The host that this certificate is of, as the one that its token or a renewal gave; undefined: none. */
  of(peer: Pick<Peer, 'spiffeId' | 'serial'>): string | undefined {
    const start = this.#identity('');
    if (!peer.spiffeId.startsWith(start)) return undefined;
    const name = peer.spiffeId.slice(start.length);
    return this.#options.state.hosts.get(name)?.serials.includes(peer.serial) ? name : undefined;
  }

  /** Whether only a host may have this identity. */
  isHosts(spiffeId: string): boolean {
    return spiffeId.startsWith(this.#identity(''));
  }

  /** A certificate was given: for a token, which ends those before, or as the successor of `before`. */
  certified(spiffeId: string, serial: string, before: string | undefined): void {
    const name = spiffeId.slice(this.#identity('').length);
    const host = this.#options.state.hosts.get(name);
    if (!host) return;
    this.#options.state.setHost(name, { ...host, serials: before === undefined ? [serial] : [before, serial] });
  }

  /** What a host must know to run its workload; also a sign of life. */
  facts(name: string) {
    const { mesh, capture } = this.#options;
    const host = this.#host(name);
    const group = this.#group(host.namespace, host.group);
    const { rootPem, issuer } = this.#options.trust.current;
    const seen = this.#seen.get(name);
    if (seen) seen.rootPem = rootPem;
    const taken = new Set(mesh.instances().flatMap((i) => (i.network === name ? [] : [rangeOf(i.address)])));
    return {
      mesh: mesh.runtime().mesh,
      trustDomain: mesh.trustDomain,
      ...{ rootPem, issuer },
      host: name,
      capture,
      group,
      services: mesh.model ? serviceSpecs(mesh.model) : [],
      /** Blocks of addresses that workloads of other machines have. */
      taken: [...taken].filter((r) => r !== ''),
      networks: this.networks(),
    };
  }

  /** The host says where its own entrance is, and how it captures. */
  announce(name: string, body: Record<string, unknown>): void {
    const { capture: ofMesh } = this.#options;
    const { entrance, capture } = body;
    const { host, port } = (entrance ?? {}) as Record<string, unknown>;
    if (
      typeof host !== 'string' ||
      isIP(host) === 0 ||
      !Number.isInteger(port) ||
      !((port as number) > 0 && (port as number) < 65_536)
    )
      throw refuse('entrance must be an IP address and a port');
    if (capture !== 'transparent' && capture !== 'explicit') throw refuse('capture must be transparent or explicit');
    if (capture === 'transparent' && ofMesh === 'explicit')
      throw refuse(
        'the mesh captures explicitly, so its addresses mean nothing elsewhere: run the host with --capture explicit',
      );
    const before = this.#host(name);
    const next: StoredHost = { ...before, capture, entrance: { host, port: port as number } };
    if (JSON.stringify(before) !== JSON.stringify(next)) this.#options.state.setHost(name, next);
  }

  /** What a host says of one of its instances, made what its token and group allow. */
  put(name: string, instance: string, body: Record<string, unknown>): void {
    const { mesh } = this.#options;
    const host = this.#host(name);
    const { capture } = host;
    if (!host.entrance || !capture) throw refuse('a host says first where its entrance is');
    const group = this.#group(host.namespace, host.group);
    const before = mesh.instance(instance);
    if (before && before.network !== name)
      throw refuse(`${instance} is another machine's: give this host another name`);
    if (!before && !instance.startsWith(`${name}-`))
      throw refuse(`instances of host ${name} are called ${name}-NUMBER`);
    const most = this.#options.maxInstances ?? DEFAULT_MAX_HOST_INSTANCES;
    if (!before && this.instancesOf(name).length >= most)
      throw refuse(`host ${name} has ${most} instances, as many as it may`);
    const { address, address6, ready, draining } = body;
    const made = parseInstance(
      {
        ...{ name: instance, workload: name, namespace: host.namespace, serviceAccount: group.serviceAccount },
        ...{ labels: group.labels, address, address6, dialAddress: address, ready, draining },
        ports: group.ports.length > 0 ? group.ports : body.ports,
        ...{ injected: true, gateway: false },
      },
      instance,
    );
    for (const a of [made.address, made.address6]) if (a !== undefined) this.#assertFree(a, capture, instance, name);
    mesh.putInstance({ ...made, network: name, capture });
  }

  /** The instance where it is this host's; throws where it is not, or not there. */
  own(name: string, instance: string): Instance {
    const found = this.#options.mesh.instance(instance);
    if (found?.network === name) return found;
    this.counters.refused++;
    throw refuse(`host ${name} has no instance ${JSON.stringify(instance)}`);
  }

  instancesOf(name: string): Instance[] {
    return this.#options.mesh.instances().filter((i) => i.network === name);
  }

  /** The host lives. */
  seen(name: string, signers: readonly string[]): void {
    const rootPem = this.#seen.get(name)?.rootPem ?? '';
    this.#seen.set(name, { atMs: this.#options.clock.now(), signers, rootPem });
  }

  /** Whom the hosts that have instances or are here believe, and by what CA they live (`CaWorkload`). */
  trustStatus(
    rootPem: string,
  ): { instance: string; connected: boolean; holdsTrust: boolean; signers: readonly string[] }[] {
    const now = this.#options.clock.now();
    return [...this.#options.state.hosts.keys()].flatMap((name) => {
      const seen = this.#seen.get(name);
      const connected = seen !== undefined && seen.signers.length > 0 && now - seen.atMs < CONNECTED_MS;
      if (!connected && this.instancesOf(name).length === 0) return [];
      return [
        { instance: `host ${name}`, connected, holdsTrust: seen?.rootPem === rootPem, signers: seen?.signers ?? [] },
      ];
    });
  }

  /** Entrances by network, the mesh's own among them. */
  networks(): Record<string, Listen> {
    const { entrance, state } = this.#options;
    const out: [string, Listen][] = entrance ? [[MESH_NETWORK, entrance]] : [];
    for (const [name, host] of state.hosts) if (host.entrance) out.push([name, host.entrance]);
    return Object.fromEntries(out);
  }

  status(): HostStatus[] {
    const now = this.#options.clock.now();
    return [...this.#options.state.hosts].map(([name, { namespace, group, entrance }]) => {
      const seen = this.#seen.get(name);
      const instances = this.instancesOf(name).map((i) => i.name);
      return {
        name,
        namespace,
        group,
        entrance,
        seenAgoMs: seen === undefined || seen.signers.length === 0 ? -1 : Math.round(now - seen.atMs),
        instances,
      };
    });
  }

  #identity(name: string): string {
    return `spiffe://${this.#options.mesh.trustDomain}/ns/${SYSTEM_NAMESPACE}/sa/host.${name}`;
  }

  #host(name: string): StoredHost {
    const host = this.#options.state.hosts.get(name);
    if (!host) throw refuse(`there is no host ${name}`);
    return host;
  }

  #group(namespace: string, name: string): GroupSpec {
    const { model } = this.#options.mesh;
    const groups = model ? groupSpecs(model) : [];
    const group = groups.find((g) => g.namespace === namespace && g.name === name);
    if (!group) {
      const have = groups.map((g) => `${g.namespace}/${g.name}`).join(', ');
      throw refuse(`there is no WorkloadGroup ${namespace}/${name}; there are: ${have || 'none'}`);
    }
    if (namespace === SYSTEM_NAMESPACE) throw refuse(`identities of namespace ${SYSTEM_NAMESPACE} are for no workload`);
    return group;
  }

  #assertFree(address: string, capture: 'transparent' | 'explicit', instance: string, network: string): void {
    const { mesh } = this.#options;
    const ip = parseIp(address)!;
    if (!RANGES[capture].some((block) => inBlock(ip, parseIpBlock(block)!)))
      throw refuse(`${address} is no address of a workload: those are in ${RANGES[capture].join(' or ')}`);
    const taken = mesh
      .instances()
      .find(
        (i) =>
          i.name !== instance &&
          (i.address === address ||
            i.address6 === address ||
            (i.network !== network && rangeOf(i.address) === rangeOf(address))),
      );
    if (taken || [...mesh.vips.values()].some((vips) => vips.includes(address)))
      throw refuse(
        `${address} is in a range of ${taken?.name ?? 'the mesh'}: restart the host, it takes another one then`,
      );
  }

  /** Nobody is sent any more to a host that was not heard of for the lease, or whose group the files have no more. */
  #look(): void {
    const { clock, mesh, logger, state, leaseMs = DEFAULT_HOST_LEASE_MS } = this.#options;
    const now = clock.now();
    const groups = new Set((mesh.model ? groupSpecs(mesh.model) : []).map((g) => `${g.namespace}/${g.name}`));
    for (const [name, { namespace, group }] of state.hosts) {
      const seen = this.#seen.get(name);
      if (seen === undefined) this.#seen.set(name, { atMs: now, signers: [], rootPem: '' });
      const away = seen !== undefined && now - seen.atMs > leaseMs;
      const without = mesh.model !== undefined && !groups.has(`${namespace}/${group}`);
      if (!away && !without) continue;
      const instances = this.instancesOf(name);
      if (instances.length === 0) continue;
      if (away) this.counters.lost++;
      const why = away
        ? `nothing was heard of it for ${leaseMs} ms`
        : `there is no WorkloadGroup ${namespace}/${group} now`;
      logger.warn({ host: name }, `instances of a host are taken out: ${why}`);
      for (const i of instances) mesh.deleteInstance(i.name);
    }
    this.#timer = clock.after(LOOK_MS, () => this.#look());
  }
}

/** `10.7.0.3` → `10.7.0.0/16`: what one machine gives its workloads; empty for other kinds. */
function rangeOf(address: string): string {
  const [a, b] = address.split('.');
  return isIP(address) === 4 && (a === '10' || a === '127') ? `${a}.${b}.0.0/16` : '';
}
