/** One copy of a workload: its address or namespace, its proxy, its application, in that order and back. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '@weft/base';
import { inNamespaceArgv, type RunAs, runAsArgv, type Workspace } from '@weft/capture';
import { environmentIn } from './application.ts';
import type { HostContext } from './host-context.ts';
import { LogFile } from './output.ts';
import { PassThrough } from './pass-through.ts';
import { checkPorts } from './ports.ts';
import { Prober, probeExec, probeHttp, probeTcp } from './probes.ts';
import { Child, type ChildExit } from './process.ts';
import { ProxyProcess } from './proxy-process.ts';
import type { InstanceState, InstanceStatus, ProbeSpec, ProcessSpec, ProxyProgram } from './specs.ts';

/** Requests that a peer sent before it heard of a drain have reached the application after this. */
const ON_THE_WAY_MS = 250;
/** What still runs then has this long to finish before the application is told to stop (Istio's terminationDrainDuration). */
const TERMINATION_DRAIN_MS = 5000;
const IDLE_ASK_MS = 50;

/** A gateway is ready while its proxy says so. */
const GATEWAY_PROBE: ProbeSpec = {
  action: { type: 'http', path: '/healthz/ready', port: 15021 },
  initialDelayMs: 0,
  periodMs: 1000,
  timeoutMs: 1000,
  successThreshold: 1,
  failureThreshold: 3,
};

export class Instance {
  readonly name: string;
  readonly spec: ProcessSpec;
  readonly #host: HostContext;
  readonly #secret = randomBytes(18).toString('base64url');
  #workspace: Workspace | undefined;
  address = '';
  address6: string | undefined;
  #proxy: ProxyProcess | undefined;
  #passThrough: PassThrough | undefined;
  #app: Child | undefined;
  #prober: Prober | undefined;
  #appLog: LogFile | undefined;
  #stopping = false;
  #stopped: Promise<void> | undefined;
  #exit: ChildExit | undefined;
  #registered: Promise<void> = Promise.resolve();
  #readyWaiters: (() => void)[] = [];
  state: InstanceState = 'starting';
  /** What its proxy runs; another one from its proxy's next start on. */
  program: ProxyProgram;
  /** Its share of what its workload gets, where 1 is an even one. */
  #weight: number;

  constructor(host: HostContext, name: string, spec: ProcessSpec, program: ProxyProgram, weight = 1) {
    this.#host = host;
    this.name = name;
    this.spec = spec;
    this.program = program;
    this.#weight = weight;
  }

  get weight(): number {
    return this.#weight;
  }

