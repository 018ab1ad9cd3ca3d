/** Random AuthorizationPolicies, read from files, against an evaluator that shares no code with Weft's. */
import { create } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { loadFiles } from '@weft/config';
import { authorize, buildSnapshot, canonicalHead, type Snapshot } from '@weft/engine';
import { compileAuthorization, RefTable } from '@weft/model';
import { PartSchema } from '@weft/plan';
import { type NaivePolicy, type NaiveRequest, naiveAllows } from '../naive/authorization.ts';
import { Draw, ROOT, WORKLOAD } from '../random-policies.ts';
import { type Suite, Tally } from '../suite.ts';

const SETS = { short: 500, full: 10_000 };
const REQUESTS = 10;
const SEED = 20_240_611;

const PROCESS = {
  apiVersion: 'weft.dev/v1alpha1',
  kind: 'Process',
  metadata: { name: 'pay', namespace: WORKLOAD.namespace, labels: WORKLOAD.labels },
  spec: { command: ['pay'], ports: [{ port: 8080 }, { port: 9000 }] },
};

/** The way of a policy from its file to the engine. */
function load(policies: readonly NaivePolicy[]): Snapshot {
  const documents = policies.map((p, i) => ({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: {
      name: `p${i}`,
      namespace: p.namespace,
      ...(p.dryRun && { annotations: { 'istio.io/dry-run': 'true' } }),
    },
    spec: { action: p.action, rules: p.rules, ...(p.selector && { selector: { matchLabels: p.selector } }) },
  }));
  const text = [PROCESS, ...documents].map((d) => JSON.stringify(d)).join('\n---\n');
  const { model, problems } = loadFiles([{ path: 'policies.yaml', text }]);
  if (!model) throw new Error(`refused: ${JSON.stringify(problems[0])} of ${text}`);
  const value = compileAuthorization(model, WORKLOAD, new RefTable(model));
  return buildSnapshot([create(PartSchema, { kind: { case: 'authorization', value } })], []);
}

function decide(snapshot: Snapshot, r: NaiveRequest): boolean {
  let head: string[] | undefined;
  if (r.http) {
    const { method, path, host, headers } = r.http;
    head = [':method', method, ':scheme', 'http', ':authority', host, ':path', path, ...headers.flat()];
    const problem = canonicalHead(head, 'reject');
    if (problem) throw new Error(`not canonical: ${problem.details} ${path}`);
  }
  return authorize(snapshot, {
    ...(r.principal !== undefined && { principal: `spiffe://${r.principal}` }),
    ...{ remoteIp: r.ip, destPort: r.port, localIp: r.localIp },
    ...(head && { head }),
  }).allow;
}

/** What the naive reading sees of patterns: written in the canonical form that requests come in. */
function canonical(policies: readonly NaivePolicy[]): NaivePolicy[] {
  return JSON.parse(JSON.stringify(policies).replaceAll('/%7Ex', '/~x').replaceAll('/é', '/%C3%A9'));
}

export const suite: Suite = {
  name: 'authorization',
  about: 'random policies against a naive evaluator',
  inShortForm: true,
  async install() {},
  async run(ctx) {
    const tally = new Tally();
    const draw = new Draw(seededRandom(SEED));
    ctx.log(`seed ${SEED}`);
    let denied = 0;
    let cases = 0;
    for (let n = 0; n < (ctx.short ? SETS.short : SETS.full); n++) {
      const policies = draw.policies();
      const snapshot = load(policies);
      const plain = canonical(policies);
      for (let i = 0; i < REQUESTS; i++) {
        const request = draw.request(i % 3 === 2 ? 'tcp' : 'http');
        const wanted = naiveAllows(plain, WORKLOAD, ROOT, request);
        const got = decide(snapshot, request);
        cases++;
        if (!wanted) denied++;
        if (got === wanted) tally.passed++;
        else {
          tally.failed++;
          const shown = JSON.stringify({ request, policies });
          if (tally.failures.length < 10) tally.failures.push(`set ${n}: ${got} where ${wanted} is due: ${shown}`);
        }
      }
    }
    await tally.check('both answers are frequent', () => {
      if (denied < cases / 10 || denied > (cases * 9) / 10) throw new Error(`${denied} of ${cases} denied`);
    });
    ctx.log(`${cases} cases, ${denied} denied`);
    return tally;
  },
};
