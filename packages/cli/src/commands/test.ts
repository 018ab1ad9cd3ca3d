import { statSync } from 'node:fs';
import path from 'node:path';
import { WeftError } from '@weft/base';
import { isTestFile, type SourceFile } from '@weft/config';
import { meshFromModel, readMeshTests, runMeshTests, type TestRun } from '@weft/lab';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { print, printJson } from '../common.ts';
import { example } from '../example.ts';
import { findFiles, findTests, formatProblem, loadModel, onSignals, readSources } from '../mesh.ts';
import { junitOf, reportLines, runJson, shareOf } from '../test-report.ts';

interface TestOptions {
  coverage?: boolean;
  watch?: boolean;
  minCoverage?: number;
  output: 'table' | 'json' | 'junit';
}

const WATCH_MS = 300;

/** `weft test`: requests and what is expected of them, asked of the configuration, with no mesh and no traffic. */
export function addTest(program: Command): void {
  example(
    program
      .command('test')
      .description(
        'run the *.mesh-test.yaml files of a configuration (docs/mesh-tests.md); exit code 1 where one fails',
      )
      .argument('<path...>', 'folders or files: the configuration and its tests')
      .option('--coverage', 'say which rules, matches and policies no test had a part of')
      .option('--min-coverage <percent>', 'exit code 1 also where less of them is covered', percent)
      .option('--watch', 'run them again at each change, until Ctrl-C')
      .addOption(
        new Option('-o, --output <format>', 'table, json or junit')
          .choices(['table', 'json', 'junit'])
          .default('table'),
      )
      .action(test),
    'weft test examples/shop/mesh --coverage',
    'weft test mesh/ -o junit > results.xml',
  );
}

function percent(text: string): number {
  const value = Number(text);
  if (!/^\d{1,3}(\.\d+)?$/.test(text) || value > 100)
    throw new InvalidArgumentError('a number from 0 to 100 is needed.');
  return value;
}

async function test(given: string[], options: TestOptions): Promise<void> {
  if (!options.watch) {
    const run = runTests(given);
    show(run, given, options);
    if (run.failed > 0) process.exitCode = 1;
    if (options.minCoverage !== undefined && shareOf(run.coverage) < options.minCoverage) {
      process.stderr.write(`weft: ${shareOf(run.coverage)} % is covered, and ${options.minCoverage} % are asked for\n`);
      process.exitCode = 1;
    }
    return;
  }
  if (options.output !== 'table') throw new WeftError('usage', '--watch prints tables alone: leave -o out');
  let stopped = false;
  let wake = (): void => {};
  const forget = onSignals(() => {
    stopped = true;
    wake();
  });
  for (let seen = ''; !stopped; ) {
    const now = fingerprint(given);
    if (now !== seen) {
      if (seen !== '') print(`\n${new Date().toISOString()}: the files changed`);
      seen = now;
      try {
        show(runTests(given), given, options);
      } catch (error) {
        if (!(error instanceof WeftError) && (error as NodeJS.ErrnoException).code === undefined) throw error;
        print(`weft: ${(error as Error).message}`);
      }
    }
    await new Promise<void>((resolve) => {
      wake = resolve;
      setTimeout(resolve, WATCH_MS);
    });
  }
  forget();
}

function runTests(given: readonly string[]): TestRun {
  const testFiles = findTests(given);
  if (testFiles.length === 0)
    throw new WeftError('no-test', `no file named *.mesh-test.yaml is in ${given.join(', ')}: see docs/mesh-tests.md`);
  const { tests, problems } = readMeshTests(readSources(testFiles).map(shorter));
  if (problems.length > 0) {
    const lines = problems.map((p) => `  ${formatProblem(p)}`).join('\n');
    throw new WeftError('test-file', `the tests are refused:\n${lines}`);
  }
  const files = findFiles(configuration(given));
  const model = loadModel(files, (line) => process.stderr.write(`${line}\n`));
  return runMeshTests(meshFromModel(model), tests);
}

/** Where tests alone are named, what stands beside them. */
function configuration(given: readonly string[]): string[] {
  const named = given.filter((g) => !isTestFile(g));
  return named.length > 0 ? named : [...new Set(given.map((g) => path.dirname(g)))];
}

function shorter(file: SourceFile): SourceFile {
  return { ...file, path: shortPath(file.path) };
}

function shortPath(file: string): string {
  const relative = path.relative(process.cwd(), file);
  return relative.startsWith('..') && relative.length > file.length ? file : relative;
}

function show(run: TestRun, given: readonly string[], { output, coverage }: TestOptions): void {
  if (output === 'json') printJson(runJson(run, shortPath));
  else if (output === 'junit') print(junitOf(run));
  else print(reportLines(run, configuration(given), coverage === true, shortPath).join('\n'));
}

/** Names, sizes and times of all files. */
function fingerprint(given: readonly string[]): string {
  try {
    const files = [...findTests(given), ...findFiles(configuration(given))];
    return files
      .map((f) => {
        const { ino, size, mtimeNs } = statSync(f, { bigint: true });
        return `${f} ${ino} ${size} ${mtimeNs}`;
      })
      .join('\n');
  } catch (error) {
    // A file that goes away between two looks; the next one finds out.
    return String((error as Error).message);
  }
}
