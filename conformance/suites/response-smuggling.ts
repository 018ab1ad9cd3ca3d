/**
 * Response smuggling: an application answers with mutations that hide a second response. Every other request, on the same
 * client's connection and on all others that share the proxy's connections to the application, gets its own answer or an
 * error. The client is Node's, whose parser is not ours.
 */
import http from 'node:http';
import net from 'node:net';
import { type Pair, startPair } from '../pair.ts';
import { type ResponseMutation, responseMutations } from '../smuggling-responses.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const PORT = 8080;
const AT_ONCE = 24;
/** How long the application keeps a connection open behind a mutation, for the next request to fall into it. */
const KEEP_MS = 150;

async function application(ctx: SuiteContext, mutations: readonly ResponseMutation[]): Promise<number> {
  const server = net.createServer((socket) => {
    let text = '';
    let end: NodeJS.Timeout | undefined;
    socket.on('error', () => {});
    socket.on('close', () => clearTimeout(end));
    socket.on('data', (chunk) => {
      clearTimeout(end);
      text += chunk.toString('latin1');
      for (let at = text.indexOf('\r\n\r\n'); at >= 0; at = text.indexOf('\r\n\r\n')) {
        const [, kind, number] = /^[A-Z]+ \/(\w+)-([0-9]+)/.exec(text) ?? [];
        text = text.slice(at + 4);
        if (kind === 'main') {
          socket.write(Buffer.from(mutations[Number(number)].bytes, 'latin1'));
          end = setTimeout(() => socket.end(), KEEP_MS);
        } else {
          const body = `canary-${number}`;
          socket.write(`HTTP/1.1 200 OK\r\nX-Case: ${number}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
        }
      }
    });
  });
  await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, resolve));
  ctx.cleanup(() => void server.close());
  return (server.address() as net.AddressInfo).port;
}

interface Answer {
  /** 0: none, the connection broke. */
  status: number;
  case: string | undefined;
  evil: boolean;
  body: string;
}

function ask(pair: Pair, agent: http.Agent, method: string, path: string): Promise<Answer> {
  return new Promise((resolve) => {
    const answer: Answer = { status: 0, case: undefined, evil: false, body: '' };
    const request = http.request({ host: pair.front.address, port: PORT, method, path, agent, timeout: 20_000 });
    const done = (): void => resolve(answer);
    request.on('error', done);
    request.on('timeout', () => request.destroy());
    request.on('upgrade', (_, socket) => {
      answer.status = 101;
      socket.destroy();
      done();
    });
    request.on('response', (response) => {
      answer.status = response.statusCode ?? 0;
      answer.case = response.headers['x-case'] as string | undefined;
      answer.evil = response.headers['x-evil'] !== undefined;
      response.on('data', (chunk) => {
        answer.body += chunk.toString('latin1');
      });
      response.on('error', done);
      response.on('close', done);
    });
    request.end();
  });
}

async function one(pair: Pair, method: string, i: number): Promise<void> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const main = await ask(pair, agent, method, `/main-${i}`);
    if (method === 'HEAD' && main.body !== '') throw new Error('a body behind the answer to HEAD');
    const canary = await ask(pair, agent, 'GET', `/canary-${i}`);
    // The client may find its kept connection closed; then nothing was asked.
    if (canary.status === 0 || canary.status === 503) return;
    if (canary.evil) throw new Error('the hidden response was the answer to another request');
    if (canary.status !== 200 || canary.case !== String(i) || canary.body !== `canary-${i}`)
      throw new Error(`another request got ${canary.status}, ${canary.case}, ${JSON.stringify(canary.body)}`);
    answered++;
  } finally {
    agent.destroy();
  }
}

let answered = 0;

async function run(ctx: SuiteContext): Promise<Tally> {
  const tally = new Tally();
  answered = 0;
  const mutations = responseMutations();
  const port = await application(ctx, mutations);
  const pair = await startPair({ ports: [{ port: PORT, appHost: '127.0.0.1', appPort: port }] });
  ctx.cleanup(() => pair.stop());
  const all = ['GET', 'HEAD', 'POST'].flatMap((method) =>
    mutations.flatMap((m, i) => (ctx.short && i % 10 !== method.length % 3 ? [] : [{ method, i, name: m.name }])),
  );
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < all.length) {
      const { method, i, name } = all[next++];
      await tally.check(`${method} ${name}`, () => one(pair, method, i));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  await tally.check('most of the other requests were answered', () => {
    if (answered < all.length * 0.8) throw new Error(`${answered} of ${all.length}`);
  });
  await tally.check('nothing is left in the proxies', () => pair.settled());
  tally.notes.push(`${mutations.length} responses, ${answered} of ${all.length} other requests answered`);
  return tally;
}

export const suite: Suite = {
  name: 'response-smuggling',
  about: 'mutations of responses through both proxies: no request gets the answer of another one',
  inShortForm: true,
  install: async () => {},
  run,
};
