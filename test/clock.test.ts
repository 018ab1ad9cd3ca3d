/**
 * Clocks that jump, a machine that slept until every certificate had ended, and a control plane that hangs meanwhile: no
 * request fails. Time is libfaketime's: wall time alone, as where a machine sleeps.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isRoot, peers, type Row, request, TestMesh } from './harness.ts';

const library = ['x86_64', 'aarch64']
  .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketime.so.1`)
  .find((path) => {
    try {
      return readFileSync(path).length > 0;
    } catch {
      return false;
    }
  });

const long = process.env.WEFT_LONG === '1';
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A mesh whose wall clock `offset(minutes)` moves. */
async function meshInTime(t: TestContext, args: string[]): Promise<{ mesh: TestMesh; offset(minutes: number): void }> {
  const mesh = new TestMesh(isRoot ? 'transparent' : 'explicit');
  t.after(() => mesh.cleanUp());
  const file = join(mesh.folder, '..', 'time');
  const offset = (minutes: number): void => {
    writeFileSync(`${file}.new`, `${minutes < 0 ? '' : '+'}${minutes * 60}`);
    renameSync(`${file}.new`, file);
  };
  offset(0);
  mesh.write('services.yaml', peers({ cart: { v1: 1 }, payment: { v1: 1 } }));
  mesh.start(args, {
    LD_PRELOAD: library,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    FAKETIME_CACHE_DURATION: '1',
  });
  await mesh.ready();
  return { mesh, offset };
}

async function timed(t: TestContext, what: string, wait: () => Promise<void>): Promise<void> {
  const from = performance.now();
  await wait();
  t.diagnostic(`${what}: new certificates after ${Math.round(performance.now() - from)} ms`);
}

/** Every process that the mesh runs, by the mark that each has in its environment. */
function processesOf(mesh: TestMesh): number[] {
  const environment = (pid: string | number): string => {
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1');
    } catch {
      return '';
    }
  };
  const mark = /WEFT_RUN=[^\0]+/.exec(environment(mesh.row('cart').pid as number))?.[0];
  assert.ok(mark);
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && environment(pid).includes(mark))
    .map(Number);
}

test('clocks that jump, a sleep past every certificate, a control plane that hangs: no request fails', {
  skip: library
    ? isRoot || long
      ? false
      : 'without root in the long form alone'
    : 'libfaketime is not installed (Debian: libfaketime)',
}, async (t) => {
  const began = Date.now();
  const { mesh, offset } = await meshInTime(t, ['--cert-ttl', '1h']);
  const [cart, payment] = [mesh.row('cart'), mesh.row('payment')];
  const { controlPid } = JSON.parse(mesh.weft('ps', '-o', 'json')) as { controlPid: number };
  /** When a workload's certificate ends, in minutes after the mesh began. */
  const end = async ({ address }: Row): Promise<number> => {
    const { text } = await request(address, 15090, '/stats/prometheus');
    const value = /^identity_cert_expiration_timestamp_seconds\S* (\S+)$/m.exec(text)?.[1];
    return Math.round((Number(value) * 1000 - began) / 60_000);
  };
  const renewed = (minutes: number, what: string) =>
    timed(t, what, () =>
      mesh.until(`${what}: both have a new certificate`, 60_000, async () => {
        const ends = [await end(cart), await end(payment)];
        return ends.every((at) => Math.abs(at - minutes) <= 2);
      }),
    );
  const running = request(cart.address, 8080, '/run', { url: 'http://payment:8080/charge', rate: 50, count: 100_000 });
  running.catch(() => {});
  await renewed(60, 'at first');
  // Two thirds of the certificates' life pass at once, and who renews them does not answer.
  process.kill(controlPid, 'SIGSTOP');
  offset(40);
  await sleep(2000);
  process.kill(controlPid, 'SIGCONT');
  await renewed(100, 'forward');
  // Back before what the new certificates begin with.
  offset(1);
  await renewed(61, 'back');
  // The machine sleeps for three hours.
  const all = [mesh.pid, ...processesOf(mesh)];
  for (const pid of all) process.kill(pid, 'SIGSTOP');
  offset(180);
  await sleep(1200);
  for (const pid of all) process.kill(pid, 'SIGCONT');
  await renewed(240, 'after the sleep');
  await sleep(500);
  await request(cart.address, 8080, '/set', { stop: true });
  const { json } = await running;
  assert.ok(json.sent > 300, `${json.sent} requests`);
  const said = [mesh.logs('cart', true), mesh.logs('payment', true)].join('\n').split('\n');
  const why = said.filter((line) => / 50\d |certificate|refused|no longer/.test(line)).slice(-40);
  assert.deepEqual(json.statuses, { 200: json.sent }, [JSON.stringify(json.sample), ...why].join('\n'));
});
