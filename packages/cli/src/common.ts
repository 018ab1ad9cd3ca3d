/** Options and look-ups that commands share. */

import { WeftError } from '@weft/base';
import { type InstanceStatus, localRequest, meshPaths, runningMesh, runningMeshes } from '@weft/host';
import { InvalidArgumentError, Option } from 'commander';

export interface MeshOption {
  mesh?: string;
}
export interface OutputOption {
  output: 'table' | 'json';
}

export function meshOption(): Option {
  return new Option('--mesh <name>', 'the mesh; may be left out where one runs').env('WEFT_MESH');
}

export interface NamespaceOption {
  namespace?: string;
}

export function namespaceOption(): Option {
  return new Option('-n, --namespace <namespace>', 'of this namespace alone');
}

/**
 * The instances that `name` says: an instance, or a process (`cart`, `shop/cart`, `deploy/cart`, as kubectl's users write
 * it). Throws with what there is; also where processes of several namespaces have the name.
 */
export function instancesNamed(
  mesh: string,
  instances: readonly InstanceStatus[],
  name: string,
  namespace?: string,
): InstanceStatus[] {
  const bare = name.replace(/^(deploy|deployment|deployments|pod|pods|process)\//, '');
  const seen = instances.filter((i) => namespace === undefined || i.namespace === namespace);
  const exact = seen.filter((i) => i.name === bare);
  const found =
    exact.length > 0 ? exact : seen.filter((i) => i.workload === bare || `${i.namespace}/${i.workload}` === bare);
  const where = namespace === undefined ? '' : ` in namespace ${namespace}`;
  if (found.length === 0)
    throw new WeftError(
      'unknown-instance',
      `no instance "${name}"${where} in mesh ${mesh}; there are: ${instances.map((i) => `${i.namespace}/${i.name}`).join(', ')}`,
    );
  const namespaces = [...new Set(found.map((i) => i.namespace))];
  if (namespaces.length > 1)
    throw new WeftError('unknown-instance', `"${name}" is in several namespaces: say -n ${namespaces.join(' or -n ')}`);
  return found;
}

export function outputOption(): Option {
  return new Option('-o, --output <format>', 'table or json').choices(['table', 'json']).default('table');
}

export function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('a whole number is needed.');
  return Number(text);
}

/** The name of the mesh meant: the given one if it runs, else the only one that runs. */
export function chooseMesh(given: string | undefined): string {
  if (given !== undefined) {
    if (!runningMesh(given)) throw new WeftError('no-mesh', `mesh "${given}" is not running here; ${others()}`);
    return given;
  }
  const running = runningMeshes();
  if (running.length === 1) return running[0]!;
  throw new WeftError(
    'no-mesh',
    running.length === 0
      ? 'no mesh is running here: start one with "weft up -f DIR"'
      : `several meshes run, say --mesh with one of ${running.join(', ')}`,
  );
}

function others(): string {
  const running = runningMeshes();
  return running.length === 0 ? 'none is: start it with "weft up -f DIR"' : `running: ${running.join(', ')}`;
}

/** Calls the supervisor of a mesh. */
export function ask<T = unknown>(
  mesh: string,
  method: string,
  path: string,
  body?: unknown,
  timeoutMs?: number,
): Promise<T> {
  return localRequest<T>(meshPaths(mesh).socket, method, path, body, timeoutMs);
}

/** Calls the control plane of a mesh. */
export function askControl<T = unknown>(mesh: string, method: string, path: string, body?: unknown): Promise<T> {
  return localRequest<T>(meshPaths(mesh).controlSocket, method, path, body);
}

export function print(text: string): void {
  process.stdout.write(text + '\n');
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}
