/** The root of a mesh is replaced under load, and who is revoked is out at once: real processes, through the command line. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { parseCertificates } from '@weft/identity';
import { isRoot, meshOf, type TestMesh, weftBin } from './harness.ts';
import { startWorkloadAgent } from './workload-agent.ts';

const run = promisify(execFile);
const CART = 'spiffe://cluster.local/ns/shop/sa/cart';
const url = 'http://payment:8080/charge';

/** Beside the load, which the harness's own call would hold up. */
async function weft(mesh: TestMesh, ...args: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [weftBin, ...args, '--mesh', mesh.name], { env: mesh.env });
  return stdout;
}

interface Status {
  phase: string;
  issuer: string;
  workloads: { instance: string; connected: boolean; holdsTrust: boolean; reissued: boolean }[];
  revoked: { what: string }[];
}
const caStatus = async (mesh: TestMesh) => JSON.parse(await weft(mesh, 'ca', 'status', '-o', 'json')) as Status;

/** Every file below a folder, also those that are removed meanwhile. */
function* filesBelow(dir: string): Generator<string> {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile()) yield path;
  }
}

/** What a proxy was started with. */
function bootstrapOf(proxyPid: number): { path: string; identityDir: string } {
  const environment = readFileSync(`/proc/${proxyPid}/environ`, 'utf8').split('\0');
  const path = environment.find((e) => e.startsWith('WEFT_BOOTSTRAP='))?.slice('WEFT_BOOTSTRAP='.length) ?? '';
  const { identityDir } = JSON.parse(readFileSync(path, 'utf8')) as { identityDir: string };
  return { path, identityDir };
}

