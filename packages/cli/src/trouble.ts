/** Exit codes of commands that answer a question by them: 0 and 1 are answers, 2 says that there is none. */
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
