/**
 * Exit codes. 2: it was called wrongly, whatever the command; and of commands that answer a question by 0 and 1, that
 * there is no answer.
 */
import { WeftError } from '@weft/base';

export const TROUBLE = 2;

/** The action of a command: what is wrong with the question, or with the mesh, ends it with code 2. */
export function troubled<A extends unknown[]>(action: (...args: A) => Promise<void>): (...args: A) => Promise<void> {
  return async (...args) => {
    try {
      await action(...args);
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      process.stderr.write(`weft: ${error.message}\n`);
      process.exitCode = TROUBLE;
    }
  };
}
