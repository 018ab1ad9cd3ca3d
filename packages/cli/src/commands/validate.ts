import { WeftError } from '@weft/base';
import { findingOf } from '@weft/config';
import type { Command } from 'commander';
import { type OutputOption, outputOption, print } from '../common.ts';
import { example } from '../example.ts';
import { printFindings } from '../findings.ts';
import { findFiles, readFiles } from '../mesh.ts';

/** `weft validate`: what `weft up` would refuse, without starting anything. */
export function addValidate(program: Command): void {
  example(
    program
      .command('validate')
      .description('check configuration files; exit code 1 where one is refused')
      .argument('[file...]', 'folders or files')
      .option('-f, --files <path...>', 'the same')
      .addOption(outputOption())
      .action(validate),
    'weft validate examples/shop/mesh',
  );
}

function validate(given: string[], options: { files?: string[] } & OutputOption): void {
  const paths = [...given, ...(options.files ?? [])];
  if (paths.length === 0) throw new WeftError('no-file', 'no file is given: weft validate FILE…');
  const files = findFiles(paths);
  const findings = readFiles(files).problems.map(findingOf);
  printFindings(findings, options.output);
  if (options.output !== 'json' && !findings.some((f) => f.severity === 'error')) {
    print(`${files.length} file${files.length === 1 ? '' : 's'}: valid`);
  }
}
