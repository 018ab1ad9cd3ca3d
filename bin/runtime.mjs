// Finds the Node this project needs and runs a script with it. Plain JavaScript that Node 18 parses: it is what says
// that Node 18 is too old. The runtime comes with `npm ci` as an optional dependency, without any install script.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const NEEDED_MAJOR = 24;
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

function fail(message) {
  process.stderr.write(`weft: ${message}\n`);
  process.exit(1);
}

/** The version of a platform package's node, from its package.json: cheaper than running it. */
function findRuntime() {
  const name = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
  // Hoisted to a parent folder where this package is itself installed by another.
  for (let dir = root; ; dir = path.dirname(dir)) {
    const folder = path.join(dir, 'node_modules', name);
    const binary = path.join(folder, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
    if (existsSync(binary)) {
      let version = '';
      try {
        version = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')).version;
      } catch {
        // Judged below as a wrong version.
      }
      if (Number(version.split('.')[0]) >= NEEDED_MAJOR) return binary;
    }
    if (path.dirname(dir) === dir) break;
  }
  if (Number(process.versions.node.split('.')[0]) >= NEEDED_MAJOR) return process.execPath;
  return fail(
    `needs Node ${NEEDED_MAJOR}, this is ${process.versions.node} and the runtime that comes with the project (${name}) is missing: run "npm ci" without --omit=optional in ${root}`,
  );
}

/** Runs `script` with the right Node; ends with its exit code, or by the signal that ended it. */
export function runScript(script, args, flags) {
  const runtime = findRuntime();
  if (!existsSync(path.join(root, 'node_modules'))) fail(`the dependencies are missing: run "npm ci" in ${root}`);
  const child = spawn(runtime, [...(flags || []), '--disable-warning=ExperimentalWarning', script, ...args], {
    stdio: 'inherit',
    env: { ...process.env, WEFT_LAUNCHER_PID: String(process.pid) },
  });
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2']) {
    process.on(name, () => {
      // A terminal sends SIGINT to the child itself; the second one is then told apart by the child.
      if (name !== 'SIGINT' || !process.stdin.isTTY) child.kill(name);
    });
  }
  child.on('error', (error) => fail(`cannot start ${runtime}: ${error.message}`));
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code);
    process.exit(128 + (constants.signals[signal] || 0));
  });
}

export { root };
