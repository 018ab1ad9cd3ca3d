import { closeSync, openSync } from 'node:fs';
import http from 'node:http';
import { WeftError } from '@weft/base';
import { dialMarked } from '@weft/capture';
import type { InstanceStatus } from '@weft/host';
import { Argument, type Command } from 'commander';
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
import { PROXY_TABLES } from '../proxy-tables.ts';

/** `weft proxy-config`: what a proxy holds, told by the proxy itself (never a key). */
export function addProxyConfig(program: Command): void {
  example(
    program
      .command('proxy-config')
      .description('what a proxy holds: its listeners, routes, clusters, endpoints or certificates (never a key)')
      .addArgument(new Argument('<what>').choices([...PROXY_TABLES.keys()]))
      .argument('<name>', 'an instance, or a process (its first instance)')
      .addOption(meshOption())
      .addOption(outputOption())
      .action(proxyConfig),
    'weft proxy-config cluster cart-0',
    'weft proxy-config secret cart -o json',
  );
}

async function proxyConfig(what: string, name: string, options: MeshOption & OutputOption): Promise<void> {
  const mesh = chooseMesh(options.mesh);
  const { instances } = await ask<{ instances: InstanceStatus[] }>(mesh, 'GET', '/ps');
  const instance = instances.find((i) => i.name === name) ?? instances.find((i) => i.workload === name);
  if (!instance)
    throw new WeftError(
      'unknown-instance',
      `no instance "${name}" in mesh ${mesh}; there are: ${instances.map((i) => i.name).join(', ')}`,
    );
  if (!instance.injected) throw new WeftError('no-proxy', `${instance.name} has no proxy (${instance.injectedReason})`);
  const { path, render } = PROXY_TABLES.get(what)!;
  const dump = JSON.parse(await adminGet(instance, path)) as Record<string, unknown>;
  if (options.output === 'json') printJson(dump);
  else print(render(dump));
}

/** The admin port is on the workload's loopback: in a namespace it is reached from inside it. */
function adminGet(instance: InstanceStatus, path: string): Promise<string> {
  const host = instance.netns ? '127.0.0.1' : instance.address;
  const fd = instance.netns ? openSync(`/run/netns/${instance.netns}`, 'r') : undefined;
  const options: http.RequestOptions = { host, port: 15000, path, timeout: 5000 };
  // An agent would dial by itself and ignore createConnection.
  if (fd === undefined) options.agent = false;
  else options.createConnection = () => dialMarked(host, 15000, { namespaceFd: fd });
  return new Promise<string>((resolve, reject) => {
    const request = http.get(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (c: Buffer) => chunks.push(c));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        if (response.statusCode === 200) resolve(text);
        else
          reject(
            new WeftError('admin', `the proxy of ${instance.name} answered ${response.statusCode}: ${text.trim()}`),
          );
      });
    });
    request.on('timeout', () => request.destroy(new Error('no answer within 5 s')));
    request.on('error', (error) =>
      reject(new WeftError('admin', `the proxy of ${instance.name} does not answer: ${error.message}`)),
    );
  }).finally(() => {
    if (fd !== undefined) closeSync(fd);
  });
}
