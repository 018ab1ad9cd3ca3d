// `npm test`: typecheck, lint, layers, then every test with the runtime that came with npm ci.
// As root, first installs what the tests need from Debian; as root a skipped test is a failure.
// `npm run test:long`: the same waits in full (a minute without a control plane, minutes of short certificates …).
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const bin = (name) => join(root, 'node_modules', '.bin', name);
const isRoot = process.getuid?.() === 0;

function tries(title, command, args, env = {}) {
  console.log(`\n── ${title}`);
  const began = performance.now();
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
  console.log(`   ${((performance.now() - began) / 1000).toFixed(0)} s`);
  return result.status ?? 1;
}

function run(title, command, args, env) {
  const status = tries(title, command, args, env);
  if (status !== 0) end(title, status);
}

function end(title, status) {
  console.error(`weft: ${title} failed`);
  process.exit(status);
}

/** Test files below a folder; written by hand because an old Node, which may run this file, has no glob. */
function testsBelow(folder) {
  const found = [];
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.name === 'node_modules') continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(...testsBelow(path));
    else if (entry.name.endsWith('.test.ts')) found.push(path);
  }
  return found;
}

if (!existsSync(bin('node'))) {
  console.error('weft: the runtime is missing: run npm ci first (with optional dependencies)');
  process.exit(1);
}
if (isRoot) run('Debian packages', 'sh', ['scripts/debian.sh']);
const long = process.argv.includes('--long');
// `--by-user`: only the tests that differ by who runs them.
const byUser = process.argv.includes('--by-user');
// `--again`: files of which a test failed run once more, alone, and fail where they fail again. For where nobody watches:
// both times are told, and what passes only then is a race that wants to be found.
const again = process.argv.includes('--again');
const only = process.argv.slice(2).filter((arg) => !['--long', '--by-user', '--again'].includes(arg));
if (only.length === 0 && !byUser) {
  run('types', bin('tsc'), ['--noEmit']);
  run('lint', bin('biome'), ['check', '--error-on-warnings', '.']);
  run('layers', bin('node'), ['scripts/check-imports.ts']);
}
/**
 * Looks at what the machine holds, and wants nobody else's beside it. The others run three at a time: they mostly wait. In
 * the long form they also judge how fast things are, and so each has the machine for itself.
 */
const ALONE = long ? /./ : /\/lifecycle\.test\.ts$/;
/** Those that take long begin first, or the last of them would run with nothing beside it. */
const LONG = /\/(authorization|cli|gateway|identity|protocols|replicas|shop|survival|throughput|traffic)\.test\.ts$/;
/**
 * What is the same for every user: pairs of proxies in processes of their own, meshes whose capture the file says itself,
 * rules that act in the proxy whichever way a connection came to it, and what needs root and is skipped without.
 */
const SAME = new RegExp(
  `/(${[
    ...['authorization', 'balancing', 'clock', 'deciders', 'egress', 'gateway-api', 'gateway-api-routes', 'http2'],
    ...[
      'hung-control',
      'leave',
      'limits',
      'mesh-settings',
      'mirror',
      'mtls',
      'network',
      'origination',
      'overload',
      'packets',
    ],
    ...['plaintext', 'rate-share', 'replicas', 'shop', 'throughput', 'tracing'],
  ].join('|')})\\.test\\.ts$`,
);
const MOST_AGAIN = 3;
function test(title, files, concurrency) {
  if (files.length === 0) return;
  const args = [
    '--test',
    '--test-reporter=./scripts/reporter.mjs',
    '--test-reporter-destination=stdout',
    `--test-concurrency=${concurrency}`,
    // It ends what hangs, and nothing that a busy machine makes slow.
    `--test-timeout=${long ? 1_800_000 : 900_000}`,
  ];
  const env = { WEFT_SKIP_IS_FAILURE: isRoot ? '1' : '', WEFT_LONG: long ? '1' : '' };
  const longFirst = files.sort((a, b) => Number(LONG.test(b)) - Number(LONG.test(a)) || (a < b ? -1 : 1));
  const folder = mkdtempSync(join(tmpdir(), 'weft-failed-'));
  const list = join(folder, 'files.json');
  const status = tries(title, bin('node'), [...args, ...longFirst], { ...env, WEFT_FAILED_FILES: list });
  const failed = existsSync(list) ? JSON.parse(readFileSync(list, 'utf8')) : [];
  rmSync(folder, { recursive: true, force: true });
  if (status === 0) return;
  // Many that fail are no chance.
  if (!again || failed.length === 0 || failed.length > MOST_AGAIN) end(title, status);
  const alone = args.map((arg) => (arg.startsWith('--test-concurrency=') ? '--test-concurrency=1' : arg));
  run(`${title}: what failed, once more`, bin('node'), [...alone, ...failed], env);
  console.log(`weft: NOT RELIABLE, passed only when run again: ${failed.join(' ')}`);
}

const below = (folders) =>
  folders
    .map((f) => join(root, f))
    .filter(existsSync)
    .flatMap(testsBelow);
if (only.length > 0) test('tests', only, 1);
else {
  if (!byUser) test('tests of packages', below(['packages', 'testing', 'fuzz', 'bench', 'conformance']), 2);
  const meshes = below(['test']).filter((file) => !byUser || !SAME.test(file));
  test(
    'tests of whole meshes',
    meshes.filter((file) => !ALONE.test(file)),
    3,
  );
  test(
    'tests of whole meshes that need the machine for themselves',
    meshes.filter((file) => ALONE.test(file)),
    1,
  );
}
