/** `weft test` as people run it: the real command on files. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const weftBin = join(root, 'bin/weft.mjs');
const shop = join(root, 'examples/shop/mesh');

function weft(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [weftBin, ...args], { encoding: 'utf8', cwd: root });
  return { code: status, out: stdout, error: stderr };
}

function copyOfShop(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'weft-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(shop, folder, { recursive: true });
  return folder;
}

interface Json {
  passed: number;
  failed: number;
  tests: { name: string; passed: boolean; line: number; failures: { line: number; message: string }[] }[];
  coverage: { covered: number; total: number; rules: { resource: string; covered: boolean; file: string }[] };
}

test('the shop’s tests pass and cover all its rules', () => {
  const { code, out, error } = weft('test', 'examples/shop/mesh', '--coverage', '--min-coverage', '100');
  assert.equal(code, 0, out + error);
  assert.match(out, /^examples\/shop\/mesh\/shop\.mesh-test\.yaml\n {2}✔ /);
  assert.match(out, /\n\d+ passed, 0 failed\ncoverage: (\d+) of \1 rules, matches and policies \(100 %\)\n$/);
  const json = JSON.parse(weft('test', 'examples/shop/mesh', '-o', 'json').out) as Json;
  assert.equal(json.failed, 0);
  assert.ok(json.coverage.total >= 25);
  assert.deepEqual(
    json.coverage.rules.filter((r) => !r.covered),
    [],
  );
  for (const file of ['gateway', 'security', 'traffic'])
    assert.ok(json.coverage.rules.some((r) => r.file === `examples/shop/mesh/${file}.yaml`));
});

test('a change of the configuration that breaks what was meant: exit code 1, the place, JSON and JUnit', (t) => {
  const folder = copyOfShop(t);
  const traffic = join(folder, 'traffic.yaml');
  writeFileSync(
    traffic,
    readFileSync(traffic, 'utf8').replace('weight: 95', 'weight: 50').replace('weight: 5\n', 'weight: 50\n'),
  );
  const { code, out } = weft('test', folder);
  assert.equal(code, 1);
  assert.match(
    out,
    /✖ the cart charges, and a canary gets 5 % of it\n +\S+shop\.mesh-test\.yaml:\d+: 95 % to subset stable[^\n]* it is 50 %/,
  );
  assert.match(out, /traffic\.yaml:\d+ VirtualService\/shop\/payment#spec\.http\[1\]/);
  assert.match(out, /\n\d+ passed, 1 failed\n$/);
  const why = /why: weft (explain .*)\n/.exec(out)![1]!;
  assert.equal(weft(...why.split(' ')).code, 0, why);

  const json = weft('test', folder, '-o', 'json');
  assert.equal(json.code, 1);
  const { tests, failed } = JSON.parse(json.out) as Json;
  assert.equal(failed, 1);
  assert.equal(tests.find((x) => !x.passed)?.failures.length, 2);
  // Tests alone: the configuration is what stands beside them.
  const junit = weft('test', join(folder, 'shop.mesh-test.yaml'), '-o', 'junit');
  assert.equal(junit.code, 1);
  assert.match(junit.out, /^<\?xml version="1\.0"[^\n]*\n<testsuites name="weft test" tests="\d+" failures="1">/);
  assert.equal(junit.out.match(/<failure /g)?.length, 1);
  assert.equal(junit.out.match(/<testcase /g)?.length, tests.length);

  // They are no configuration themselves, and no other file holds any.
  cpSync(join(folder, 'shop.mesh-test.yaml'), join(folder, 'misplaced.yaml'));
  const { out: validated } = weft('validate', folder);
  assert.match(validated, /misplaced\.yaml:3: .*MeshTest.*\*\.mesh-test\.yaml/);
  assert.doesNotMatch(validated, /shop\.mesh-test/);
});

test('a mistake in a test file, in the configuration, or no test at all: one message with the place', (t) => {
  const folder = copyOfShop(t);
  const file = join(folder, 'shop.mesh-test.yaml');
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace('timeout: 15s', 'timeuot: 15s'));
  const wrong = weft('test', folder);
  assert.equal(wrong.code, 1);
  assert.equal(wrong.out, '');
  assert.match(
    wrong.error,
    /shop\.mesh-test\.yaml:\d+: spec\.tests\[0\]\.expect\.timeuot: error: unknown field "timeuot"; did you mean timeout/,
  );
  // Less than all of it.
  writeFileSync(file, text.slice(0, text.indexOf('\n---\n')));
  const some = weft('test', folder, '--min-coverage', '99.5');
  assert.equal(some.code, 1);
  assert.match(some.out, /passed, 0 failed\n$/);
  assert.match(some.error, /^weft: [\d.]+ % is covered, and 99\.5 % are asked for\n$/);
  writeFileSync(file, text);
  writeFileSync(
    join(folder, 'traffic.yaml'),
    readFileSync(join(folder, 'traffic.yaml'), 'utf8').replace('subset: stable', 'subset: stabel'),
  );
  assert.match(weft('test', folder).error, /traffic\.yaml:\d+: .*stabel/);
  rmSync(file);
  assert.match(weft('test', folder).error, /no file named \*\.mesh-test\.yaml/);
  assert.match(weft('test', join(folder, 'nowhere')).error, /does not exist/);
});

test('--watch runs them again at each change, until it is told to stop', { timeout: 120_000 }, async (t) => {
  const folder = copyOfShop(t);
  const file = join(folder, 'shop.mesh-test.yaml');
  const child: ChildProcess = spawn(process.execPath, [weftBin, 'test', folder, '--watch'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  let out = '';
  const said = (pattern: RegExp): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (!pattern.test(out)) return;
        child.stdout!.off('data', look);
        resolve();
      };
      child.stdout!.on('data', look);
      look();
    });
  child.stdout!.on('data', (d: Buffer) => {
    out += d.toString();
  });
  await said(/ passed, 0 failed\n/);
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace('share: 95', 'share: 96'));
  await said(/ passed, 1 failed\n/);
  writeFileSync(file, 'nonsense');
  await said(/the tests are refused/);
  writeFileSync(file, text);
  await said(/passed, 0 failed[\s\S]*passed, 0 failed\n/);
  const ended = new Promise((resolve) => child.on('exit', resolve));
  child.kill('SIGINT');
  assert.equal(await ended, 0);
});
