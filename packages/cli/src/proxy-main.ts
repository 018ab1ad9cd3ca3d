/** The entry of a proxy alone, to be made one file of (bundle.ts): nothing is loaded later, or by a name. */
import { rmdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { main } from '@weft/proxy';
import { addProxyOf } from './proxy-command.ts';
import { rootCommand } from './root-command.ts';
import { run } from './run.ts';

// By hand (`weft proxy`) it was made for this start, and is read by now.
const script = process.argv[1];
if (process.env.WEFT_PROGRAM_ONCE && script) {
  delete process.env.WEFT_PROGRAM_ONCE;
  try {
    for (const file of [script, `${script}.map`]) rmSync(file, { force: true });
    rmdirSync(path.dirname(script));
  } catch {
    // Something else lies there too.
  }
}

await run(() => {
  const program = rootCommand();
  addProxyOf(program, () => Promise.resolve({ main }));
  return program;
});
