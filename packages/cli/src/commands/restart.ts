import type { InstanceStatus } from '@weft/host';
import type { Command } from 'commander';
import {
  ask,
  chooseMesh,
  type MeshOption,
  meshOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
} from '../common.ts';
import { example } from '../example.ts';
import { statusTable } from './up.ts';

const DEADLINE_MS = 600_000;

/** `weft restart NAME`: also what makes changed labels, commands and environment act. */
export function addRestart(program: Command): void {
  example(
    program
      .command('restart')
      .description('replace the instances of a process one by one, each new one ready before the old one drains')
      .argument('<name>')
      .addOption(meshOption())
      .addOption(outputOption())
      .action(restart),
    'weft restart payment-v1',
  );
}

async function restart(name: string, options: MeshOption & OutputOption): Promise<void> {
  const mesh = chooseMesh(options.mesh);
  const instances = await ask<InstanceStatus[]>(mesh, 'POST', '/restart', { name }, DEADLINE_MS);
  if (options.output === 'json') printJson(instances);
  else print(statusTable(instances));
}
