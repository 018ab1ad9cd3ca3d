/** `weft demo --compare` as a user runs it: the same load without and with the mesh, and nothing is left. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { weftBin } from './harness.ts';

function environment(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8');
  } catch {
    return '';
  }
}

/** The Go service would be compiled anew for every state folder; its Node version does as well here. */
function withoutGo(path: string): string {
  return path
    .split(':')
    .filter((folder) => folder === '/usr/bin' || !existsSync(join(folder, 'go')))
    .join(':');
}

test('the demo without and with the mesh', { skip: process.platform !== 'linux' }, async (t) => {
  const base = mkdtempSync(join(tmpdir(), 'weft-compare-'));
  chmodSync(base, 0o755);
  const argv = ['demo', '--compare', '--mesh', `c${process.pid % 10_000}`, '--capture', 'explicit'];
  const child = spawn(process.execPath, [weftBin, ...argv, '--rps', '20', '--duration', '2s', '-o', 'json'], {
    env: { ...process.env, PATH: withoutGo(process.env.PATH ?? ''), WEFT_STATE: join(base, 'state') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (c: Buffer) => {
    out += c;
  });
  child.stderr.on('data', (c: Buffer) => {
    err += c;
  });
  const exit = new Promise<number | null>((resolve) => child.on('close', resolve));
  t.after(async () => {
    if (child.exitCode === null) child.kill('SIGTERM');
    await exit;
    rmSync(base, { recursive: true, force: true });
  });
  assert.equal(await exit, 0, err + out);
  // Every application has the folder of the shop's binary in its environment.
  const left = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && environment(pid).includes(base));
  assert.deepEqual(
    left.filter((pid) => pid !== String(process.pid)),
    [],
  );
  interface Cost {
    cpuMsPerSecond: number;
    pssBytes: number;
  }
  const said = JSON.parse(out) as {
    without: { requests: number; failures: number; p50Ms: number };
    with: { requests: number; failures: number; p50Ms: number };
    services: { name: string; without?: Cost; application?: Cost; proxy?: Cost }[];
  };
  for (const side of [said.without, said.with]) {
    assert.ok(side.requests > 5 && side.failures === 0 && side.p50Ms > 0, out);
  }
  const of = (name: string) => said.services.find((s) => s.name === name);
  for (const name of ['frontend', 'cart']) {
    for (const cost of [of(name)?.without, of(name)?.application, of(name)?.proxy])
      assert.ok(cost && cost.cpuMsPerSecond > 0 && cost.pssBytes > 1e6, `${name}: ${out}`);
  }
  // Without a mesh there is neither gateway nor control plane.
  for (const name of ['ingressgateway', 'control-plane']) {
    assert.equal(of(name)?.without, undefined);
    assert.ok(of(name)?.proxy, name);
  }
});
