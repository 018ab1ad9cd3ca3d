/** The proxy of one instance: started, kept alive, and with a certificate by which the mesh knows it. */
import { join } from 'node:path';
import { systemClock, type Timer, WeftError } from '@weft/base';
import { inNetworkOnlyArgv, type RunAs } from '@weft/capture';
import type { HostContext } from './host-context.ts';
import { LogFile } from './output.ts';
import { probeHttp } from './probes.ts';
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
import type { ProbeSpec, ProcessSpec, ProxyProgram } from './specs.ts';

const READY_MS = 30_000;
const RESTART_FIRST_MS = 100;
const RESTART_MAX_MS = 4000;
/** How often a proxy's certificate is looked at, and how long one whose certificate ended has to use a token. */
const CERTIFICATE_LOOK_MS = 1000;
const TOKEN_USE_MS = 5000;
/** How often it is seen to that a proxy's root is still one of the mesh's. */
const ROOTS_LOOK_MS = 10_000;
const STOP_MS = 3000;
/** How long the restart of a proxy that has a certificate waits for a token, which it needs only to get another one. */
const TOKEN_WAIT_MS = 300;

/** Whose proxy it is. */
export interface ProxyOwner {
  readonly name: string;
  readonly spec: ProcessSpec;
  readonly address: string;
  readonly address6: string | undefined;
  /** Its network namespace; undefined in explicit mode. */
  readonly netns: string | undefined;
  /** By which its application is known to it in explicit mode. */
  readonly secret: string;
  /** How it asks its application whether it is ready. */
  readonly probe: ProbeSpec;
  /** Who the application runs as. */
  readonly application: RunAs | undefined;
  /** What it runs at its next start. */
  program(): ProxyProgram;
}

export class ProxyProcess {
  restarts = 0;
  /** Path of the Workload API's socket; undefined: there is none. */
  api: string | undefined;
  readonly #host: HostContext;
  readonly #of: ProxyOwner;
  readonly #log: LogFile;
  #child: Child | undefined;
  #restartTimer: Timer | undefined;
  #certificateLook: Timer | undefined;
  #failures = 0;
  /** It was ready once. */
  #served = false;
  #lastErrors: string[] = [];
  #stopping = false;

