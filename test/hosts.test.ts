/** A machine that joins a mesh which runs on another one: by a token, with mTLS both ways, and nothing shared but the network. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isRoot, peers, type Row, TestMesh, weftBin } from './harness.ts';
import { VM } from './vm-documents.ts';

const FILES = `${VM}---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: front-only, namespace: shop }
spec:
  selector: { matchLabels: { app: vm } }
  rules:
    - from: [{ source: { principals: ["*/sa/front"] } }]
    - to: [{ operation: { paths: [/run] } }] # The test's own.
`;

/** Where a command runs: a network namespace that stands for a machine, or the machine of the test. */
interface Machine {
  readonly enter: readonly string[];
  readonly address: string;
}

/** Two machines with nothing but a wire between them; without root, two addresses of the loopback. */
function twoMachines(): { machines: [Machine, Machine]; remove: () => void } {
  if (!isRoot) {
    const n = 20 + (process.pid % 200);
    const at = (address: string): Machine => ({ enter: [], address });
    return { machines: [at(`127.0.${n}.1`), at(`127.0.${n}.2`)], remove: () => {} };
  }
  const names = ['a', 'b'].map((side) => `wt${process.pid % 100_000}${side}`);
  const ip = (...args: string[]): void => void execFileSync('ip', args, { stdio: 'ignore' });
  for (const name of names) ip('netns', 'add', name);
  ip(
    'link',
    'add',
    `${names[0]}0`,
    'netns',
    names[0]!,
    'type',
    'veth',
    'peer',
    'name',
    `${names[1]}0`,
    'netns',
    names[1]!,
  );
  const machines = names.map((name, i): Machine => {
    const address = `192.0.2.${i + 1}`;
    ip('-n', name, 'link', 'set', 'lo', 'up');
    ip('-n', name, 'address', 'add', `${address}/24`, 'dev', `${name}0`);
    ip('-n', name, 'link', 'set', `${name}0`, 'up');
    return { enter: ['nsenter', `--net=/run/netns/${name}`, '--'], address };
  }) as [Machine, Machine];
  return {
    machines,
    remove: () => {
      for (const name of names) spawnSync('ip', ['netns', 'delete', name]);
    },
  };
}

/** One request of the test's own, on a machine. */
function post(on: Machine, address: string, path: string, body: unknown): any {
  const script = `const r = await fetch(process.argv[1], { method: 'POST', body: process.argv[2] }); console.log(await r.text());`;
  const argv = [...on.enter, process.execPath, '--input-type=module', '-e', script];
  const url = `http://${address}:8080${path}`;
  const done = spawnSync(argv[0]!, [...argv.slice(1), url, JSON.stringify(body)], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  if (done.status !== 0) throw new Error(done.stderr);
  return done.stdout.trim() === '' ? undefined : JSON.parse(done.stdout);
}

