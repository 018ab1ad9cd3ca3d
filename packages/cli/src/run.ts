/** What every weft process does around its command. Dies with whoever started it, so that a killed launcher or supervisor leaves nothing. */
import { formatPosition, WeftError } from '@weft/base';
import { dieWithParent } from '@weft/capture';
import { type Command, CommanderError } from 'commander';
import { TROUBLE } from './trouble.ts';

/** Runs this process's command line; an error is told in one line and ends it with 1, one of how it was called with 2. */
export async function run(build: () => Command | Promise<Command>): Promise<void> {
  const parent = Number(process.env.WEFT_PARENT_PID ?? process.env.WEFT_LAUNCHER_PID);
  delete process.env.WEFT_LAUNCHER_PID;
  delete process.env.WEFT_PARENT_PID;
  if (Number.isInteger(parent) && parent > 1) dieWithParent(parent);

  // A closed pipe (`weft ps | head`) is no error.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }

  try {
    const program = await build();
    await program.parseAsync(process.argv);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : TROUBLE;
    } else {
      // One line for what we know, the stack for what is a defect of ours.
      const e = error as Error;
      const where = error instanceof WeftError && error.position ? `${formatPosition(error.position)}: ` : '';
      const known = error instanceof WeftError || (error as NodeJS.ErrnoException).code !== undefined;
      process.stderr.write(`weft: ${where}${known || process.env.WEFT_DEBUG === undefined ? e.message : e.stack}\n`);
      process.exitCode = error instanceof WeftError && error.code === 'usage' ? TROUBLE : 1;
    }
  }
}
