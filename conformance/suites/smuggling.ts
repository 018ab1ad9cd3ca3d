/**
 * Request smuggling: thousands of mutations of framing, through both proxies and to the second one alone, to five real
 * servers. A server sees a
 * request exactly where the proxy has authorized one; the hidden request, which the policy forbids, is never seen.
 */
import { AuthorizationAction } from '@weft/plan';
import { type Backend, backendPackages, startBackends } from '../backends.ts';
import { debian } from '../install.ts';
import { type Pair, type PairRecord, startPair } from '../pair.ts';
import { flag, frame, frameType, headerBlock, sendH2, sendRaw, statuses } from '../raw.ts';
import { h1Mutations, type Mutation, type Paths } from '../smuggling-h1.ts';
import { type H2Mutation, h2Mutations } from '../smuggling-h2.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const AT_ONCE = 32;
const FIRST_PORT = 8081;

interface Case {
  readonly name: string;
  readonly backend: Backend;
  readonly port: number;
  /** Through both proxies, or in plaintext to B alone. */
  readonly entrance: 'front' | 'back';
  readonly paths: Paths;
  readonly mutation: { h1: Mutation } | { h2: H2Mutation };
  /** Into how many segments an HTTP/1 message is cut. */
  readonly segments: number;
  /** Final responses that the client got. */
  responses: number;
}

function cases(backends: readonly Backend[], short: boolean): Case[] {
  const mutations = [...h1Mutations().map((h1) => ({ h1 })), ...h2Mutations().map((h2) => ({ h2 }))];
  const all: Case[] = [];
  for (const [b, backend] of backends.entries()) {
    for (const [i, mutation] of mutations.entries()) {
      // Each server gets another part in the short form.
      if (short && i % 15 !== b) continue;
      const id = `${backend.name}-${i}`;
      all.push({
        name: `${backend.name}: ${'h1' in mutation ? mutation.h1.name : mutation.h2.name}`,
        backend,
        port: FIRST_PORT + b,
        entrance: (i + b) % 3 === 0 ? 'back' : 'front',
        paths: { main: `/main-${id}.`, denied: `/denied-${id}.`, canary: `/canary-${id}.` },
        mutation,
        segments: [1, 1, 2, 5][(i + b) % 4],
        responses: 0,
      });
    }
  }
  return all;
}

