/** `weft audit report`: what a reviewer asks of a mesh. */
import type { Command } from 'commander';
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
  example(
    audit
      .command('report')
      .description(
        'mTLS with its exceptions, certificates, policies of each workload, denials, changes of configuration',
      )
      .option('--since <time>', 'how far back: 24h, 7d, 30d (traffic is kept for 35 days)', duration, 30 * 86_400_000)
      .addOption(meshOption())
      .addOption(outputOption())
      .action(report),
    'weft audit report --since 30d -o json',
  );
}

async function report(o: MeshOption & OutputOption & { since: number }): Promise<void> {
  const since = Math.max(0, Date.now() - o.since);
  const answer = await askControl<Report>(chooseMesh(o.mesh), 'GET', `/v1/audit?since=${since}`);
  if (o.output === 'json') printJson(answer);
  else print(render(answer));
}

const time = (ms: number): string => new Date(ms).toISOString().slice(0, 19).replace('T', ' ');
const share = (part: number | null): string => (part === null ? 'nothing seen' : `${(part * 100).toFixed(2)} %`);

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
  section(
    'Policies',
    ['WORKLOAD', 'COVERED', 'MTLS', 'POLICIES'],
    r.coverage.map((c) => [
      c.workload,
      c.covered ? 'yes' : c.proxy ? 'no: everybody may call it' : 'no: it has no proxy',
      [...new Set(c.mtls.map((m) => m.mode))].join(', ') || '-',
      c.policies.map((p) => `${p.action} ${p.policy}${p.dryRun ? ' (dry run)' : ''}`).join(', ') || '-',
    ]),
    'No workload runs.',
  );
  section(
    'Denials',
    ['REQUESTS', 'CALLER', 'WORKLOAD', 'REQUEST', 'RULE', 'LAST'],
    r.denials.map((d) => [
      d.requests,
      d.principal || `${d.source} (no certificate)`,
      `${d.workload}:${d.port}`,
      d.method === '' ? 'TCP' : `${d.method} ${d.path}`,
      d.rule || d.policy,
      time(d.lastMs),
    ]),
    'Nothing was denied.',
  );
  section(
    'Changes',
    ['TIME', 'EPOCH', 'WHO', 'WHAT'],
    r.changes.flatMap((c) => {
      const who = c.actor.user ?? String(c.actor.uid);
      const head = [time(Date.parse(c.at)), c.epoch, who];
      if (c.event === 'refused') {
        const first = c.problems?.[0];
        return [
          [
            ...head,
            `refused: ${first ? `${first.file}:${first.line}: ${first.message}` : 'files that cannot be read'}`,
          ],
        ];
      }
      if (c.event !== 'configuration') return [[...head, `${c.what} ${JSON.stringify(c.detail ?? {})}`]];
      const what = (c.resources ?? []).map((x) => `${x.change} ${x.resource} (${x.file}:${x.line})`);
      if (c.more) what.push(`and ${c.more} more`);
      return (what.length === 0 ? ['no resource: comments, order or files only'] : what).map((w) => [...head, w]);
    }),
    'Nothing was changed.',
  );
  return out.join('\n');
}
