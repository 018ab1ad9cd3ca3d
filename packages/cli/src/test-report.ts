/** What mesh tests came to, for people, for programs and for CI servers. */
import type { RuleReference, TestResult, TestRun } from '@weft/lab';

type Show = (file: string) => string;

function place(r: RuleReference, show: Show): string {
  return r.file ? `${show(r.file)}:${r.line}` : 'no file';
}

function ruleName(r: RuleReference): string {
  return r.field ? `${r.resource}#${r.field}` : r.resource;
}

function byFile(run: TestRun): Map<string, TestResult[]> {
  return Map.groupBy(run.results, (r) => r.test.file);
}

function explainCommand({ test }: TestResult, files: readonly string[]): string {
  const { from, to, method, path, headers, tcp, sni, token } = test.question;
  const quoted = (text: string): string => (/^[\w./:-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
  const parts = ['weft explain -f', ...files.map(quoted), '--from', quoted(from), '--to', quoted(to)];
  for (const [name, value] of headers ?? []) parts.push('-H', quoted(`${name}: ${value}`));
  if (token) parts.push('--token', quoted(JSON.stringify(token)));
  if (tcp) parts.push('--tcp');
  if (sni !== undefined) parts.push('--sni', quoted(sni));
  if (!tcp) parts.push(method ?? 'GET', quoted(path ?? '/'));
  return parts.join(' ');
}

/** `files`: the configuration as it was named. */
export function reportLines(run: TestRun, files: readonly string[], coverage: boolean, show: Show): string[] {
  const lines: string[] = [];
  for (const [file, results] of byFile(run)) {
    lines.push(file);
    for (const r of results) {
      lines.push(`  ${r.failures.length === 0 ? '✔' : '✖'} ${r.test.name}`);
      if (r.failures.length === 0) continue;
      for (const f of r.failures) lines.push(`      ${file}:${f.line}: ${f.message}`);
      if (r.outcomes.length > 0) lines.push('      what happens:', ...r.outcomes.map((l) => `      ${l}`));
      const rules = r.decidedBy.filter((x) => x.file);
      if (rules.length > 0)
        lines.push('      decided by:', ...rules.map((x) => `        ${place(x, show)} ${ruleName(x)}`));
      lines.push(`      why: ${explainCommand(r, files)}`);
    }
  }
  const passed = run.results.length - run.failed;
  lines.push('', `${passed} passed, ${run.failed} failed`);
  if (!coverage) return lines;
  const { coverage: found } = run;
  const { rules, covered } = found;
  const missed = rules.filter((r) => !r.covered);
  if (missed.length > 0) lines.push('', 'no test has a part of');
  for (const r of missed) lines.push(`  ${place(r, show)} ${ruleName(r)}${r.because && ` (${r.because})`}`);
  lines.push(`coverage: ${covered} of ${rules.length} rules, matches and policies (${shareOf(found)} %)`);
  return lines;
}

/** Percent, rounded down: 100 is all. */
export function shareOf({ rules, covered }: TestRun['coverage']): number {
  return rules.length === 0 ? 100 : Math.floor((1000 * covered) / rules.length) / 10;
}

/** The shape of `-o json`. */
export function runJson(run: TestRun, show: Show): unknown {
  const reference = (r: RuleReference) => ({ resource: r.resource, field: r.field, file: show(r.file), line: r.line });
  const { coverage } = run;
  return {
    passed: run.results.length - run.failed,
    failed: run.failed,
    tests: run.results.map(({ test, failures, decidedBy }) => ({
      name: test.name,
      file: test.file,
      line: test.line,
      passed: failures.length === 0,
      failures,
      decidedBy: decidedBy.map(reference),
    })),
    coverage: {
      covered: coverage.covered,
      total: coverage.rules.length,
      rules: coverage.rules.map((r) => ({ ...reference(r), covered: r.covered, because: r.because })),
    },
  };
}

/** What CI servers read. */
export function junitOf(run: TestRun): string {
  const counts = (results: readonly TestResult[]): string =>
    `tests="${results.length}" failures="${results.filter((r) => r.failures.length > 0).length}"`;
  const lines = ['<?xml version="1.0" encoding="UTF-8"?>', `<testsuites name="weft test" ${counts(run.results)}>`];
  for (const [file, results] of byFile(run)) {
    lines.push(`  <testsuite name="${escaped(file)}" ${counts(results)}>`);
    for (const { test, failures, outcomes } of results) {
      const head = `    <testcase name="${escaped(test.name)}" classname="${escaped(file)}" file="${escaped(file)}" line="${test.line}"`;
      if (failures.length === 0) {
        lines.push(`${head}/>`);
        continue;
      }
      const all = failures.map((f) => `${file}:${f.line}: ${f.message}`);
      const text = [...all, ...(outcomes.length > 0 ? ['what happens:', ...outcomes] : [])].join('\n');
      lines.push(
        `${head}>`,
        `      <failure message="${escaped(all[0]!)}">${escaped(text)}</failure>`,
        '    </testcase>',
      );
    }
    lines.push('  </testsuite>');
  }
  lines.push('</testsuites>');
  return lines.join('\n');
}

/** XML 1.0 has no way to write control characters. */
function escaped(text: string): string {
  return text
    .replaceAll(/[\x00-\x08\x0b\x0c\x0e-\x1f]/g, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
