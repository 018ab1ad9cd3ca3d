/** The entry of every weft process that runs from its sources. */
import { buildProgram } from './program.ts';
import { run } from './run.ts';

await run(() => buildProgram(process.argv[2]));
