/** A mesh of other people's programs: manifests for them, and a client workload that runs commands behind its sidecar. */
import { chownSync, copyFileSync, cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { isRoot, request, TestMesh } from '../test/harness.ts';
import type { SuiteContext } from './suite.ts';

export interface AppOptions {
  name: string;
  /** Words of the command; a path may be relative to the mesh's folder. */
  command: readonly string[];
  ports: readonly { port: number; name?: string; appProtocol?: string }[];
  replicas?: number;
  annotations?: Readonly<Record<string, string>>;
  env?: Readonly<Record<string, string>>;
  /** Default: the host's choice, never root. */
  runAsUser?: number;
  /** No Service in front of it. */
  bare?: boolean;
}

const NAMESPACE = 'apps';
export const RUNNER_PORT = 8080;
/** The user of servers that keep data. */
export const NOBODY = 65534;

/** Manifests of one workload: its account, its Service and its Process. */
export function appManifest(app: AppOptions): string {
  const q = (text: string): string => JSON.stringify(text);
  const pairs = (map: Readonly<Record<string, string>>): string =>
    Object.entries(map)
      .map(([k, v]) => `    ${k}: ${q(v)}\n`)
      .join('');
  const docs = [
    `apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: ${app.name}\n  namespace: ${NAMESPACE}\n`,
    `apiVersion: weft.dev/v1alpha1
kind: Process
metadata:
  name: ${app.name}
  namespace: ${NAMESPACE}
  labels:
    app: ${app.name}
    version: v1
${app.annotations ? `  annotations:\n${pairs(app.annotations)}` : ''}spec:
  command: [${app.command.map(q).join(', ')}]
  serviceAccountName: ${app.name}
  replicas: ${app.replicas ?? 1}
${app.runAsUser === undefined ? '' : `  runAsUser: ${app.runAsUser}\n`}${app.env ? `  env:\n${pairs(app.env)}` : ''}  ports:
${app.ports.map((p, i) => `    - name: ${p.name ?? `p${i}`}\n      containerPort: ${p.port}\n${p.appProtocol ? `      appProtocol: ${p.appProtocol}\n` : ''}`).join('')}  readinessProbe:
    tcpSocket:
      port: ${app.ports[0]?.port}
    periodSeconds: 1
    failureThreshold: 120
`,
  ];
  if (!app.bare)
    docs.push(`apiVersion: v1
kind: Service
metadata:
  name: ${app.name}
  namespace: ${NAMESPACE}
spec:
  selector:
    app: ${app.name}
  ports:
${app.ports.map((p, i) => `    - name: ${p.name ?? `p${i}`}\n      port: ${p.port}\n${p.appProtocol ? `      appProtocol: ${p.appProtocol}\n` : ''}`).join('')}`);
  return docs.join('---\n');
}

export interface Ran {
  code: number;
  out: string;
}

/** A mesh of `apps` with runners of the given names beside them; ends with the suite. */
export class AppMesh {
  readonly mesh: TestMesh;
  #addresses = new Map<string, string>();

  constructor(ctx: SuiteContext, capture: 'transparent' | 'explicit' = isRoot ? 'transparent' : 'explicit') {
    this.mesh = new TestMesh(capture);
    ctx.cleanup(() => this.mesh.cleanUp());
    mkdirSync(join(this.mesh.folder, 'bin'));
    cpSync(join(import.meta.dirname, 'apps'), join(this.mesh.folder, 'apps'), { recursive: true });
    this.mesh.write('namespace.yaml', `apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ${NAMESPACE}\n`);
  }

  /** Copies a program to where workloads, who are other users, can run it; its path for a command. */
  program(file: string, name: string): string {
    copyFileSync(file, join(this.mesh.folder, 'bin', name));
    return `./bin/${name}`;
  }

  /** A data folder for a server, which is to run as NOBODY. */
  data(name: string): string {
    const path = join(this.mesh.folder, 'data', name);
    mkdirSync(path, { recursive: true });
    if (isRoot) chownSync(path, NOBODY, NOBODY);
    return path;
  }

  add(app: AppOptions): void {
    this.mesh.write(`${app.name}.yaml`, appManifest(app));
  }

  runner(name: string, options: Partial<AppOptions> = {}): void {
    this.add({
      command: ['node', 'apps/runner.mjs'],
      ports: [{ port: RUNNER_PORT, name: 'http' }],
      ...options,
      name,
    });
  }

  async start(): Promise<void> {
    this.mesh.start();
    await this.mesh.ready(90_000);
    for (const row of this.mesh.ps()) this.#addresses.set(row.name, row.address);
  }

  /** Of an instance (`db-0`), or of the only one of a workload. */
  address(name: string): string {
    const address = this.#addresses.get(name) ?? this.#addresses.get(`${name}-0`);
    if (address === undefined) throw new Error(`no instance ${name} among ${[...this.#addresses.keys()].join(', ')}`);
    return address;
  }

  /** Runs a command in the runner's place; does not fail by itself. */
  async run(
    runner: string,
    argv: readonly string[],
    options: { input?: string; timeoutMs?: number; env?: Record<string, string> } = {},
  ): Promise<Ran> {
    const answer = await request(this.address(runner), RUNNER_PORT, '/', { argv, ...options });
    if (answer.status !== 200) throw new Error(`the runner ${runner} answered ${answer.status}: ${answer.text}`);
    return answer.json as Ran;
  }

  /** The same; fails with the program's own last words where its code is not 0. Gives what it wrote. */
  async must(
    runner: string,
    argv: readonly string[],
    options: { input?: string; timeoutMs?: number; env?: Record<string, string> } = {},
  ): Promise<string> {
    const { code, out } = await this.run(runner, argv, options);
    if (code !== 0) throw new Error(`code ${code}: ${out.trim().split('\n').slice(-3).join(' | ')}`);
    return out;
  }

  /** The sum of a proxy's counters of this name whose labels hold all of `labels`. */
  async metric(instance: string, name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const { text } = await request(this.address(instance), 15090, '/stats/prometheus');
    let sum = 0;
    for (const line of text.split('\n')) {
      if (!line.startsWith(`${name}{`) && !line.startsWith(`${name} `)) continue;
      if (Object.entries(labels).every(([k, v]) => line.includes(`${k}="${v}"`))) sum += Number(line.split(' ').at(-1));
    }
    return sum;
  }
}
