/**
 * The processes of a mesh's files without any mesh: the same commands as the same user, each on a loopback address of its
 * own, finding each other by the `<NAME>_SERVICE_HOST` and `_PORT` that they read anyway. No proxies, no namespaces.
 */
import { WeftError } from '@weft/base';
import { type LoopbackRange, runAsArgv } from '@weft/capture';
import {
  applicationEnvironment,
  applicationUser,
  Child,
  onPath,
  type ProcessSpec,
  probeHttp,
  probeTcp,
  type ServiceSpec,
  serviceVariable,
} from '@weft/host';

const READY_MS = 60_000;
const ASK_MS = 200;
const STOP_MS = 5000;

interface Running {
  spec: ProcessSpec;
  address: string;
  child: Child;
  /** Why it ended, where it did. */
  ended: string | undefined;
}

export class PlainProcesses {
  readonly #running: Running[] = [];
  #stopping = false;

  readonly #range: LoopbackRange;

  /** Of `range` are their addresses; it is released at the end. Gateways are proxies and left out. */
  constructor(
    range: LoopbackRange,
    processes: readonly ProcessSpec[],
    services: readonly ServiceSpec[],
    onLine: (name: string, line: string) => void,
  ) {
    this.#range = range;
    const applications = processes.filter((p) => !p.gateway);
    const addresses = new Map(applications.map((p) => [p, range.next()]));
    const found = serviceVariables(services, addresses);
    const prefix = runAsArgv(applicationUser(), { setpriv: onPath('setpriv') });
    for (const spec of applications) {
      const address = addresses.get(spec)!;
      const child: Child = new Child(
        {
          argv: [...prefix, ...spec.command],
          cwd: spec.cwd,
          env: {
            ...applicationEnvironment(),
            ...(spec.ports[0] ? { PORT: String(spec.ports[0].number) } : {}),
            HOST: address,
            ...found,
            ...Object.fromEntries(spec.env.map((e) => [e.name, e.value])),
          },
          restartPolicy: 'Never',
        },
        {
          onLine: (line) => onLine(spec.name, line),
          onExit: (exit) => {
            running.ended = exit.text;
          },
        },
      );
      const running: Running = { spec, address, child, ended: undefined };
      this.#running.push(running);
    }
  }

  /** Starts all; jobs last, when what they may ask is ready. Throws WeftError `plain` that names who was not ready in time. */
  async start(): Promise<void> {
    const [jobs, servers] = [true, false].map((job) =>
      this.#running.filter((r) => (r.spec.restartPolicy === 'Never') === job),
    ) as [Running[], Running[]];
    for (const r of servers) r.child.start();
    await Promise.all(servers.map((r) => this.#ready(r)));
    if (!this.#stopping) for (const r of jobs) r.child.start();
  }

  async #ready(r: Running): Promise<void> {
    const action = r.spec.readiness?.action;
    const port = r.spec.ports[0]?.number;
    for (const end = performance.now() + READY_MS; !this.#stopping; ) {
      if (r.ended !== undefined) throw new WeftError('plain', `${r.spec.name} ended while it started: ${r.ended}`);
      const ready =
        action?.type === 'http'
          ? await probeHttp(r.address, action.port, action.path, ASK_MS * 5)
          : port === undefined || (await probeTcp(r.address, port, ASK_MS * 5));
      if (ready) return;
      if (performance.now() > end)
        throw new WeftError('plain', `${r.spec.name} was not ready within ${READY_MS / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, ASK_MS));
    }
  }

  /** Those that run now: name, process group, address. */
  status(): { name: string; pid: number; address: string }[] {
    return this.#running.flatMap(({ spec, child, address }) =>
      child.pid === undefined ? [] : [{ name: spec.name, pid: child.pid, address }],
    );
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running.map((r) => r.child.stop(STOP_MS)));
    this.#range.release();
  }
}

/** Every service by the first of its processes: without a mesh nothing balances. */
function serviceVariables(
  services: readonly ServiceSpec[],
  addresses: ReadonlyMap<ProcessSpec, string>,
): Record<string, string> {
  const env: Record<string, string> = {};
  for (const service of services) {
    const selector = Object.entries(service.selector);
    const backend = [...addresses.keys()].find(
      (p) => p.namespace === service.namespace && selector.every(([k, v]) => p.labels[k] === v),
    );
    if (!backend || selector.length === 0) continue;
    env[`${serviceVariable(service)}_SERVICE_HOST`] = addresses.get(backend)!;
    const target = service.targetPorts[0] ?? service.ports[0];
    const port = typeof target === 'string' ? backend.ports.find((p) => p.name === target)?.number : target;
    if (port !== undefined) env[`${serviceVariable(service)}_SERVICE_PORT`] = String(port);
  }
  return env;
}
