/** Starts a real mesh of real processes for a test, through the command a user would type, and ends it with the test. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { localAuthorization } from '@weft/identity';

const root = join(import.meta.dirname, '..');
/** Tests start the command line many hundred times: compiled once, it takes half of the time. */
const compiled = join(root, 'node_modules/.cache/weft/compiled');
export const weftBin = join(root, 'bin/weft.mjs');
export const isRoot = process.getuid?.() === 0;
/** For `{ skip }` of tests that need namespaces. */
export const needsRoot: string | false = isRoot ? false : 'needs root: network namespaces and nftables';

export interface Row {
  name: string;
  workload: string;
  namespace: string;
  state: string;
  address: string;
  address6?: string;
  netns?: string;
  pid?: number;
  proxyPid?: number;
  proxyVersion?: string;
  injected: boolean;
  restarts: number;
}

let counter = 0;

export class TestMesh {
  readonly name: string;
  readonly folder: string;
  readonly state: string;
  readonly capture: string;
  output = '';
  #child!: ChildProcess;
  #exit!: Promise<number>;

  /** What to put before `weft up` so that it runs elsewhere. */
  readonly #enter: readonly string[];

  constructor(capture: 'transparent' | 'explicit', enter: readonly string[] = []) {
    this.capture = capture;
    this.#enter = enter;
    counter += 1;
    this.name = `t${process.pid % 10_000}x${counter}`;
    const base = mkdtempSync(join(tmpdir(), 'weft-test-'));
    this.folder = join(base, 'mesh');
    this.state = join(base, 'state');
    mkdirSync(this.folder);
    mkdirSync(this.state, { mode: 0o711 });
    // Applications run as another user where the test runs as root: they must be able to read their files.
    execFileSync('chmod', ['755', base]);
    cpSync(join(root, 'test/apps'), join(this.folder, 'apps'), { recursive: true });
  }

