/** The process that leads mesh links between this machine and others, where a mesh spans several. */
import { chownSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock, WeftError } from '@weft/base';
import { confinedArgv, PROXY_UID, unprivilegedArgv } from '@weft/capture';
import type { HostContext } from './host-context.ts';
import { LogFile } from './output.ts';
import { probeHttp } from './probes.ts';
import { Child } from './process.ts';
import { makeOwnFolder } from './proxy-files.ts';
import type { ProxyProgram } from './specs.ts';
import { pause } from './wait.ts';

/** Istio's port of east-west gateways. */
export const ENTRANCE_PORT = 15_443;
const METRICS_PORT = 15_090;
const MESH_PORT = 15_008;
const READY_MS = 30_000;
const STOP_MS = 3000;

export interface Place {
  readonly host: string;
  readonly port: number;
}

interface Needed extends Pick<HostContext, 'mesh' | 'paths' | 'ownEnv' | 'setpriv' | 'say'> {
  readonly program: Promise<ProxyProgram>;
}

export interface EntranceOptions {
  /** Of this machine. */
  readonly network: string;
  /** Where other machines come to. */
  readonly outside: Place;
  /** The address at which workloads of this machine reach it. */
  readonly inside: string;
  /** What comes to one goes to the other as it is. */
  readonly forwards: readonly { readonly bind: Place; readonly to: Place }[];
}

export class EntranceProcess {
  /** Where workloads of this machine come to. */
  readonly at: Place;
  readonly #host: Needed;
  readonly #options: EntranceOptions;
  readonly #log: LogFile;
  readonly #instances = new Map<string, Place>();
  #networks: Readonly<Record<string, Place>> = {};
  #dir = '';
  #child: Child | undefined;
  #lastLine = '';
  #stopping = false;

  constructor(host: Needed, options: EntranceOptions) {
    this.#host = host;
    this.#options = options;
    this.at = { host: options.inside, port: ENTRANCE_PORT };
    this.#log = new LogFile(join(host.paths.logs, 'entrance.log'));
  }

  /** Until it listens. Throws with what it said where it does not. */
  async start(): Promise<void> {
    const { mesh, paths, ownEnv, setpriv } = this.#host;
    const { network, outside, inside, forwards } = this.#options;
    this.#dir = makeOwnFolder(paths.workload('entrance'));
    const uid = process.getuid?.() === 0 ? PROXY_UID : undefined;
    if (uid !== undefined) chownSync(this.#dir, uid, uid);
    const bootstrap = {
      ...{ mesh, network, outside, inside: this.at, forwards, uid, gid: uid },
      metrics: { host: inside, port: METRICS_PORT },
      ways: join(this.#dir, 'ways.json'),
    };
    const path = join(this.#dir, 'bootstrap.json');
    this.#write(path, bootstrap);
    this.#tell();
    const root = confinedArgv({ own: this.#dir, codeCache: paths.codeCache, lowPorts: false });
    const prefix = !setpriv ? [] : uid === undefined ? [...unprivilegedArgv(), '--'] : root;
    const child = new Child(
      {
        argv: [...prefix, ...(await this.#host.program).command, '--mode', 'entrance'],
        cwd: '/',
        env: { ...ownEnv, WEFT_BOOTSTRAP: path, WEFT_PARENT_PID: String(process.pid) },
        restartPolicy: 'Always',
        backoffBaseMs: 200,
        backoffMaxMs: 4000,
      },
      {
        onLine: (line) => {
          this.#log.line(line);
          this.#lastLine = line;
        },
        onExit: (exit) => {
          if (!this.#stopping)
            this.#host.say('weft', `the entrance to other machines ended (${exit.text}), it starts again`);
        },
      },
    );
    this.#child = child;
    child.start();
    const end = systemClock.now() + READY_MS;
    while (!(await probeHttp(inside, METRICS_PORT, '/stats/prometheus', 1000))) {
      if (this.#stopping) return;
      if (!child.running || systemClock.now() > end) {
        this.#stopping = true;
        throw new WeftError(
          'entrance',
          `the entrance at ${outside.host}:${outside.port} did not start: ${this.#lastLine || 'it said nothing'} (see ${this.#log.path})`,
        );
      }
      await pause(25);
    }
  }

  /** From now on links come to this instance; before others are told of it. */
  add(instance: string, address: string): void {
    this.#instances.set(instance, { host: address, port: MESH_PORT });
    this.#tell();
  }

  remove(instance: string): void {
    if (this.#instances.delete(instance)) this.#tell();
  }

  /** Where the entrances of other machines are. */
  setNetworks(networks: Readonly<Record<string, Place>>): void {
    if (JSON.stringify(networks) === JSON.stringify(this.#networks)) return;
    this.#networks = networks;
    this.#tell();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#child?.stop(STOP_MS);
    this.#log.close();
  }

  #tell(): void {
    if (this.#dir === '' || this.#stopping) return;
    this.#write(join(this.#dir, 'ways.json'), {
      instances: Object.fromEntries(this.#instances),
      networks: this.#networks,
    });
  }

  /** Whole or not at all, for its user alone. */
  #write(path: string, value: unknown): void {
    const made = `${path}.new`;
    writeFileSync(made, JSON.stringify(value), { mode: 0o600 });
    if (process.getuid?.() === 0) chownSync(made, PROXY_UID, PROXY_UID);
    renameSync(made, path);
  }
}
