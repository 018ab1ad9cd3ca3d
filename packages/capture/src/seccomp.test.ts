import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { DENIED_SYSTEM_CALLS, seccompProgram } from './seccomp.ts';

const EPERM = 0x50001;
const ENOSYS = 0x50026;
const ALLOW = 0x7fff0000;

/** What the kernel does with a program and one call; of its instructions those that the program may use. */
function answer(program: Buffer, audit: number, number: number, first = 0): number {
  let word = 0;
  for (let at = 0; ; at++) {
    const op = program.readUInt16LE(at * 8);
    const value = program.readUInt32LE(at * 8 + 4);
    const jump = (is: boolean): void => {
      at += program.readUInt8(at * 8 + (is ? 2 : 3));
    };
    if (op === 0x20) word = value === 0 ? number : value === 4 ? audit : value === 16 ? first : Number.NaN;
    else if (op === 0x15) jump(word === value);
    else if (op === 0x35) jump(word >= value);
    else if (op === 0x45) jump((word & value) !== 0);
    else if (op === 0x06) return value;
    else assert.fail(`instruction ${op}`);
  }
}

test('the list denies what is on it, on each machine, and nothing else', () => {
  for (const [arch, audit, execve, clone, read] of [
    ['x64', 0xc000003e, 59, 56, 0],
    ['arm64', 0xc00000b7, 221, 220, 63],
  ] as const) {
    const program = seccompProgram(arch);
    let denied = 0;
    for (let n = 0; n < 470; n++) {
      const said = answer(program, audit, n);
      if (said === EPERM) denied++;
      else assert.equal(said, n === 435 ? ENOSYS : ALLOW, `${arch} ${n}`);
    }
    // A few do not exist on arm64.
    assert.ok(denied <= DENIED_SYSTEM_CALLS.length && denied > DENIED_SYSTEM_CALLS.length - 8, arch);
    assert.equal(answer(program, audit, execve), EPERM);
    assert.equal(answer(program, audit, read), ALLOW);
    assert.equal(answer(program, audit, clone, 0x3d0f00), ALLOW, 'a thread');
    assert.equal(answer(program, audit, clone, 0x10000000 | 17), EPERM, 'a user namespace');
    assert.equal(answer(program, 0x40000003, read), EPERM, 'the calls of another machine');
  }
  assert.equal(answer(seccompProgram('x64'), 0xc000003e, 0x40000000), EPERM, 'x32');
  assert.throws(() => seccompProgram('ppc64'), { code: 'seccomp' });
});

const CHILD = `
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { readFileSync, readdirSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import net from 'node:net';
import { denySystemCalls } from '@weft/capture';
await readFile('/proc/self/status'); // The pool's threads exist before.
denySystemCalls();
const status = (thread) => readFileSync('/proc/self/task/' + thread + '/status', 'utf8');
const inWorker = await new Promise((resolve) => new Worker(
  'import("node:child_process").then(async (c) => (await import("node:worker_threads")).parentPort.postMessage(c.spawnSync("true").error?.code))',
  { eval: true }).on('message', resolve));
const server = net.createServer((s) => s.end('served')).listen(0, '127.0.0.1');
await new Promise((resolve) => server.once('listening', resolve));
let heard = '';
for await (const chunk of net.connect(server.address().port, 'localhost')) heard += chunk;
server.close();
console.log(JSON.stringify({
  program: spawnSync('true').error?.code,
  inWorker,
  heard,
  read: (await readFile('/proc/self/status', 'utf8')).length > 0,
  without: readdirSync('/proc/self/task').filter((t) => !/^Seccomp:\\t2$/m.test(status(t)) || !/^NoNewPrivs:\\t1$/m.test(status(t))),
}));
`;

test('a process that has denied them goes on in all its threads, and starts no program', {
  skip: process.platform !== 'linux' && 'Linux only',
}, () => {
  const out = execFileSync(process.execPath, ['--input-type=module', '-e', CHILD], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  });
  assert.deepEqual(JSON.parse(out), { program: 'EPERM', inWorker: 'EPERM', heard: 'served', read: true, without: [] });
});
