import { closeSync, openSync } from 'node:fs';
import http from 'node:http';
import { WeftError } from '@weft/base';
import { dialMarked } from '@weft/capture';
import type { InstanceStatus } from '@weft/host';
import { Argument, type Command } from 'commander';
import { ask, chooseMesh, example, type MeshOption, meshOption, printJson } from '../common.ts';

/** What is asked of a proxy's admin port. */
const PATHS = new Map([
  ['listener', '/listeners'],
  ['route', '/routes'],
  ['cluster', '/clusters'],
  ['endpoint', '/endpoints'],
  ['secret', '/certs'],
]);

/** `weft proxy-config`: what a proxy holds, told by the proxy itself (never a key). */
export function addProxyConfig(program: Command): void {
  example(
    program
      .command('proxy-config')
      .description(
        'what a proxy holds, as JSON: its listeners, routes, clusters, endpoints or certificates (never a key)',
      )
      .addArgument(new Argument('<what>').choices([...PATHS.keys()]))
      .argument('<name>', 'an instance, or a process (its first instance)')
      .addOption(meshOption())
      .option('-o, --output <format>', 'json', 'json')
      .action(proxyConfig),
    'weft proxy-config cluster cart-0',
  );
}

async function proxyConfig(what: string, name: string, options: MeshOption): Promise<void> {
  const mesh = chooseMesh(options.mesh);
  const { instances } = await ask<{ instances: InstanceStatus[] }>(mesh, 'GET', '/ps');
  const instance = instances.find((i) => i.name === name) ?? instances.find((i) => i.workload === name);
  if (!instance)
    throw new WeftError(
      'unknown-instance',
      `no instance "${name}" in mesh ${mesh}; there are: ${instances.map((i) => i.name).join(', ')}`,
    );
  if (!instance.injected) throw new WeftError('no-proxy', `${instance.name} has no proxy (${instance.injectedReason})`);
  printJson(JSON.parse(await adminGet(instance, PATHS.get(what)!)));
}

/** The admin port is on the workload's loopback: in a namespace it is reached from inside it. */
function adminGet(instance: InstanceStatus, path: string): Promise<string> {
  const host = instance.netns ? '127.0.0.1' : instance.address;
  const fd = instance.netns ? openSync(`/run/netns/${instance.netns}`, 'r') : undefined;
  const options: http.RequestOptions = { host, port: 15000, path, agent: false, timeout: 5000 };
  if (fd !== undefined) options.createConnection = () => dialMarked(host, 15000, { namespaceFd: fd });
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
