import type { Command } from 'commander';
import {
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
  const answer = await askControl<Record<string, unknown>>(chooseMesh(options.mesh), 'GET', '/v1/status');
  if (options.output === 'json') {
    printJson(answer);
    return;
  }
  const proxies = (Array.isArray(answer) ? answer : (answer.proxies ?? [])) as Record<string, unknown>[];
  print(
    table(
      ['PROXY', 'STATUS', 'EPOCH', 'AGE', 'REASON'],
      proxies.map((p) => [
        column(p, 'instance') ?? column(p, 'name'),
        column(p, 'status') ?? column(p, 'state'),
        column(p, 'epoch'),
        typeof p.ageMs === 'number' ? age(p.ageMs) : undefined,
        column(p, 'reason') ?? column(p, 'error') ?? '',
      ]),
    ),
  );
}
