/** What a mesh leaves behind: nothing, however it ends. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isRoot, needsRoot, peers, TestMesh, weftBin } from './harness.ts';

const capture = isRoot ? 'transparent' : 'explicit';
/** Other meshes may run on this machine at the same time: only what carries this mesh's name or mark is its own. */
function traces(mesh: TestMesh): string[] {
  const found: string[] = [];
  const { name } = mesh;
  if (isRoot) {
    for (const l of ip(['-j', 'link', 'show']) as { ifname: string; ifalias?: string }[])
      if (l.ifalias === `weft:${name}` || l.ifname.startsWith(hashOf(mesh))) found.push(`link ${l.ifname}`);
    const ruleset = execFileSync('nft', ['list', 'ruleset'], { encoding: 'utf8' });
    if (ruleset.includes(name) || ruleset.includes('15001')) found.push(`nftables: ${ruleset}`);
  }
  for (const folder of ['/run/netns', '/etc/netns', '/run/weft', tmpdir()])
    for (const f of list(folder))
      if (f.startsWith(`weft-${name}.`) || f.startsWith(`${name}.`) || f.includes(name)) found.push(join(folder, f));
  for (const p of processes(mesh)) found.push(`process ${p}`);
  return found;
}

let bridgeHash = '';
/** The interfaces of a mesh carry the hash of its bridge. */
function hashOf(mesh: TestMesh): string {
  const links = ip(['-j', 'link', 'show', 'type', 'bridge']) as { ifname?: string; ifalias?: string }[];
  const bridge = links.find((l) => l.ifalias === `weft:${mesh.name}`)?.ifname;
  if (bridge) bridgeHash = `wv${bridge.slice('weft-'.length)}-`;
  return bridgeHash || 'no bridge yet';
}

function ip(args: string[]): unknown[] {
  const text = execFileSync('ip', args, { encoding: 'utf8' });
  return text.trim() ? (JSON.parse(text) as unknown[]) : [];
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    // Root's, where root runs meshes too: an ordinary user's mesh has nothing there.
    if (['ENOENT', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}

/** Pids of everything a mesh started: the environment is inherited, whatever a process does to its parents. */
function processes(mesh: TestMesh): number[] {
  return list('/proc').flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      const mark = readFileSync(`/proc/${entry}/environ`, 'utf8').split('\0');
      return mark.some((v) => v.startsWith(`WEFT_RUN=${mesh.name}/`)) ? [Number(entry)] : [];
    } catch {
      return [];
    }
  });
}

/** What is in the state folder: the logs, the CA, the API's token and caches may stay, no socket, lock, key of a workload or child file. */
function stateLeft(mesh: TestMesh): string[] {
  return list(join(mesh.state, mesh.name))
    .filter((f) => !['logs', 'control', 'api-token'].includes(f))
    .sort();
}

const MESH = peers({ front: { v1: 1 } });

function newMesh(text = MESH): TestMesh {
  const mesh = new TestMesh(capture);
  mesh.write('services.yaml', text);
  return mesh;
}

/** Starts a mesh that must not come up; its output and exit code. */
async function refused(mesh: TestMesh): Promise<{ code: number; lines: string[] }> {
  mesh.start();
  const code = await mesh.exited();
  return { code, lines: mesh.output.split('\n').filter((l) => l.startsWith('weft: ')) };
}

test('nothing is left after each signal, and the next start works', async (t) => {
  const mesh = newMesh();
  t.after(() => mesh.cleanUp());
  const folders = ['/run/netns', '/etc/netns', '/run/weft'];
  const before = folders.map((f) => existsSync(f));
  const others = () => isRoot && list('/run/netns').length > 0;
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    mesh.start();
    await mesh.ready();
    assert.ok(traces(mesh).length > 0, 'a running mesh can be seen');
    assert.equal(await mesh.stop(signal), code, mesh.output);
    assert.deepEqual(traces(mesh), [], signal);
    assert.deepEqual(stateLeft(mesh), [], signal);
    // The folders themselves too, where no other mesh of this machine needs them.
    if (!others())
      assert.deepEqual(
        folders.map((f) => existsSync(f)).map((now, i) => now && !before[i]),
        [false, false, false],
      );
  }
});

