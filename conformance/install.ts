/** Installs the tools of suites from their registries, once: kept below node_modules/.cache/weft. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const cache = join(import.meta.dirname, '../node_modules/.cache/weft');
process.env.PATH = `${process.env.PATH}:/usr/sbin:/sbin`;

/** Pauses between tries of what downloads: a registry that is away for a moment is no reason to fail. */
const AGAIN_MS = [3000, 15_000];

/** Runs what downloads, and tries again where it fails; gives its output. */
function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}, cwd?: string): string {
  for (let tries = 0; ; tries++) {
    try {
      const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe'];
      return execFileSync(command, args, { stdio, cwd, encoding: 'utf8', env: { ...process.env, ...env } });
    } catch (error) {
      const pauseMs = AGAIN_MS[tries];
      if (pauseMs === undefined) {
        const stderr = String((error as { stderr?: string }).stderr ?? error).trim();
        throw new Error(`${command} ${args.join(' ')} failed: ${stderr.split('\n').slice(-5).join('\n')}`);
      }
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
    }
  }
}

export function have(tool: string): boolean {
  try {
    execFileSync('sh', ['-c', 'command -v "$0"', tool], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Debian packages by the tool that shows they are there, `{ nghttp: 'nghttp2-client' }`. Needs root where one is missing. */
export function debian(tools: Readonly<Record<string, string>>): void {
  const missing = [...new Set(Object.entries(tools).flatMap(([tool, name]) => (have(tool) ? [] : [name])))];
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0) {
    throw new Error(`these Debian packages are missing: as root, apt-get install ${missing.join(' ')}`);
  }
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  // Another one that installs is waited for.
  const patient = ['-qq', '-o', 'DPkg::Lock::Timeout=300'];
  run('apt-get', ['update', ...patient], env);
  const unwanted = keepServicesDown();
  try {
    run('apt-get', ['install', '-y', ...patient, '--no-install-recommends', ...missing], env);
  } finally {
    unwanted();
  }
}

const POLICY = '/usr/sbin/policy-rc.d';

/** Packages of servers start them when they are installed, unless this file forbids it. Gives what undoes it. */
function keepServicesDown(): () => void {
  if (existsSync(POLICY)) return () => {};
  writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  return () => rmSync(POLICY, { force: true });
}

/** `go install MODULE@VERSION`; gives the path of the program. */
export function goProgram(module: string, version: string, program: string): string {
  const folder = join(cache, 'go', `${module.replaceAll('/', '_')}@${version}`);
  const file = join(folder, program);
  if (existsSync(file)) return file;
  if (!have('go')) throw new Error('Go is missing: apt-get install golang-go, or from https://go.dev');
  const fresh = `${folder}.${process.pid}`;
  mkdirSync(fresh, { recursive: true });
  run('go', ['install', `${module}@${version}`], { GOBIN: fresh, GOFLAGS: '-mod=mod' });
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
  return file;
}

/** The files of a Go module, read-only; gives their folder. */
export function goModule(module: string, version: string): string {
  if (!have('go')) throw new Error('Go is missing: apt-get install golang-go, or from https://go.dev');
  // Outside of a module, so that no go.mod is looked for.
  const argv = ['mod', 'download', '-json', `${module}@${version}`];
  return (JSON.parse(run('go', argv, {}, tmpdir())) as { Dir: string }).Dir;
}

/** Builds a program of ours (a folder with go.mod, go.sum and its sources); gives its path. */
export function goBuild(folder: string, program: string): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(folder).sort()) hash.update(name).update(readFileSync(join(folder, name)));
  const file = join(cache, 'go', 'built', `${program}-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(file)) return file;
  if (!have('go')) throw new Error('Go is missing: apt-get install golang-go, or from https://go.dev');
  mkdirSync(dirname(file), { recursive: true });
  const fresh = `${file}.${process.pid}`;
  run('go', ['build', '-C', folder, '-trimpath', '-o', fresh, '.']);
  renameSync(fresh, file);
  return file;
}

/** A virtual environment with these pinned packages (`h2==4.3.0`); gives the path of its bin folder. */
export function pythonPackages(name: string, packages: readonly string[]): string {
  const folder = join(cache, 'python', name);
  const stamp = join(folder, `.${packages.join('+').replaceAll(/[^\w.+=-]/g, '_')}`);
  if (!existsSync(stamp)) {
    rmSync(folder, { recursive: true, force: true });
    run('python3', ['-m', 'venv', folder]);
    run(join(folder, 'bin/pip'), ['install', '--quiet', '--disable-pip-version-check', ...packages]);
    mkdirSync(stamp);
  }
  return join(folder, 'bin');
}

/** These pinned npm packages (`undici@7.0.0`) in a folder of their own, without their install scripts; gives its node_modules. */
export function npmPackages(name: string, packages: readonly string[]): string {
  const folder = join(cache, 'npm', name);
  const stamp = join(folder, `.${packages.join('+').replaceAll(/[^\w.+=@-]/g, '_')}`);
  if (!existsSync(stamp)) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-save', '--no-package-lock', '--loglevel=error'];
    run('npm', ['install', '--prefix', folder, ...quiet, ...packages]);
    mkdirSync(stamp);
  }
  return join(folder, 'node_modules');
}
