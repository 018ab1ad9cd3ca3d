/**
 * `npm run conformance [-- SUITE…] [--short] [-o json]`: other people's suites and real peers against Weft, each installed
 * from a registry. With `-o json` a line a suite: {"suite", "passed", "failed", "skipped"}. Exit code 1 where a case failed.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Suite, SuiteResult } from './suite.ts';

const help = `usage: npm run conformance [-- SUITE…] [options]

  --list        the suites, and what each shows
  --short       the short form that CI runs
  -o json       a line a suite: {"suite", "passed", "failed", "skipped"}
  -h, --help

example: npm run conformance -- h2spec -o json
`;

const folder = join(import.meta.dirname, 'suites');

async function suites(): Promise<Map<string, Suite>> {
  const found = new Map<string, Suite>();
  const files = readdirSync(folder).filter((f) => f.endsWith('.ts'));
  for (const file of files.sort()) {
    const { suite } = (await import(join(folder, file))) as { suite: Suite };
    found.set(suite.name, suite);
  }
  return found;
}

/** Clean-ups of the suite that runs; a signal runs them too. */
let pending: (() => void | Promise<void>)[] = [];
async function cleanUp(): Promise<void> {
  const all = pending.reverse();
  pending = [];
  for (const fn of all) {
    try {
      await fn();
    } catch (error) {
      process.stderr.write(`conformance: clean-up: ${String(error)}\n`);
    }
  }
}

async function runSuite(suite: Suite, short: boolean): Promise<SuiteResult> {
  const reason = suite.unavailable?.();
  if (reason !== undefined) return { passed: 0, failed: 0, skipped: 1, failures: [], notes: [reason] };
  const dir = mkdtempSync(join(tmpdir(), 'weft-conformance-'));
  pending.push(() => rmSync(dir, { recursive: true, force: true }));
  const ctx = {
    short,
    dir,
    log: (line: string) => void process.stderr.write(`  ${line}\n`),
    cleanup: (fn: () => void | Promise<void>) => void pending.push(fn),
  };
  try {
    await suite.install(ctx);
  } catch (error) {
    // The short form says what Weft does, and that it could not be asked; not how well a registry does.
    const reason = `not installed: ${error instanceof Error ? error.message : String(error)}`;
    await cleanUp();
    const counts = short ? { failed: 0, skipped: 1, notes: [reason] } : { failed: 1, skipped: 0 };
    return { passed: 0, failures: short ? [] : [reason], ...counts };
  }
  try {
    return await suite.run(ctx);
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { passed: 0, failed: 1, skipped: 0, failures: [`the suite itself: ${message}`] };
  } finally {
    await cleanUp();
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      list: { type: 'boolean' },
      short: { type: 'boolean', default: false },
      output: { type: 'string', short: 'o', default: 'text' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const all = await suites();
  if (values.list) {
    for (const suite of all.values()) process.stdout.write(`${suite.name.padEnd(16)} ${suite.about}\n`);
    return 0;
  }
  const unknown = positionals.filter((name) => !all.has(name));
  if (unknown.length > 0) {
    process.stderr.write(`conformance: no suite ${unknown.join(', ')}; there are ${[...all.keys()].join(', ')}\n`);
    return 2;
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => void cleanUp().then(() => process.exit(130)));
  }
  const chosen = [...all.values()].filter((s) =>
    positionals.length > 0 ? positionals.includes(s.name) : !values.short || s.inShortForm,
  );
  let failed = 0;
  const began = performance.now();
  for (const suite of chosen) {
    const started = performance.now();
    process.stderr.write(`── ${suite.name}: ${suite.about}\n`);
    let result = await runSuite(suite, values.short);
    // These are programs of others, with deadlines of their own, that a busy machine may make them miss: in the short form
    // a suite that failed is asked again, once and in front of all.
    if (values.short && result.failed > 0) {
      for (const line of result.failures) process.stderr.write(`  ✖ ${line}\n`);
      process.stderr.write(`  ${result.failed} failed: ${suite.name} once more\n`);
      result = await runSuite(suite, true);
    }
    failed += result.failed;
    for (const line of result.failures) process.stderr.write(`  ✖ ${line}\n`);
    for (const line of result.notes ?? []) process.stderr.write(`  – ${line}\n`);
    const { passed, skipped } = result;
    process.stdout.write(
      values.output === 'json'
        ? `${JSON.stringify({ suite: suite.name, passed, failed: result.failed, skipped })}\n`
        : `${result.failed > 0 ? '✖' : '✔'} ${suite.name.padEnd(16)} ${passed} passed, ${result.failed} failed, ${skipped} skipped (${((performance.now() - started) / 1000).toFixed(0)} s)\n`,
    );
  }
  const seconds = Math.round((performance.now() - began) / 1000);
  process.stderr.write(`${chosen.length} suites in ${seconds} s\n`);
  return failed > 0 ? 1 : 0;
}

// Not by leaving: what suites left in the runtime (a request that was never answered) may keep its own end busy for ever.
process.exit(await main());