test('a signal in the middle of the start leaves nothing', async (t) => {
  const mesh = newMesh();
  t.after(() => mesh.cleanUp());
  mesh.start();
  await mesh.until('first process', 60_000, () => processes(mesh).length > 0);
  await mesh.stop('SIGINT');
  assert.deepEqual(traces(mesh), []);
  assert.deepEqual(stateLeft(mesh), []);
});

test('a failed start is one clear line and leaves nothing', async (t) => {
  const missing = newMesh(MESH.replace('[node, apps/peer.mjs]', '[no-such-program-here]'));
  const path = newMesh(MESH.replace('[node, apps/peer.mjs]', '[./apps/none]'));
  const nobody = newMesh(MESH.replace('app: front\n  ports', 'app: somebody-else\n  ports'));
  t.after(() => Promise.all([missing, path, nobody].map((m) => m.cleanUp())));
  for (const [mesh, pattern] of [
    [missing, /^weft: process front: command "no-such-program-here" is not on PATH/],
    [path, /^weft: process front: command "\.\/apps\/none" does not exist or is not executable/],
    [nobody, /services\.yaml:\d+.*nobody provides the service front.*app=?:? ?"?somebody-else/],
  ] as const) {
    const { code, lines } = await refused(mesh);
    assert.equal(code, 1, mesh.output);
    assert.equal(lines.length, 1, mesh.output);
    assert.match(lines[0]!, pattern);
    assert.deepEqual(traces(mesh), []);
    assert.deepEqual(stateLeft(mesh), []);
  }
});

test('explicit mode: a used port is named before anything of the workload starts', async (t) => {
  const mesh = new TestMesh('explicit');
  mesh.write('services.yaml', MESH);
  t.after(() => mesh.cleanUp());
  const thief = net.createServer();
  await new Promise<void>((resolve) => thief.listen(0, '0.0.0.0', resolve));
  t.after(() => thief.close());
  const { port } = thief.address() as net.AddressInfo;
  mesh.write('services.yaml', MESH.replaceAll('8080', String(port)));
  const { code, lines } = await refused(mesh);
  assert.equal(code, 1, mesh.output);
  assert.equal(lines.length, 1, mesh.output);
  assert.match(lines[0]!, new RegExp(`^weft: front-0: 127\\.\\d+\\.\\d+\\.\\d+:${port} is in use by another process`));
  assert.deepEqual(traces(mesh), []);
  assert.deepEqual(stateLeft(mesh), []);
});

test('kill -9: the children die too, and the next command removes the rest', async (t) => {
  const mesh = newMesh();
  t.after(() => mesh.cleanUp());
  const dead = async () => {
    // The harness's own `until` gives up with the mesh; here it is meant to be dead.
    const end = performance.now() + 60_000;
    while (processes(mesh).length > 0 && performance.now() < end) await new Promise((r) => setTimeout(r, 20));
    assert.deepEqual(processes(mesh), []);
  };
  const supervisor = () => (JSON.parse(mesh.weft('ps', '-o', 'json')) as { pid: number }).pid;

  mesh.start();
  await mesh.ready();
  // What "weft fault" wrote is noted on disk: the next one takes it back.
  const fault = join(mesh.folder, 'weft-fault-front.shop.yaml');
  const addFault = () => mesh.weft('fault', 'add', 'front', '--abort', '503', '--for', '1h');
  addFault();
  assert.ok(existsSync(fault));
  process.kill(supervisor(), 'SIGKILL');
  await mesh.exited();
  await dead();
  if (isRoot) assert.ok(traces(mesh).length > 0, 'a killed supervisor cannot clean up');

  // The next `up` removes it, says so, and works.
  mesh.output = '';
  mesh.start();
  await mesh.ready();
  if (isRoot) assert.match(mesh.output, /removed what an earlier run left: /);
  assert.match(mesh.output, /fault f1 .* is taken back: an earlier run left it/);
  assert.equal(existsSync(fault), false);
  addFault();

  // The launcher this time.
  process.kill(mesh.pid, 'SIGKILL');
  await mesh.exited();
  await dead();
  const said = mesh.weft('down');
  if (isRoot) assert.match(said, /removed what was left of mesh/);
  assert.match(said, /fault f1 .* is taken back: the mesh was killed/);
  assert.equal(existsSync(fault), false);
  assert.deepEqual(traces(mesh), []);
  assert.deepEqual(stateLeft(mesh), []);
  assert.match(mesh.weft('down'), /is not running, nothing is left/);
});

test('two meshes side by side; the same name twice is refused and harms nothing', async (t) => {
  const one = newMesh();
  const two = newMesh();
  t.after(() => Promise.all([one.cleanUp(), two.cleanUp()]));
  one.start();
  two.start();
  await Promise.all([one.ready(), two.ready()]);
  assert.notEqual(one.row('front').address, two.row('front').address);

  const again: ChildProcess = spawn(
    process.execPath,
    [weftBin, 'up', '-f', one.folder, '--mesh', one.name, '--capture', capture],
    { env: one.env, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  again.stderr!.on('data', (d: Buffer) => {
    said += d.toString();
  });
  const code = await new Promise((resolve) => again.on('close', resolve));
  assert.equal(code, 1);
  assert.match(said, new RegExp(`^weft: mesh "${one.name}" is running already \\(process \\d+\\): [^\n]*\n$`));
  assert.equal((await one.ask('front', '/healthz')).status, 200, 'the first one goes on');

  await two.stop();
  assert.deepEqual(traces(two), []);
  assert.equal((await one.ask('front', '/healthz')).status, 200, 'the other one is not touched');
});

test('an ordinary user runs a mesh in explicit mode', { skip: needsRoot }, async (t) => {
  const base = mkdtempSync(join(tmpdir(), 'weft-test-'));
  t.after(() => rmSync(base, { recursive: true, force: true }));
  execFileSync('chown', ['nobody:nogroup', base]);
  const mesh = join(base, 'mesh.yaml');
  writeFileSync(mesh, readme());
  const as = ['--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups'];
  const env = { HOME: base, PATH: '/usr/local/bin:/usr/bin:/bin' };
  // Named after the test, since root's meshes and nobody's share the loopback addresses.
  const name = `nobody${process.pid}`;
  const argv = [...as, process.execPath, weftBin];
  const weft = (...args: string[]) =>
    execFileSync('setpriv', [...argv, ...args], { env: { ...env, WEFT_MESH: name }, encoding: 'utf8', cwd: base });
  const up = spawn('setpriv', [...argv, 'up', '-f', mesh, '--mesh', name], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  const ready = new Promise<void>((resolve, reject) => {
    up.stdout.on('data', (d: Buffer) => {
      output += d.toString();
      if (output.includes('is ready after')) resolve();
    });
    up.on('exit', () => reject(new Error(`it ended: ${output}`)));
  });
  t.after(() => up.kill('SIGTERM'));
  await ready;
  assert.match(output, /capture: explicit \(transparent capture needs root\)/);
  assert.match(weft('scale', 'hello', '2'), /hello-1 +default +ready/);
  for (const { proxyPid } of JSON.parse(weft('ps', '-o', 'json')).instances) {
    const status = readFileSync(`/proc/${proxyPid}/status`, 'utf8');
    assert.match(status, /^NoNewPrivs:\t1$/m, 'a proxy gets no new rights');
    assert.match(status, /^Seccomp:\t2$/m, 'and has no use for most of the kernel');
  }
  assert.match(
    weft('run', '--service', 'me', '--port', '9999', '--', 'curl', '-sS', '-m', '60', 'http://hello/'),
    /<html/i,
  );
  const ended = new Promise((resolve) => up.on('exit', resolve));
  assert.match(weft('down'), /is stopped/);
  assert.equal(await ended, 0);
});

/** The mesh that README.md shows. */
function readme(): string {
  const text = readFileSync(join(import.meta.dirname, '../README.md'), 'utf8');
  return /```yaml\n# mesh\/hello\.yaml\n([\s\S]*?)```/.exec(text)![1]!;
}
