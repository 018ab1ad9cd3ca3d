/**
 * What the proxy authorizes is what the application gets: a table of request targets, each over HTTP/1.1 and HTTP/2, each
 * under an ALLOW rule, a DENY rule and no rule for paths, by every kind of caller: a peer of the mesh, plaintext to the
 * second proxy alone, a gateway that has the rules itself, a CONNECT tunnel, and upgrades by the first two.
 */
import http2 from 'node:http2';
import { createServer } from 'node:net';
import { AuthorizationAction } from '@weft/plan';
import { type Pair, type PairCertificate, type PolicyInit, startPair } from '../pair.ts';
import { type PathCase, pathCases } from '../path-cases.ts';
import { flag, frame, frameType, headerBlock, sendH2, sendRaw, statuses } from '../raw.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const PORT = 8080;
const AT_ONCE = 24;
/** A and the link and B; B alone; a gateway, the link and B; a tunnel to B of a peer that is no Weft proxy. */
type Entrance = 'front' | 'back' | 'edge' | 'tunnel';
type Way = readonly [entrance: Entrance, protocol: 'h1' | 'h2' | 'upgrade'];
const WAYS: readonly Way[] = [
  ['front', 'h1'],
  ['front', 'h2'],
  ['back', 'h1'],
  ['back', 'h2'],
  ['edge', 'h1'],
  ['edge', 'h2'],
  ['tunnel', 'h1'],
  ['tunnel', 'h2'],
  ['front', 'upgrade'],
  ['back', 'upgrade'],
];
/** The short form has this part of the cases by the ways that are not the first four. */
const SHORT_EVERY = 5;
const rules = ['allow', 'deny', 'none'] as const;
type Rule = (typeof rules)[number];

function policies(rule: Rule): PolicyInit[] {
  if (rule === 'none') return [];
  const folder = rule === 'allow' ? '/public' : '/private';
  const action = rule === 'allow' ? AuthorizationAction.ALLOW : AuthorizationAction.DENY;
  const to = [{ paths: [folder, `${folder}/*`] }];
  return [{ ref: rule, name: rule, namespace: 'pair', action, rules: [{ ref: `${rule}#0`, to }] }];
}

const below = (folder: string, path: string): boolean => path === folder || path.startsWith(`${folder}/`);

/** `plain`: a path without its query. */
function allowed(rule: Rule, plain: string): boolean {
  if (rule === 'allow') return below('/public', plain);
  return rule === 'none' || !below('/private', plain);
}

/** Where a lenient application would end up: every escape decoded, `\` a slash, dots and empty segments gone. */
function lenient(path: string): string {
  const decoded = path
    .split('?')[0]
    .replace(/%([0-9a-fA-F]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)))
    .replaceAll('\\', '/');
  const out: string[] = [];
  for (const part of decoded.split('/')) {
    if (part === '..') out.pop();
    else if (part !== '' && part !== '.') out.push(part);
  }
  return `/${out.join('/')}`;
}

