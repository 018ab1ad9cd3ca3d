/**
 * `npm run bench [-- ROW…] [--quick] [--peers NAME,…] [-o json]`: Weft beside other data planes, on the same work in the same run.
 *
 * Every chain is client → A → mutual TLS → B → application, one core for the proxies and the other one for load and
 * application (where there are two), rounds of all peers alternating, nothing but loopback. What to trust on a machine
 * with other work is the ratio. A run of all rows with all peers writes RESULTS.md. `BENCH_ROUNDS` (5), `BENCH_SECONDS` (5 a
 * round), `BENCH_WARM` (15 s before the first), `BENCH_REQUESTS` (2,000,000, of the memory row) and `BENCH_PROFILE=DIR` (CPU
 * profiles of both Weft proxies) change the run.
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { startApplication } from './apps/start.ts';
import { benchAuthorization } from './authorization/authorization.ts';
import { positive } from './environment.ts';
import { saturate } from './load/wrk.ts';
import { peers } from './peers/all.ts';
import { benchPush } from './push/push.ts';
import { writeReport } from './report.ts';
import { lines, type RowResult, text } from './results.ts';
import { rows } from './rows/all.ts';
import type { Row, Sample } from './rows/row.ts';
import { type Chain, type Kind, openStage, type Peer, type Stage } from './stage.ts';
import { requireTools } from './tools.ts';

interface Options {
  /** The control plane's benchmark, which has no data path. */
  push: boolean;
  /** The cost of decisions, which has none either. */
  authorization: boolean;
  rows: Row[];
  peers: Peer[];
  quick: boolean;
  json: boolean;
  rounds: number;
  seconds: number;
  warmSeconds: number;
}

const OTHERS = [
  { name: 'push', what: 'the control plane: plans of a large mesh, and what a change costs' },
  { name: 'authorization', what: 'decisions over many policies' },
];

function help(): string {
  const width = Math.max(...[...rows, ...OTHERS].map((r) => r.name.length)) + 2;
  const list = (all: readonly { name: string; what: string }[]): string =>
    all.map((r) => `  ${r.name.padEnd(width)}${r.what}`).join('\n');
  return `Usage: npm run bench -- [ROW…] [--quick] [--peers NAME,…] [-o table|json]

Weft beside other data planes, on the same work in the same run. Without a ROW: all of the data path; with all
peers that writes RESULTS.md.

Rows of the data path:
${list(rows)}

Without a data path:
${list(OTHERS)}

Peers: ${peers.map((p) => p.name).join(', ')}

  --quick          one short round
  --peers NAME,…   beside these alone
  -o, --output     table, or json: a line for each sample
  -h, --help       this

BENCH_ROUNDS (5), BENCH_SECONDS (5, of a round), BENCH_WARM (15), BENCH_REQUESTS (2000000) and BENCH_PROFILE (a folder)
change the run. Exit code 2: it was called wrongly.
`;
}