  get env(): NodeJS.ProcessEnv {
    return { ...process.env, WEFT_STATE: this.state, NODE_COMPILE_CACHE: compiled };
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  write(file: string, text: string): void {
    writeFileSync(join(this.folder, file), text);
  }

  start(args: string[] = [], env: NodeJS.ProcessEnv = {}): void {
    const [program, ...before] = [...this.#enter, process.execPath];
    this.#child = spawn(
      program!,
      [...before, weftBin, 'up', '-f', this.folder, '--mesh', this.name, '--capture', this.capture, ...args],
      { env: { ...this.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const keep = (chunk: Buffer): void => {
      this.output += chunk.toString();
      if (process.env.WEFT_TEST_VERBOSE) process.stderr.write(chunk);
    };
    this.#child.stdout?.on('data', keep);
    this.#child.stderr?.on('data', keep);
    this.#exit = new Promise((resolve) =>
      this.#child.on('exit', (code, signal) => resolve(code ?? (signal ? 128 : -1))),
    );
  }

  exited(): Promise<number> {
    return this.#exit;
  }

  weft(...args: string[]): string {
    return execFileSync(process.execPath, [weftBin, ...args, '--mesh', this.name], {
      env: this.env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** What `weft ps -o json` prints, without the second of computing that a command takes: tests ask for it all the time. */
  ps(): Row[] {
    const socket = join(this.state, this.name, 'up.sock');
    const url = ['--unix-socket', socket, 'http://localhost/ps'];
    const argv = ['-sS', '--fail', '--max-time', '60', '-H', `authorization: ${localAuthorization(socket)}`, ...url];
    return (JSON.parse(execFileSync('curl', argv, { encoding: 'utf8', stdio: 'pipe' })) as { instances: Row[] })
      .instances;
  }

  /**
   * Waits until `what` is true, asking again and again; fails with the mesh's own output. The time matters to a test that
   * fails alone, so none is shorter than a minute: a busy machine is no reason to fail.
   */
  async until(what: string, timeoutMs: number, done: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + Math.max(timeoutMs, 60_000);
    for (;;) {
      let ok = false;
      let why = '';
      try {
        ok = await done();
      } catch (e) {
        why = ` (last: ${(e as Error).message})`;
      }
      if (ok) return;
      if (performance.now() > deadline || this.#child.exitCode !== null)
        throw new Error(`${what}: not within ${timeoutMs} ms${why}; the mesh said:\n${this.output.slice(-6000)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async ready(timeoutMs = 120_000): Promise<void> {
    await this.until('all ready', timeoutMs, () => {
      const rows = this.ps();
      return rows.length > 0 && rows.every((r) => r.state === 'ready' || r.state === 'completed');
    });
  }

  row(workload: string): Row {
    const row = this.ps().find((r) => r.workload === workload || r.name === workload);
    if (!row) throw new Error(`no ${workload} in ${JSON.stringify(this.ps())}`);
    return row;
  }

  /** Sends a request from outside the mesh to an instance's own address. */
  ask(
    workload: string,
    path: string,
    body?: unknown,
    port = 8080,
  ): Promise<{ status: number; text: string; json: any }> {
    return request(this.row(workload).address, port, path, body);
  }

  /** The last lines of an application, or of its proxy (whose access log it is). */
  logs(name: string, proxy = false): string {
    return this.weft('logs', name, '--lines', '300', ...(proxy ? ['--proxy'] : []));
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
    if (this.#child && this.#child.exitCode === null) this.#child.kill(signal);
    const code = await this.#exit;
    return code;
  }

  async cleanUp(): Promise<void> {
    const code = this.#child ? await this.stop() : 0;
    // Whose end was an orderly one has left nothing: that is what lifecycle.test.ts is about.
    if (![0, 130, 143].includes(code))
      try {
        this.weft('down');
      } catch {}
    rmSync(join(this.folder, '..'), { recursive: true, force: true });
  }
}

export function request(
  host: string,
  port: number,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; text: string; json: any }> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const req = http.request(
      {
        host,
        port,
        path,
        method: text === undefined ? 'GET' : 'POST',
        headers: { ...headers, ...(text === undefined ? {} : { 'content-length': Buffer.byteLength(text) }) },
        agent: false,
      },
      (res) => {
        const parts: Buffer[] = [];
        res.on('data', (p: Buffer) => parts.push(p));
        res.on('error', reject);
        res.on('end', () => {
          const raw = Buffer.concat(parts).toString();
          let json: unknown;
          try {
            json = JSON.parse(raw);
          } catch {}
          resolve({ status: res.statusCode ?? 0, text: raw, json });
        });
      },
    );
    req.setTimeout(170_000, () => req.destroy(new Error('timeout')));
    req.on('error', reject);
    req.end(text);
  });
}

/** A mesh that ends with the test. `services`: name → versions with their replica counts. */
export async function meshOf(
  t: TestContext,
  capture: 'transparent' | 'explicit',
  services: Record<string, Record<string, number>>,
  files: Record<string, string> = {},
): Promise<TestMesh> {
  const mesh = new TestMesh(capture);
  t.after(() => mesh.cleanUp());
  mesh.write('services.yaml', peers(services));
  for (const [name, text] of Object.entries(files)) mesh.write(name, text);
  mesh.start();
  await mesh.ready();
  return mesh;
}

export function peers(services: Record<string, Record<string, number>>): string {
  const docs: string[] = ['apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n'];
  for (const [name, versions] of Object.entries(services)) {
    docs.push(`apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: ${name}\n  namespace: shop\n`);
    docs.push(`apiVersion: v1
kind: Service
metadata:
  name: ${name}
  namespace: shop
spec:
  selector:
    app: ${name}
  ports:
    - name: http
      port: 8080
`);
    for (const [version, replicas] of Object.entries(versions))
      docs.push(`apiVersion: weft.dev/v1alpha1
kind: Process
metadata:
  name: ${Object.keys(versions).length > 1 ? `${name}-${version}` : name}
  namespace: shop
  labels:
    app: ${name}
    version: ${version}
spec:
  command: [node, apps/peer.mjs]
  serviceAccountName: ${name}
  replicas: ${replicas}
  env:
    - name: NAME
      value: ${name}
    - name: VERSION
      value: ${version}
  ports:
    - name: http
      containerPort: 8080
  readinessProbe:
    httpGet:
      path: /healthz
      port: 8080
    periodSeconds: 1
    failureThreshold: 60
`);
  }
  return docs.join('---\n');
}

export function readText(path: string): string {
  return readFileSync(path, 'utf8');
}
