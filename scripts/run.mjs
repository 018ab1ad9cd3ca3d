// node scripts/run.mjs SCRIPT [ARGS…]: runs a script of this repository with the Node that the project needs.
import path from 'node:path';
import { runScript } from '../bin/runtime.mjs';

const script = process.argv[2];
if (!script) {
  process.stderr.write('usage: node scripts/run.mjs SCRIPT [ARGS...]\n');
  process.exit(2);
}
// `--test` and other flags of Node's own come in the place of the script.
if (script.startsWith('--')) runScript(process.argv[3] ?? '', process.argv.slice(4), [script]);
else runScript(path.resolve(script), process.argv.slice(3));
