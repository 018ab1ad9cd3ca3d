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
  wholeNumber,
} from '../common.ts';
import { example } from '../example.ts';
import { statusTable } from './up.ts';

const DEADLINE_MS = 300_000;

/** `weft scale NAME N`. */
export function addScale(program: Command): void {
  example(
    program
      .command('scale')
      .description('run so many instances of a process; the ones that go are drained first')
      .argument('<name>')
      .argument('<replicas>', 'how many', wholeNumber)
      .addOption(meshOption())
      .addOption(outputOption())
      .action(scale),
    'weft scale payment-v1 5',
  );
}

async function scale(name: string, n: number, options: MeshOption & OutputOption): Promise<void> {
  const mesh = chooseMesh(options.mesh);
  const instances = await ask<InstanceStatus[]>(mesh, 'POST', '/scale', { name, n }, DEADLINE_MS);
  if (options.output === 'json') printJson(instances);
  else print(statusTable(instances));
}
