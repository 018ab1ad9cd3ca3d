/** Replicas that come, go, die and misbehave under load. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { isRoot, meshOf, type Row, request, type TestMesh, weftBin } from './harness.ts';

const long = process.env.WEFT_LONG === '1';
const BASE_EJECTION_MS = long ? 30_000 : 3000;
/** The sweep that ends an ejection runs this often: Istio's default where the whole 30 s are waited for. */
const INTERVAL_MS = long ? 10_000 : 1000;

const BREAKER = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: payment
  namespace: shop
spec:
  host: payment
  trafficPolicy:
    outlierDetection:
      consecutive5xxErrors: 10
      interval: ${INTERVAL_MS / 1000}s
      baseEjectionTime: ${BASE_EJECTION_MS / 1000}s
      maxEjectionPercent: 100
`;

const RATE = 300;
const pay = 'http://payment:8080/charge';
const execute = promisify(execFile);
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A command of the user while this process goes on. */
const weft = (mesh: TestMesh, ...args: string[]) =>
  execute(process.execPath, [weftBin, ...args, '--mesh', mesh.name], { env: mesh.env });

let frontend = '';
const run = async (call: object) => {
  const answer = await request(frontend, 8080, '/run', call);
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
};

/** Runs `work` under RATE requests a second, half a second of them before and after it; gives what came back. */
async function underLoad(call: object, work: () => Promise<void>) {
  const load = request(frontend, 8080, '/run', { url: pay, rate: RATE, count: 60 * RATE, ...call });
  await pause(500);
  try {
    await work();
    await pause(500);
  } finally {
    await request(frontend, 8080, '/set', { stop: true });
  }
  const result = (await load).json;
  assert.ok(result.sent >= RATE, `the load was ${result.sent} requests in ${result.elapsedMs} ms`);
  return result;
}

const failuresOf = (r: { sent: number; statuses: Record<string, number> }) => r.sent - (r.statuses['200'] ?? 0);
const payments = (mesh: TestMesh): Row[] => mesh.ps().filter((r) => r.workload === 'payment');
const readPs = async (mesh: TestMesh): Promise<Row[]> =>
  JSON.parse((await weft(mesh, 'ps', '-o', 'json')).stdout).instances.filter((r: Row) => r.workload === 'payment');
const stateOf = async (row: Row) => (await request(row.address, 8080, '/state')).json;
const set = (row: Row, state: object) => request(row.address, 8080, '/set', state);
const allReady = (mesh: TestMesh, n: number) => {
  const rows = payments(mesh);
  return rows.length === n && rows.every((r) => r.state === 'ready');
};

const capture = isRoot ? 'transparent' : 'explicit';
test(`replicas, ${capture} capture`, async (t: TestContext) => {
  const mesh = await meshOf(t, capture, { frontend: { v1: 1 }, catalog: { v1: 1 }, payment: { v1: 1 } });
  frontend = mesh.row('frontend').address;

  await t.test('scale 1 to 5 to 1: no request fails, a new replica has its share', async (t) => {
    const r = await underLoad({}, async () => {
      await weft(mesh, 'scale', 'payment', '5');
      const ready = performance.now();
      const rows = payments(mesh);
      assert.equal(rows.length, 5);
      let shares: number[] = [];
      // A fifth each, within half of it: for a second, which on a machine without other work is the first or the second one.
      await mesh.until('each has its share', 60_000, async () => {
        const before = await Promise.all(rows.map(stateOf));
        await pause(1000);
        const after = await Promise.all(rows.map(stateOf));
        shares = after.map((a, i) => a.served - before[i].served);
        const fifth = shares.reduce((a, b) => a + b, 0) / 5;
        return shares.every((share) => share > fifth / 2 && share < fifth * 1.5);
      });
      const tookMs = performance.now() - ready;
      t.diagnostic(`shares ${shares}, ${Math.round(tookMs)} ms after all are ready`);
      assert.ok(!long || tookMs < 2500, `${tookMs} ms`);
      await weft(mesh, 'scale', 'payment', '1');
    });
    assert.deepEqual(r.statuses, { '200': r.sent }, JSON.stringify(r));
    assert.equal(payments(mesh).length, 1);
    // The caller has named what it calls, and nothing else: it hears of those replicas first.
    const { text } = await request(frontend, 15090, '/stats/prometheus');
    assert.match(text, /^weft_named_services 1$/m);
  });

  await t.test('restart replaces every process, and no request fails', async () => {
    const before = payments(mesh).map((r) => r.pid);
    const r = await underLoad({}, async () => {
      await weft(mesh, 'restart', 'payment');
    });
    assert.deepEqual(r.statuses, { '200': r.sent }, JSON.stringify(r));
    for (const row of payments(mesh)) assert.ok(!before.includes(row.pid), `${row.name} was not replaced`);
  });

  await t.test(
    'another proxy: one that crashes reverts itself; one for a tenth is promoted, and no request fails',
    async (t) => {
      const folder = mkdtempSync(join(tmpdir(), 'weft-proxy-'));
      t.after(() => rmSync(folder, { recursive: true, force: true }));
      const version = (await readPs(mesh))[0].proxyVersion as string;
      assert.match(version, /^\d+\.\d+\.\d+\+[0-9a-f]{8}$/);
      await weft(mesh, 'scale', 'payment', '2');
      // The mesh's own program as another build; and one that ends a while after its start, each time.
      const own = readFileSync(join(mesh.state, mesh.name, 'programs', 'proxy-main.mjs'), 'utf8');
      const build = (name: string, more: string) => {
        const file = join(folder, name);
        writeFileSync(file, `${own}\n${more}\n`);
        return file;
      };
      const tried = async (...args: string[]) =>
        JSON.parse((await weft(mesh, 'proxy-canary', 'payment', ...args, '-o', 'json')).stdout)[0];

      const bad = build('bad.mjs', 'setTimeout(() => process.exit(3), 1500);');
      const broken = await tried('--program', bad, '--weight', '50');
      await mesh.until('it reverts itself', 30_000, async () => (await tried()).instances.length === 0);
      const { state, because } = await tried();
      assert.deepEqual([state, because], ['reverted', `proxies of ${broken.version} ended 3 times within 60 s`]);
      await mesh.until('all as before', 20_000, async () => {
        const rows = await readPs(mesh);
        return rows.length === 2 && rows.every((p) => p.state === 'ready' && p.proxyVersion === version && p.proxyPid);
      });
      assert.match(mesh.output, /payment: the proxy [^ ]+ is reverted: proxies of/);

      let next = '';
      const r = await underLoad({}, async () => {
        const begun = await tried('--program', build('next.mjs', '// another build'), '--weight', '10');
        next = begun.version;
        assert.notEqual(next, version);
        assert.deepEqual([begun.state, begun.percent, begun.instances.length], ['canary', 10, 1]);
        const rows = await readPs(mesh);
        assert.deepEqual(rows.map((p) => p.proxyVersion).sort(), [version, next].sort());
        const canary = rows.find((p) => p.proxyVersion === next) as Row;
        const served = () => Promise.all(rows.map(async (row) => (await stateOf(row)).served as number));
        const before = await served();
        await pause(1000);
        const got = (await served()).map((n, i) => n - before[i]);
        const share = got[rows.indexOf(canary)] / got.reduce((a, b) => a + b, 0);
        // A tenth of about 300 requests, within 4.5 sigma and the time between the looks; by instances alone it were half.
        assert.ok(share > 0.02 && share < 0.25, `${share} of ${got}`);
        assert.ok(mesh.weft('proxy-status').includes(next));
        await tried('--promote');
      });
      assert.deepEqual(r.statuses, { '200': r.sent }, JSON.stringify(r));
      assert.deepEqual(
        (await readPs(mesh)).map((p) => p.proxyVersion),
        [next, next],
      );
      await weft(mesh, 'scale', 'payment', '1');
    },
  );

  await t.test('a restart waits for what runs, where the application ends at once when it is told to', async () => {
    const [old] = payments(mesh);
    await set(old, { abrupt: true });
    const slow = run({ url: `${pay}?sleep=3000`, method: 'POST', body: 'charge', count: 8, concurrency: 8 });
    await mesh.until('under way', 60_000, async () => (await stateOf(old)).posts === 8);
    await weft(mesh, 'restart', 'payment');
    const r = await slow;
    assert.deepEqual(r.statuses, { '200': 8 }, JSON.stringify(r));
    assert.notEqual(payments(mesh)[0].pid, old.pid);
  });

  await weft(mesh, 'scale', 'payment', '3');

  for (const what of ['application', 'proxy'] as const) {
    await t.test(`kill -9 of one ${what} of three: no GET fails, and of POSTs only those in flight on it`, async () => {
      for (const method of ['GET', 'POST']) {
        await mesh.until('three ready', 60_000, () => allReady(mesh, 3));
        const victim = payments(mesh).at(-1) as Row;
        const pid = (what === 'proxy' ? victim.proxyPid : victim.pid) as number;
        const body = method === 'POST' ? 'charge' : undefined;
        const r = await underLoad({ url: `${pay}?sleep=50`, method, body }, async () => {
          process.kill(pid, 'SIGKILL');
          await mesh.until('back', 60_000, async () => {
            const now = payments(mesh).find((p) => p.name === victim.name);
            const other = what === 'proxy' ? now?.proxyPid : now?.pid;
            // One probe that fails changes no state: it is back when it answers.
            return now?.state === 'ready' && !!other && other !== pid && (await stateOf(now)) !== undefined;
          });
        });
        if (method === 'GET') {
          // Safe to repeat: the dead one's share goes to another replica, in flight or not.
          assert.deepEqual(r.statuses, { '200': r.sent }, JSON.stringify(r));
        } else {
          // A POST that the dead one may have begun is not sent again. In flight on it are a third of what comes within the
          // time that a request takes, which the slowest one tells: where the machine is busy they are more.
          const inFlight = (RATE / 3) * (r.maxMs / 1000);
          assert.ok(failuresOf(r) <= 20 + inFlight, `${JSON.stringify(r.statuses)}, ${inFlight} in flight`);
          for (const key of Object.keys(r.statuses)) assert.ok(key === '200' || key === '503', JSON.stringify(r));
        }
      }
    });
  }

  await t.test('one of three resets before it answers: no GET fails, no POST is processed twice', async () => {
    await mesh.until('three ready', 60_000, () => allReady(mesh, 3));
    const rows = payments(mesh);
    await set(rows[0], { reset: true });
    for (const row of rows) await set(row, { posts: 0 });
    const gets = await run({ url: pay, count: 3000, concurrency: 32 });
    assert.deepEqual(gets.statuses, { '200': 3000 }, JSON.stringify(gets));
    const posts = await run({ url: pay, method: 'POST', body: 'charge', count: 1000, concurrency: 16 });
    const processed = await Promise.all(rows.map(async (row) => (await stateOf(row)).posts));
    // The one that resets has counted its POSTs too: each was processed once, whether the caller heard of it or not.
    assert.equal(
      processed.reduce((a, b) => a + b, 0),
      1000,
      `${processed} ${JSON.stringify(posts.statuses)}`,
    );
    assert.ok(processed[0] > 0, 'no POST met the replica that resets');
    assert.deepEqual(posts.statuses, { '200': 1000 - processed[0], '503': processed[0] });
    await set(rows[0], { reset: false });
  });

  await t.test('after ten failures in a row nothing reaches it for the ejection time, then it recovers', async () => {
    await weft(mesh, 'scale', 'payment', '1');
    const [only] = payments(mesh);
    const epoch = JSON.parse(mesh.weft('proxy-status', '-o', 'json')).epoch;
    mesh.write('breaker.yaml', BREAKER);
    await mesh.until('the rule is everywhere', 60_000, () => {
      const status = JSON.parse(mesh.weft('proxy-status', '-o', 'json'));
      return status.epoch > epoch && status.proxies.every((p: { status: string }) => p.status === 'SYNCED');
    });
    await set(only, { fail: 500, served: 0 });
    const started = performance.now();
    const failing = await run({ url: pay, count: 10, concurrency: 1 });
    const tenth = performance.now();
    assert.deepEqual(failing.statuses, { '500': 10 });
    // The application is well again at once: what keeps requests from it is the ejection alone.
    await set(only, { fail: 0 });
    let open = 0;
    for (;;) {
      const sent = performance.now();
      const r = await run({ url: pay });
      const now = performance.now();
      if (r.statuses['200'] === 1) {
        assert.ok(now - started >= BASE_EJECTION_MS, `back after ${now - started} ms`);
        break;
      }
      assert.deepEqual([r.sample.key, r.sample.text], ['503', 'no healthy upstream']);
      const mostMs = BASE_EJECTION_MS + 2 * INTERVAL_MS + (long ? 2000 : 60_000);
      assert.ok(sent - tenth < mostMs, `not back after ${sent - tenth} ms`);
      open += 1;
      if (open % 10 === 1) {
        assert.equal((await stateOf(only)).served, 10, 'a request came through');
        assert.deepEqual((await run({ url: 'http://catalog:8080/items', count: 20 })).statuses, { '200': 20 });
      }
      await pause(50);
    }
    assert.ok(open > 0, 'nothing was kept from it');
    assert.deepEqual((await run({ url: pay, count: 50 })).statuses, { '200': 50 });
    await mesh.until('flag UH', 60_000, () => /"response_flags":"UH"/.test(mesh.logs('frontend', true)));
  });
});
