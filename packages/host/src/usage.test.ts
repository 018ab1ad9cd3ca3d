import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { groupCpuMs, processMemory } from './usage.ts';

test('CPU time of a process group counts its processes and nobody else', {
  skip: process.platform !== 'linux',
}, async () => {
  // A shell that leads a group, and a child of it that computes until it was told how long it did.
  const script =
    'process.stdout.write("on"); for (const end = process.cpuUsage().user + 3e5; process.cpuUsage().user < end; ); process.stdout.write("done"); setInterval(() => {}, 1000)';
  const child = spawn('sh', ['-c', '"$0" -e "$1"; true', process.execPath, script], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    let said = '';
    for await (const chunk of child.stdout) {
      said += String(chunk);
      if (said.includes('done')) break;
    }
    const used = groupCpuMs([child.pid!, 999_999_999]);
    assert.ok(used.get(child.pid!)! >= 250, `used ${used.get(child.pid!)} ms`);
    assert.equal(used.get(999_999_999), 0);
  } finally {
    process.kill(-child.pid!, 'SIGKILL');
    await once(child, 'exit');
  }
});

test('memory of a process, and what is said of one that is not there', { skip: process.platform !== 'linux' }, () => {
  const own = processMemory(process.pid);
  assert.ok(own.rssBytes > 10e6 && own.pssBytes <= own.rssBytes);
  assert.throws(() => processMemory(999_999_999), /memory of process 999999999 cannot be read/);
});