/** What the command line says; undefined: it asks for help. Throws where it is wrong. */
function options(): Options | undefined {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      peers: { type: 'string', default: '' },
      output: { type: 'string', short: 'o', default: 'table' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return undefined;
  if (values.output !== 'table' && values.output !== 'json') throw new Error('-o is table or json');
  const quick = values.quick;
  const push = positionals.includes('push');
  const authorization = positionals.includes('authorization');
  const rowNames = positionals.filter((name) => name !== 'push' && name !== 'authorization');
  const wanted = values.peers.split(',').filter((name) => name !== '');
  const known = (name: string, all: readonly { name: string }[]): void => {
    if (!all.some((a) => a.name === name))
      throw new Error(`${name} is not one of ${all.map((a) => a.name).join(', ')}`);
  };
  for (const name of rowNames) known(name, [...rows, ...OTHERS]);
  for (const name of wanted) known(name, peers);
  return {
    push,
    authorization,
    rows: rows.filter((r) => (rowNames.length === 0 && !push && !authorization) || rowNames.includes(r.name)),
    peers: peers.filter((p) => p.name === 'weft' || wanted.length === 0 || wanted.includes(p.name)),
    quick,
    json: values.output === 'json',
    rounds: positive('BENCH_ROUNDS', quick ? 1 : 5),
    seconds: positive('BENCH_SECONDS', quick ? 1 : 5),
    warmSeconds: positive('BENCH_WARM', quick ? 2 : 15),
  };
}

/** The peers that a row has, Weft first. */
function peersOf(row: Row, o: Options): Peer[] {
  return o.peers.filter((p) => (p.name === 'weft' || row.peers.includes(p.name)) && p.kinds.includes(row.kind));
}

/** Connections are made, and code is compiled as it runs: the JIT needs its time, the others little. */
async function warm(stage: Stage, chain: Chain, row: Row, o: Options): Promise<void> {
  if (chain.pids.length === 0) return;
  const seconds = chain.peer === 'weft' ? o.warmSeconds : Math.min(o.warmSeconds, o.quick ? 1 : 3);
  if (chain.kind === 'http') await saturate(stage, chain, { connections: 32, seconds });
  else await row.measure({ stage, chain, seconds, quick: o.quick });
}

interface Failures {
  count: number;
}

/** One row with all its peers. A peer that fails is told and left out of the row; the others go on. */
async function runRow(
  stage: Stage,
  row: Row,
  o: Options,
  chains: ReadonlyMap<string, Chain>,
  failures: Failures,
): Promise<RowResult> {
  const mine = new Set(peersOf(row, o));
  const samples = new Map<string, Sample[]>([...mine].map((p) => [p.name, []]));
  for (let round = 0; round < (row.fresh ? 1 : o.rounds); round++) {
    for (const peer of round % 2 === 0 ? [...mine] : [...mine].reverse()) {
      try {
        samples.get(peer.name)!.push(await measure(stage, row, o, peer, chains.get(peer.name)));
      } catch (error) {
        process.stderr.write(`bench: ${row.name}: ${(error as Error).message}\n`);
        failures.count++;
        mine.delete(peer);
        samples.delete(peer.name);
      }
    }
  }
  return { row, samples: row.derive ? row.derive(samples) : samples };
}

async function measure(stage: Stage, row: Row, o: Options, peer: Peer, shared: Chain | undefined): Promise<Sample> {
  const run = { stage, seconds: o.seconds, quick: o.quick };
  if (shared) return await row.measure({ ...run, chain: shared });
  stage.proxyMemoryBytes = row.proxyMemoryBytes;
  try {
    const samples: Sample[] = [];
    for (const rules of row.rules ?? [1]) {
      stage.rules = rules;
      const chain = await peer.start(stage, row.kind);
      try {
        samples.push(await row.measure({ ...run, chain }));
      } finally {
        await chain.stop();
      }
    }
    return Object.assign({}, ...samples);
  } finally {
    stage.proxyMemoryBytes = undefined;
    stage.rules = 1;
  }
}

/** All rows of one kind: their chains are started once, except where a row wants its own. */
async function runKind(
  stage: Stage,
  kind: Kind,
  mine: readonly Row[],
  o: Options,
  failures: Failures,
  done: (r: RowResult) => void,
): Promise<void> {
  const app = await startApplication(stage, kind);
  for (const row of mine.filter((r) => r.fresh)) done(await runRow(stage, row, o, new Map(), failures));
  const shared = mine.filter((r) => !r.fresh);
  const chains = new Map<string, Chain>();
  for (const peer of o.peers.filter((p) => shared.some((r) => peersOf(r, o).includes(p)))) {
    try {
      const chain = await peer.start(stage, kind);
      chains.set(peer.name, chain);
      await warm(stage, chain, shared[0]!, o);
    } catch (error) {
      // Its rows will start it again, each for itself, and tell where that fails too.
      process.stderr.write(`bench: ${peer.name} (${kind}): ${(error as Error).message}\n`);
    }
  }
  for (const row of shared) done(await runRow(stage, row, o, chains, failures));
  for (const chain of chains.values()) await chain.stop();
  await stage.stop([app]);
}

async function main(): Promise<void> {
  let o: Options | undefined;
  try {
    o = options();
  } catch (error) {
    process.stderr.write(`bench: ${(error as Error).message} (--help tells more)\n`);
    process.exitCode = 2;
    return;
  }
  if (!o) {
    process.stdout.write(help());
    return;
  }
  if (o.authorization) benchAuthorization(o);
  if (o.push) await benchPush(o);
  if (o.rows.length === 0) return;
  requireTools(o.peers);
  const started = new Date();
  const loadBefore = loadavg()[0]!;
  const stage = await openStage();
  let ended = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (ended) return;
      ended = true;
      process.stderr.write(`bench: ended by ${signal}\n`);
      void stage.close().then(() => process.exit(130));
    });
  }
  const columns = o.peers.map((p) => p.name);
  const results: RowResult[] = [];
  const failures: Failures = { count: 0 };
  const done = (result: RowResult): void => {
    results.push(result);
    if (o.json) for (const line of lines(result)) process.stdout.write(`${JSON.stringify(line)}\n`);
    else process.stdout.write(`${text(result, columns)}\n\n`);
  };
  try {
    for (const kind of ['http', 'grpc', 'tcp', 'websocket'] as const) {
      const mine = o.rows.filter((r) => r.kind === kind);
      if (mine.length > 0) await runKind(stage, kind, mine, o, failures, done);
    }
  } catch (error) {
    if (ended) await new Promise(() => {}); // What was running was ended on purpose; the signal's handler exits.
    throw error;
  } finally {
    if (!ended) await stage.close();
  }
  if (failures.count > 0) process.exitCode = 1;
  if (results.length < rows.length || o.peers.length < peers.length) return;
  const file = writeReport({ ...o, results, started, loadBefore, failures: failures.count });
  process.stderr.write(`bench: ${file} is written\n`);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
