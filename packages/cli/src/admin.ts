/** Asks a proxy's admin port. */
import { closeSync, openSync } from 'node:fs';
import http from 'node:http';
import { WeftError } from '@weft/base';
import { dialMarked } from '@weft/capture';
import type { InstanceStatus } from '@weft/host';

/** The admin port is on the workload's loopback: in a namespace it is reached from inside it. */
export function adminGet(instance: InstanceStatus, path: string): Promise<string> {
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
