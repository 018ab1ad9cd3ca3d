/** What annotations leave out of capture passes as it is; all else is still taken, and closed without a proxy. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { openSync } from 'node:fs';
import net from 'node:net';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { inNamespace, inNamespaceArgv, MeshNetwork, type RedirectScope, transparentUnavailable } from './index.ts';

const skip = transparentUnavailable() ?? false;
const run = promisify(execFile);
const port = (first: number, last = first) => ({ first, last });

test('ports, ranges and interfaces that are left alone', { skip }, async () => {
  const network = new MeshNetwork(`s${process.pid}`);
  const servers: net.Server[] = [];
  try {
    const server = network.add('server-1');
    const strict = network.add('strict-1', { rules: { scope: { excludeInboundPorts: [port(7001)] } } });
    const listed = network.add('listed-1', { rules: { scope: { includeInboundPorts: [port(7001)] } } });
    for (const place of [server, strict, listed]) {
      const fd = openSync(`/run/netns/${place.namespace}`, 'r');
      for (const p of [7001, 7002, 7003]) {
        const s = net.createServer((socket) => socket.on('error', () => {}).end('direct\n'));
        inNamespace(fd, () => s.listen(p));
        servers.push(s);
      }
    }
    const scopes: [string, Partial<RedirectScope>, string][] = [
      ['none', {}, '7001 no, 7002 no, 7003 no'],
      ['ports', { excludeOutboundPorts: [port(7001), port(7000, 7002)] }, '7001 yes, 7002 yes, 7003 no'],
      [
        'range',
        { excludeOutboundRanges: ['10.0.0.0/8', `${server.address}/32`, 'fd00::/8'] },
        '7001 yes, 7002 yes, 7003 yes',
      ],
      ['other', { excludeOutboundRanges: ['192.0.2.0/24'] }, '7001 no, 7002 no, 7003 no'],
      ['only', { includeOutboundRanges: ['192.0.2.0/24'] }, '7001 yes, 7002 yes, 7003 yes'],
      ['here', { includeOutboundRanges: [server.address] }, '7001 no, 7002 no, 7003 no'],
      ['nothing', { includeOutboundRanges: [], includeOutboundPorts: [port(7002)] }, '7001 yes, 7002 no, 7003 yes'],
      ['link', { excludeInterfaces: ['eth0', 'eth1'] }, '7001 yes, 7002 yes, 7003 yes'],
    ];
    const script = `const net=require('net');const [host]=process.argv.slice(1);
      Promise.all([7001,7002,7003].map(p=>new Promise(ok=>{const s=net.connect(p,host);
      s.on('data',()=>ok(p+' yes'));s.on('error',()=>ok(p+' no'))}))).then(a=>console.log(a.join(', ')))`;
    const reaches = async (namespace: string, host: string): Promise<string> => {
      const [program, ...args] = inNamespaceArgv(namespace);
      const as = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--'];
      const { stdout } = await run(program!, [...args, ...as, process.execPath, '-e', script, host]);
      return stdout.trim();
    };
    for (const [name, scope, expected] of scopes) {
      const client = network.add(`${name}-1`, { rules: { scope } });
      assert.equal(await reaches(client.namespace, server.address), expected, name);
    }
    const plain = network.add('plain-1');
    assert.equal(await reaches(plain.namespace, strict.address), '7001 yes, 7002 no, 7003 no');
    assert.equal(await reaches(plain.namespace, listed.address), '7001 no, 7002 yes, 7003 yes');
  } finally {
    for (const s of servers) s.close();
    network.close();
  }
});