  set weight(weight: number) {
    if (weight === this.#weight) return;
    this.#weight = weight;
    if (!this.#stopping) this.#registered = this.register().catch(() => {});
  }

  status(): InstanceStatus {
    return {
      name: this.name,
      workload: this.spec.name,
      namespace: this.spec.namespace,
      state: this.state,
      address: this.address,
      address6: this.address6,
      netns: this.#workspace?.namespace,
      pid: this.#app?.pid,
      proxyPid: this.#proxy?.pid,
      restarts: this.#app?.restarts ?? 0,
      proxyRestarts: this.#proxy?.restarts ?? 0,
      proxyVersion: this.spec.injected ? this.program.version : undefined,
      injected: this.spec.injected,
      gateway: this.spec.gateway,
      injectedReason: this.spec.injectedReason,
      injectionChanged: undefined,
      exitCode: this.#exit?.code,
    };
  }

  /** Until the application runs (not: is ready). Throws where the proxy cannot start; `stop` cleans up then too. */
  async start(): Promise<void> {
    const h = this.#host;
    this.#appLog = new LogFile(join(h.paths.logs, `${this.name}.log`));
    if (h.network) {
      const search = [`${this.spec.namespace}.svc.cluster.local`, 'svc.cluster.local', 'cluster.local'];
      // Nothing but the proxy runs in a gateway's namespace: there is nothing to capture, and low ports are its own.
      const rules = this.spec.injected && !this.spec.gateway ? { scope: this.spec.captureScope } : undefined;
      const hosts = this.spec.injected ? undefined : h.hosts(this.spec.namespace);
      this.#workspace = h.network.add(this.name, { rules, dnsSearch: search, lowPorts: this.spec.gateway, hosts });
      this.address = this.#workspace.address;
      this.address6 = this.#workspace.address6;
    } else {
      this.address = h.nextLoopback();
      await checkPorts(this.spec, this.name, this.address);
    }
    if (this.spec.injected) h.entrance?.add(this.name, this.address);
    await this.register();
    if (this.#stopping) return;
    if (this.spec.injected) {
      this.#proxy = new ProxyProcess(h, {
        name: this.name,
        spec: this.spec,
        address: this.address,
        address6: this.address6,
        netns: this.#workspace?.namespace,
        secret: this.#secret,
        probe: this.#readiness(),
        application: this.#runAs(),
        program: () => this.program,
      });
      await this.#proxy.start();
    }
    if (this.spec.left && !h.network) {
      const { name, spec, address, program } = this;
      this.#passThrough = new PassThrough(h, { name, spec, address, secret: this.#secret, program });
      await this.#passThrough.start(h.plainServices());
    }
    if (this.#stopping) return;
    if (!this.spec.gateway) {
      this.#startApplication();
      return;
    }
    this.#setState('running');
    this.#watchReadiness();
  }

  /** Without a proxy it finds others by its hosts file, or by what passes on, which follow who is ready. */
  followHosts(): void {
    const { network, hosts, plainServices } = this.#host;
    this.#passThrough?.follow(plainServices());
    if (this.spec.injected || !this.#workspace || this.#stopped) return;
    network?.setHosts(this.name, hosts(this.spec.namespace));
  }

  /** Tells the control plane what this instance is now; also after the control plane was restarted. */
  async register(): Promise<void> {
    const s = this.spec;
    await this.#host.control('PUT', `/v1/instances/${encodeURIComponent(this.name)}`, {
      name: this.name,
      workload: s.name,
      namespace: s.namespace,
      serviceAccount: s.serviceAccount,
      labels: s.labels,
      address: this.address,
      address6: this.address6,
      ports: s.ports,
      injected: s.injected,
      gateway: s.gateway,
      ready: this.state === 'ready',
      draining: this.state === 'draining',
      dialAddress: this.address,
      weight: this.#weight,
    });
  }

  /** Says it again, unless it is on its way out: who took it out then would have it back. */
  async stillThere(): Promise<void> {
    if (!this.#stopping && this.address !== '') await this.register();
  }

  /** Resolves at the first readiness, at a job's end, at the stop or after `timeoutMs`; says whether it is ready (or done). */
  async whenReady(timeoutMs: number): Promise<boolean> {
    const settled = () => ['ready', 'completed', 'failed', 'stopped'].includes(this.state);
    if (!settled()) {
      await new Promise<void>((resolve) => {
        const timer = systemClock.after(timeoutMs, resolve);
        this.#readyWaiters.push(() => {
          timer.cancel();
          resolve();
        });
      });
    }
    // Whoever waits for it acts on it next (drains another): peers hear of this one first.
    await this.#registered;
    return this.state === 'ready' || this.state === 'completed';
  }

  /**
   * Deregister, let peers hear of it for `drainMs`, let running requests finish, stop the application, then the proxy,
   * then remove the place.
   * Never rejects; the second call waits for the first.
   */
  stop(options: { drainMs: number; deadlineMs: number }): Promise<void> {
    this.#stopped ??= this.#stop(options);
    return this.#stopped;
  }