function cut(bytes: Buffer, segments: number): Buffer[] {
  const size = Math.ceil(bytes.length / segments);
  return Array.from({ length: segments }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}

async function send(one: Case, host: string): Promise<void> {
  const { paths, mutation, port } = one;
  const at = { host, port, quietMs: 250, giveUpMs: 1000 };
  if ('h1' in mutation) {
    const canary = `GET ${paths.canary} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n`;
    const got = await sendRaw(cut(Buffer.from(mutation.h1.build(paths) + canary, 'latin1'), one.segments), at);
    one.responses = statuses(got.bytes).filter((status) => status >= 200).length;
    return;
  }
  const canary = headerBlock([
    [':method', 'GET'],
    [':scheme', 'http'],
    [':authority', 'app'],
    [':path', paths.canary],
  ]);
  const frames = mutation.h2.build(paths);
  const behind = frame(frameType.headers, flag.endHeaders | flag.endStream, 3, canary);
  const got = await sendH2([...frames, behind], [1, 3], at);
  one.responses = got.status.size;
}

const idOf = (line: string): string | undefined => /-([a-z]+-[0-9]+)\./.exec(line)?.[1];

/** What the server's own log would say of it. */
function lineOf(record: PairRecord): string {
  // An upgrade is shown as extended CONNECT inside the mesh.
  return `${record.method === 'CONNECT' ? 'GET' : record.method} ${record.path}`;
}

function byId<T>(items: Iterable<T>, id: (item: T) => string | undefined): Map<string | undefined, T[]> {
  const groups = new Map<string | undefined, T[]>();
  for (const item of items) {
    const key = id(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

async function logged(backend: Backend, path: string): Promise<void> {
  for (const end = Date.now() + 20_000; !backend.lines().some((line) => line.includes(path)); ) {
    if (Date.now() > end) throw new Error(`${backend.name} has not logged ${path}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Waits until each server has logged a last request, sent when all others were answered. */
async function settle(pair: Pair, backends: readonly Backend[]): Promise<void> {
  for (const [b, backend] of backends.entries()) {
    const path = `/last-${backend.name}`;
    const request = `GET ${path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n`;
    await sendRaw([Buffer.from(request)], { host: pair.front.address, port: FIRST_PORT + b, quietMs: 10_000 });
    await logged(backend, path);
  }
}

/** Compares what one server saw with what the proxies say of the same case. */
function judge(one: Case, seen: string[], authorized: PairRecord[], parsed: PairRecord[]): void {
  const mayBe = authorized.flatMap((r) => Array.from({ length: r.attempts }, () => lineOf(r)));
  for (const line of seen) {
    const said = line.split(' ').slice(0, 2).join(' ');
    if (line.includes(' /denied-')) throw new Error(`the server got ${line}`);
    const at = mayBe.indexOf(said);
    if (at < 0) throw new Error(`the server got ${line}, the proxy authorized ${JSON.stringify(mayBe)}`);
    mayBe.splice(at, 1);
  }
  for (const r of authorized) {
    const answered = r.status === 200 || r.status === 204;
    if (answered && !seen.some((line) => line.startsWith(`${lineOf(r)} `)))
      throw new Error(`the proxy says ${lineOf(r)} was answered, the server does not know it`);
  }
  // One of the codec's own is possible behind what was read as requests.
  if (one.responses > parsed.length + 1) throw new Error(`${one.responses} responses for ${parsed.length} requests`);
}

async function run(ctx: SuiteContext): Promise<Tally> {
  const tally = new Tally();
  const backends = await startBackends(ctx);
  const action = AuthorizationAction.DENY;
  const pair = await startPair({
    ports: backends.map((b, i) => ({ port: FIRST_PORT + i, appHost: '127.0.0.1', appPort: b.port })),
    policies: [
      {
        ref: 'deny',
        name: 'deny',
        namespace: 'pair',
        action,
        rules: [{ ref: 'deny#0', to: [{ paths: ['/denied*'] }] }],
      },
    ],
    mtls: 'permissive',
  });
  ctx.cleanup(() => pair.stop());
  const all = cases(backends, ctx.short);
  ctx.log(`${all.length} messages`);
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < all.length) {
      const one = all[next++];
      await send(one, pair[one.entrance].address);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  await settle(pair, backends);
  // A request is in the records when it has ended.
  await tally.check('nothing is left in the proxies', () => pair.settled());
  const [front, back] = [await pair.front.take(), await pair.back.take()];
  const authorized = byId(
    back.records.filter((r) => r.attempts > 0),
    (r) => idOf(r.path),
  );
  const parsed = {
    front: byId(front.records, (r) => idOf(r.path)),
    back: byId(back.records, (r) => idOf(r.path)),
  };
  const seen = byId(
    backends.flatMap((b) => b.lines().map((line) => ({ b, line }))),
    ({ line }) => idOf(line),
  );
  for (const one of all) {
    const id = idOf(one.paths.main);
    const lines = (seen.get(id) ?? []).filter(({ b }) => b === one.backend).map(({ line }) => line);
    await tally.check(one.name, () => judge(one, lines, authorized.get(id) ?? [], parsed[one.entrance].get(id) ?? []));
  }
  for (const backend of backends) {
    await tally.check(`${backend.name}: a request around the proxy is noticed`, async () => {
      const path = `/denied-direct-${backend.name}`;
      const request = `GET ${path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n`;
      await sendRaw([Buffer.from(request)], { host: '127.0.0.1', port: backend.port, quietMs: 10_000 });
      await logged(backend, path);
    });
  }
  // What carries no id: the last requests, `OPTIONS *` and anything that a server could not even read.
  const nameless = (authorized.get(undefined) ?? []).map(lineOf);
  await tally.check('requests without an id', () => {
    for (const { b, line } of seen.get(undefined) ?? []) {
      const at = nameless.indexOf(line.split(' ').slice(0, 2).join(' '));
      if (at < 0) throw new Error(`${b.name} got ${JSON.stringify(line)}`);
      nameless.splice(at, 1);
    }
  });
  const total = back.records.filter((r) => r.attempts > 0).length;
  const lines = backends.reduce((n, b) => n + b.lines().length, 0);
  tally.notes.push(`${total} requests authorized, ${lines} seen by ${backends.map((b) => b.name).join(', ')}`);
  return tally;
}

export const suite: Suite = {
  name: 'smuggling',
  about: 'mutations of framing through both proxies to nginx, Apache, HAProxy, Node and Python: nothing unauthorized',
  inShortForm: true,
  install: async () => debian(backendPackages),
  run,
};
