/**
 * `npm run bench -- authorization`: what a decision costs with 1, 100 and 10,000 rules, each for another caller, path or
 * both; requests meet the last rule, or none. No data path: the number is what a request pays for its policies.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { authorize, buildSnapshot } from '@weft/engine';
import { AuthorizationAction as Action, type AuthorizationRuleSchema, PartSchema } from '@weft/plan';

type Rule = MessageInitShape<typeof AuthorizationRuleSchema>;

const SHAPES: readonly { name: string; rule(i: number): Rule }[] = [
  { name: 'callers', rule: (i) => ({ from: [{ principals: [`cluster.local/ns/n${i}/sa/web`] }] }) },
  { name: 'paths', rule: (i) => ({ to: [{ methods: ['GET'], paths: [`/api/v${i}/*`, `/old/${i}`] }] }) },
  {
    name: 'callers and paths',
    rule: (i) => ({ from: [{ namespaces: [`n${i % 100}`] }], to: [{ paths: [`/api/v${i}/{*}/items`] }] }),
  },
];
const SIZES = [1, 100, 10_000];
/** The target of the largest against the smallest. */
const AT_MOST = 2;

/** What decides one prepared request so many times. */
function prepare(rules: number, shape: (i: number) => Rule, hit: boolean): (decisions: number) => void {
  const policy = {
    namespace: 'ns',
    name: 'p',
    action: Action.ALLOW,
    rules: Array.from({ length: rules }, (_, i) => shape(i)),
  };
  const part = create(PartSchema, { kind: { case: 'authorization', value: { policies: [policy] } } });
  const snapshot = buildSnapshot([part], []);
  const n = hit ? rules - 1 : rules;
  const request = {
    principal: `spiffe://cluster.local/ns/n${shape === SHAPES[2].rule ? n % 100 : n}/sa/web`,
    ...{ remoteIp: '10.0.0.1', localIp: '10.0.0.2', destPort: 8080 },
    head: [':method', 'GET', ':scheme', 'http', ':authority', 'pay', ':path', `/api/v${n}/a/items`],
  };
  return (decisions) => {
    let allowed = 0;
    for (let i = 0; i < decisions; i++) if (authorize(snapshot, request).allow) allowed++;
    if (allowed !== (hit ? decisions : 0)) throw new Error('the policies of the bench do not decide as they should');
  };
}

/** So few that a round ends before somebody else gets the processor. */
const DECISIONS = 1000;

/** Microseconds a decision, by size: the quickest of rounds that alternate, for others use this machine too. */
function measure(shape: (i: number) => Rule, hit: boolean, rounds: number): number[] {
  const runs = SIZES.map((rules) => prepare(rules, shape, hit));
  for (const run of runs) run(20_000);
  const best = runs.map(() => Number.POSITIVE_INFINITY);
  for (let round = 0; round < rounds; round++) {
    for (const [i, run] of runs.entries()) {
      const started = performance.now();
      run(DECISIONS);
      best[i] = Math.min(best[i], ((performance.now() - started) * 1000) / DECISIONS);
    }
  }
  return best;
}

/** Throws where the largest costs more than the target. */
export function benchAuthorization(options: { quick: boolean; json: boolean }): void {
  const late: string[] = [];
  for (const shape of SHAPES) {
    for (const hit of [true, false]) {
      const cost = measure(shape.rule, hit, options.quick ? 200 : 1000);
      const ratio = cost[SIZES.length - 1] / cost[0];
      const what = `${shape.name}, ${hit ? 'the last rule matches' : 'no rule matches'}`;
      if (options.json) {
        const decisions = SIZES.map((rules, i) => ({ rules, microseconds: Number(cost[i].toPrecision(3)) }));
        console.log(JSON.stringify({ row: 'authorization', what, decisions, ratio: Number(ratio.toPrecision(3)) }));
      } else {
        const shown = SIZES.map((rules, i) => `${rules} rules ${cost[i].toFixed(2)} µs`).join(', ');
        console.log(`authorization  ${what}: ${shown} (${ratio.toFixed(2)} ×)`);
      }
      if (ratio > AT_MOST) late.push(`${what}: ${ratio.toFixed(2)} ×`);
    }
  }
  if (late.length > 0) throw new Error(`10,000 rules cost more than ${AT_MOST} × one: ${late.join('; ')}`);
}
