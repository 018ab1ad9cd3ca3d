/**
 * What `weft run` adds to a running mesh, as files that the control plane watches like any other: the Process, and its
 * Service where the mesh has none of that name. So a joined process passes the same checks, gets the same addresses and
 * survives a restart of the control plane by the same way as everything else.
 */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock, WeftError } from '@weft/base';
import type { HostContext } from './host-context.ts';
import type { GroupSpec, ProcessSpec, ServiceSpec } from './specs.ts';
import { pause } from './wait.ts';

const JOIN_MS = 10_000;

/** The port's name in a Process of ours, so that several joined processes may serve one Service from different ports. */
const PORT = 'main';
/** Of a plan: told by the first bytes. */
const DETECT = 0;

export interface RunRequest {
  /** The Service to join, in the process's namespace; '' where a group says what it is like. */
  readonly service: string;
  /** The WorkloadGroup by which it joins, in the process's namespace. */
  readonly group?: string;
  readonly process: ProcessSpec;
}

/** A DNS label that begins with a letter: it becomes a host name and, in explicit mode, the name of a variable. */
export function assertLabel(what: string, value: unknown): void {
  if (typeof value !== 'string' || !/^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$/.test(value)) {
    throw new WeftError(
      'name',
      `${what} "${String(value)}" is not usable: use at most 50 lower-case letters, digits and "-", beginning with a letter`,
    );
  }
}

/** The process with the labels by which an existing Service selects it. Throws where the Service could never send to it. */
export function fitToService(process: ProcessSpec, service: ServiceSpec | undefined, name: string): ProcessSpec {
  const port = process.ports[0]!.number;
  if (!service) return { ...process, labels: { ...process.labels, app: name }, ports: [{ number: port, name: PORT }] };
  const labels = { app: name, ...process.labels, ...service.selector };
  const named = service.targetPorts.find((t) => typeof t === 'string');
  if (named !== undefined) return { ...process, labels, ports: [{ number: port, name: named as string }] };
  if (!service.targetPorts.includes(port)) {
    throw new WeftError(
      'port',
      `service ${name} sends to port ${service.targetPorts.join(', ')} of its processes, not to ${port}: run with --port ${service.targetPorts[0]}`,
    );
  }
  return { ...process, labels, ports: [{ number: port }] };
}

/** The process as the group says. Throws where `asked`, the port that the caller names, is none of the group's. */
export function fitToGroup(process: ProcessSpec, group: GroupSpec): ProcessSpec {
  const asked = process.ports;
  const ports = group.ports.length > 0 ? group.ports : asked;
  for (const { number } of asked) {
    if (ports.some((p) => p.number === number)) continue;
    const have = group.ports.map((p) => `${p.number} (${p.name})`).join(', ');
    throw new WeftError('port', `group ${group.name} has the ports ${have}, not ${number}: leave --port out`);
  }
  const { serviceAccount, readiness } = group;
  return { ...process, serviceAccount, readiness, ports, labels: { ...process.labels, ...group.labels } };
}

export class JoinedFiles {
  readonly folder: string;
  /** Joined workloads by the Service that was made for them. */
  readonly #services = new Map<string, Set<string>>();
  readonly #specs = new Map<string, ServiceSpec>();

  constructor(folder: string) {
    this.folder = folder;
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /** Whether a Service of this name was made here. */
  has(namespace: string, service: string): boolean {
    return this.#services.has(`${namespace}.${service}`);
  }

  /** The Services that were made here. */
  services(): ServiceSpec[] {
    return [...this.#specs.values()];
  }

  /** The Process before its Service: between the two the files are valid. */
  add(process: ProcessSpec, service: string): void {
    const { namespace, name } = process;
    const key = `${namespace}.${service}`;
    const users = this.#services.get(key) ?? new Set();
    this.#services.set(key, users.add(name));
    this.#write(`process.${namespace}.${name}.yaml`, {
      apiVersion: 'weft.dev/v1alpha1',
      kind: 'Process',
      metadata: { name, namespace, labels: process.labels },
      spec: {
        command: process.command,
        cwd: process.cwd,
        restartPolicy: process.restartPolicy,
        ports: process.ports.map((p) => ({ name: p.name, containerPort: p.number })),
      },
    });
    if (users.size > 1) return; // The Service keeps the port of its first process.
    const selector = { app: service };
    const port = process.ports[0]!.number;
    const made = { name: service, namespace, selector, ports: [port], targetPorts: [PORT], protocols: [DETECT] };
    this.#specs.set(key, made);
    this.#write(`service.${key}.yaml`, {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: service, namespace },
      spec: { selector, ports: [{ port, targetPort: PORT }] },
    });
  }

  /** Makes a Service for a process, and waits until the control plane took it, or says why not. */
  async join(spec: ProcessSpec, service: string, control: HostContext['control']): Promise<void> {
    const { epoch } = await control<{ epoch: number }>('GET', '/v1/epoch');
    this.add(spec, service);
    const end = systemClock.now() + JOIN_MS;
    for (;;) {
      const now = await control<{
        epoch: number;
        refused: boolean;
        problems: { severity: string; file: string; message: string }[];
      }>('GET', '/v1/problems');
      if (now.epoch > epoch) return;
      if (now.refused || systemClock.now() > end) {
        const why = now.problems.find((p) => p.severity === 'error');
        throw new WeftError(
          'join',
          `the mesh does not take service ${service}: ${why ? `${why.file}: ${why.message}` : 'no answer of the control plane'}`,
        );
      }
      await pause(25);
    }
  }

  /** The last one takes its Service with it. */
  remove(namespace: string, process: string): void {
    for (const [key, users] of this.#services) {
      if (!key.startsWith(`${namespace}.`) || !users.delete(process) || users.size > 0) continue;
      this.#services.delete(key);
      this.#specs.delete(key);
      rmSync(join(this.folder, `service.${key}.yaml`), { force: true });
    }
    rmSync(join(this.folder, `process.${namespace}.${process}.yaml`), { force: true });
  }

  /** Whole or not at all; JSON is YAML. */
  #write(file: string, document: unknown): void {
    const temporary = join(this.folder, `.${file}`);
    writeFileSync(temporary, `${JSON.stringify(document, null, 2)}\n`, { mode: 0o600 });
    renameSync(temporary, join(this.folder, file));
  }
}
