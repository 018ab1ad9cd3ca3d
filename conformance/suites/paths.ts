/**
 * What the proxy authorizes is what the application gets: a table of request targets, each over HTTP/1.1 and HTTP/2, each
 * under an ALLOW rule, a DENY rule and no rule for paths, through both proxies and to the second one alone.
 */
import { createServer } from 'node:net';
import { AuthorizationAction } from '@weft/plan';
import { type PolicyInit, startPair } from '../pair.ts';
import { type PathCase, pathCases } from '../path-cases.ts';
import { flag, frame, frameType, headerBlock, sendH2, sendRaw, statuses } from '../raw.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const PORT = 8080;
const AT_ONCE = 24;
/** A and the link and B, or B alone. */
const entrances = ['front', 'back'] as const;
const protocols = ['h1', 'h2'] as const;
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
async function ask(host: string, protocol: 'h1' | 'h2', one: PathCase, id: string): Promise<number> {
  const at = { host, port: PORT, quietMs: 5000, giveUpMs: 10_000 };
  const method = one.method ?? 'GET';
  if (protocol === 'h1') {
    const text = `${method} ${one.target} HTTP/1.1\r\nhost: app\r\nuser-agent: ${id}\r\nconnection: close\r\n\r\n`;
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

function expected(
  one: PathCase,
  rule: Rule,
  entrance: 'front' | 'back',
): { status: number; forwarded: string | undefined } {
  const path = rule === 'none' && one.kept !== undefined ? one.kept : one.want;
  const byB = one.refusedByB && rule !== 'none' && entrance === 'back';
  if (path === undefined || byB) return { status: 400, forwarded: undefined };
  return allowed(rule, path.split('?')[0]) ? { status: 200, forwarded: path } : { status: 403, forwarded: undefined };
}

async function run(ctx: SuiteContext): Promise<Tally> {
  const tally = new Tally();
  const { port, seen } = await application(ctx);
  const pair = await startPair({ ports: [{ port: PORT, appHost: '127.0.0.1', appPort: port }], mtls: 'permissive' });
  ctx.cleanup(() => pair.stop());
  const cases = pathCases(ctx.short);
  const ways = entrances.flatMap((entrance) => protocols.map((protocol) => [entrance, protocol] as const));
  for (const rule of rules) {
    await pair.authorize(policies(rule));
    for (const [entrance, protocol] of ways) {
      const host = pair[entrance].address;
      const mine = cases.filter((c) => (c.only ?? protocol) === protocol);
      const status: number[] = [];
      let next = 0;
      const work = async (): Promise<void> => {
        while (next < mine.length) {
          const i = next++;
          status[i] = await ask(host, protocol, mine[i], `${rule}-${entrance}-${protocol}-${i}`);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      // A request is in the records when it has ended.
      await tally.check(`${rule} ${entrance} ${protocol}: nothing is left in the proxies`, () => pair.settled());
      const authorized = new Map<string, string[]>();
      for (const r of (await pair.back.take()).records) {
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
  about: 'authorized path = forwarded path: request targets over HTTP/1.1 and HTTP/2, under ALLOW, DENY and no rule',
  inShortForm: true,
  install: async () => {},
  run,
};
