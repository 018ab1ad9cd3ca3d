/** One copy of a workload: its address or namespace, its proxy, its application, in that order and back. */

import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock, type Timer, WeftError } from '@weft/base';
import {
  inNamespaceArgv,
  inNetworkOnlyArgv,
  type MeshNetwork,
  type RunAs,
  runAsArgv,
  type Workspace,
} from '@weft/capture';
import { LogFile } from './output.ts';
import { checkPorts } from './ports.ts';
import { Prober, probeExec, probeHttp, probeTcp } from './probes.ts';
import { Child, type ChildExit } from './process.ts';
import {
  certified,
  makeProxyFolders,
  makeWorkloadApi,
  proxyPrefix,
  StoredCertificate,
  writeBootstrap,
  writeToken,
} from './proxy-files.ts';
import type { CaptureMode, InstanceState, InstanceStatus, ProbeSpec, ProcessSpec, ServiceSpec } from './specs.ts';
import type { MeshPaths } from './state.ts';

const PROXY_READY_MS = 30_000;
const PROXY_RESTART_FIRST_MS = 100;
const PROXY_RESTART_MAX_MS = 4000;
/** Requests that a peer sent before it heard of a drain have reached the application after this. */
const ON_THE_WAY_MS = 250;
/** What still runs then has this long to finish before the application is told to stop (Istio's terminationDrainDuration). */
const TERMINATION_DRAIN_MS = 5000;
const IDLE_ASK_MS = 50;
/** How often a proxy's certificate is looked at, and how long one whose certificate ended has to use a token. */
const CERTIFICATE_LOOK_MS = 1000;
const TOKEN_USE_MS = 5000;
/** How often it is seen to that a proxy's root is still one of the mesh's. */
const ROOTS_LOOK_MS = 10_000;
const PROXY_STOP_MS = 3000;
/** How long the restart of a proxy that has a certificate waits for a token, which it needs only to get another one. */
const TOKEN_WAIT_MS = 300;

/** What an instance needs of its mesh. */
export interface HostContext {
  readonly mesh: string;
  readonly capture: CaptureMode;
  readonly paths: MeshPaths;
  readonly network: MeshNetwork | undefined;
  readonly trustDomain: string;
  readonly rootPem: string;
  readonly controlAddress: string;
  readonly services: readonly ServiceSpec[];
  /** The command of a proxy, without its mode. */
  readonly proxyCommand: readonly string[];
  readonly baseEnv: Readonly<Record<string, string>>;
  /** The same for our own processes. */
  readonly ownEnv: Readonly<Record<string, string>>;
  /** Who applications run as where their spec does not say. */
  readonly runAs: RunAs | undefined;
  readonly setpriv: boolean;
  control<T = unknown>(method: string, path: string, body?: unknown, timeoutMs?: number): Promise<T>;
  nextLoopback(): string;
  /** What stands in /etc/hosts of a workload of this namespace that has no proxy to ask for names. */
  hosts(namespace: string): string;
  /** A line of a child, for the terminal. */
  say(name: string, line: string): void;
  onState(instance: Instance): void;
}

