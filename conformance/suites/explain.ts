/**
 * `weft explain` against what happens: generated configurations with a request each. Every proxy gets the draws of one way
 * of the explanation and must end where that way ends; a naive evaluator that reads the YAML must give the same
 * probabilities; Envoy must match the same routes.
 */

import { Agent, request as httpRequest } from 'node:http';
import { seededRandom } from '@weft/base';
import { loadFiles } from '@weft/config';
import { type Explanation, explain, type Way } from '@weft/lab';
import { at, envoyProgram, httpManager, startEnvoy } from '../envoy.ts';
import { ExplainMesh, type Observed } from '../explain-mesh.ts';
import { envoyRoutes } from '../naive/envoy-routes.ts';
import { evaluate, keyOf } from '../naive/evaluate.ts';
import { FieldCount } from '../naive/fields.ts';
import { DELEGATE, type Generated, Generator, HTTP_PORT, TCP_PORT } from '../naive/generate.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const SEED = 20_260_101;
const PAIRS = { short: 500, full: 10_000 };
/** Of the full form alone: Envoy is a large download. */
const ENVOY = 1000;
const NAIVE = { short: 100, full: 2000 };
/** Occurrences of each field, of the full form. */
const FIELD_MINIMUM = 100;

function drawWay(ways: readonly Way[], x: number): Way {
  let left = x;
  for (const way of ways) {
    left -= way.probability;
    if (left < 0) return way;
  }
  return ways[ways.length - 1];
}

/** What differs between a way and what was seen; undefined: nothing. */
function difference(way: Way, seen: Observed): string | undefined {
  if (seen.status !== way.status) return `status ${seen.status}, explained ${way.status} (${way.flags} ${way.details})`;
  const answered = way.status === 'application' || way.status === 'connected';
  if (answered && seen.instance !== way.instance) return `${seen.instance} answered, explained ${way.instance}`;
  if (seen.location !== way.location) return `location "${seen.location}", explained "${way.location}"`;
  // A refused connection is tried again, which draws more.
  const retried = way.details === 'mtls_required' || way.status === 'closed';
  if (seen.draws < 0 || (seen.draws > 0 && !retried)) return `${seen.draws} draws more than explained`;
  return undefined;
}

export const suite: Suite = {
  name: 'explain',
  about: 'generated configurations and requests: proxies, a naive evaluator and Envoy do what weft explain says',
  inShortForm: true,
  async install(ctx) {
    if (!ctx.short) envoyProgram();
  },

  async run(ctx: SuiteContext) {
    const tally = new Tally();
    const random = seededRandom(SEED);
    const generator = new Generator(random);
    const mesh = await ExplainMesh.start(ctx);
    ctx.cleanup(() => mesh.stop());
    const fields = new FieldCount();
    const pairs = ctx.short ? PAIRS.short : PAIRS.full;
    const naive = ctx.short ? NAIVE.short : NAIVE.full;
    let refused = 0;
    let listening = false;
    let compared = 0;
    const routed: { pair: Generated; index: string }[] = [];
    for (let done = 0; done < pairs; ) {
      const pair = generator.next();
      const { model, problems } = loadFiles([{ path: 'mesh.yaml', text: pair.text }]);
      if (!model) {
        // Two rules that contradict each other, which the generator does not know: another pair takes its place.
        if (++refused > pairs / 10) throw new Error(`too many refused: ${problems[0].field} ${problems[0].message}`);
        continue;
      }
      done++;
      fields.add(pair.docs);
      const lab = await mesh.apply(model);
      if (!listening) await mesh.listen();
      listening = true;
      // Before anything is sent: what runs counts in the balancing.
      const explained = explain(lab, questionOf(pair));
      await tally.check(`pair ${done}`, async () => {
        checkSum(explained);
        const way = drawWay(explained.ways, random.next());
        const seen = await mesh.send(pair.request, way);
        // A plaintext connection that is refused at once may be reset before the caller's proxy hears that it stood: to
        // that proxy it then never came to be, and another endpoint is tried. Both ends are right then.
        const other = explained.ways.some((w) => w.status === 'connected' && w.instance === seen.instance);
        if (way.status === 'closed' && way.endpoint !== '' && !way.mtls && pair.request.tcp && other) return;
        const wrong = difference(way, seen);
        if (wrong) throw new Error(`${wrong}; ${JSON.stringify(pair.request)} ${JSON.stringify(pair.docs)}`);
      });
      // A route table of Envoy has no delegates: who makes one has put them in their places.
      const delegates = pair.docs.some((d) => (d.metadata as { name?: string }).name === DELEGATE);
      if (!ctx.short && !pair.request.tcp && !delegates && routed.length < ENVOY)
        routed.push({ pair, index: matchedRoute(explained) });
      // Which endpoint a hash leads to is no matter of the documentation.
      if (compared < naive && !pair.text.includes('consistentHash')) {
        compared++;
        await tally.check(`naive ${done}`, () => {
          const wrong = otherwise(explained, evaluate(pair.text, pair.request));
          if (wrong) throw new Error(`${wrong}; ${JSON.stringify(pair.request)} ${JSON.stringify(pair.docs)}`);
        });
      }
      if (done % 1000 === 0) ctx.log(`${done} pairs`);
    }
    if (!ctx.short) await compareWithEnvoy(ctx, tally, routed);
    const least = Math.floor((FIELD_MINIMUM * pairs) / PAIRS.full);
    for (const [field, count] of fields.counts())
      await tally.check(`field ${field}`, () => {
        if (count < least) throw new Error(`occurs ${count} times, wanted ${least}`);
      });
    await tally.check('enough pairs for the naive evaluator', () => {
      if (compared < naive) throw new Error(`only ${compared}`);
    });
    tally.notes.push(`${compared} of them also evaluated naively`);
    tally.notes.push(`${pairs} pairs, seed ${SEED}; ${refused} generated ones were refused and replaced`);
    return tally;
  },
};

