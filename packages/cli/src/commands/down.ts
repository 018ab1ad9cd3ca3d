import { WeftError } from '@weft/base';
import { Faults, meshPaths, removeLeftovers, runningMesh, runningMeshes } from '@weft/host';
import type { Command } from 'commander';
import { ask, type MeshOption, meshOption, print } from '../common.ts';
import { example } from '../example.ts';
import { faultText } from '../fault-text.ts';

const DEADLINE_MS = 60_000;

/** `weft down`: stops a mesh, and removes what a killed one left. */
export function addDown(program: Command): void {
  example(
    program
      .command('down')
      .description('stop a mesh, or remove what a killed one left')
      .addOption(meshOption())
      .action(down),
    'weft down --mesh shop',
  );
}

async function down(options: MeshOption): Promise<void> {
  const running = runningMeshes();
  const mesh = options.mesh ?? (running.length === 1 ? running[0]! : 'default');
  if (options.mesh === undefined && running.length > 1)
    throw new WeftError('no-mesh', `several meshes run, say --mesh with one of ${running.join(', ')}`);
  const lock = runningMesh(mesh);
  if (lock) {
    try {
      await ask(mesh, 'POST', '/down', {});
    } catch {
      process.kill(lock.pid, 'SIGTERM'); // Still starting: it listens to signals before it has a socket.
    }
    const end = Date.now() + DEADLINE_MS;
    while (runningMesh(mesh)) {
      if (Date.now() > end)
        throw new WeftError('down', `mesh "${mesh}" (process ${lock.pid}) did not stop within ${DEADLINE_MS / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    print(`mesh "${mesh}" is stopped`);
    return;
  }
  new Faults(meshPaths(mesh).faults, faultText, print).removeAll('the mesh was killed');
  const removed = removeLeftovers(mesh);
  print(
    removed.length > 0
      ? `removed what was left of mesh "${mesh}": ${removed.join(', ')}`
      : `mesh "${mesh}" is not running, nothing is left of it`,
  );
}
