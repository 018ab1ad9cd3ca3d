/** `weft demo --compare` as a user runs it: the same load without and with the mesh, and nothing is left. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Demo } from './demo.ts';

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
  const args = ['--compare', '--capture', 'explicit', '--rps', '20', '--duration', '2s', '-o', 'json'];
  const demo = new Demo(t, args, { PATH: withoutGo(process.env.PATH ?? '') });
  assert.equal(await demo.exit, 0, demo.err + demo.out);
  const { base, out } = demo;
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