export function questionOf({ request }: Generated) {
  return {
    from: 'shop/cart',
    to: `pay:${request.tcp ? TCP_PORT : HTTP_PORT}`,
    method: request.method,
    path: request.path,
    headers: [['host', request.authority] as const, ...request.headers],
  };
}

/** The index of the route that matched, by the steps. */
function matchedRoute({ steps }: Explanation): string {
  const step = steps.find((s) => s.kind === 'rule' && /^route.* matches$/.test(s.decision));
  return /^spec\.http\[(\d+)\]/.exec(step?.reference?.field ?? '')?.[1] ?? 'none';
}

async function compareWithEnvoy(
  ctx: SuiteContext,
  tally: Tally,
  routed: readonly { pair: Generated; index: string }[],
): Promise<void> {
  const address = `127.${96 + ((process.pid >> 8) % 32)}.${process.pid & 255}.1`;
  const routes = routed.flatMap(({ pair }, i) =>
    envoyRoutes(pair.docs.find((d) => d.kind === 'VirtualService')?.spec, String(i)),
  );
  const listener = {
    name: 'in',
    address: at(address, 8080),
    filter_chains: [{ filters: [httpManager('routes', [{ name: 'all', domains: ['*'], routes }])] }],
  };
  await startEnvoy(ctx, { static_resources: { listeners: [listener], clusters: [] } }, { address, port: 9901 });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  ctx.cleanup(() => agent.destroy());
  for (const [i, { pair, index }] of routed.entries()) {
    await tally.check(`envoy ${i}`, async () => {
      const { request } = pair;
      const said = await new Promise<string>((resolve, reject) => {
        const headers = { ...Object.fromEntries(request.headers), host: request.authority, 'x-case': String(i) };
        const { method, path } = request;
        const q = httpRequest({ host: address, port: 8080, method, path, headers, agent }, (a) => {
          let body = '';
          a.on('data', (c) => (body += String(c)));
          a.on('end', () => resolve(body));
        });
        q.on('error', reject);
        q.end();
      });
      if (said !== index) {
        const rules = JSON.stringify(pair.docs.find((d) => d.kind === 'VirtualService'));
        throw new Error(`Envoy takes route ${said}, explained ${index}; ${JSON.stringify(request)} ${rules}`);
      }
    });
  }
  tally.notes.push(`${routed.length} route matches also asked of Envoy`);
}

/** Where the two disagree; undefined: nowhere. */
function otherwise({ outcomes }: Explanation, naive: ReadonlyMap<string, number>): string | undefined {
  const said = new Map<string, number>();
  for (const o of outcomes) {
    const key = keyOf(o.status, o.delayMs > 0, o.instance);
    said.set(key, (said.get(key) ?? 0) + o.probability);
  }
  for (const key of new Set([...said.keys(), ...naive.keys()])) {
    const [a, b] = [said.get(key) ?? 0, naive.get(key) ?? 0];
    if (Math.abs(a - b) > 1e-9) return `${key}: explained ${a}, naively ${b}`;
  }
  return undefined;
}

function checkSum(e: Explanation): void {
  const sum = e.outcomes.reduce((s, o) => s + o.probability, 0);
  if (Math.abs(sum - 1) > 1e-9) throw new Error(`the probabilities sum to ${sum}`);
}