test('weft host', async (t) => {
  const {
    machines: [a, b],
    remove,
  } = twoMachines();
  const mesh = new TestMesh(isRoot ? 'transparent' : 'explicit', a.enter);
  let leave = async (): Promise<void> => {};
  t.after(async () => {
    await leave();
    await mesh.cleanUp();
    remove();
  });
  mesh.write('services.yaml', peers({ front: { v1: 1 }, back: { v1: 1 } }));
  mesh.write('vm.yaml', FILES);
  mesh.start(['--listen', a.address]);
  await mesh.ready();

  const state = mkdtempSync(join(tmpdir(), 'weft-host-'));
  const stateOf = (name: string): string => {
    mkdirSync(join(state, name), { recursive: true, mode: 0o711 });
    return join(state, name);
  };
  t.after(() => rmSync(state, { recursive: true, force: true }));
  if (isRoot) execFileSync('chmod', ['711', state]);
  const file = join(state, 'vm1.join');
  const token = mesh.weft('ca', 'token', '--host', 'vm1', '--group', 'vm', '-n', 'shop');
  writeFileSync(file, token, { mode: 0o600 });
  const args = (control: string, ...more: string[]): string[] => [
    ...[...b.enter, process.execPath, weftBin, 'host', '--control', control, '--token', file, ...more],
    ...['--address', b.address, '--mesh', `${mesh.name}vm1`, '--', 'node', 'apps/peer.mjs'],
  ];
  const env = (name: string): NodeJS.ProcessEnv => ({ ...process.env, WEFT_STATE: stateOf(name) });
  const failing = (control: string, name: string, ...more: string[]): string => {
    const argv = args(control, ...more);
    const done = spawnSync(argv[0]!, argv.slice(1), {
      env: env(name),
      cwd: mesh.folder,
      encoding: 'utf8',
      timeout: 60_000,
    });
    assert.equal(done.status, 1, done.stdout + done.stderr);
    assert.equal(done.stderr.trim().split('\n').length, 1, done.stderr);
    return done.stderr;
  };
  assert.throws(
    () => mesh.weft('ca', 'token', '--host', 'vm2', '--group', 'other'),
    /there is no WorkloadGroup default\/other; there are: shop\/vm/,
  );
  assert.match(failing(`${a.address}:9`, 'other'), /cannot be reached \(ECONNREFUSED\)/);
  assert.match(failing(a.address, 'other', '--fingerprint', 'AB:CD'), /its root has the SHA-256 .*, not AB:CD/);

  let output = '';
  let host!: ChildProcess;
  const join1 = (): Promise<number | null> => {
    const argv = args(a.address);
    host = spawn(argv[0]!, argv.slice(1), { env: env('vm1'), cwd: mesh.folder, stdio: ['ignore', 'pipe', 'pipe'] });
    const keep = (chunk: Buffer): void => void (output += chunk.toString());
    host.stdout?.on('data', keep);
    host.stderr?.on('data', keep);
    return new Promise((resolve) => host.on('exit', (code) => resolve(code)));
  };
  let ended = join1();
  leave = async () => {
    if (host.exitCode === null && host.signalCode === null) host.kill('SIGTERM');
    await ended;
    if (process.env.WEFT_TEST_VERBOSE) process.stderr.write(output);
  };
  const said = (text: RegExp) =>
    mesh.until(`the host says ${text}`, 60_000, () => {
      if (host.exitCode !== null) throw new Error(output);
      return text.test(output);
    });
  await said(/vm1-0 is ready/).catch((error: Error) => assert.fail(`${error.message}\nthe host said:\n${output}`));

  const ps = (): Row[] => {
    const argv = [process.execPath, weftBin, 'ps', '-o', 'json', '--mesh', `${mesh.name}vm1`];
    return JSON.parse(execFileSync(argv[0]!, argv.slice(1), { env: env('vm1'), encoding: 'utf8' })).instances;
  };
  const vm = ps()[0]!.address;
  const front = mesh.row('front').address;
  const call = { count: 10, concurrency: 2, url: 'http://vm.shop/' };
  const statuses = (): Record<string, number> => post(a, front, '/run', call).statuses;
  await mesh.until('front reaches it', 30_000, () => statuses()['200'] === 10);
  assert.match(mesh.weft('ps'), /\nvm1 +shop +vm +\S+:15443 +\S+ ?\S* ago +vm1-0\n/);
  const toBack = { count: 5, url: 'http://back.shop:8080/' };
  assert.deepEqual(post(b, vm, '/run', toBack).statuses, { 200: 5 }, 'by its identity it may call whom others may not');
  assert.deepEqual(post(a, front, '/run', toBack).statuses, { 403: 5 });

  assert.match(failing(a.address, 'thief'), /the token was used already, with another key: make another one by/);

  host.kill('SIGINT');
  assert.equal(await ended, 0, output);
  assert.deepEqual(statuses(), { 503: 10 }, 'nobody is sent there any more');
  if (process.env.WEFT_LONG !== '1') return;
  // The machine has its certificate: it needs no other token.
  ended = join1();
  await mesh.until('it is back', 60_000, () => statuses()['200'] === 10);
  host.kill('SIGKILL');
  await mesh.until('a machine that is gone is noticed', 60_000, () => !mesh.weft('ca', 'status').includes('vm1-0'));
  const down = [weftBin, 'down', '--mesh', `${mesh.name}vm1`];
  assert.match(execFileSync(process.execPath, down, { env: env('vm1'), encoding: 'utf8' }), /removed what was left/);
});
