import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { AuthorizationAction, AuthorizationPolicySchema, Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

/** An application that lies about decisions in every way it has. */
async function liar(t: TestContext, address: string): Promise<number> {
  const app = http.createServer((_request, response) => {
    response.writeEarlyHints({ link: '</a>; rel=preload', 'x-weft-decision': 'forged early' });
    response.setHeader('x-weft-decision', 'forged');
    response.setHeader('X_Weft_Decision', 'forged too');
    response.setHeader('trailer', 'x-weft-decision');
    response.write('a');
    response.addTrailers({ 'x-weft-decision': 'forged late' });
    response.end();
  });
  await new Promise<void>((resolve) => app.listen(0, address, resolve));
  t.after(() => app.close());
  return (app.address() as AddressInfo).port;
}

interface Answer {
  status: number;
  /** Of every kind, raw. */
  fields: string[];
  told: { proxy: string; reporter: string; epoch: number; decisions: Record<string, [string, string]> }[];
}

function ask(host: string, path: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const early: string[] = [];
    const request = http.get({ host, port: 9000, path, agent: false }, (response) => {
      response.resume().on('end', () => {
        const text = response.headers['x-weft-decision'] ?? '';
        resolve({
          status: response.statusCode ?? 0,
          fields: [...early, ...response.rawHeaders, ...response.rawTrailers],
          told: String(text).startsWith('{') ? JSON.parse(`[${text}]`) : [],
        });
      });
    });
    request.on('information', (info) => early.push(...info.rawHeaders));
    request.on('error', reject);
  });
}

async function pairOf(
  t: TestContext,
  network: string,
  tell: { callers?: string[]; namespaces?: string[] },
  plaintext = false,
) {
  const appHost = `${network}.3`;
  const appPort = await liar(t, appHost);
  const deny = create(AuthorizationPolicySchema, {
    ...{ ref: 'policy', name: 'no', namespace: 'test', action: AuthorizationAction.DENY },
    rules: [{ ref: 'policy#0', to: [{ paths: ['/denied'] }] }],
  });
  const { frontAddress } = await testPair(t, {
    network,
    tell,
    plaintext,
    policies: [deny],
    ports: [{ port: 9000, protocol: Protocol.HTTP, appHost, appPort, route: { timeoutMs: 9000, timeoutRef: 'limit' } }],
  });
  return frontAddress;
}

const ME = 'cluster.local/ns/test/sa/front';

test('a named caller is told by both proxies which rules decided; nothing that the application says of it passes', async (t) => {
  const host = await pairOf(t, '127.7.191', { callers: [ME], namespaces: ['test'] });
  const yes = await ask(host, '/');
  assert.equal(yes.status, 200);
  assert.deepEqual(yes.told, [
    { proxy: 'back-0', reporter: 'destination', epoch: 1, decisions: {} },
    {
      ...{ proxy: 'front-0', reporter: 'source', epoch: 1 },
      decisions: { route: ['http9000', ''], destination: ['to9000', ''], timeout: ['limit', ''] },
    },
  ]);
  assert.ok(!yes.fields.some((f) => /forged/.test(f)), String(yes.fields));
  const no = await ask(host, '/denied');
  assert.equal(no.status, 403);
  assert.deepEqual(no.told[0]?.decisions, { authorization: ['policy#0', ''] });
});

test('each proxy tells whom its own policies name: another caller, or an identity nobody proved, is told nothing', async (t) => {
  const cases: [string, { callers?: string[]; namespaces?: string[] }, boolean, string[]][] = [
    ['127.7.192', {}, false, []],
    [
      '127.7.193',
      { callers: ['cluster.local/ns/test/sa/fron', 'cluster.local/ns/other/*'], namespaces: ['other'] },
      false,
      [],
    ],
    // The server's proxy tells, but the caller's has no policy for it: what comes from afar is not passed on.
    ['127.7.194', { callers: ['*'] }, false, []],
    ['127.7.195', { namespaces: ['*'] }, false, ['source']],
    ['127.7.96', { callers: ['*'], namespaces: ['*'] }, true, ['source']],
    ['127.7.97', { callers: ['cluster.local/ns/test/*'], namespaces: ['*'] }, false, ['destination', 'source']],
  ];
  for (const [network, tell, plaintext, reporters] of cases) {
    const answer = await ask(await pairOf(t, network, tell, plaintext), '/');
    assert.equal(answer.status, 200);
    assert.deepEqual(
      answer.told.map((d) => d.reporter),
      reporters,
      network,
    );
    assert.ok(!answer.fields.some((f) => /forged/.test(f)), network);
    assert.equal(
      answer.fields.filter((f, i) => i % 2 === 0 && /^x.weft.decision$/i.test(f)).length,
      reporters.length,
      network,
    );
  }
});
