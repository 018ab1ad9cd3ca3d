// A short test report: failures whole, skipped tests with their reason, a closing line with counts. The files of what
// failed are written to WEFT_FAILED_FILES, a JSON list.
import { writeFileSync } from 'node:fs';

export default async function* report(source) {
  let passed = 0;
  let failed = 0;
  const skipped = [];
  const failures = [];
  const files = new Set();
  for await (const event of source) {
    if (event.type === 'test:pass' && event.data.details?.type !== 'suite') {
      if (event.data.skip !== undefined)
        skipped.push(`${event.data.name}: ${event.data.skip === true ? 'no reason given' : event.data.skip}`);
      else passed += 1;
    } else if (event.type === 'test:fail') {
      if (event.data.details?.type !== 'suite') failed += 1;
      files.add(event.data.file);
      const error = event.data.details?.error;
      failures.push(
        `✖ ${event.data.name} (${event.data.file}:${event.data.line})\n${error?.cause?.stack ?? error?.cause ?? error?.stack ?? error}\n`,
      );
    }
    // Whole-mesh tests take a while: each that ended is a line, so that nobody waits in the dark.
    if (
      (event.type === 'test:pass' || event.type === 'test:fail') &&
      event.data.nesting === 0 &&
      event.data.details?.duration_ms > 3000
    ) {
      const seconds = (event.data.details.duration_ms / 1000).toFixed(0);
      yield `${event.type === 'test:pass' ? '✔' : '✖'} ${event.data.name} (${seconds} s)\n`;
    } else if (event.type === 'test:stderr' && process.env.WEFT_TEST_VERBOSE) yield event.data.message;
  }
  for (const failure of failures) yield `${failure}\n`;
  for (const reason of skipped) yield `skipped: ${reason}\n`;
  if (skipped.length > 0 && process.env.WEFT_SKIP_IS_FAILURE) {
    yield 'As root no test may be skipped.\n';
    failed += skipped.length;
    process.exitCode = 1;
  }
  // A test that was skipped and must not be is no matter of chance.
  if (process.env.WEFT_FAILED_FILES && skipped.length * Number(Boolean(process.env.WEFT_SKIP_IS_FAILURE)) === 0)
    writeFileSync(process.env.WEFT_FAILED_FILES, JSON.stringify([...files]));
  yield `${passed} passed, ${failed} failed, ${skipped.length} skipped\n`;
}
