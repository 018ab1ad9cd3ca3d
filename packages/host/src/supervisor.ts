/** A mesh on this machine: control plane, proxies and applications as children, any of which may die alone. */
import { mkdirSync } from 'node:fs';
import type http from 'node:http';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { hostPort, systemClock, type Timer, WeftError } from '@weft/base';
import { LoopbackRange, MeshNetwork } from '@weft/capture';
import { createAuthority } from '@weft/identity';
import { applicationUser, onPath, ownEnvironment, ownProcessEnvironment } from './application.ts';
import { checkSpec, workloadKey } from './check-spec.ts';
import { localRequest } from './control-client.ts';
import { ControlPlane } from './control-plane.ts';
import { ENTRANCE_PORT, EntranceProcess, type Place } from './entrance.ts';
import { Faults, type FaultText } from './faults.ts';
import { hostRoutes } from './host-api.ts';
import type { HostContext } from './host-context.ts';
import { hostsFile } from './hosts-file.ts';
import { Instance } from './instance.ts';
import { assertLabel, fitToGroup, fitToService, JoinedFiles, type RunRequest } from './joined.ts';
import { serveLocal } from './local-api.ts';
import { Machines } from './machines.ts';
import { tail } from './output.ts';
import { plainServices } from './plain-services.ts';
import { type CanaryStatus, ProxyCanaries } from './proxy-canary.ts';
import type { RemoteMesh } from './remote-mesh.ts';
import type { CaptureMode, GroupSpec, InstanceStatus, ProcessSpec, ProxyProgram, ServiceSpec } from './specs.ts';
import { acquireLock, type MeshPaths, meshPaths, removeLeftovers } from './state.ts';
import { inParallel, pause } from './wait.ts';

const CONTROL_PORT = 15_012;
/** The name of a mesh's own machine among its machines (plan's MESH_NETWORK). */
const MESH_NETWORK = 'mesh';
/** How long peers have at most to hear that an instance leaves before its application is stopped. */
const DRAIN_MS = 1500;
const APP_DEADLINE_MS = 10_000;
const READY_MS = 60_000;
/** Within this time `weft run` holds what it made. */
const UNHELD_MS = 15_000;
const HOLD_LOOK_MS = 100;
/** As `injectedReason` of what left; the command line knows it by this. */
export const LEFT = 'it left the mesh: weft join brings it back';
/** More would only make each of them slower: a proxy's start is computing. */
const START_AT_ONCE = availableParallelism() + 2;

export interface MeshHostOptions {
  readonly mesh: string;
  readonly capture: CaptureMode;
  readonly processes: readonly ProcessSpec[];
  readonly services: readonly ServiceSpec[];
  readonly groups: readonly GroupSpec[];
  /** Configuration files and folders that the control plane watches; absolute. */
  readonly files: readonly string[];
  readonly controlCommand: readonly string[];
  /**
   * What proxies run: of this installation (asked once), or of another one, for a canary. `dir`: a folder of the mesh that only
   * its user can read, for code.
   */
  proxyProgram(dir: string, installation?: string): Promise<ProxyProgram>;
  readonly trustDomain?: string;
  /** The mesh that this machine joins as a host: its control plane is elsewhere, and none is started here. */
  readonly remote?: RemoteMesh;
  /** An address of this machine at which hosts may join: the control plane and the entrance listen there too. */
  readonly listen?: string | undefined;
  /** Extra fields of the control plane's configuration (certificate life and such). */
  readonly controlExtra?: Readonly<Record<string, unknown>>;
  /** Reads the files again, so that a restart acts on what they say now. Throws where they are refused. */
  reload?(): {
    readonly processes: readonly ProcessSpec[];
    readonly services: readonly ServiceSpec[];
    readonly groups: readonly GroupSpec[];
  };
  /** How `weft fault` writes into the mesh's files; a machine that joined has none of them. */
  readonly faultText?: FaultText;
  /** A line for the terminal: of a child, or of the supervisor itself (`weft`). */
  say(name: string, line: string): void;
  onChange?(): void;
}

