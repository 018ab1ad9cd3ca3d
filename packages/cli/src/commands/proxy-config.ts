import { WeftError } from '@weft/base';
import type { InstanceStatus } from '@weft/host';
import { Argument, type Command } from 'commander';
import { adminGet } from '../admin.ts';
import {
  ask,
  chooseMesh,
  instancesNamed,
  type MeshOption,
  meshOption,
  type NamespaceOption,
  namespaceOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
} from '../common.ts';
import { example } from '../example.ts';
import { PROXY_TABLES } from '../proxy-tables.ts';

/** `weft proxy-config`: what a proxy holds, told by the proxy itself (never a key). */
export function addProxyConfig(program: Command): void {
  example(
    program
      .command('proxy-config')
      .description('what a proxy holds: its listeners, routes, clusters, endpoints or certificates (never a key)')
      .addArgument(new Argument('<what>').choices([...PROXY_TABLES.keys()]))
      .argument('<name>', 'an instance, or a process (its first instance), also as deploy/NAME')
      .addOption(namespaceOption())
      .addOption(meshOption())
      .addOption(outputOption())
      .action(proxyConfig),
    'weft proxy-config cluster cart-0',
    'weft proxy-config secret deploy/cart -n shop -o json',
  );
}

async function proxyConfig(
  what: string,
  name: string,
  options: MeshOption & OutputOption & NamespaceOption,
): Promise<void> {
  const mesh = chooseMesh(options.mesh);
  const { instances } = await ask<{ instances: InstanceStatus[] }>(mesh, 'GET', '/ps');
  const instance = instancesNamed(mesh, instances, name, options.namespace)[0]!;
  if (!instance.injected) throw new WeftError('no-proxy', `${instance.name} has no proxy (${instance.injectedReason})`);
  const { path, render } = PROXY_TABLES.get(what)!;
  const dump = JSON.parse(await adminGet(instance, path)) as Record<string, unknown>;
  if (options.output === 'json') printJson(dump);
  else print(render(dump));
}