/** An application that keeps every request line by the request's user-agent and judges nothing. */
async function application(ctx: SuiteContext): Promise<{ port: number; seen: Map<string, string[]> }> {
  const seen = new Map<string, string[]>();
  const server = createServer((socket) => {
    let text = '';
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        const head = text.slice(0, end);
        text = text.slice(end + 4);
        const line = head.split('\r\n')[0];
        const id = /\r\nuser-agent: (.*)/i.exec(head)?.[1] ?? '';
        const target = line.slice(line.indexOf(' ') + 1, line.lastIndexOf(' '));
        seen.set(id, [...(seen.get(id) ?? []), target]);
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ctx.cleanup(() => void server.close());
  return { port: (server.address() as { port: number }).port, seen };
}

/** Sends one target and gives the status; 0 where the proxy reset it. */
async function ask(to: { host: string; port: number }, way: Way, one: PathCase, id: string): Promise<number> {
  const at = { ...to, quietMs: 5000, giveUpMs: 10_000 };
  const method = one.method ?? 'GET';
  if (way[1] !== 'h2') {
    // The application ignores an upgrade, as it may.
    const more = way[1] === 'upgrade' ? 'connection: upgrade, close\r\nupgrade: chat' : 'connection: close';
    const text = `${method} ${one.target} HTTP/1.1\r\nhost: app\r\nuser-agent: ${id}\r\n${more}\r\n\r\n`;
    const got = await sendRaw([Buffer.from(text, 'latin1')], at);
    return statuses(got.bytes)[0] ?? 0;
  }
  const block = headerBlock([
    [':method', method],
    [':scheme', 'http'],
    [':authority', 'app'],
    [':path', one.target],
    ['user-agent', id],
  ]);
  const request = frame(frameType.headers, flag.endHeaders | flag.endStream, 1, block);
  return (await sendH2([request], [1], at)).status.get(1) ?? 0;
}

function expected(one: PathCase, rule: Rule, entrance: Entrance): { status: number; forwarded: string | undefined } {
  // An edge takes no escaped slash, whatever its rules.
  const strict = rule !== 'none' || entrance === 'edge';
  const path = !strict && one.kept !== undefined ? one.kept : one.want;
  const byB = one.refusedByB && strict && entrance !== 'front';
  if (path === undefined || byB) return { status: 400, forwarded: undefined };
  return allowed(rule, path.split('?')[0]) ? { status: 200, forwarded: path } : { status: 403, forwarded: undefined };
}

/** Every connection to it is one CONNECT tunnel to B, of a peer with a certificate of the mesh. */
async function tunnels(ctx: SuiteContext, pair: Pair): Promise<{ host: string; port: number }> {
  const { keyPem: key, chainPem: cert, rootPem: ca } = pair.certificates.get('caller') as PairCertificate;
  const tls = {
    key,
    cert,
    ca,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    checkServerIdentity: () => undefined,
  } as const;
  const session = http2.connect(`https://${pair.back.address}:15008`, tls);
  session.on('error', () => {});
  ctx.cleanup(() => session.destroy());
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const stream = session.request({ ':method': 'CONNECT', ':authority': `${pair.back.address}:${PORT}` });
    stream.on('error', () => socket.destroy());
    socket.on('error', () => stream.close(http2.constants.NGHTTP2_CANCEL));
    socket.on('close', () => stream.close(http2.constants.NGHTTP2_CANCEL));
    socket.pipe(stream);
    stream.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ctx.cleanup(() => void server.close());
  return { host: '127.0.0.1', port: (server.address() as { port: number }).port };
}

async function run(ctx: SuiteContext): Promise<Tally> {
  const tally = new Tally();
  const { port, seen } = await application(ctx);
  const pair = await startPair({
    ports: [{ port: PORT, appHost: '127.0.0.1', appPort: port }],
    ...{ mtls: 'permissive', edge: true, strangers: ['caller'] },
  });
  ctx.cleanup(() => pair.stop());
  const doors = {
    front: { host: pair.front.address, port: PORT },
    back: { host: pair.back.address, port: PORT },
    edge: { host: pair.edge!.address, port: PORT },
    tunnel: await tunnels(ctx, pair),
  };
  const cases = pathCases(ctx.short);
  for (const rule of rules) {
    for (const [w, way] of WAYS.entries()) {
      const [entrance, protocol] = way;
      // A gateway's rules are its own, and B behind it has none.
      const judge = entrance === 'edge' ? pair.edge! : pair.back;
      await pair.back.authorize(judge === pair.back ? policies(rule) : []);
      await pair.edge!.authorize(judge === pair.back ? [] : policies(rule));
      const spoken = protocol === 'h2' ? 'h2' : 'h1';
      const mine = cases
        .filter((c) => (c.only ?? spoken) === spoken && (protocol !== 'upgrade' || c.method === undefined))
        .filter((_, i) => !ctx.short || w < 4 || i % SHORT_EVERY === w % SHORT_EVERY);
      const status: number[] = [];
      let next = 0;
      const work = async (): Promise<void> => {
        while (next < mine.length) {
          const i = next++;
          status[i] = await ask(doors[entrance], way, mine[i], `${rule}-${entrance}-${protocol}-${i}`);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      // A request is in the records when it has ended.
      await tally.check(`${rule} ${entrance} ${protocol}: nothing is left in the proxies`, () => pair.settled());
      const authorized = new Map<string, string[]>();
      for (const r of (await judge.take()).records) {
        if (r.attempts > 0) authorized.set(r.userAgent, [...(authorized.get(r.userAgent) ?? []), r.path]);
      }
      for (const [i, one] of mine.entries()) {
        const id = `${rule}-${entrance}-${protocol}-${i}`;
        const got = seen.get(id) ?? [];
        const want = expected(one, rule, entrance);
        await tally.check(`${rule} ${entrance} ${protocol} ${JSON.stringify(one.target)}`, () => {
          for (const path of got) {
            if (rule !== 'none' && path !== '*' && !allowed(rule, lenient(path)))
              throw new Error(`the application was shown ${path}`);
          }
          if (JSON.stringify(got) !== JSON.stringify(authorized.get(id) ?? []))
            throw new Error(`authorized ${JSON.stringify(authorized.get(id))}, forwarded ${JSON.stringify(got)}`);
          if (JSON.stringify(got) !== JSON.stringify(want.forwarded === undefined ? [] : [want.forwarded]))
            throw new Error(`forwarded ${JSON.stringify(got)}, not ${want.forwarded}`);
          // What HTTP/2 calls malformed is answered by a reset.
          const reset = protocol === 'h2' && want.status === 400 && status[i] === 0;
          if (status[i] !== want.status && !reset) throw new Error(`status ${status[i]}, not ${want.status}`);
        });
      }
    }
    ctx.log(`${rule}: ${tally.passed} right, ${tally.failed} wrong`);
  }
  tally.notes.push(`${cases.length} targets`);
  return tally;
}

export const suite: Suite = {
  name: 'paths',
  about:
    'authorized path = forwarded path: request targets over HTTP/1.1 and HTTP/2, under ALLOW, DENY and no rule, by every kind of caller',
  inShortForm: true,
  install: async () => {},
  run,
};