export class MeshHost {
  readonly mesh: string;
  readonly paths: MeshPaths;
  readonly #options: MeshHostOptions;
  readonly #instances = new Map<string, Instance>();
  readonly #specs = new Map<string, ProcessSpec>();
  readonly #indexes = new Map<string, number>();
  /** Workloads that left the mesh, and what they were. */
  readonly #left = new Map<string, ProcessSpec>();
  /** Workloads of `weft run`. */
  readonly #runs = new Set<string>();
  readonly #busy = new Map<string, Promise<unknown>>();
  #context: HostContext | undefined;
  #network: MeshNetwork | undefined;
  #joined: JoinedFiles | undefined;
  #written: readonly ServiceSpec[];
  #canaries: ProxyCanaries | undefined;
  #faults: Faults | undefined;
  /** Instances of `weft run` that nobody holds yet. */
  readonly #unheld = new Map<string, Timer>();
  #control: ControlPlane | undefined;
  #entrance: EntranceProcess | undefined;
  #machines: Machines | undefined;
  #server: http.Server | undefined;
  #loopback: LoopbackRange | undefined;
  #locked = false;
  #stopping = false;
  #stopped: Promise<void> | undefined;
  readonly #onDown: (() => void)[] = [];

  constructor(options: MeshHostOptions) {
    this.#options = options;
    this.#written = options.services;
    this.mesh = options.mesh;
    this.paths = meshPaths(options.mesh);
  }

