/** A control plane that hangs instead of dying: what runs goes on, and a proxy that dies comes back without it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRoot, meshOf, request } from './harness.ts';

const LONG = process.env.WEFT_LONG === '1';

test('a proxy restarts beside a hung control plane', async (t) => {
  const capture = isRoot ? 'transparent' : 'explicit';
  const mesh = await meshOf(t, capture, { client: { v1: 1 }, pay: { v1: 1 } });
  const { controlPid } = JSON.parse(mesh.weft('ps', '-o', 'json')) as { controlPid: number };
  const call = { count: 10, url: 'http://pay:8080/' };
  const good = async (): Promise<boolean> => (await mesh.ask('client', '/run', call)).json.statuses['200'] === 10;
  assert.ok(await good());
  // By who was not restarted.
  const { address } = mesh.row('client');
  const sees = async (state: 0 | 1): Promise<boolean> => {
    const { text } = await request(address, 15090, '/stats/prometheus');
    return new RegExp(`^control_plane_connected_state ${state}$`, 'm').test(text);
  };
  assert.ok(await sees(1));
  const hung = performance.now();
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
  if (LONG) {
    // Silent for 5 s, asked, and 10 s without an answer.
    await mesh.until('the other proxy notices', 60_000, () => sees(0));
    t.diagnostic(`noticed within ${Math.round(performance.now() - hung)} ms`);
  }
  process.kill(controlPid, 'SIGCONT');
  assert.ok(await good());
  await mesh.until('the other proxy has it back', 60_000, () => sees(1));
});