  async #stop(options: { drainMs: number; deadlineMs: number }): Promise<void> {
    const h = this.#host;
    this.#stopping = true;
    this.#proxy?.ending();
    this.#prober?.stop();
    const served = this.state === 'ready';
    this.#setState('draining', options.drainMs > 0);
    if (options.drainMs > 0 && served) {
      await this.#leaveDiscovery(options.drainMs);
      await this.#finishRunning();
    }
    await this.#app?.stop(options.deadlineMs);
    await this.#proxy?.stop(Math.min(options.deadlineMs, 6000));
    await this.#passThrough?.stop(Math.min(options.deadlineMs, 6000));
    if (options.drainMs > 0)
      await h.control('DELETE', `/v1/instances/${encodeURIComponent(this.name)}`).catch(() => {});
    try {
      h.entrance?.remove(this.name);
      h.network?.remove(this.name);
      for (const dir of [h.paths.workload(this.name), h.paths.workloadApi(this.name)])
        rmSync(dir, { recursive: true, force: true });
    } catch (error) {
      h.say(this.name, `clean-up: ${(error as Error).message}`);
    }
    this.#setState('stopped', false);
    this.#appLog?.close();
  }

  /**
   * Until every proxy has acknowledged that this instance takes nothing new, at most `drainMs` (all of it where the
   * control plane is away: nobody can say who knows); then what was sent before that has time to arrive.
   */
  async #leaveDiscovery(drainMs: number): Promise<void> {
    const path = `/v1/drain/${encodeURIComponent(this.name)}?wait=${drainMs}`;
    const known = await this.#host.control('POST', path, {}).then(
      () => true,
      () => false,
    );
    await new Promise<void>((resolve) =>
      systemClock.after(known ? Math.min(drainMs, ON_THE_WAY_MS) : drainMs, resolve),
    );
  }

  /** An application may end at once when it is told to: nobody should be waiting for its answer then. */
  async #finishRunning(): Promise<void> {
    if (!this.#proxy) return;
    const end = performance.now() + TERMINATION_DRAIN_MS;
    while (performance.now() < end && !(await probeHttp(this.address, 15021, '/healthz/idle', 1000))) {
      await new Promise<void>((resolve) => systemClock.after(IDLE_ASK_MS, resolve));
    }
  }

  #setState(state: InstanceState, tell = true): void {
    if (this.state === state || (this.#stopping && state !== 'draining' && state !== 'stopped')) return;
    const before = this.state;
    this.state = state;
    if (tell && (state === 'ready' || before === 'ready' || state === 'draining')) {
      // A control plane that is away hears it when it comes back (the supervisor registers everything again).
      this.#registered = this.register().catch(() => {});
    }
    if (['ready', 'completed', 'failed', 'stopped'].includes(state)) for (const w of this.#readyWaiters.splice(0)) w();
    this.#host.onState();
  }

  #readiness(): ProbeSpec {
    if (this.spec.gateway) return GATEWAY_PROBE;
    if (this.spec.readiness) return this.spec.readiness;
    // Without a probe a workload with a port is ready when it listens; it is not asked again after that.
    const port = this.spec.ports[0]?.number ?? 0;
    return {
      action: { type: 'tcp', port },
      initialDelayMs: 0,
      periodMs: 3_600_000,
      timeoutMs: 1000,
      successThreshold: 1,
      failureThreshold: Number.POSITIVE_INFINITY,
    };
  }

  #environment(): Record<string, string> {
    return environmentIn(this.#host, {
      spec: this.spec,
      address: this.address,
      api: this.#proxy?.api,
      secret: this.#secret,
    });
  }

  /** A command with the place and the person of the application before it. */
  #inPlace(command: readonly string[]): string[] {
    const prefix = this.#workspace ? inNamespaceArgv(this.#workspace.namespace) : [];
    return [...prefix, ...runAsArgv(this.#runAs(), { setpriv: this.#host.setpriv }), ...command];
  }

  /** Who the application runs as; undefined: as this process does. */
  #runAs(): RunAs | undefined {
    const { runAsUser: uid } = this.spec;
    if (process.getuid?.() !== 0) return undefined;
    return uid === undefined ? this.#host.runAs : { uid, gid: uid };
  }

  #startApplication(): void {
    const app = new Child(
      {
        argv: this.#inPlace(this.spec.command),
        cwd: this.spec.cwd,
        env: this.#environment(),
        restartPolicy: this.spec.restartPolicy,
      },
      {
        onLine: (line) => {
          this.#appLog?.line(line);
          this.#host.say(this.name, line);
        },
        onStart: () => {
          this.#setState('running');
          this.#watchReadiness();
        },
        onExit: (exit, restartInMs) => {
          this.#prober?.stop();
          this.#exit = exit;
          if (this.#stopping) return;
          if (restartInMs === undefined) {
            this.#setState(exit.ok ? 'completed' : 'failed');
            this.#host.say(this.name, exit.ok ? 'completed' : `failed (${exit.text})`);
          } else {
            this.#setState('backoff');
            this.#host.say(this.name, `ended (${exit.text}), starts again in ${(restartInMs / 1000).toFixed(1)} s`);
          }
        },
      },
    );
    this.#app = app;
    app.start();
  }

  /** An application may listen at one of its addresses alone. */
  async #atEitherAddress(ask: (address: string) => Promise<boolean>): Promise<boolean> {
    return (await ask(this.address)) || (this.address6 !== undefined && (await ask(this.address6)));
  }

  #watchReadiness(): void {
    const probe = this.#readiness();
    const { action } = probe;
    this.#prober?.stop();
    if (action.type === 'tcp' && action.port === 0) {
      this.#setState('ready'); // A job without ports is ready when it runs.
      return;
    }
    const ask = (): Promise<boolean> => {
      if (action.type === 'exec')
        return probeExec(
          this.#inPlace(action.command),
          { cwd: this.spec.cwd, env: this.#environment() },
          probe.timeoutMs,
        );
      if (this.spec.injected && !this.spec.gateway)
        return probeHttp(
          this.address,
          15020,
          `/app-health/${encodeURIComponent(this.name)}/readyz`,
          probe.timeoutMs + 200,
        );
      return this.#atEitherAddress((address) =>
        action.type === 'http'
          ? probeHttp(address, action.port, action.path, probe.timeoutMs)
          : // Without a proxy, which would ask it, of a gRPC service only its connection is known.
            probeTcp(address, action.port, probe.timeoutMs),
      );
    };
    this.#prober = new Prober(probe, ask, (ready) => this.#setState(ready ? 'ready' : 'running'));
    this.#prober.start();
  }
}
