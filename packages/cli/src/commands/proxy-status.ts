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
import { age, column, table } from '../table.ts';

/** `weft proxy-status`: whether each proxy has what it should. */
export function addProxyStatus(program: Command): void {
  example(
    program
      .command('proxy-status')
      .description('per proxy: SYNCED, STALE, NOT SENT, ERROR or DISCONNECTED, with epoch and age')
      .addOption(meshOption())
      .addOption(outputOption())
      .action(proxyStatus),
    'weft proxy-status',
  );
}

async function proxyStatus(options: MeshOption & OutputOption): Promise<void> {
  const mesh = chooseMesh(options.mesh);
  const answer = await askControl<Record<string, unknown>>(mesh, 'GET', '/v1/status');
  const { instances } = await ask<{ instances: InstanceStatus[] }>(mesh, 'GET', '/ps');
  const versions = new Map(instances.map((i) => [i.name, i.proxyVersion]));
  const said = (Array.isArray(answer) ? answer : (answer.proxies ?? [])) as Record<string, unknown>[];
  // Who starts the proxies knows what they run.
  const proxies = said.map(
    (p): Record<string, unknown> => ({ ...p, version: versions.get(String(p.instance ?? p.name)) }),
  );
  if (options.output === 'json') {
    printJson(Array.isArray(answer) ? proxies : { ...answer, proxies });
    return;
  }
  print(
    table(
      ['PROXY', 'STATUS', 'EPOCH', 'AGE', 'VERSION', 'REASON'],
      proxies.map((p) => [
        column(p, 'instance') ?? column(p, 'name'),
        column(p, 'status') ?? column(p, 'state'),
        column(p, 'epoch'),
        typeof p.ageMs === 'number' ? age(p.ageMs) : undefined,
        column(p, 'version'),
        column(p, 'reason') ?? column(p, 'error') ?? '',
      ]),
    ),
  );
}
