/** bench/RESULTS.md: every row of a run, with what it was run on, for how long, and which targets were met. */
import { writeFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import path from 'node:path';
import { cells, type RowResult, verdict } from './results.ts';
import { rows } from './rows/all.ts';
import type { Peer } from './stage.ts';

export interface Report {
  results: readonly RowResult[];
  peers: readonly Peer[];
  quick: boolean;
  rounds: number;
  seconds: number;
  warmSeconds: number;
  started: Date;
  /** The machine's load average over a minute before the run. */
  loadBefore: number;
  failures: number;
}

/** Writes the report and gives its path. */
export function writeReport(report: Report): string {
  const file = path.join(import.meta.dirname, 'RESULTS.md');
  const ordered = [...report.results].sort((a, b) => rows.indexOf(a.row) - rows.indexOf(b.row));
  writeFileSync(file, [head(report), ...ordered.map((r) => section(r, report.peers))].join('\n'));
  return file;
}

function head(r: Report): string {
  const minutes = Math.round((Date.now() - r.started.getTime()) / 60_000);
  const gib = Math.round(totalmem() / 2 ** 30);
  return `# Results

\`npm run bench${r.quick ? ' -- --quick' : ''}\` of ${r.started.toISOString().slice(0, 16).replace('T', ' ')} UTC, ${minutes} minutes. ${
    r.quick ? '**The quick form: one short round, good for finding out whether a row runs, not for quoting.** ' : ''
  }Rounds: ${r.rounds}, of ${r.seconds} s each, all
data planes alternating; ${r.warmSeconds} s of load before the first. Figures are medians of the rounds, Weft's with its smallest and
largest round in brackets. (n×) is Weft's figure divided by that column's. Rows with fresh processes (memory, cgroup, WebSockets)
have one round.${r.failures > 0 ? ` **${r.failures} measurements failed and are left out.**` : ''}

Machine: ${availableParallelism()} × ${cpus()[0]?.model.trim() ?? 'unknown'}, ${gib} GiB, Linux ${release()}, load average ${r.loadBefore.toFixed(1)} before the run.${busy(r)}

The chain is client → A → TLS 1.3 with certificates on both sides → B → application, on loopback: A and B on one core, load and application on the
other one. Path, query and one header differ in every request. Every peer checks the caller's identity, method and path at B and has
timeouts, retries and a request id (tunnels: the identity alone, since they look into nothing), Weft trace context too; access logs are off. CPU is
what the scheduler counted for both proxies together.

| column | what |
|---|---|
${r.peers.map((p) => `| ${p.name} | ${p.version()} |`).join('\n')}
`;
}

/** A machine that had other work to do says little, and the report has to say that. */
function busy(r: Report): string {
  return r.loadBefore > availableParallelism() / 4
    ? ' **The machine was busy with other work: absolute figures say nothing, and ratios of one row little. Run it again on a quiet one.**'
    : '';
}

function section(result: RowResult, all: readonly Peer[]): string {
  const names = all.map((p) => p.name).filter((name) => result.samples.has(name));
  const line = (parts: readonly string[]): string => `| ${parts.join(' | ')} |`;
  return `## ${result.row.name}

${result.row.what[0]!.toUpperCase()}${result.row.what.slice(1)}.

${line(['figure', ...names, 'target'])}
${line(['---', ...names.map(() => '---:'), '---'])}
${result.row.figures
  .map((figure) => line([figure.unit, ...cells(result, figure, names).map((c) => c.text), verdict(result, figure)]))
  .join('\n')}
`;
}
