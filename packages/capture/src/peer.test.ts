import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { madeInOwnNetwork, peerCredentials } from './peer.ts';

const dir = mkdtempSync(join(tmpdir(), 'weft-peer-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const linux = process.platform === 'linux' ? false : 'the kernel says it on Linux only';
const root = process.getuid?.() === 0;
const path = join(dir, 's.sock');
const CONNECT = `require('node:net').connect(${JSON.stringify(path)}).on('error', () => {}).resume()`;

test('who connected to a Unix socket, and from which network namespace', { skip: linux }, async (t) => {
  const server = createServer().listen(path);
  await once(server, 'listening');
  chmodSync(dir, 0o711);
  chmodSync(path, 0o666);
  t.after(() => void server.close());
  const visit = async (before: string[]): Promise<{ socket: Socket; pid: number; own: boolean; uid: number }> => {
    const argv = [...before, process.execPath, '-e', CONNECT];
    const child = spawn(argv[0] as string, argv.slice(1), { stdio: 'ignore' });
    const exit = once(child, 'exit');
    const [socket] = (await once(server, 'connection')) as [Socket];
    socket.on('error', () => {});
    const { pid, uid } = peerCredentials(socket);
    const own = madeInOwnNetwork(socket);
    child.kill('SIGKILL');
    socket.destroy();
    await exit;
    assert.equal(pid, child.pid);
    return { socket, pid, own, uid };
  };
  const own = await visit([]);
  assert.equal(own.uid, process.getuid?.());
  assert.equal(own.own, true);
  assert.throws(() => peerCredentials(own.socket), { code: 'peer' });
  assert.throws(() => madeInOwnNetwork(own.socket), { code: 'peer' });
  if (!root) return;
  assert.equal((await visit(['unshare', '-n', '--'])).own, false);
  assert.equal((await visit(['setpriv', '--reuid=65534', '--clear-groups', '--'])).uid, 65534);
});
