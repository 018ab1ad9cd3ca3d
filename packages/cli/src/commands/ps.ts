import { hostPort } from '@weft/base';
import type { HostStatus } from '@weft/control';
import type { InstanceStatus } from '@weft/host';
import type { Command } from 'commander';
import {
  ask,
  askControl,
  chooseMesh,
  type MeshOption,
  meshOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
} from '../common.ts';
import { example } from '../example.ts';
import { age, table } from '../table.ts';
import { statusTable } from './up.ts';

/** `weft ps`: what runs. */
export function addPs(program: Command): void {
  example(
    program
      .command('ps')
      .description('list the instances of a mesh')
      .addOption(meshOption())
      .addOption(outputOption())
      .action(ps),
    'weft ps',
    'weft ps -o json',
  );
}

async function ps(options: MeshOption & OutputOption): Promise<void> {
  const mesh = chooseMesh(options.mesh);
  const answer = await ask<{ capture: string; pid: number; controlPid?: number; instances: InstanceStatus[] }>(
    mesh,
    'GET',
    '/ps',
  );
  // A machine that joined another mesh has no control plane of its own to ask; one that is away says nothing.
  const { hosts } = await askControl<{ hosts: HostStatus[] }>(mesh, 'GET', '/v1/hosts').catch(() => ({ hosts: [] }));
  if (options.output === 'json') {
    printJson({ ...answer, hosts });
    return;
  }
  print(
    `mesh ${mesh}, ${answer.capture} capture, supervisor ${answer.pid}, control plane ${answer.controlPid ?? 'down'}\n`,
  );
  print(statusTable(answer.instances));
  if (hosts.length > 0)
    print(
      `\n${table(
        ['HOST', 'NAMESPACE', 'GROUP', 'ENTRANCE', 'HEARD OF', 'INSTANCES'],
        hosts.map((h) => [
          ...[h.name, h.namespace, h.group, h.entrance ? hostPort(h.entrance.host, h.entrance.port) : 'not yet joined'],
          h.seenAgoMs < 0 ? '-' : `${age(h.seenAgoMs)} ago`,
          h.instances.join(', ') || '-',
        ]),
      )}`,
    );
  for (const i of answer.instances) {
    // A label that changed acts at the next restart; until then this runs as it was started.
    if (i.injectionChanged !== undefined)
      print(
        `\n${i.name}: ${i.injected ? 'injected, labelled not to be' : 'labelled, not injected'} (${i.injectionChanged}): "weft restart ${i.workload}" makes it so`,
      );
    else if (!i.injected) print(`\n${i.name}: not injected (${i.injectedReason})`);
    else if (i.proxyPid === undefined && i.state !== 'completed') print(`\n${i.name}: its proxy is down`);
  }
}
