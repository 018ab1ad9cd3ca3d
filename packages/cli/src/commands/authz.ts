import { WeftError } from '@weft/base';
import {
  type AuthorizationQuestion,
  decide,
  instanceNamed,
  type LabMesh,
  type LiveInstance,
  meshFromFiles,
  meshFromPlans,
  type PlanJson,
  policiesOf,
  renderDecision,
} from '@weft/lab';
import { type Command, InvalidArgumentError } from 'commander';
import {
  askControl,
  chooseMesh,
  type MeshOption,
  meshOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
  wholeNumber,
} from '../common.ts';
import { example } from '../example.ts';
import { findFiles, readSources } from '../mesh.ts';
import { shorter } from '../paths.ts';
import { table } from '../table.ts';
import { type TokenOption, tokenOption } from '../token-option.ts';
import { troubled } from '../trouble.ts';
import { addDryRun, addSuggest } from './authz-observed.ts';

interface CheckOptions extends MeshOption, OutputOption, TokenOption {
  files?: string[];
  live?: boolean;
  from?: string;
  port?: number;
  ip?: string;
  host?: string;
  header?: [string, string][];
}

/** `weft authz`: questions about who may call whom. */
export function addAuthz(program: Command): void {
  const authz = program.command('authz').description('who may call whom, and which policy says so');
  example(
    authz,
    'weft authz check shop/cart                            what holds for it',
    'weft authz suggest -n shop > mesh/policies.yaml       policies for what was seen, in dry run',
    'weft authz dry-run -n shop                            what these would have refused',
  );
  example(
    authz
      .command('check')
      .description(
        'the policies that hold for a workload, in order; given a request, what they decide. Exit code 0: allowed, 1: denied, 2: trouble',
      )
      .argument('<namespace/workload>', 'the workload that is called')
      .argument('[method]', 'with a path, a request; without, and with --port, a TCP connection')
      .argument('[path]', 'as the client writes it')
      .option('-f, --files <path>', 'a folder or file; may be repeated', path)
      .option('--live', 'ask the running mesh (the default without -f)')
      .option(
        '--from <id>',
        "the caller's SPIFFE id without spiffe://, e.g. cluster.local/ns/shop/sa/web; none: plaintext",
      )
      .option('--port <port>', "the workload's port; its first one where left out", wholeNumber)
      .option('--ip <address>', "the caller's address")
      .option('--host <host>', 'the Host of the request')
      .option('-H, --header <name:value>', 'a header of the request; may be repeated', header)
      .addOption(tokenOption())
      .addOption(meshOption())
      .addOption(outputOption())
      .action(troubled(check)),
    'weft authz check shop/cart',
    'weft authz check shop/payment-v1 --from cluster.local/ns/shop/sa/cart POST /charge',
    'weft authz check shop/payment-v1 -f examples/shop/mesh --from cluster.local/ns/shop/sa/user GET /',
  );
  addSuggest(authz);
  addDryRun(authz);
}

function path(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), text];
}

function header(text: string, before: [string, string][] = []): [string, string][] {
  const colon = text.indexOf(':');
  if (colon <= 0) throw new InvalidArgumentError('write name:value.');
  return [...before, [text.slice(0, colon).trim(), text.slice(colon + 1).trim()]];
}

async function check(
  workload: string,
  method: string | undefined,
  path: string | undefined,
  o: CheckOptions,
): Promise<void> {
  if (method !== undefined && path === undefined)
    throw new WeftError('usage', `a METHOD needs a PATH beside it, as in: weft authz check ${workload} GET /`);
  if (o.live && o.files) throw new WeftError('usage', 'either --live or -f, not both');
  const mesh = o.files ? meshFromFiles(readSources(findFiles(o.files))) : await liveMesh(chooseMesh(o.mesh), workload);
  const policies = policiesOf(mesh, workload);
  const asked = method !== undefined || o.port !== undefined ? question(method, path, o) : undefined;
  const answer = asked && decide(mesh, workload, asked);
  if (o.output === 'json') printJson({ workload, policies, ...answer });
  else {
    print(policyTable(workload, policies));
    if (asked && answer) print(`\n${renderDecision(asked, answer, shorter)}`);
  }
  if (answer?.decision === 'deny') process.exitCode = 1;
}

function question(method: string | undefined, path: string | undefined, o: CheckOptions): AuthorizationQuestion {
  return {
    ...(o.from !== undefined && { from: o.from.replace(/^spiffe:\/\//, '') }),
    ...(o.ip !== undefined && { ip: o.ip }),
    ...(o.port !== undefined && { port: o.port }),
    ...(method !== undefined &&
      path !== undefined && {
        http: {
          ...{ method, path, headers: o.header ?? [] },
          ...(o.host !== undefined && { host: o.host }),
          ...(o.token && { token: o.token }),
        },
      }),
  };
}

/** The plan that the workload's proxy was given. */
async function liveMesh(name: string, workload: string): Promise<LabMesh> {
  const all = await askControl<{ instances: LiveInstance[] }>(name, 'GET', '/v1/instances');
  const instances = all.instances.filter((i) => i.injected);
  const none = meshFromPlans(new Map(), instances);
  const instance = instanceNamed(none, workload);
  const plan = await askControl<PlanJson>(name, 'GET', `/v1/plan/${encodeURIComponent(instance)}`);
  return meshFromPlans(new Map([[instance, plan]]), instances);
}

function policyTable(workload: string, policies: ReturnType<typeof policiesOf>): string {
  if (policies.length === 0) return `no policy holds for ${workload}: every caller is allowed`;
  const rows = policies.map(({ action, policy, rules, reference: r }) => [
    action === 'TABLE' ? (r?.resource.split('/')[0] ?? action) : action,
    ...[policy, rules, r?.file ? `${shorter(r.file)}:${r.line}` : (r?.resource ?? '')],
  ]);
  return table(['ACTION', 'POLICY', 'RULES', 'WRITTEN IN'], rows);
}
