/** A control plane that hangs instead of dying: what runs goes on, and a proxy that dies comes back without it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRoot, meshOf } from './harness.ts';

test('a proxy restarts beside a hung control plane', async (t) => {
  const capture = isRoot ? 'transparent' : 'explicit';
  const mesh = await meshOf(t, capture, { client: { v1: 1 }, pay: { v1: 1 } });
  const { controlPid } = JSON.parse(mesh.weft('ps', '-o', 'json')) as { controlPid: number };
  const call = { count: 10, url: 'http://pay:8080/' };
  const good = async (): Promise<boolean> => (await mesh.ask('client', '/run', call)).json.statuses['200'] === 10;
  assert.ok(await good());
  process.kill(controlPid, 'SIGSTOP');
  t.after(() => {
    try {
      process.kill(controlPid, 'SIGCONT');
    } catch {}
  });
  const before = mesh.row('pay').proxyPid as number;
  const started = performance.now();
  process.kill(before, 'SIGKILL');
  await mesh.until(
    'another proxy that serves',
    60_000,
    async () => mesh.row('pay').proxyPid !== before && (await good()),
  );
  t.diagnostic(`back after ${Math.round(performance.now() - started)} ms`);
  process.kill(controlPid, 'SIGCONT');
  assert.ok(await good());
});