  constructor(host: HostContext, of: ProxyOwner) {
    this.#host = host;
    this.#of = of;
    this.#log = new LogFile(join(host.paths.logs, `${of.name}.proxy.log`));
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Until it is ready; or is told to stop. Throws where it cannot start. */
  async start(): Promise<void> {
    await this.#launch();
    await this.#untilReady();
    if (!this.#stopping) this.#watchCertificate();
  }

  /** From now on it is not brought back where it ends; it goes on with what runs. */
  ending(): void {
    this.#stopping = true;
    this.#restartTimer?.cancel();
    this.#certificateLook?.cancel();
  }

  /** At the latest after `deadlineMs`. */
  async stop(deadlineMs: number): Promise<void> {
    this.ending();
    await this.#child?.stop(deadlineMs);
    this.#log.close();
  }

  async #launch(): Promise<void> {
    const h = this.#host;
    const files = makeProxyFolders(h, this.#of.name);
    // A proxy that has its certificate is not held up by a control plane that does not answer.
    const waitMs = this.restarts > 0 && certified(files.identity) ? TOKEN_WAIT_MS : undefined;
    const given = await this.#askToken(waitMs).catch((error: Error) => {
      // A proxy that was here before has its certificate and goes on without the control plane.
      if (this.restarts === 0) throw error;
      return undefined;
    });
    const { name, address, address6, spec, probe, secret, application } = this.#of;
    // The roots of now: those of the supervisor's start may have been replaced.
    const { token, rootPem = h.rootPem } = given ?? {};
    const api = (this.api = makeWorkloadApi(h, name, spec, application));
    const facts = { name, address, address6, spec, token, rootPem, probe, secret, api, application };
    const path = writeBootstrap(h, files, facts);
    if (this.#stopping) return;
    const { command } = this.#of.program();
    const prefix = this.#of.netns === undefined ? [] : inNetworkOnlyArgv(this.#of.netns);
    prefix.push(...proxyPrefix(h, files, spec, api));
    this.#lastErrors = [];
    const child = new Child(
      {
        argv: [...prefix, ...command, '--mode', this.#of.spec.gateway ? 'gateway' : 'sidecar'],
        cwd: '/',
        env: { ...h.ownEnv, WEFT_BOOTSTRAP: path, WEFT_PARENT_PID: String(process.pid) },
        restartPolicy: 'Never',
      },
      {
        onLine: (line, stream) => {
          this.#log.line(line);
          if (stream === 'stderr') {
            this.#lastErrors.push(line);
            if (this.#lastErrors.length > 5) this.#lastErrors.shift();
          }
        },
        onExit: (exit) => this.#ended(exit),
      },
    );
    this.#child = child;
    child.start();
  }

  /**
   * A proxy renews its certificate by that certificate. One that could not before it ended (the machine slept, the clock
   * jumped, the control plane was away for too long) has nothing to show any more: it gets a token, as at its start.
   */
  #watchCertificate(): void {
    const files = makeProxyFolders(this.#host, this.#of.name);
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
      this.#host.say(this.#of.name, 'the root of its certificate was retired while it was away: its proxy starts anew');
      void this.#child?.stop(STOP_MS);
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
        .then(({ token }) => writeToken(this.#host, files, this.#of.spec, token))
        .catch(() => {}); // The control plane is away: there will be another look.
    };
    look();
  }

  #askToken(timeoutMs?: number): Promise<{ token: string; rootPem: string }> {
    const { namespace, serviceAccount } = this.#of.spec;
    const identity = `spiffe://${this.#host.trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
    return this.#host.control('POST', '/v1/tokens', { instance: this.#of.name, identity }, timeoutMs);
  }

  #ended(exit: ChildExit): void {
    if (this.#stopping) return;
    this.#host.say(this.#of.name, `proxy ended (${exit.text}); until it is back nothing enters or leaves`);
    this.#host.onProxyEnd(this.#of.name);
    // The first start is judged by #untilReady; only a proxy that has served comes back by itself.
    if (this.#served) this.#restart();
  }

  #restart(): void {
    // A proxy that ends while it starts is noticed twice: by its exit, and by who waits for it to be ready.
    if (this.#restartTimer !== undefined) return;
    const delay = Math.min(RESTART_MAX_MS, RESTART_FIRST_MS * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 10);
    this.#restartTimer = systemClock.after(delay, () => {
      this.restarts += 1;
      this.#launch()
        .then(() => this.#untilReady())
        .then(
          () => {
            this.#failures = 0;
            this.#restartTimer = undefined;
          },
          (error: Error) => {
            this.#restartTimer = undefined;
            if (this.#stopping) return;
            this.#host.say(this.#of.name, `proxy: ${error.message}`);
          },
        )
        .then(() => {
          if (!this.#stopping && !this.#child?.running) this.#restart();
        });
    });
  }

  async #untilReady(): Promise<void> {
    const end = systemClock.now() + READY_MS;
    while (!this.#stopping) {
      if (await probeHttp(this.#of.address, 15021, '/healthz/ready', 1000)) {
        this.#served = true;
        return;
      }
      if (!this.#child?.running) {
        throw new WeftError(
          'proxy-start',
          `the proxy of ${this.#of.name} ended at its start: ${this.#lastErrors.join(' | ') || 'it said nothing'} (see ${this.#log.path})`,
        );
      }
      if (systemClock.now() > end) {
        throw new WeftError(
          'proxy-start',
          `the proxy of ${this.#of.name} was not ready within ${READY_MS / 1000} s: ${this.#lastErrors.join(' | ')} (see ${this.#log.path})`,
        );
      }
      await new Promise<void>((resolve) => systemClock.after(25, resolve));
    }
  }
}
