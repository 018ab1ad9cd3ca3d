/**
 * Explicit capture: what stands where the proxy of a process stood that left the mesh, so that the process finds others by
 * the same variables as before. It has no identity, asks no control plane and knows of no rule: a name leads to the
 * applications behind it, in plaintext. `weft up` tells it who is ready.
 */
import { join } from 'node:path';
import { systemClock, WeftError } from '@weft/base';
import type { HostContext } from './host-context.ts';
import { LogFile } from './output.ts';
import type { PlainService } from './plain-services.ts';
import { probeTcp } from './probes.ts';
import { Child } from './process.ts';
import { giveFolders, handOver, makeProxyFolders, type ProxyFolders, proxyPrefix, proxyUser } from './proxy-files.ts';
import type { ProcessSpec, ProxyProgram } from './specs.ts';

const READY_MS = 30_000;
const PORT = 15_001;
const RESTART_FIRST_MS = 100;
const RESTART_MAX_MS = 4000;

export interface PassThroughOwner {
  readonly name: string;
  readonly spec: ProcessSpec;
  readonly address: string;
  /** By which its application is known to it. */
  readonly secret: string;
  readonly program: ProxyProgram;
}

export class PassThrough {
  readonly #host: HostContext;
  readonly #of: PassThroughOwner;
  readonly #log: LogFile;
  readonly #files: ProxyFolders;
  #child: Child | undefined;
  #told = '';
  #lastError = '';
  #stopping = false;

  constructor(host: HostContext, of: PassThroughOwner) {
    this.#host = host;
    this.#of = of;
    this.#log = new LogFile(join(host.paths.logs, `${of.name}.proxy.log`));
    this.#files = makeProxyFolders(host, of.name);
  }

  /** Until it takes connections; or is told to stop. Throws where it cannot start. */
  async start(services: readonly PlainService[]): Promise<void> {
    const h = this.#host;
    const { name, spec, address, secret, program } = this.#of;
    giveFolders(h, this.#files, spec);
    this.follow(services);
    const uid = proxyUser(h, spec);
    const bootstrap = {
      ...{ mesh: h.mesh, instance: name, workload: spec.name, namespace: spec.namespace, trustDomain: h.trustDomain },
      ...{ address, bind: { outbound: { host: address, port: PORT } }, proxySecret: secret },
      ...{ services: this.#services, uid, gid: uid },
    };
    const path = handOver(h, spec, join(this.#files.dir, 'bootstrap.json'), JSON.stringify(bootstrap));
    const command = [...proxyPrefix(h, this.#files, spec, undefined), ...program.command];
    const child = new Child(
      {
        argv: [...command, '--mode', 'plain'],
        cwd: '/',
        env: { ...h.ownEnv, WEFT_BOOTSTRAP: path, WEFT_PARENT_PID: String(process.pid) },
        restartPolicy: 'Always',
        backoffBaseMs: RESTART_FIRST_MS,
        backoffMaxMs: RESTART_MAX_MS,
      },
      {
        onLine: (line, stream) => {
          this.#log.line(line);
          if (stream === 'stderr') this.#lastError = line;
        },
        onExit: (exit) => {
          if (!this.#stopping) h.say(name, `its way to others ended (${exit.text}) and starts again`);
        },
      },
    );
    this.#child = child;
    child.start();
    for (const end = systemClock.now() + READY_MS; !this.#stopping; ) {
      if (await probeTcp(address, PORT, 1000)) return;
      if (systemClock.now() > end)
        throw new WeftError(
          'pass-through',
          `${name}: what stands in its proxy's place was not ready within ${READY_MS / 1000} s: ${this.#lastError} (see ${this.#log.path})`,
        );
      await new Promise<void>((resolve) => systemClock.after(25, resolve));
    }
  }

  /** Who is ready now. */
  follow(services: readonly PlainService[]): void {
    const text = JSON.stringify(services);
    if (text === this.#told || this.#stopping) return;
    handOver(this.#host, this.#of.spec, this.#services, text);
    this.#told = text;
  }

  /** At the latest after `deadlineMs`. */
  async stop(deadlineMs: number): Promise<void> {
    this.#stopping = true;
    await this.#child?.stop(deadlineMs);
    this.#log.close();
  }

  get #services(): string {
    return join(this.#files.dir, 'services.json');
  }
}
