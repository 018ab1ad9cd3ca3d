/** A process that joins by a WorkloadGroup: in its services, with its identity, as its probe says. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { isRoot, meshOf, weftBin } from './harness.ts';
import { VM } from './vm-documents.ts';

test('weft run --group', async (t) => {
  const mesh = await meshOf(
    t,
    isRoot ? 'transparent' : 'explicit',
    { front: { v1: 1 }, back: { v1: 1 } },
    { 'vm.yaml': VM },
  );
  const run = (...args: string[]) => {
    const given = ['run', '-n', 'shop', ...args, '--mesh', mesh.name, '--', 'true'];
    return spawnSync(process.execPath, [weftBin, ...given], { env: mesh.env, encoding: 'utf8', cwd: mesh.folder });
  };
  assert.match(run('--group', 'other').stderr, /there is no WorkloadGroup shop\/other; there are: shop\/vm/);
  assert.match(run('--group', 'vm', '--port', '9').stderr, /group vm has the ports 8080 \(http\), not 9/);
  assert.match(run().stderr, /say --service or --group/);

  const args = ['run', '--mesh', mesh.name, '--group', 'vm', '-n', 'shop', '--', 'node', 'apps/peer.mjs'];
  const options = { env: mesh.env, cwd: mesh.folder, stdio: 'ignore' as const };
  const joined = spawn(process.execPath, [weftBin, ...args], options);
  const ended = new Promise<number | null>((resolve) => joined.on('exit', (code) => resolve(code)));
  await mesh.until('vm is ready', 60_000, () => mesh.row('vm-run').state === 'ready');
  const call = { count: 10, concurrency: 2, url: 'http://vm.shop/' };
  const statuses = async (): Promise<Record<string, number>> => (await mesh.ask('front', '/run', call)).json.statuses;
  await mesh.until('front reaches it', 60_000, async () => (await statuses())['200'] === 10);
  // By its identity it may call whom others may not.
  const toBack = { count: 5, url: 'http://back.shop:8080/' };
  assert.deepEqual((await mesh.ask('vm-run', '/run', toBack)).json.statuses, { 200: 5 });
  assert.deepEqual((await mesh.ask('front', '/run', toBack)).json.statuses, { 403: 5 });

  await mesh.ask('vm-run', '/set', { fail: 500 });
  await mesh.until('its probe fails', 60_000, () => mesh.row('vm-run').state === 'running');
  await mesh.until('nobody is there', 60_000, async () => (await statuses())['503'] === 10);
  await mesh.ask('vm-run', '/set', { fail: 0 });
  await mesh.until('it is back', 60_000, async () => (await statuses())['200'] === 10);
  joined.kill('SIGINT');
  assert.equal(await ended, 0);
  assert.equal(
    mesh.ps().some((r) => r.workload === 'vm-run'),
    false,
  );
});
