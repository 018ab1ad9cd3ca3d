import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { socketFd } from '@weft/capture';
import { plainConnector } from './dial.ts';
import { type Keepalive, withKeepalive } from './keepalive.ts';

const HOST = '127.7.55.1';

/** What the kernel says of a socket: SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT. */
function asked(socket: Socket): number[] {
  const koffi = createRequire(import.meta.url)('koffi') as {
    load(path: null): { func(prototype: string): (...a: unknown[]) => number };
  };
  const getsockopt = koffi.load(null).func('int getsockopt(int, int, int, _Out_ uint8_t *, _Inout_ uint8_t *)');
  const options: [number, number][] = [
    [1, 9],
    [6, 4],
    [6, 5],
    [6, 6],
  ];
  return options.map(([level, name]) => {
    const value = Buffer.alloc(4);
    const length = Buffer.from([4, 0, 0, 0]);
    assert.equal(getsockopt(socketFd(socket), level, name, value, length), 0);
    return value.readUInt32LE();
  });
}

test('connections get the keep-alive that is asked for when they are made', {
  skip: process.platform !== 'linux',
}, async (t) => {
  const server = createServer((socket) => void socket.on('error', () => {}).resume());
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  const { port } = server.address() as { port: number };
  const sockets: Socket[] = [];
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  let settings: Keepalive | undefined;
  const connect = withKeepalive(plainConnector, () => settings);
  const open = async (): Promise<Socket> => {
    const socket = connect(HOST, port);
    sockets.push(socket);
    await once(socket, 'connect');
    return socket;
  };
  assert.equal(asked(await open())[0], 0);
  settings = { probes: 4, timeMs: 90_000, intervalMs: 7000 };
  assert.deepEqual(asked(await open()), [1, 90, 7, 4]);
  settings = { probes: 0, timeMs: 30_500, intervalMs: 0 };
  const [on, idle, ...rest] = asked(await open());
  assert.deepEqual([on, idle], [1, 31]);
  assert.deepEqual(rest, asked(sockets[0]).slice(2));
});
