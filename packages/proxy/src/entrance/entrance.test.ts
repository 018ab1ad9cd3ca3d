/** Two entrances, and who may go where by them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import { silentLogger } from '@weft/base';
import { entranceName } from '@weft/plan';
import { Entrance, type EntranceOptions } from './entrance.ts';
import { Ways, type WayTable } from './table.ts';

const OUTSIDE_A = '127.7.213.1';
const OUTSIDE_B = '127.7.213.2';
const INSIDE_A = '127.7.213.3';
const INSIDE_B = '127.7.213.4';
const PORT = 15_443;

const dir = mkdtempSync(join(tmpdir(), 'weft-entrance-'));
const closers: (() => void)[] = [() => rmSync(dir, { recursive: true, force: true })];
after(() => {
  for (const close of closers.reverse()) close();
});

function machine(network: string, outside: string, inside: string, more: Partial<EntranceOptions> = {}) {
  const path = join(dir, `${network}.json`);
  const counts = new Map<string, number>();
  const write = (table: WayTable): void => {
    writeFileSync(`${path}.new`, JSON.stringify(table));
    renameSync(`${path}.new`, path);
  };
  write({ instances: {}, networks: {} });
  const entrance = new Entrance({
    outside: { host: outside, port: PORT },
    inside: { host: inside, port: PORT },
    forwards: [],
    ways: new Ways(path, network, silentLogger),
    limits: { maxConnections: 20, detectTimeoutMs: 300, tcpIdleTimeoutMs: 60_000 },
    count: (name) => counts.set(name, (counts.get(name) ?? 0) + 1),
    logger: silentLogger,
    ...more,
  });
  closers.push(() => entrance.close());
  return { entrance, write, counts };
}

/** A workload's mesh port in their place: answers the bytes it gets with its name before them, and half-closes after them. */
async function workload(host: string, name: string, port = 15_008): Promise<void> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    socket.write(`${name}:`);
    socket.pipe(socket);
  });
  server.listen(port, host);
  await once(server, 'listening');
  closers.push(() => server.close());
}

/** The bytes of a ClientHello with this server name. */
function hello(servername: string): Promise<Buffer> {
  return new Promise((resolve) => {
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', (bytes) => {
        socket.destroy();
        server.close();
        resolve(bytes);
      });
    });
    server.listen(0, '127.7.213.9', () => {
      const { port } = server.address() as net.AddressInfo;
      tlsConnect({ host: '127.7.213.9', port, servername }).on('error', () => {});
    });
  });
}

/** All that comes back to these bytes, which are sent in two pieces and half-closed; 'reset' where it is refused. */
function say(host: string, bytes: Buffer, port = PORT): Promise<Buffer | 'reset'> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = net.connect({ host, port, allowHalfOpen: true, noDelay: true });
    socket.on('error', () => resolve('reset'));
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('end', () => resolve(Buffer.concat(chunks)));
    socket.write(bytes.subarray(0, 50));
    setImmediate(() => socket.end(bytes.subarray(50)));
  });
}

/** However it ends: `once` would take a reset for its own failure. */
function closed(socket: net.Socket): Promise<void> {
  socket.on('error', () => {});
  return new Promise((resolve) => socket.on('close', () => resolve()));
}

test('links go on by their server name: to own workloads from outside, and anywhere from inside', async () => {
  const a = machine('mesh', OUTSIDE_A, INSIDE_A);
  const b = machine('vm1', OUTSIDE_B, INSIDE_B, {
    forwards: [{ bind: { host: INSIDE_B, port: 15_012 }, to: { host: '127.7.213.5', port: 15_008 } }],
  });
  await Promise.all([a.entrance.listen(), b.entrance.listen()]);
  await Promise.all([workload('127.7.213.5', 'front'), workload('127.7.213.6', 'vm')]);
  const networks = { mesh: { host: OUTSIDE_A, port: PORT }, vm1: { host: OUTSIDE_B, port: PORT } };
  a.write({ instances: { 'front-0': { host: '127.7.213.5', port: 15_008 } }, networks });
  b.write({ instances: { 'vm1-0': { host: '127.7.213.6', port: 15_008 } }, networks });

  const toVm = await hello(entranceName('vm1-0', 'vm1'));
  const toFront = await hello(entranceName('front-0', 'mesh'));
  const answered = (name: string, bytes: Buffer): Buffer => Buffer.concat([Buffer.from(`${name}:`), bytes]);
  // Through both, and back; the ClientHello comes as it was sent.
  assert.deepEqual(await say(INSIDE_A, toVm), answered('vm', toVm));
  assert.deepEqual(await say(INSIDE_B, toFront), answered('front', toFront));
  assert.deepEqual(await say(OUTSIDE_B, toVm), answered('vm', toVm));
  assert.deepEqual(await say(INSIDE_B, toVm), answered('vm', toVm), 'also where it is its own');
  assert.deepEqual(
    await say(INSIDE_B, Buffer.from('x'.repeat(80)), 15_012),
    answered('front', Buffer.from('x'.repeat(80))),
  );
  // Nobody goes through one machine to another.
  assert.equal(await say(OUTSIDE_A, toVm), 'reset');
  assert.equal(a.counts.get('entrance_unknown_destination'), 1);
});

test('what leads nowhere is refused: other names, no TLS, silence, too many; a machine that joins is waited for', async () => {
  const a = machine('mesh', '127.7.213.11', '127.7.213.12', {
    limits: { maxConnections: 2, detectTimeoutMs: 300, tcpIdleTimeoutMs: 60_000 },
  });
  await a.entrance.listen();
  for (const name of ['front-0.mesh.weft', 'front.example', '.weft', 'weft', 'x..weft'])
    assert.equal(await say('127.7.213.11', await hello(name)), 'reset', name);
  assert.equal(await say('127.7.213.11', Buffer.from(`GET / HTTP/1.1\r\nhost: x\r\n\r\n${'x'.repeat(60)}`)), 'reset');
  assert.equal(a.counts.get('entrance_unknown_destination'), 6);

  const silent = net.connect({ host: '127.7.213.11', port: PORT });
  await closed(silent);
  assert.equal(a.counts.get('detect_timeout'), 1);

  const idle = [1, 2].map(() => net.connect({ host: '127.7.213.11', port: PORT }));
  for (const socket of idle) socket.on('error', () => {});
  await Promise.all(idle.map((socket) => once(socket, 'connect')));
  while (a.entrance.open < 2) await new Promise((resolve) => setImmediate(resolve));
  const third = net.connect({ host: '127.7.213.11', port: PORT });
  await closed(third);
  assert.equal(a.counts.get('entrance_connections_overflow'), 1);
  for (const socket of idle) socket.destroy();
  while (a.entrance.open > 0) await new Promise((resolve) => setImmediate(resolve));

  await workload('127.7.213.13', 'late', PORT);
  const bytes = await hello(entranceName('vm9-0', 'vm9'));
  const waits = say('127.7.213.12', bytes);
  a.write({ instances: {}, networks: { vm9: { host: '127.7.213.13', port: PORT } } });
  assert.deepEqual(await waits, Buffer.concat([Buffer.from('late:'), bytes]));
  a.write({ instances: {}, networks: { vm9: { host: '127.7.213.14', port: PORT } } });
  assert.equal(await say('127.7.213.12', bytes), 'reset');
  assert.equal(a.counts.get('entrance_connect_failed'), 1);
});
