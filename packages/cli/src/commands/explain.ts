import { WeftError } from '@weft/base';
import type { InstanceStatus } from '@weft/host';
import {
  callsJson,
  type EndpointHealth,
  type Explanation,
  entrance,
  explain,
  explanationJson,
  instanceNamed,
  type LabMesh,
  type LiveInstance,
  meshFromModel,
  meshFromPlans,
  OUTSIDE,
  type PlanJson,
  type Question,
  renderCalls,
  renderExplanation,
  type SharedLimitShares,
} from '@weft/lab';
import { type Command, InvalidArgumentError } from 'commander';
import { adminGet } from '../admin.ts';
import { callsOf } from '../call-logs.ts';
import {
  ask,
  askControl,
  chooseMesh,
  type MeshOption,
  meshOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
} from '../common.ts';
import { example } from '../example.ts';
import { findFiles, loadModel } from '../mesh.ts';
import { shorter } from '../paths.ts';
import { type TokenOption, tokenOption } from '../token-option.ts';

interface ExplainOptions extends MeshOption, OutputOption, TokenOption {
  from?: string;
  to?: string;
  requestId?: string;
  header: [string, string][];
  files?: string[];
  live?: boolean;
  tcp?: boolean;
  sni?: string;
}

/** `weft explain`: the whole life of a request, before it is made (on files or on a running mesh) or after it was. */
export function addExplain(program: Command): void {
  example(
    program
      .command('explain')
      .description('what would happen to a request and why; exit code 3 where it could never reach the application')
      .argument('[method]', 'of the request', 'GET')
      .argument('[path]', 'with query', '/')
      .option('--from <namespace/workload>', 'who calls; "outside": somebody without a proxy')
      .option('--to <service:port>', 'who is called; from outside: workload:port')
      .option('-H, --header <header>', "of the request, 'name: value'; may be repeated", collectHeader, [])
      .option('-f, --files <path...>', 'folders or files; every replica is taken to be ready')
      .option('--live', 'the running mesh, with what the caller’s proxy knows of endpoints (the default without -f)')
      .option('--tcp', 'the caller speaks no HTTP')
      .option('--sni <name>', 'the caller begins with TLS and asks for this server name')
      .addOption(tokenOption())
      .option('--request-id <id>', 'a request that was made (its x-request-id): what was decided in all calls of it')
      .addOption(meshOption())
      .addOption(outputOption())
      .action(run),
    "weft explain -f examples/shop/mesh --from shop/cart --to payment:8080 -H 'x-canary-test: true' POST /charge",
    'weft explain --live --from shop/frontend --to cart:8080',
    'weft explain --request-id 2f0c3a52-7d0e-4a39-9d6f-1f6f3c5f9f10',
  );
}

/** An option's argument `name: value`, added to those before. */
export function collectHeader(text: string, list: [string, string][]): [string, string][] {
  const m = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)$/s.exec(text);
  if (!m || /[\x00-\x08\x0a-\x1f\x7f]/.test(m[2]!))
    throw new InvalidArgumentError("say it as 'name: value', in visible characters.");
  return [...list, [m[1]!, m[2]!.trim()]];
}

async function run(method: string, target: string, options: ExplainOptions): Promise<void> {
  const { from, to } = options;
  if (options.requestId !== undefined) {
    if (from !== undefined || to !== undefined || options.files || options.live)
      throw new WeftError(
        'usage',
        '--request-id asks for a request that was made: leave --from, --to, -f and --live out',
      );
    const calls = callsOf(options.mesh, options.requestId);
    if (options.output === 'json') printJson(callsJson(calls));
    else print(renderCalls(calls, shorter));
    return;
  }
  if (from === undefined || to === undefined)
    throw new WeftError('usage', 'say who calls whom by --from and --to, or --request-id of a request that was made');
  if (options.files && options.live) throw new WeftError('usage', 'say either -f or --live');
  // A single argument that is a path leaves the method out.
  const swapped = method.startsWith('/') && target === '/';
  const question: Question = {
    from,
    to,
    method: swapped ? 'GET' : method,
    path: swapped ? method : target,
    headers: options.header,
    ...(options.token && { token: options.token }),
    ...(options.tcp && { tcp: true }),
    ...(options.sni !== undefined && { sni: options.sni }),
  };
  const answer = options.files
    ? explain(meshFromModel(loadModel(findFiles(options.files), (line) => process.stderr.write(`${line}\n`))), question)
    : await explainLive(chooseMesh(options.mesh), question);
  if (options.output === 'json') printJson(explanationJson(answer));
  else print(renderExplanation(answer, shorter));
  const passes = answer.outcomes.some((o) => o.status === 'application' || o.status === 'connected');
  if (!passes) process.exitCode = 3;
}

/** The caller's plan first; then, as they turn out to matter, those of who may be called. */
async function explainLive(name: string, question: Question): Promise<Explanation> {
  const { instances } = await askControl<{ instances: LiveInstance[] }>(name, 'GET', '/v1/instances');
  const plans = new Map<string, PlanJson>();
  const empty: LabMesh = meshFromPlans(plans, instances);
  const outside = question.from === OUTSIDE;
  const from = outside
    ? instanceNamed(empty, entrance(question.to).workload, 'to')
    : instanceNamed(empty, question.from);
  const health = await healthAt(name, from);
  const { limits } = await askControl<{ limits: SharedLimitShares[] }>(name, 'GET', '/v1/rates');
  for (let wanted: readonly string[] = [from]; ; ) {
    for (const instance of wanted)
      plans.set(
        instance,
        await askControl<PlanJson & { epoch: number }>(name, 'GET', `/v1/plan/${encodeURIComponent(instance)}`),
      );
    const answer = explain(meshFromPlans(plans, instances, health, limits), {
      ...question,
      from: outside ? OUTSIDE : from,
    });
    wanted = answer.missing.filter((i) => !plans.has(i));
    if (wanted.length === 0) return { ...answer, question };
  }
}

/** Ejections and running requests, as the caller's own proxy counts them. */
async function healthAt(name: string, instance: string): Promise<EndpointHealth[]> {
  const { instances } = await ask<{ instances: InstanceStatus[] }>(name, 'GET', '/ps');
  const status = instances.find((i) => i.name === instance);
  if (!status?.injected) return [];
  const dump = JSON.parse(await adminGet(status, '/endpoints')) as {
    services: {
      host: string;
      port: number;
      endpoints: { instance: string; state: { health: string; activeRequests: number } }[];
    }[];
  };
  return dump.services.flatMap(({ host, port, endpoints }) =>
    endpoints.map((e) => ({
      host,
      port,
      instance: e.instance,
      ejected: e.state.health === 'EJECTED',
      unhealthy: e.state.health === 'UNHEALTHY',
      active: e.state.activeRequests,
    })),
  );
}
