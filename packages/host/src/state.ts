/** The state folder of a mesh, and the lock that keeps two supervisors of one name apart. */

import { randomUUID } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { WeftError } from '@weft/base';
import { assertMeshName, removeMesh } from '@weft/capture';

const RUN_ROOT = '/run/weft';

/** `$WEFT_STATE`, else /var/lib/weft for root, else ~/.local/state/weft. */
export function stateRoot(env: NodeJS.ProcessEnv = process.env): string {
  if (env.WEFT_STATE) return env.WEFT_STATE;
  if (process.getuid?.() === 0) return '/var/lib/weft';
  return join(env.XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'weft');
}

export interface MeshPaths {
  readonly root: string;
  readonly lock: string;
  /** The supervisor's own API. */
  readonly socket: string;
  readonly controlSocket: string;
  readonly control: string;
  readonly ca: string;
  readonly logs: string;
  /** Compiled code of our own processes, shared by the meshes of this state folder and kept when they end. */
  readonly codeCache: string;
  /** Files of what `weft run` joined. */
  readonly joined: string;
  /** Programs made for this run of the mesh alone. */
  readonly programs: string;
  /** Faults that are to be taken back from the mesh's files. */
  readonly faults: string;
  /** The folder of a workload's key and snapshot: readable by its proxy's uid alone. */
  workload(instance: string): string;
  /** The folder where the application finds its Workload API; the same as the former where both are one user's. */
  workloadApi(instance: string): string;
}

export function meshPaths(mesh: string, root = stateRoot()): MeshPaths {
  assertMeshName(mesh);
  const dir = join(root, mesh);
  const ownUsers = process.getuid?.() === 0 && process.platform === 'linux';
  const workload = (instance: string): string =>
    ownUsers ? `${RUN_ROOT}/${mesh}.${instance}` : join(dir, 'run', instance);
  return {
    root: dir,
    lock: join(dir, 'lock.json'),
    socket: join(dir, 'up.sock'),
    controlSocket: join(dir, 'control.sock'),
    control: join(dir, 'control'),
    ca: join(dir, 'control', 'ca'),
    logs: join(dir, 'logs'),
    codeCache: join(root, '.code-cache'),
    joined: join(dir, 'joined'),
    programs: join(dir, 'programs'),
    faults: join(dir, 'faults.json'),
    workload,
    // No instance has a "+" in its name.
    workloadApi: (instance) => (ownUsers ? `${workload(instance)}+api` : workload(instance)),
  };
}

export interface Lock {
  readonly pid: number;
  /** The kernel's start time of that process: a number that comes back with another process is not it. */
  readonly start: string;
  /** Marks every child's environment, so that what outlives a killed supervisor is found. */
  readonly run: string;
}

/** A process's start time in clock ticks, '' where it cannot be told, undefined where there is no such process. */
export function processStart(pid: number): string | undefined {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return undefined;
  }
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19]!;
  } catch {
    return process.platform === 'linux' ? undefined : '';
  }
}

/** The lock of a mesh that is running now, undefined where none is (also where its supervisor was killed). */
export function runningMesh(mesh: string): Lock | undefined {
  const lock = readLock(meshPaths(mesh).lock);
  return lock && alive(lock) ? lock : undefined;
}

function alive(lock: Lock): boolean {
  return processStart(lock.pid) === lock.start;
}

function readLock(path: string): Lock | undefined {
  try {
    const value = JSON.parse(readFileSync(path, 'utf8')) as Lock;
    return Number.isInteger(value.pid) &&
      value.pid > 0 &&
      typeof value.start === 'string' &&
      typeof value.run === 'string'
      ? value
      : undefined;
  } catch {
    return undefined;
  }
}

/** Takes the mesh's name; leftovers of a killed run are removed first. Throws `mesh-running` where it runs already. */
export function acquireLock(mesh: string): { lock: Lock; removed: string[] } {
  const paths = meshPaths(mesh);
  const running = runningMesh(mesh);
  if (running) {
    throw new WeftError(
      'mesh-running',
      `mesh "${mesh}" is running already (process ${running.pid}): stop it with "weft down --mesh ${mesh}", or use another --mesh NAME`,
    );
  }
  for (const dir of [paths.root, paths.logs, paths.control]) {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    chmodSync(dir, 0o700);
  }
  const removed = removeLeftovers(mesh);
  const lock: Lock = { pid: process.pid, start: processStart(process.pid) ?? '', run: `${mesh}/${randomUUID()}` };
  try {
    writeFileSync(paths.lock, JSON.stringify(lock), { flag: 'wx', mode: 0o600 });
  } catch {
    throw new WeftError(
      'mesh-running',
      `mesh "${mesh}" was started by another process in this moment: use another --mesh NAME`,
    );
  }
  return { lock, removed };
}

/**
 * Removes what a mesh left outside its logs and its CA: processes, namespaces, links, sockets, keys. Not to be called
 * while another process supervises it. Returns what it removed.
 */
export function removeLeftovers(mesh: string): string[] {
  const paths = meshPaths(mesh);
  const removed: string[] = [];
  const lock = readLock(paths.lock);
  if (lock && lock.pid !== process.pid) {
    for (const pid of processesOf(lock.run)) {
      try {
        process.kill(pid, 'SIGKILL');
        removed.push(`process ${pid}`);
      } catch {
        // It ended by itself.
      }
    }
  }
  for (const name of list(RUN_ROOT)) {
    if (process.getuid?.() !== 0 || !name.startsWith(`${mesh}.`)) continue;
    rmSync(join(RUN_ROOT, name), { recursive: true, force: true });
    removed.push(join(RUN_ROOT, name));
  }
  removed.push(...removeMesh(mesh)); // After the folders above: it removes /run/weft with the last of them.
  for (const folder of [join(paths.root, 'run'), paths.joined, paths.programs])
    rmSync(folder, { recursive: true, force: true });
  for (const file of [paths.socket, paths.controlSocket, paths.lock, join(paths.root, 'control.json')])
    rmSync(file, { force: true });
  return removed;
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

/** Processes whose environment carries the mark of a run. */
function processesOf(run: string): number[] {
  const found: number[] = [];
  const mark = `WEFT_RUN=${run}`;
  for (const entry of list('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    try {
      if (readFileSync(`/proc/${entry}/environ`, 'utf8').split('\0').includes(mark)) found.push(Number(entry));
    } catch {
      // Another user's, or gone.
    }
  }
  return found;
}

/** Names of the meshes that run now, below the state root. */
export function runningMeshes(): string[] {
  return list(stateRoot()).filter((name) => {
    try {
      return runningMesh(name) !== undefined;
    } catch {
      return false;
    }
  });
}