/** The start of the variables that name a service to applications: `<NAME>_SERVICE_HOST` and `_PORT`. */
export function serviceVariable(service: ServiceSpec): string {
  return service.name.toUpperCase().replaceAll('-', '_');
}

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
  /** Path of the Workload API's socket. */
  #api: string | undefined;
  address = '';
  address6: string | undefined;
  #proxy: Child | undefined;
  #app: Child | undefined;
  #prober: Prober | undefined;
  #proxyLog: LogFile | undefined;
  #appLog: LogFile | undefined;
  #proxyRestart: Timer | undefined;
  #certificateLook: Timer | undefined;
  #proxyFailures = 0;
  #proxyRestarts = 0;
  /** It was ready once. */
  #proxyServed = false;
  #lastProxyErrors: string[] = [];
  #stopping = false;
  #stopped: Promise<void> | undefined;
  #exit: ChildExit | undefined;
  #registered: Promise<void> = Promise.resolve();
  #readyWaiters: (() => void)[] = [];
  state: InstanceState = 'starting';

  constructor(host: HostContext, name: string, spec: ProcessSpec) {
    this.#host = host;
    this.name = name;
    this.spec = spec;
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
      proxyRestarts: this.#proxyRestarts,
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
    this.#proxyLog = new LogFile(join(h.paths.logs, `${this.name}.proxy.log`));
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
    await this.register();
    if (this.spec.injected) {
      await this.#startProxy();
      await this.#waitProxy();
    }
    if (this.#stopping) return;
    if (this.spec.injected) this.#watchCertificate();
    if (!this.spec.gateway) {
      this.#startApplication();
      return;
    }
    this.#setState('running');
    this.#watchReadiness();
  }

  /** Without a proxy it finds others by its hosts file, which follows who is ready. */
  followHosts(): void {
    const { network, hosts } = this.#host;
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
    });
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
    this.#proxyRestart?.cancel();
    this.#certificateLook?.cancel();
    this.#prober?.stop();
    const served = this.state === 'ready';
    this.#setState('draining', options.drainMs > 0);
    if (options.drainMs > 0 && served) {
      await this.#leaveDiscovery(options.drainMs);
      await this.#finishRunning();
    }
    await this.#app?.stop(options.deadlineMs);
    await this.#proxy?.stop(Math.min(options.deadlineMs, 6000));
    if (options.drainMs > 0)
      await h.control('DELETE', `/v1/instances/${encodeURIComponent(this.name)}`).catch(() => {});
    try {
      h.network?.remove(this.name);
      for (const dir of [h.paths.workload(this.name), h.paths.workloadApi(this.name)])
        rmSync(dir, { recursive: true, force: true });
    } catch (error) {
      h.say(this.name, `clean-up: ${(error as Error).message}`);
    }
    this.#setState('stopped', false);
    this.#appLog?.close();
    this.#proxyLog?.close();
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
    this.#host.onState(this);
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

  async #startProxy(): Promise<void> {
    const h = this.#host;
    const files = makeProxyFolders(h, this.name);
    // A proxy that has its certificate is not held up by a control plane that does not answer.
    const waitMs = this.#proxyRestarts > 0 && certified(files.identity) ? TOKEN_WAIT_MS : undefined;
    const given = await this.#askToken(waitMs).catch((error: Error) => {
      // A proxy that was here before has its certificate and goes on without the control plane.
      if (this.#proxyRestarts === 0) throw error;
      return undefined;
    });
    const { name, address, address6, spec } = this;
    const probe = this.#readiness();
    // The roots of now: those of the supervisor's start may have been replaced.
    const { token, rootPem = h.rootPem } = given ?? {};
    const secret = this.#secret;
    const application = this.#runAs();
    const api = (this.#api = makeWorkloadApi(h, name, spec, application));
    const facts = { name, address, address6, spec, token, rootPem, probe, secret, api, application };
    const path = writeBootstrap(h, files, facts);
    if (this.#stopping) return;
    const prefix = this.#workspace ? inNetworkOnlyArgv(this.#workspace.namespace) : [];
    prefix.push(...proxyPrefix(h, files, spec, api));
    this.#lastProxyErrors = [];
    const child = new Child(
      {
        argv: [...prefix, ...h.proxyCommand, '--mode', this.spec.gateway ? 'gateway' : 'sidecar'],
        cwd: '/',
        env: { ...h.ownEnv, WEFT_BOOTSTRAP: path, WEFT_PARENT_PID: String(process.pid) },
        restartPolicy: 'Never',
      },
      {
        onLine: (line, stream) => {
          this.#proxyLog?.line(line);
          if (stream === 'stderr') {
            this.#lastProxyErrors.push(line);
            if (this.#lastProxyErrors.length > 5) this.#lastProxyErrors.shift();
          }
        },
        onExit: (exit) => this.#proxyEnded(exit),
      },
    );
    this.#proxy = child;
    child.start();
  }

  /**
   * A proxy renews its certificate by that certificate. One that could not before it ended (the machine slept, the clock
   * jumped, the control plane was away for too long) has nothing to show any more: it gets a token, as at its start.
   */
  #watchCertificate(): void {
    const files = makeProxyFolders(this.#host, this.name);
    const stored = new StoredCertificate(files);
    let waitUntilMs = 0;
    let rootsAtMs = systemClock.now() + ROOTS_LOOK_MS;
    let strange = 0;
    /**
     * A proxy that was away while its root was retired believes nobody, and nobody believes it, the control plane neither.
     * It is started anew, with the roots of now. Seen twice, since one that is there hears of its new root in a moment.
     */
    const lookAtRoots = ({ rootPem }: { rootPem: string }): void => {
      strange = stored.believedBy(rootPem) ? 0 : strange + 1;
      if (strange < 2 || this.#stopping) return;
      strange = 0;
      this.#host.say(this.name, 'the root of its certificate was retired while it was away: its proxy starts anew');
      void this.#proxy?.stop(PROXY_STOP_MS);
    };
    const look = (): void => {
      if (this.#stopping) return;
      this.#certificateLook = systemClock.after(CERTIFICATE_LOOK_MS, look);
      if (systemClock.now() >= rootsAtMs) {
        rootsAtMs = systemClock.now() + ROOTS_LOOK_MS;
        this.#host
          .control<{ rootPem: string }>('GET', '/v1/root', undefined, TOKEN_USE_MS)
          .then(lookAtRoots)
          .catch(() => {});
      }
      if (systemClock.now() < waitUntilMs || stored.counts(systemClock.wall())) return;
      waitUntilMs = systemClock.now() + TOKEN_USE_MS;
      this.#askToken(TOKEN_USE_MS)
        .then(({ token }) => writeToken(this.#host, files, this.spec, token))
        .catch(() => {}); // The control plane is away: there will be another look.
    };
    look();
  }

  #askToken(timeoutMs?: number): Promise<{ token: string; rootPem: string }> {
    const { namespace, serviceAccount } = this.spec;
    const identity = `spiffe://${this.#host.trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
    return this.#host.control('POST', '/v1/tokens', { instance: this.name, identity }, timeoutMs);
  }

  #proxyEnded(exit: ChildExit): void {
    if (this.#stopping) return;
    this.#host.say(this.name, `proxy ended (${exit.text}); until it is back nothing enters or leaves`);
    // The first start is judged by #waitProxy; only a proxy that has served comes back by itself.
    if (this.#proxyServed) this.#restartProxy();
  }

  #restartProxy(): void {
    // A proxy that ends while it starts is noticed twice: by its exit, and by who waits for it to be ready.
    if (this.#proxyRestart !== undefined) return;
    const delay = Math.min(PROXY_RESTART_MAX_MS, PROXY_RESTART_FIRST_MS * 2 ** this.#proxyFailures);
    this.#proxyFailures = Math.min(this.#proxyFailures + 1, 10);
    this.#proxyRestart = systemClock.after(delay, () => {
      this.#proxyRestarts += 1;
      this.#startProxy()
        .then(() => this.#waitProxy())
        .then(
          () => {
            this.#proxyFailures = 0;
            this.#proxyRestart = undefined;
          },
          (error: Error) => {
            this.#proxyRestart = undefined;
            if (this.#stopping) return;
            this.#host.say(this.name, `proxy: ${error.message}`);
          },
        )
        .then(() => {
          if (!this.#stopping && !this.#proxy?.running) this.#restartProxy();
        });
    });
  }

  async #waitProxy(): Promise<void> {
    const end = systemClock.now() + PROXY_READY_MS;
    while (!this.#stopping) {
      if (await probeHttp(this.address, 15021, '/healthz/ready', 1000)) {
        this.#proxyServed = true;
        return;
      }
      if (!this.#proxy?.running) {
        throw new WeftError(
          'proxy-start',
          `the proxy of ${this.name} ended at its start: ${this.#lastProxyErrors.join(' | ') || 'it said nothing'} (see ${this.#proxyLog?.path})`,
        );
      }
      if (systemClock.now() > end) {
        throw new WeftError(
          'proxy-start',
          `the proxy of ${this.name} was not ready within ${PROXY_READY_MS / 1000} s: ${this.#lastProxyErrors.join(' | ')} (see ${this.#proxyLog?.path})`,
        );
      }
      await new Promise<void>((resolve) => systemClock.after(25, resolve));
    }
  }

  /** The environment of the application: the supervisor's without what is ours, then the mesh's, then its own. */
  environment(): Record<string, string> {
    const h = this.#host;
    const env: Record<string, string> = { ...h.baseEnv };
    delete env.HOST;
    const port = this.spec.ports[0]?.number;
    if (port !== undefined) env.PORT = String(port);
    delete env.SPIFFE_ENDPOINT_SOCKET;
    if (this.#api) env.SPIFFE_ENDPOINT_SOCKET = `unix://${this.#api}`;
    if (h.capture === 'explicit') {
      env.HOST = this.address;
      if (this.spec.injected) {
        const proxy = `http://weft:${this.#secret}@${this.address}:15001`;
        Object.assign(env, { HTTP_PROXY: proxy, http_proxy: proxy, NODE_USE_ENV_PROXY: '1' });
        // An exemption inherited from the shell would lead around the mesh.
        delete env.NO_PROXY;
        delete env.no_proxy;
        for (const s of h.services) {
          env[`${serviceVariable(s)}_SERVICE_HOST`] =
            s.namespace === this.spec.namespace ? s.name : `${s.name}.${s.namespace}`;
          if (s.ports[0] !== undefined) env[`${serviceVariable(s)}_SERVICE_PORT`] = String(s.ports[0]);
        }
      }
    }
    for (const e of this.spec.env) env[e.name] = e.value;
    return env;
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
        env: this.environment(),
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
          { cwd: this.spec.cwd, env: this.environment() },
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
          : probeTcp(address, action.port, probe.timeoutMs),
      );
    };
    this.#prober = new Prober(probe, ask, (ready) => this.#setState(ready ? 'ready' : 'running'));
    this.#prober.start();
  }
}
