/** `weft authz suggest` and `weft authz dry-run`: policies and what was seen. */
import { WeftError } from '@weft/base';
import { type LiveInstance, type SeenCall, suggestionYaml, suggestPolicies } from '@weft/lab';
import { type Command, Option } from 'commander';
import { type CalledText, callText, refusedBy } from '../calls-text.ts';
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
import { troubled } from '../trouble.ts';

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

/** What runs in the mesh; throws where neither anything runs in the namespace, nor was called there. */
async function instancesIn(mesh: string, namespace: string | undefined, calls: Call[]): Promise<LiveInstance[]> {
  const { instances } = await askControl<{ instances: LiveInstance[] }>(mesh, 'GET', '/v1/instances');
  const known = [...instances, ...calls].some((x) => x.namespace === namespace);
  if (namespace !== undefined && !known) {
    const there = [...new Set(instances.map((i) => i.namespace))].sort().join(', ');
    throw new WeftError('no-namespace', `nothing runs in namespace ${namespace}; there are: ${there || 'none'}`);
  }
  return instances;
}

async function suggest(o: MeshOption & SinceOption & { namespace: string; output: 'yaml' | 'json' }): Promise<void> {
  const mesh = chooseMesh(o.mesh);
  const { calls, dropped } = await seen(mesh, o.since === undefined ? 0 : Date.now() - o.since);
  const instances = await instancesIn(mesh, o.namespace, calls);
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
        'what policies in dry run (istio.io/dry-run) would have denied, and what AUDIT policies matched. Exit code 0: nothing denied, 1: something, 2: trouble',
      )
      .option('-n, --namespace <namespace>', 'only workloads of this namespace')
      .addOption(sinceOption('since the files changed last'))
      .addOption(meshOption())
      .addOption(outputOption())
      .action(troubled(dryRun)),
    'weft authz dry-run -n shop',
    'weft authz dry-run --since 24h',
  );
}

async function dryRun(o: MeshOption & OutputOption & SinceOption & { namespace?: string }): Promise<void> {
  const mesh = chooseMesh(o.mesh);
  const { sinceMs } = await askControl<{ sinceMs: number }>(mesh, 'GET', '/v1/epoch');
  const from = o.since === undefined ? sinceMs : Date.now() - o.since;
  const { calls } = await seen(mesh, from);
  await instancesIn(mesh, o.namespace, calls);
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
  if (denied.length === 0) {
    const tried = await policiesInDryRun(mesh, o.namespace);
    if (tried.length > 0) print(`${tried.join(', ')}: in dry run, would have denied nothing since ${since}`);
    else
      print(
        'No policy is in dry run. "weft authz suggest -n NAMESPACE" writes some for what was called;\none of your own is in dry run with the annotation istio.io/dry-run: "true".',
      );
  } else {
    print(`Policies in dry run would have denied since ${since}:\n\nREQUESTS`);
    for (const c of denied) print(callText(called(c), refusedBy(c.shadowPolicy, c.shadowRef)));
    print('\nCalls that are meant need a rule before the annotation istio.io/dry-run is removed.');
  }
  if (audited.length === 0) return;
  print('\nAUDIT policies matched:\n\nREQUESTS');
  for (const c of audited) print(callText(called(c), c.audit.replaceAll(',', ', ')));
}

async function policiesInDryRun(mesh: string, namespace: string | undefined): Promise<string[]> {
  interface Coverage {
    coverage: { workload: string; policies: { policy: string; dryRun: boolean }[] }[];
  }
  const { coverage } = await askControl<Coverage>(mesh, 'GET', `/v1/audit?since=${Date.now()}`);
  const here = coverage.filter((c) => namespace === undefined || c.workload.startsWith(`${namespace}/`));
  return [...new Set(here.flatMap((c) => c.policies.filter((p) => p.dryRun).map((p) => p.policy)))].sort();
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

function called(c: Call): CalledText {
  return { ...c, workload: `${c.namespace}/${c.workload}` };
}
