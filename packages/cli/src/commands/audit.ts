/** `weft audit report`: what a reviewer asks of a mesh. */
import { wrap } from '@weft/lab';
import { type Command, Option } from 'commander';
import { callText, refusedBy, time } from '../calls-text.ts';
import {
  askControl,
  chooseMesh,
  type MeshOption,
  meshOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
} from '../common.ts';
import { duration } from '../duration.ts';
import { example } from '../example.ts';
import { shorter } from '../paths.ts';
import { table } from '../table.ts';

/** The control plane's `/v1/audit`. */
interface Report {
  sinceMs: number;
  untilMs: number;
  epoch: number;
  mtls: {
    edges: number;
    edgesUnderMtls: number;
    edgeShare: number | null;
    bytes: number;
    bytesUnderMtls: number;
    byteShare: number | null;
    exceptions: {
      source: string;
      sourceNamespace: string;
      destination: string;
      requests: number;
      bytes: number;
      lastMs: number;
    }[];
  };
  dropped: number;
  certificates: {
    rootEndsInMs: number;
    workloads: { instance: string; serial: string; ageMs: number | null; endsInMs: number | null }[];
  };
  coverage: {
    workload: string;
    proxy: boolean;
    covered: boolean;
    policies: { policy: string; kind: string; action: string; dryRun: boolean }[];
    mtls: { port: number; mode: string }[];
  }[];
  denials: {
    workload: string;
    principal: string;
    source: string;
    port: number;
    method: string;
    path: string;
    policy: string;
    rule: string;
    requests: number;
    lastMs: number;
  }[];
  changes: {
    at: string;
    event: string;
    epoch: number;
    actor: { uid: number; user?: string };
    resources?: { change: string; resource: string; file: string; line: number }[];
    more?: number;
    problems?: { message: string; file: string; line: number }[];
    what?: string;
    detail?: Record<string, unknown>;
  }[];
}

export function addAudit(program: Command): void {
  const audit = program.command('audit').description('what was encrypted, allowed, denied and changed');
  example(audit, 'weft audit report --since 24h');
  example(
    audit
      .command('report')
      .description(
        'mTLS with its exceptions, certificates, policies of each workload, denials, changes of configuration',
      )
      .addOption(
        new Option('--since <time>', 'how far back: 24h, 7d, 30d (traffic is kept for 35 days)')
          .argParser(duration)
          .default(30 * 86_400_000, '30d'),
      )
      .addOption(meshOption())
      .addOption(outputOption())
      .action(report),
    'weft audit report',
    'weft audit report --since 7d -o json',
  );
}

async function report(o: MeshOption & OutputOption & { since: number }): Promise<void> {
  const since = Math.max(0, Date.now() - o.since);
  const answer = await askControl<Report>(chooseMesh(o.mesh), 'GET', `/v1/audit?since=${since}`);
  if (o.output === 'json') printJson(answer);
  else print(render(answer));
}

const share = (part: number | null): string => (part === null ? 'nothing seen' : `${(part * 100).toFixed(2)} %`);

/** So many of one moment are told one by one (all of them with -o json). */
const FEW = 10;

type Changed = NonNullable<Report['changes'][number]['resources']>;

function changed(resources: Changed): string[] {
  if (resources.length <= FEW) return resources.map((x) => `${x.change} ${shorter(x.file)}:${x.line} ${x.resource}`);
  const files = Map.groupBy(resources, (x) => `${x.change} ${shorter(x.file)}`);
  return [...files].map(([file, list]) => `${file}: ${list.length} resource${list.length === 1 ? '' : 's'}`);
}

function span(ms: number | null): string {
  if (ms === null) return '-';
  const minutes = Math.round(ms / 60_000);
  if (Math.abs(minutes) < 120) return `${minutes}m`;
  return Math.abs(minutes) < 2880 ? `${Math.round(minutes / 60)}h` : `${Math.round(minutes / 1440)}d`;
}

function render(r: Report): string {
  const { mtls, certificates } = r;
  const out = [
    `from ${time(r.sinceMs)} to ${time(r.untilMs)} UTC, epoch ${r.epoch}`,
    '',
    `mTLS: ${mtls.edgesUnderMtls} of ${mtls.edges} edges (${share(mtls.edgeShare)}), ${mtls.bytesUnderMtls} of ${mtls.bytes} bytes (${share(mtls.byteShare)})`,
  ];
  if (r.dropped > 0) out.push(`${r.dropped} requests are in no row: past the limits of a day (LIMITS.md)`);
  const section = (title: string, head: string[], rows: (string | number)[][], none: string): void => {
    out.push('', rows.length === 0 ? none : `${title}\n${table(head, rows)}`);
  };
  section(
    'Edges without mTLS',
    ['SOURCE', 'DESTINATION', 'REQUESTS', 'BYTES', 'LAST'],
    mtls.exceptions.map((e) => [
      `${e.sourceNamespace}/${e.source}`,
      ...[e.destination, e.requests, e.bytes, time(e.lastMs)],
    ]),
    'No edge was without mTLS.',
  );
  section(
    `Certificates (the root ends in ${span(certificates.rootEndsInMs)})`,
    ['INSTANCE', 'AGE', 'ENDS IN', 'SERIAL'],
    certificates.workloads.map((c) => [c.instance, span(c.ageMs), span(c.endsInMs), c.serial || 'not connected']),
    'No workload has a proxy.',
  );
  section('Policies', ['WORKLOAD', 'COVERED', 'MTLS', 'POLICIES'], r.coverage.flatMap(policyRows), 'No workload runs.');
  out.push('', r.denials.length === 0 ? 'Nothing was denied.' : 'Denials\nREQUESTS');
  for (const d of r.denials) out.push(callText(d, refusedBy(d.policy, d.rule || d.policy)));
  out.push('', r.changes.length === 0 ? 'Nothing was changed.' : 'Changes');
  for (const c of r.changes) out.push(...changeLines(c));
  return out.join('\n');
}

/** A policy a row. */
function policyRows(c: Report['coverage'][number]): string[][] {
  const [first = '-', ...rest] = c.policies.map(
    (p) => `${p.action === 'TABLE' ? p.kind : p.action} ${p.policy}${p.dryRun ? ' (dry run)' : ''}`,
  );
  const covered = c.covered ? 'yes' : c.proxy ? 'no: everybody may call it' : 'no: it has no proxy';
  const modes = [...new Set(c.mtls.map((m) => m.mode))].join(', ') || '-';
  return [[c.workload, covered, modes, first], ...rest.map((p) => ['', '', '', p])];
}

function changeLines(c: Report['changes'][number]): string[] {
  const line = (what: string): string[] => wrap(what, '  ');
  const head = `${time(Date.parse(c.at))}  epoch ${c.epoch}, by ${c.actor.user ?? String(c.actor.uid)}`;
  if (c.event === 'refused') {
    const first = c.problems?.[0];
    const why = first ? `${shorter(first.file)}:${first.line}: ${first.message}` : 'files that cannot be read';
    return [head, ...line(`refused: ${why}`)];
  }
  if (c.event !== 'configuration') return [head, ...line(`${c.what} ${JSON.stringify(c.detail ?? {})}`)];
  const what = changed(c.resources ?? []);
  if (c.more) what.push(`and ${c.more} more`);
  return [head, ...(what.length === 0 ? ['no resource: comments, order or files only'] : what).flatMap(line)];
}
