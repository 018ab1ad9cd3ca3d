/** The entry of a proxy alone, to be made one file of (bundle.ts): nothing is loaded later, or by a name. */
import { main } from '@weft/proxy';
import { addProxyOf } from './proxy-command.ts';
import { rootCommand } from './root-command.ts';
import { run } from './run.ts';

await run(() => {
  const program = rootCommand();
  addProxyOf(program, () => Promise.resolve({ main }));
  return program;
});
