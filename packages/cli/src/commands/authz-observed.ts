/** `weft authz suggest` and `weft authz dry-run`: policies and what was seen. */
import { WeftError } from '@weft/base';
import { type LiveInstance, type SeenCall, suggestionYaml, suggestPolicies } from '@weft/lab';
import { type Command, Option } from 'commander';
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

/** A row of the control plane's `/v1/calls`. */
interface Call extends SeenCall {
  policy: string;
  ref: string;
  shadowPolicy: string;
  shadowRef: string;
  /** AUDIT policies that matched, with commas. */
  audit: string;
  firstMs: number;
  lastMs: number;
}

interface SinceOption {
  /** Milliseconds back. */
  since?: number;
}

function sinceOption(fallback: string): Option {
  return new Option('--since <time>', `what was seen in the last 30m, 24h, 7d …; without, ${fallback}`).argParser(
    duration,
  );
}

async function seen(mesh: string, sinceMs: number): Promise<{ calls: Call[]; dropped: number }> {
  return askControl(mesh, 'GET', `/v1/calls?since=${Math.max(0, Math.floor(sinceMs))}`);
}

export function addSuggest(authz: Command): void {
  example(
    authz
      .command('suggest')
      .description(
        'the least ALLOW policies that cover the traffic that was seen, in dry run, each rule with its count',
      )
      .requiredOption('-n, --namespace <namespace>', 'the namespace whose workloads are called')
      .addOption(sinceOption('all that is kept (35 days)'))
      .addOption(meshOption())
      .addOption(new Option('-o, --output <format>', 'yaml or json').choices(['yaml', 'json']).default('yaml'))
      .action(suggest),
    'weft authz suggest -n shop > mesh/policies.yaml',
  );
}

async function suggest(o: MeshOption & SinceOption & { namespace: string; output: 'yaml' | 'json' }): Promise<void> {
  const mesh = chooseMesh(o.mesh);
  const { instances } = await askControl<{ instances: LiveInstance[] }>(mesh, 'GET', '/v1/instances');
  const { calls, dropped } = await seen(mesh, o.since === undefined ? 0 : Date.now() - o.since);
  if (!instances.some((i) => i.namespace === o.namespace) && !calls.some((c) => c.namespace === o.namespace)) {
    const there = [...new Set(instances.map((i) => i.namespace))].sort().join(', ');
    throw new WeftError('no-namespace', `nothing runs in namespace ${o.namespace}; there are ${there || 'none'}`);
  }
  const suggestion = suggestPolicies(o.namespace, calls, instances);
  if (dropped > 0)
    process.stderr.write(`${dropped} requests are not in it: past the limit of kinds of calls (see LIMITS.md)\n`);
  if (o.output === 'json') {
    printJson({ namespace: o.namespace, dropped, ...suggestion });
    return;
  }
  const first = calls.filter((c) => c.namespace === o.namespace).map((c) => c.firstMs);
  const from = first.length === 0 ? 'so far (nothing)' : `since ${new Date(Math.min(...first)).toISOString()}`;
  process.stdout.write(suggestionYaml(o.namespace, suggestion, from));
}

export function addDryRun(authz: Command): void {
  example(
    authz
      .command('dry-run')
      .description(
        'what policies in dry run (istio.io/dry-run) would have denied (exit code 1: something), and what AUDIT policies matched',
      )
      .option('-n, --namespace <namespace>', 'only workloads of this namespace')
      .addOption(sinceOption('since the files changed last'))
      .addOption(meshOption())
      .addOption(outputOption())
      .action(dryRun),
    'weft authz dry-run -n shop',
  );
}

async function dryRun(o: MeshOption & OutputOption & SinceOption & { namespace?: string }): Promise<void> {
  const mesh = chooseMesh(o.mesh);
  const { sinceMs } = await askControl<{ sinceMs: number }>(mesh, 'GET', '/v1/epoch');
  const from = o.since === undefined ? sinceMs : Date.now() - o.since;
  const { calls } = await seen(mesh, from);
  const here = calls.filter((c) => o.namespace === undefined || c.namespace === o.namespace);
  const most = (list: Call[]): Call[] => list.sort((a, b) => b.requests - a.requests);
  const denied = most(here.filter((c) => c.shadowRef !== ''));
  const audited = most(here.filter((c) => c.audit !== ''));
  if (denied.length > 0) process.exitCode = 1;
  const since = new Date(from).toISOString();
  if (o.output === 'json') {
    printJson({
      since,
      denied: denied.map((c) => ({ ...callJson(c), policy: c.shadowPolicy, rule: c.shadowRef })),
      audited: audited.map((c) => ({ ...callJson(c), policies: c.audit.split(',') })),
    });
    return;
  }
  if (denied.length === 0) print(`policies in dry run would have denied nothing since ${since}`);
  else {
    // No rule of the ALLOW policies matched: the first of them stands for all.
    const policy = (c: Call): string => (c.shadowPolicy === 'none' ? 'no ALLOW rule matches' : c.shadowPolicy);
    const rows = denied.map((c) => [...callCells(c), policy(c), c.shadowRef]);
    print(table(['REQUESTS', 'CALLER', 'WORKLOAD', 'REQUEST', 'LAST', 'POLICY', 'RULE'], rows));
  }
  if (audited.length === 0) return;
  print('\nmatched by AUDIT policies:');
  const rows = audited.map((c) => [...callCells(c), c.audit]);
  print(table(['REQUESTS', 'CALLER', 'WORKLOAD', 'REQUEST', 'LAST', 'POLICIES'], rows));
}

function callJson({ namespace, workload, principal, source, port, method, path, denied, requests, ...c }: Call) {
  return {
    ...{ namespace, workload, principal, source, port, method, path, requests },
    /** Whether the policies in force let it pass. */
    allowed: !denied,
    first: new Date(c.firstMs).toISOString(),
    last: new Date(c.lastMs).toISOString(),
  };
}

function callCells(c: Call): (string | number)[] {
  return [
    c.requests,
    c.principal || `${c.source} (no certificate)`,
    `${c.namespace}/${c.workload}:${c.port}`,
    c.method === '' ? 'TCP' : `${c.method} ${c.path}`,
    new Date(c.lastMs).toISOString().slice(0, 19),
  ];
}