test('a mesh replaces its root under load, revokes, and shows no key anywhere', async (t) => {
  const mesh = await meshOf(t, 'explicit', { cart: { v1: 1 }, other: { v1: 1 }, payment: { v1: 1 } });
  const call = async (from: string, path = url) =>
    (await mesh.ask(from, '/run', { url: path })).json.statuses as Record<string, number>;

  await t.test('weft ca rotate: no request fails, and each step can be undone', async () => {
    const before = await caStatus(mesh);
    const running = mesh.ask('cart', '/run', { url, rate: 60, count: 100_000 });
    running.catch(() => {});
    const said = await weft(mesh, 'ca', 'rotate');
    assert.match(said, /^distribute: .*at every workload\nissue: .*at every workload\nretire: .*at every workload\n$/);
    const now = await caStatus(mesh);
    assert.notEqual(now.issuer, before.issuer);
    assert.equal(now.phase, 'stable');
    assert.equal(now.workloads.length, 3);
    for (const w of now.workloads) assert.ok(w.connected && w.holdsTrust && w.reissued, JSON.stringify(w));
    for (const phase of ['issue', 'distribute']) {
      await weft(mesh, 'ca', 'rotate', '--step', 'back');
      assert.equal((await caStatus(mesh)).phase, phase);
    }
    await weft(mesh, 'ca', 'rotate', '--step', 'issue');
    await weft(mesh, 'ca', 'rotate', '--step', 'retire');
    assert.equal((await caStatus(mesh)).issuer, now.issuer);
    await mesh.ask('cart', '/set', { stop: true });
    const { json } = await running;
    assert.ok(json.sent > 100, `${json.sent} requests`);
    assert.deepEqual(json.statuses, { 200: json.sent });
  });

  await t.test('a proxy that starts after it believes the new root', async () => {
    const { proxyPid } = mesh.row('payment');
    process.kill(proxyPid as number, 'SIGKILL');
    await mesh.until('payment is back', 60_000, async () => {
      const { proxyPid: now, state } = mesh.row('payment');
      return now !== undefined && now !== proxyPid && state === 'ready' && (await call('cart'))['200'] === 1;
    });
  });

  await t.test(
    'each proxy gets its own certificate from another Workload API under load, and from the CA again',
    async () => {
      const agent = await startWorkloadAgent(mesh.folder);
      try {
        const running = mesh.ask('cart', '/run', { url, rate: 60, count: 100_000 });
        running.catch(() => {});
        const said = await weft(mesh, 'ca', 'workload-api', agent.socket);
        assert.equal(said, `certificates come from ${agent.socket}, at every workload\n`);
        const ids = ['cart', 'other', 'payment'].map((account) => `spiffe://cluster.local/ns/shop/sa/${account}`);
        assert.deepEqual([...new Set(agent.given)].sort(), ids);
        for (const name of ['cart', 'payment']) {
          const secret = await weft(mesh, 'proxy-config', 'secret', name, '-o', 'json');
          assert.match(secret, new RegExp(`ns/shop/sa/${name}`));
        }
        const stored = JSON.parse(
          readFileSync(join(bootstrapOf(mesh.row('payment').proxyPid as number).identityDir, 'identity.json'), 'utf8'),
        );
        const [leaf] = parseCertificates(stored.chainPem);
        const [root] = parseCertificates(agent.authority.rootPem);
        assert.ok(leaf.checkIssued(root) && leaf.verify(root.publicKey), 'what it uses is what the agent gave');

        // While the agent is away the certificates there are go on, and a proxy that starts has one by the mesh's CA.
        agent.close();
        await weft(mesh, 'restart', 'other');
        assert.equal((await call('other'))['200'], 1);
        assert.match(await weft(mesh, 'ca', 'workload-api', 'off'), /come from the mesh's CA, at every workload/);
        await assert.rejects(weft(mesh, 'ca', 'workload-api', agent.socket), /is not used/);
        for (const w of (await caStatus(mesh)).workloads) assert.ok(w.connected && w.reissued, JSON.stringify(w));
        await mesh.ask('cart', '/set', { stop: true });
        const { json } = await running;
        assert.ok(json.sent > 60, `${json.sent} requests`);
        assert.deepEqual(json.statuses, { 200: json.sent });
      } finally {
        agent.close();
      }
    },
  );

  await t.test('weft ca revoke ends what is open, refuses anew, and outlives the proxy', async (t) => {
    const open = call('cart', `${url}?sleep=60000`);
    await mesh.until(
      'the call is on its way',
      60_000,
      async () => (await mesh.ask('payment', '/state')).json.served > 0,
    );
    const from = performance.now();
    assert.match(await weft(mesh, 'ca', 'revoke', CART), /is revoked: every connected proxy has it/);
    const ended = await open;
    t.diagnostic(`ended after ${Math.round(performance.now() - from)} ms`);
    // Neither by its own end nor by the patience of the caller.
    assert.deepEqual([ended['200'], ended.timeout], [undefined, undefined], JSON.stringify(ended));
    assert.equal((await call('cart'))['200'], undefined);
    assert.equal((await call('other'))['200'], 1);
    const { proxyPid } = mesh.row('payment');
    process.kill(proxyPid as number, 'SIGKILL');
    await mesh.until('payment is back', 60_000, async () => {
      const { proxyPid: now, state } = mesh.row('payment');
      return now !== undefined && now !== proxyPid && state === 'ready' && (await call('other'))['200'] === 1;
    });
    assert.equal((await call('cart'))['200'], undefined);
    assert.deepEqual(
      (await caStatus(mesh)).revoked.map((r) => r.what),
      [CART],
    );
    await weft(mesh, 'ca', 'restore', CART);
    await mesh.until('cart is believed again', 60_000, async () => (await call('cart'))['200'] === 1);
  });

  // Two looks of the supervisor, ten seconds apart, and the start of a proxy.
  if (process.env.WEFT_LONG === '1')
    await t.test('a proxy that was away while its root was retired comes back by itself', async () => {
      const { proxyPid } = mesh.row('cart');
      process.kill(proxyPid as number, 'SIGSTOP');
      await weft(mesh, 'ca', 'rotate', '--force', '--wait', '3s');
      process.kill(proxyPid as number, 'SIGCONT');
      await mesh.until('cart is back', 120_000, async () => (await call('cart'))['200'] === 1);
      assert.equal((await call('other'))['200'], 1);
      assert.ok((await caStatus(mesh)).workloads.every((w) => w.connected && w.holdsTrust && w.reissued));
    });

  await t.test('keys are in files of their owner alone, and in nothing that is shown', async () => {
    const holders = new Set<string>();
    for (const path of filesBelow(join(mesh.state, mesh.name))) {
      const text = readFileSync(path, 'utf8');
      // A key, not a program that knows how keys are written.
      if (!/PRIVATE KEY-----(\\n|\s)*[A-Za-z0-9+/]{40}/.test(text)) continue;
      holders.add(basename(path));
      assert.equal(statSync(path).mode & 0o077, 0, path);
    }
    for (const folder of ['', 'control', 'control/ca', 'logs'])
      assert.equal(statSync(join(mesh.state, mesh.name, folder)).mode & 0o777, 0o700, folder);
    // Without root there is no /run/weft: the proxies' own folders are below the state folder.
    const kept = ['jwt-keys.json', 'root-key.pem'];
    assert.deepEqual([...holders].sort(), isRoot ? kept : ['identity.json', ...kept]);
    for (const { proxyPid } of mesh.ps()) {
      const { path, identityDir } = bootstrapOf(proxyPid as number);
      assert.equal(statSync(path).mode & 0o777, 0o600, path);
      assert.equal(statSync(identityDir).mode & 0o777, 0o700, identityDir);
      assert.equal(statSync(join(identityDir, 'identity.json')).mode & 0o777, 0o600, identityDir);
    }
    const shown = [mesh.output];
    for (const name of ['cart', 'payment']) {
      shown.push(mesh.logs(name), mesh.logs(name, true));
      shown.push(await weft(mesh, 'proxy-config', 'secret', name, '-o', 'json'));
      for (const path of ['/config_dump', '/certs', '/limits', '/'])
        shown.push((await mesh.ask(name, path, undefined, 15000)).text);
    }
    for (const text of shown) assert.doesNotMatch(text, /PRIVATE KEY|MIGHAgEA|"keyPem"/);
  });
});