  /** Brings everything up, until every application runs. After a failure everything is removed again, then it throws. */
  async start(): Promise<void> {
    const o = this.#options;
    try {
      for (const spec of o.processes) checkSpec(spec);
      const { lock, removed } = acquireLock(o.mesh);
      this.#locked = true;
      if (removed.length > 0) o.say('weft', `removed what an earlier run left: ${removed.join(', ')}`);
      if (o.faultText) this.#faults = new Faults(this.paths.faults, o.faultText, (line) => o.say('weft', line));
      this.#faults?.removeAll('an earlier run left it');
      const { remote } = o;
      const trustDomain = remote?.trustDomain ?? o.trustDomain ?? 'cluster.local';
      if (o.capture === 'transparent') this.#network = new MeshNetwork(o.mesh, remote?.taken);
      else this.#loopback = await LoopbackRange.hold(o.mesh, remote?.taken);
      const controlHost = this.#network?.gateway ?? this.#loopback!.next();
      const rootPem = remote?.rootPem ?? (await createAuthority({ dir: this.paths.ca, trustDomain })).rootPem;
      const baseEnv = ownEnvironment(lock.run);
      mkdirSync(this.paths.programs, { recursive: true, mode: 0o700 });
      const own = {
        mesh: o.mesh,
        paths: this.paths,
        ownEnv: ownProcessEnvironment(baseEnv, this.paths.codeCache),
        setpriv: onPath('setpriv'),
        say: o.say,
      };
      const program = o.proxyProgram(this.paths.programs); // While the control plane starts.
      program.catch(() => {}); // Whoever waits for it says so.
      this.#entrance = this.#makeEntrance({ ...own, program }, controlHost);
      // A namespace of its own leads to this machine alone: what its proxies ask goes through the entrance.
      const control = remote && !this.#network ? remote.control : { host: controlHost, port: CONTROL_PORT };
      this.#context = {
        ...own,
        capture: o.capture,
        network: this.#network,
        trustDomain,
        rootPem,
        controlAddress: hostPort(control.host, control.port),
        services: o.services,
        baseEnv,
        runAs: applicationUser(),
        control: remote
          ? (method, path, body, timeoutMs) => remote.request(method, path, body, timeoutMs)
          : (method, path, body, timeoutMs) => localRequest(this.paths.controlSocket, method, path, body, timeoutMs),
        nextLoopback: () => this.#loopback!.next(),
        entrance: this.#entrance,
        hosts: (namespace) => hostsFile(namespace, this.#services(), [...this.#instances.values()]),
        plainServices: () => plainServices(this.#services(), [...this.#instances.values()]),
        onState: () => {
          this.#followHosts();
          o.onChange?.();
        },
        onProxyEnd: (name) => {
          const instance = this.#instances.get(name);
          const because = instance && this.#canaries?.ended(instance);
          if (!because) return;
          const key = workloadKey(instance.spec);
          void this.#exclusive(key, () => this.#canaries!.revert(key, because)).catch(() => {});
        },
      };
      this.#canaries = new ProxyCanaries(program, {
        build: (installation, n) => o.proxyProgram(join(this.paths.programs, `canary-${n}`), installation),
        instances: (key) => this.#of(key),
        replace: (old, program, weight) => this.#replace(old, old.spec, program, weight),
        say: o.say,
        now: () => systemClock.now(),
      });
      if (!remote) this.#joined = new JoinedFiles(this.paths.joined);
      this.#server = await serveLocal(
        this.paths.socket,
        hostRoutes(this, () => {
          for (const fn of this.#onDown) fn();
        }),
      );
      if (!remote) {
        this.#control = this.#controlPlane(controlHost, trustDomain);
        await this.#control.start();
      }
      await this.#meetMachines();
      const names: { name: string; spec: ProcessSpec }[] = [];
      for (const spec of o.processes) {
        this.#specs.set(workloadKey(spec), spec);
        for (let i = 0; i < spec.replicas; i++) names.push({ name: this.#nextName(spec), spec });
      }
      await inParallel(names, START_AT_ONCE, async ({ name, spec }) => {
        if (!this.#stopping) await this.#startInstance(name, spec);
      });
      if (this.#stopping) throw new WeftError('stopped', 'stopped while it started');
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Resolves when every instance is ready or its job is done; names those that were not in time. */
  async whenReady(timeoutMs = READY_MS): Promise<string[]> {
    const late: string[] = [];
    await Promise.all(
      [...this.#instances.values()].map(async (i) => {
        if (!(await i.whenReady(timeoutMs))) late.push(i.name);
      }),
    );
    return late.sort();
  }

  status(): InstanceStatus[] {
    return [...this.#instances.values()]
      .map((i) => i.status())
      .sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  }

  /** The status, and where a changed label waits for a restart to act. */
  #statusNow(): InstanceStatus[] {
    let fresh: readonly ProcessSpec[] = [];
    try {
      fresh = this.#options.reload?.().processes ?? [];
    } catch {
      // Files that are refused change nothing; the control plane has said so.
    }
    return this.status().map((s) => {
      const now = fresh.find((p) => p.name === s.workload && p.namespace === s.namespace);
      const left = this.#left.has(`${s.namespace}/${s.workload}`);
      return now && !left && now.injected !== s.injected ? { ...s, injectionChanged: now.injectedReason } : s;
    });
  }

  /** Who runs, of which files, and how. */
  overview() {
    return {
      mesh: this.mesh,
      capture: this.#options.capture,
      files: this.#options.files,
      pid: process.pid,
      controlPid: this.controlPid,
      instances: this.#statusNow(),
    };
  }

  /** The last lines of what is called `name`: a process, an instance, the control plane. */
  logs(name: string, lines: number, proxy: boolean): { name: string; lines: string[] }[] {
    const count = Number.isInteger(lines) && lines > 0 ? Math.min(lines, 10_000) : 100;
    if (name === 'control-plane') return [{ name, lines: tail(join(this.paths.logs, 'control-plane.log'), count) }];
    const found = [...this.#instances.values()].filter(
      (i) => i.name === name || i.spec.name === name || workloadKey(i.spec) === name,
    );
    if (found.length === 0)
      throw new WeftError(
        'unknown-process',
        `nothing named "${name}" runs in mesh ${this.mesh}; "weft ps" lists what does`,
      );
    return found.map((i) => ({
      name: i.name,
      lines: tail(join(this.paths.logs, `${i.name}${proxy ? '.proxy' : ''}.log`), count),
    }));
  }

  get controlPid(): number | undefined {
    return this.#control?.pid;
  }

  /** Calls the control plane's local API. */
  control<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
    return localRequest<T>(this.paths.controlSocket, method, path, body);
  }

  /** Asked to go down from outside (`weft down`). */
  onDown(fn: () => void): void {
    this.#onDown.push(fn);
  }

  /** New instances first until they are ready, or the youngest ones out, drained. */
  scale(name: string, replicas: number): Promise<InstanceStatus[]> {
    if (!Number.isInteger(replicas) || replicas < 0 || replicas > 1000) {
      throw new WeftError('replicas', `replicas must be a whole number from 0 to 1000, not ${replicas}`);
    }
    const key = this.#find(name);
    return this.#exclusive(key, async () => {
      const spec = this.#specs.get(key)!;
      const now = this.#of(key);
      if (replicas > now.length) {
        const fresh = Array.from({ length: replicas - now.length }, () => this.#nextName(spec));
        const made = await Promise.allSettled(fresh.map((n) => this.#startInstance(n, spec)));
        for (const [i, m] of made.entries()) {
          if (m.status === 'rejected') {
            await this.#stopInstance(fresh[i]!);
            throw m.reason;
          }
        }
        await Promise.all(fresh.map((n) => this.#instances.get(n)?.whenReady(READY_MS)));
      } else {
        await Promise.all(now.slice(replicas).map((i) => this.#stopInstance(i.name)));
      }
      await this.#canaries?.settle(key);
      return this.#of(key).map((i) => i.status());
    });
  }

  /** Faults in the mesh's files that end by themselves. */
  get faults(): Faults {
    if (!this.#options.faultText)
      throw new WeftError('fault', 'this machine joined a mesh: its files, and their faults, are where "weft up" runs');
    if (!this.#faults) throw new WeftError('starting', `mesh ${this.mesh} is still starting`);
    if (this.#stopping) throw new WeftError('stopped', 'the mesh is going down');
    return this.#faults;
  }

  /** Those of the files, as far as these were last taken, and of `weft run`. */
  #services(): ServiceSpec[] {
    try {
      this.#written = this.#options.reload?.().services ?? this.#written;
    } catch {
      // Files that are refused change nothing; the control plane has said so.
    }
    return [...this.#written, ...(this.#joined?.services() ?? [])];
  }

  #followHosts(): void {
    for (const i of this.#instances.values()) {
      try {
        i.followHosts();
      } catch (error) {
        this.#options.say(
          'weft',
          `${i.name}: where the services are could not be written: ${(error as Error).message}`,
        );
      }
    }
  }

  /**
   * Takes a process out of the mesh: instances without a proxy and without rules take the place of those with one, each
   * ready before the old one drains. Later instances have none either, until it joins. With explicit capture something
   * plain takes the place of the proxy, since applications find each other by it.
   */
  leave(name: string): Promise<InstanceStatus[]> {
    const key = this.#find(name);
    const spec = this.#specs.get(key)!;
    if (spec.gateway) throw new WeftError('gateway', `${key} is a gateway: it is nothing but a proxy`);
    if (!this.#left.has(key)) {
      if (!spec.injected) throw new WeftError('no-proxy', `${key} has no proxy (${spec.injectedReason})`);
      this.#left.set(key, spec);
    }
    return this.#replaceAll(key, (i) => i.spec.injected);
  }

  /** Brings a process back that left. */
  join(name: string): Promise<InstanceStatus[]> {
    const key = this.#find(name);
    const before = this.#left.get(key);
    if (!before) {
      const { injected, injectedReason } = this.#specs.get(key)!;
      throw new WeftError('not-left', `${key} did not leave${injected ? '' : `: it has no proxy (${injectedReason})`}`);
    }
    this.#left.delete(key);
    this.#specs.set(key, before);
    return this.#replaceAll(key, (i) => !i.spec.injected);
  }

  /** The spec of a workload by the files of now, and by who left. What no file says (weft run) keeps what it began with. */
  #freshen(key: string): ProcessSpec {
    const fresh = this.#options.reload?.().processes.find((s) => workloadKey(s) === key);
    if (fresh) checkSpec(fresh);
    let spec = fresh ?? this.#specs.get(key)!;
    if (this.#left.has(key)) {
      if (fresh) this.#left.set(key, fresh);
      spec = { ...spec, injected: false, injectedReason: LEFT, left: true };
    }
    this.#specs.set(key, spec);
    return spec;
  }

  /** One at a time: the new one is ready before the old one drains. */
  restart(name: string): Promise<InstanceStatus[]> {
    return this.#replaceAll(this.#find(name));
  }

  #replaceAll(key: string, which: (instance: Instance) => boolean = () => true): Promise<InstanceStatus[]> {
    return this.#exclusive(key, async () => {
      const spec = this.#freshen(key);
      for (const old of this.#of(key).filter(which)) await this.#replace(old, spec, old.program, old.weight);
      return this.#of(key).map((i) => i.status());
    });
  }

  async #replace(old: Instance, spec: ProcessSpec, program: ProxyProgram, weight: number): Promise<void> {
    const next = this.#nextName(spec);
    try {
      await this.#startInstance(next, spec, program, weight);
      if (!(await this.#instances.get(next)?.whenReady(READY_MS))) {
        throw new WeftError(
          'not-ready',
          `${next} did not become ready within ${READY_MS / 1000} s: ${old.name} was kept`,
        );
      }
    } catch (error) {
      await this.#stopInstance(next);
      throw error;
    }
    await this.#stopInstance(old.name);
  }

  /**
   * Another proxy program for `percent` of a workload: in instances, and by their weights in what they get. `installation`
   * may be left out where one is tried already, whose share changes then.
   */
  proxyCanary(
    name: string,
    installation: string | undefined,
    percent: number,
    maxEnds?: number,
  ): Promise<CanaryStatus> {
    const key = this.#find(name);
    if (!this.#specs.get(key)!.injected)
      throw new WeftError('no-proxy', `${key} has no proxy (${this.#specs.get(key)!.injectedReason})`);
    return this.#exclusive(key, () => this.#canaries!.begin(key, installation, percent, maxEnds));
  }

  /** All of its instances run what is tried, from now on. */
  proxyPromote(name: string): Promise<CanaryStatus> {
    const key = this.#find(name);
    return this.#exclusive(key, () => this.#canaries!.promote(key));
  }

  /** All of its instances run the mesh's own proxy again. */
  proxyRevert(name: string): Promise<CanaryStatus> {
    const key = this.#find(name);
    return this.#exclusive(key, () => this.#canaries!.revert(key));
  }

  /** Workloads whose proxies are, or were, not the mesh's own. */
  proxyCanaries(): CanaryStatus[] {
    return this.#canaries?.list() ?? [];
  }

  /**
   * One more process for a running mesh, with a Service of its own where the mesh has none of that name. It is a workload
   * of its own, which `remove` of its last instance ends.
   */
  async run(request: RunRequest, gone: AbortSignal): Promise<InstanceStatus> {
    if (this.#options.remote)
      throw new WeftError(
        'host',
        `this machine joined as a host: "weft scale" and "weft host" run what its group says`,
      );
    if (!this.#joined || !this.#context) throw new WeftError('starting', `mesh ${this.mesh} is still starting`);
    const { namespace } = request.process;
    const { service: wanted, group: by } = request;
    if (by === undefined) assertLabel('service', wanted);
    assertLabel('namespace', namespace);
    const { services, groups } = this.#options.reload?.() ?? this.#options;
    const service = services.find((s) => s.name === wanted && s.namespace === namespace);
    const fitting =
      by === undefined
        ? fitToService(request.process, service, wanted)
        : fitToGroup(request.process, this.#groupNamed(groups, namespace, by));
    const base = `${by ?? wanted}-run`;
    let name = base;
    for (let n = 2; this.#specs.has(workloadKey({ namespace, name })); n++) name = `${base}-${n}`;
    const spec = { ...fitting, name };
    checkSpec(spec);
    const key = workloadKey(spec);
    this.#specs.set(key, spec);
    this.#runs.add(key);
    const instance = this.#nextName(spec);
    try {
      if (!service && by === undefined) await this.#joined.join(spec, wanted, this.#context.control);
      await this.#startInstance(instance, spec);
    } catch (error) {
      await this.#stopInstance(instance);
      this.#leave(key);
      throw error;
    }
    // A client that dies before it holds what it made (see `hold`) leaves nothing either.
    if (gone.aborted) void this.#abandon(instance);
    else
      this.#unheld.set(
        instance,
        systemClock.after(UNHELD_MS, () => void this.#abandon(instance)),
      );
    return this.#instances.get(instance)!.status();
  }

  #groupNamed(groups: readonly GroupSpec[], namespace: string, name: string): GroupSpec {
    const group = groups.find((g) => g.name === name && g.namespace === namespace);
    if (group) return group;
    const have = groups.map((g) => `${g.namespace}/${g.name}`).join(', ');
    throw new WeftError('group', `there is no WorkloadGroup ${namespace}/${name}; there are: ${have || 'none'}`);
  }

  #leave(key: string): void {
    const spec = this.#specs.get(key);
    if (!spec || !this.#runs.delete(key)) return;
    this.#specs.delete(key);
    this.#left.delete(key);
    this.#canaries?.forget(key);
    if (!this.#stopping) this.#joined?.remove(spec.namespace, spec.name);
  }

  /**
   * Held open by `weft run` while it lives: when its connection breaks, the instance it made is ended. Answers when the
   * instance is over.
   */
  async hold(name: string, gone: AbortSignal): Promise<InstanceStatus | undefined> {
    this.#unheld.get(name)?.cancel();
    this.#unheld.delete(name);
    for (;;) {
      const instance = this.#instances.get(name);
      const status = instance?.status();
      if (!instance || this.#stopping || status?.state === 'completed' || status?.state === 'failed') return status;
      if (gone.aborted) {
        await this.#abandon(name);
        return undefined;
      }
      await pause(HOLD_LOOK_MS);
    }
  }

  /** The one who ran it is gone, and said nothing. */
  async #abandon(name: string): Promise<void> {
    this.#unheld.get(name)?.cancel();
    this.#unheld.delete(name);
    if (this.#stopping || !this.#instances.has(name)) return;
    this.#options.say('weft', `${name}: the command that ran it is gone, so it is ended`);
    await this.#stopInstance(name);
  }

  /** Ends one instance (of `weft run`), drained. */
  async remove(name: string): Promise<void> {
    if (!this.#instances.has(name))
      throw new WeftError('unknown-instance', `no instance "${name}" runs in mesh ${this.mesh}`);
    await this.#stopInstance(name);
  }

  /** Applications, then proxies, then the control plane, then everything that was made. Never rejects, idempotent. */
  stop(): Promise<void> {
    this.#stopping = true;
    this.#control?.ending();
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    for (const timer of this.#unheld.values()) timer.cancel();
    this.#machines?.stop();
    // Who joined another mesh leaves it as one of its workloads does; a mesh that ends has nobody left to tell.
    const drainMs = this.#options.remote ? DRAIN_MS : 0;
    await Promise.all([...this.#instances.values()].map((i) => i.stop({ drainMs, deadlineMs: 5000 })));
    await this.#entrance?.stop();
    await this.#control?.stop();
    this.#options.remote?.stop();
    if (this.#server) {
      const server = this.#server;
      server.closeAllConnections();
      await new Promise<void>((done) => server.close(() => done()));
    }
    this.#faults?.removeAll('the mesh ends');
    if (!this.#locked) return;
    try {
      this.#network?.close();
      this.#loopback?.release();
      removeLeftovers(this.mesh);
    } catch (error) {
      this.#options.say('weft', `clean-up: ${(error as Error).message}; "weft down --mesh ${this.mesh}" tries again`);
    }
  }

  /** Of this machine to others, where the mesh spans several. */
  #makeEntrance(own: ConstructorParameters<typeof EntranceProcess>[0], inside: string): EntranceProcess | undefined {
    const { listen, remote } = this.#options;
    const address = remote?.address ?? listen;
    if (address === undefined) return undefined;
    const outside = { host: address, port: ENTRANCE_PORT };
    const forwards =
      remote && this.#network ? [{ bind: { host: inside, port: CONTROL_PORT }, to: remote.control }] : [];
    return new EntranceProcess(own, { network: remote?.network ?? MESH_NETWORK, outside, inside, forwards });
  }

  async #meetMachines(): Promise<void> {
    const { remote, listen, capture, say } = this.#options;
    const entrance = this.#entrance;
    if (!entrance || !this.#context || this.#stopping) return;
    await entrance.start();
    const { control } = this.#context;
    const outside = { host: remote?.address ?? listen, port: ENTRANCE_PORT };
    if (remote) await control('PUT', '/v1/host', { entrance: outside, capture });
    const path = remote ? '/v1/host' : '/v1/networks';
    this.#machines = new Machines({
      entrance,
      networks: async (timeoutMs) =>
        (await control<{ networks: Record<string, Place> }>('GET', path, undefined, timeoutMs)).networks,
      register: remote && (() => Promise.all([...this.#instances.values()].map((i) => i.stillThere()))),
      say: (line) => say('weft', line),
    });
    await this.#machines.start();
  }

  #controlPlane(host: string, trustDomain: string): ControlPlane {
    const { listen } = this.#options;
    return new ControlPlane({
      command: this.#options.controlCommand,
      paths: this.paths,
      env: this.#context!.ownEnv,
      config: {
        mesh: this.mesh,
        stateDir: this.paths.control,
        files: [...this.#options.files, this.paths.joined],
        trustDomain,
        listen: {
          xds: { host, port: CONTROL_PORT },
          metrics: { host, port: 15014 },
          hosts: listen && { host: listen, port: CONTROL_PORT },
        },
        entrance: listen && { host: listen, port: ENTRANCE_PORT },
        socket: this.paths.controlSocket,
        capture: this.#options.capture,
        ...this.#options.controlExtra,
      },
      say: this.#options.say,
      onReturn: () => Promise.all([...this.#instances.values()].map((i) => i.register())),
    });
  }

  async #startInstance(name: string, spec: ProcessSpec, tried?: ProxyProgram, weight = 1): Promise<void> {
    const program = tried ?? (await this.#canaries!.programOf(workloadKey(spec)));
    if (this.#stopping) throw new WeftError('stopped', 'the mesh is going down');
    const instance = new Instance(this.#context!, name, spec, program, weight);
    this.#instances.set(name, instance);
    await instance.start();
  }

  async #stopInstance(name: string): Promise<void> {
    const instance = this.#instances.get(name);
    if (!instance) return;
    await instance.stop({ drainMs: DRAIN_MS, deadlineMs: APP_DEADLINE_MS });
    this.#instances.delete(name);
    const key = workloadKey(instance.spec);
    if (this.#of(key).length === 0) this.#leave(key);
  }

  #of(key: string): Instance[] {
    return [...this.#instances.values()].filter((i) => workloadKey(i.spec) === key);
  }

  /** `payment` or `shop/payment`; throws naming what there is. */
  #find(name: string): string {
    const keys = [...this.#specs.keys()].filter((k) => k === name || k.endsWith(`/${name}`));
    if (keys.length === 1) return keys[0]!;
    const all = [...this.#specs.keys()].sort().join(', ');
    throw new WeftError(
      'unknown-process',
      keys.length === 0
        ? `no process "${name}" in mesh ${this.mesh}; there are: ${all}`
        : `"${name}" is in several namespaces: say one of ${keys.join(', ')}`,
    );
  }

  /** `payment-v1-0`, counting up; with the namespace where another one has that name. */
  #nextName(spec: ProcessSpec): string {
    const key = workloadKey(spec);
    const shared = [...this.#specs.values()].some((s) => s.name === spec.name && s.namespace !== spec.namespace);
    const stem = shared ? `${spec.name}.${spec.namespace}` : spec.name;
    const n = this.#indexes.get(key) ?? 0;
    this.#indexes.set(key, n + 1);
    return `${stem}-${n}`;
  }

  /** Changes of one workload run one after the other. */
  #exclusive<T>(key: string, fn: () => Promise<T>): Promise<T> {
    const next = (this.#busy.get(key) ?? Promise.resolve()).then(fn, fn);
    this.#busy.set(
      key,
      next.catch(() => {}),
    );
    return next;
  }
}
