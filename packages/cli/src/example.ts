/** Apart from `common.ts`, so that a proxy loads nothing of what the other commands need. */
import type { Command } from 'commander';

/** An example under the command's help. */
export function example(command: Command, ...lines: string[]): Command {
  return command.addHelpText(
    'after',
    `\nExample${lines.length > 1 ? 's' : ''}:\n${lines.map((l) => `  ${l}`).join('\n')}`,
  );
}
