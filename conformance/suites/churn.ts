/**
 * Requests while the configuration does not stand still: policies that come, go, are renamed, split and written in another
 * order, routes and Sidecars that change beside them. What every one of the configurations allows is never refused, and
 * what every one refuses is never let through.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Random, seededRandom } from '@weft/base';
import { peers, request, TestMesh } from '../../test/harness.ts';
import { type Suite, Tally } from '../suite.ts';

const REQUESTS = { short: 10_000, full: 100_000 };
const BATCH = 500;
const SEED = 20_261_121;

/** Paths and what becomes of them, whichever configuration is in force. */
const CONSTANT = [
  // One of several ALLOW rules.
  { path: '/always', status: '200' },
  // Allowed by all of those: only the DENY keeps it out.
  { path: '/never', status: '403' },
  // In no rule at all: open where the ALLOW policies are gone.
  { path: '/closed', status: '403' },
] as const;

const policy = (name: string, spec: string): string => `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ${name}, namespace: shop}
spec: {selector: {matchLabels: {app: payment}}, ${spec}}
`;

function shuffled<T>(random: Random, list: readonly T[]): T[] {
  return list
    .map((value) => ({ value, at: random.next() }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value);
}

/** Configuration number `n`; `/toggle` is allowed by the even ones. */
function configuration(random: Random, n: number): string {
  const some = (count: number): string[] =>
    Array.from(
      { length: Math.floor(random.next() * count) },
      (_, i) => `{to: [{operation: {paths: [/x${i}${n % 7}]}}]}`,
    );
  const rule = (path: string): string => `{to: [{operation: {paths: [${path}]}}]}`;
  const allowed = ['/always', '/never', ...(n % 2 === 0 ? ['/toggle'] : [])];
  const split = n % 3 === 0;
  const docs: string[] = [];
  if (split) {
    for (const [i, path] of allowed.entries())
      docs.push(policy(`allow-${i}-${n % 5}`, `rules: [${shuffled(random, [rule(path), ...some(20)]).join(', ')}]`));
  } else {
    docs.push(policy('allow', `rules: [${shuffled(random, [...allowed.map(rule), ...some(20)]).join(', ')}]`));
  }
  const who =
    n % 4 === 1 ? '{from: [{source: {namespaces: [shop]}}], to: [{operation: {paths: [/never]}}]}' : rule('/never');
  docs.push(policy(`deny-${n % 2}`, `action: DENY, rules: [${shuffled(random, [who, ...some(20)]).join(', ')}]`));
  if (n % 5 < 2) docs.push(policy('told', 'action: AUDIT, rules: [{}]'));
  if (n % 5 === 3) {
    docs.push(`apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: payment, namespace: shop}
spec: {hosts: [payment], http: [{headers: {request: {set: {x-n: "${n}"}}}, route: [{destination: {host: payment}}]}]}
`);
  }
  if (n % 7 === 2) {
    docs.push(`apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ["./*"]}]}
`);
  }
  return shuffled(random, docs).join('---\n');
}

interface Ran {
  statuses: Record<string, number>;
}

export const suite: Suite = {
  name: 'churn',
  about: 'requests during changes of the configuration: what all of them allow or refuse stays so',
  inShortForm: true,
  async install() {},
  async run(ctx) {
    const tally = new Tally();
    const mesh = new TestMesh('explicit');
    ctx.cleanup(() => mesh.cleanUp());
    const random = seededRandom(SEED);
    let n = 0;
    // As a whole: half a file is another configuration.
    const write = (): void => {
      const draft = join(mesh.folder, 'draft');
      writeFileSync(draft, configuration(random, n++));
      renameSync(draft, join(mesh.folder, 'policies.yaml'));
    };
    mesh.write('services.yaml', peers({ client: { v1: 1 }, payment: { v1: 1 } }));
    write();
    mesh.start();
    await mesh.ready();
    const { address } = mesh.row('client');
    const run = async (path: string, count: number): Promise<Ran> => {
      const call = { url: `http://payment.shop:8080${path}`, count, concurrency: 8 };
      return (await request(address, 8080, '/run', call)).json;
    };
    await mesh.until(
      'the first configuration holds',
      20_000,
      async () => (await run('/never', 1)).statuses['403'] === 1,
    );
    const total = ctx.short ? REQUESTS.short : REQUESTS.full;
    let done = false;
    const seen: Record<string, number> = {};
    const changing = (async () => {
      while (!done) {
        write();
        await new Promise((resolve) => setTimeout(resolve, 120));
      }
    })();
    const toggling = (async () => {
      while (!done)
        for (const [status, count] of Object.entries((await run('/toggle', 20)).statuses))
          seen[status] = (seen[status] ?? 0) + count;
    })();
    const got = await Promise.all(
      CONSTANT.map(async ({ path, status }) => {
        const wrong: Record<string, number> = {};
        let right = 0;
        for (let sent = 0; sent < total / CONSTANT.length; sent += BATCH) {
          for (const [answer, count] of Object.entries((await run(path, BATCH)).statuses)) {
            if (answer === status) right += count;
            else wrong[answer] = (wrong[answer] ?? 0) + count;
          }
        }
        return { path, right, wrong };
      }),
    ).finally(() => {
      done = true;
    });
    await Promise.all([changing, toggling]);
    for (const { path, right, wrong } of got) {
      tally.passed += right;
      const count = Object.values(wrong).reduce((a, b) => a + b, 0);
      tally.failed += count;
      if (count > 0) tally.failures.push(`${path}: ${JSON.stringify(wrong)} beside ${right} right ones`);
    }
    const epochs = Math.max(...[...mesh.weft('proxy-status').matchAll(/ (\d+) /g)].map((m) => Number(m[1])));
    await tally.check('the configuration did change, and the proxies followed', () => {
      if (!(seen['200'] > 0 && seen['403'] > 0) || epochs < 10) {
        throw new Error(`${n} configurations, ${epochs} epochs, /toggle ${JSON.stringify(seen)}`);
      }
    });
    ctx.log(`${n} configurations, ${epochs} epochs, ${tally.passed} requests`);
    return tally;
  },
};
