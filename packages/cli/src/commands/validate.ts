import type { Command } from 'commander';
import { type OutputOption, outputOption, print, printJson } from '../common.ts';
import { example } from '../example.ts';
import { findFiles, formatProblem, readFiles } from '../mesh.ts';

/** `weft validate`: what `weft up` would refuse, without starting anything. */
export function addValidate(program: Command): void {
  example(
    program
      .command('validate')
      .description('check configuration files; exit code 1 where one is refused')
      .requiredOption('-f, --files <path...>', 'folders or files')
      .addOption(outputOption())
      .action(validate),
    'weft validate -f examples/shop/mesh',
  );
}

function validate(options: { files: string[] } & OutputOption): void {
  const files = findFiles(options.files);
  const { problems } = readFiles(files);
  const errors = problems.filter((p) => p.severity === 'error').length;
  if (options.output === 'json') printJson({ files, problems });
  else {
    for (const p of problems) print(formatProblem(p));
    print(
      errors > 0
        ? `${errors} error${errors > 1 ? 's' : ''}`
        : `${files.length} file${files.length === 1 ? '' : 's'}: valid`,
    );
  }
  if (errors > 0) process.exitCode = 1;
}
