/** Requests that are spelled so that a rule may not see what the application sees: by hosts, repeated headers and schemes. */
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { AuthorizationAction as Action, AuthorizationPolicySchema, Protocol } from '@weft/plan';
import { type TestPair, testPair } from '../test-pair.ts';

const PORT = 8080;
const GIVE_UP_MS = 60_000;

const policies = [
  create(AuthorizationPolicySchema, {
    ...{ name: 'p', namespace: 'test', action: Action.DENY },
    rules: [
      { to: [{ hosts: ['Secret.com.', '*.hidden.com', '[2001:db8::1]'] }] },
      { when: [{ key: 'request.headers[x-role]', values: ['evil'] }] },
      { to: [{ methods: ['DELETE'] }] },
    ],
  }),
];

/** Raw bytes, and the status that comes back; 0: closed without one. */
function raw(host: string, text: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port: PORT });
    const timer = setTimeout(() => socket.destroy(new Error(`no answer to ${text}`)), GIVE_UP_MS);
    let got = '';
    socket.on('data', (d) => (got += d.toString('latin1')));
    socket.on('error', reject);
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(Number(/^HTTP\/1\.1 (\d+)/.exec(got)?.[1] ?? 0));
    });
    socket.write(text, 'latin1');
  });
}

/** By HTTP/2 with prior knowledge; 0: reset. */
function h2(host: string, fields: http2.OutgoingHttpHeaders): Promise<number> {
  return new Promise((resolve, reject) => {
    const session = http2.connect(`http://${host}:${PORT}`);
    session.on('error', reject);
    const over = (status: number): void => {
      session.destroy();
      resolve(status);
    };
    const request = session.request({ ':path': '/', ...fields }, { endStream: true });
    request.on('response', (h) => over(Number(h[':status'])));
    request.on('error', () => over(0));
    request.setTimeout(GIVE_UP_MS, () => over(-1));
  });
}

const get = (...fields: string[]): string =>
  `GET / HTTP/1.1\r\n${['connection: close', ...fields].map((f) => `${f}\r\n`).join('')}\r\n`;

async function pairOf(t: TestContext, network: string, plaintext: boolean): Promise<TestPair> {
  const web = http.createServer((_req, res) => res.end('reached'));
  const appHost = `${network}.3`;
  await new Promise<void>((resolve) => web.listen(0, appHost, resolve));
  t.after(() => {
    web.closeAllConnections();
    web.close();
  });
  const { port: appPort } = web.address() as AddressInfo;
  const ports = [{ port: PORT, protocol: Protocol.HTTP, appHost, appPort }];
  return testPair(t, { network, ports, policies, plaintext });
}

const HOSTS = [
  ...['secret.com', 'Secret.COM', 'secret.com.', 'secret.com:80', 'secret.com:8080', 'SECRET.com.:8080'],
  ...['user@secret.com', 'secret.com:', 'secret.com:0', 'secret.com/', 'secret.com#', 'secret.com?', 'secret.com\\'],
  ...[
    'a.hidden.com',
    'A.B.Hidden.com.',
    'a.hidden.com:1',
    '[2001:db8::1]',
    '[2001:DB8::1]:80',
    '[2001:db8:0:0:0:0:0:1]',
    '[2001:db8::0.0.0.1]',
  ],
];
const OTHERS = ['other.com', 'secret.com.evil.org', 'notsecret.com', 'hidden.com', '[2001:db8::2]:80'];
const REFUSED = [400, 403];

async function hosts(to: string): Promise<void> {
  for (const host of HOSTS) {
    const said = await raw(to, get(`host: ${host}`));
    assert.ok(REFUSED.includes(said), `host: ${host} → ${said}`);
    // The target goes before the field (RFC 9112 3.2.2).
    const absolute = await raw(to, get('host: other.com').replace('GET /', `GET http://${host}/`));
    assert.ok(REFUSED.includes(absolute), `http://${host}/ → ${absolute}`);
    const authority = await h2(to, { ':authority': host });
    assert.ok([0, ...REFUSED].includes(authority), `:authority ${host} → ${authority}`);
  }
  for (const fields of [['host: other.com', 'host: secret.com'], ['host: other.com, secret.com'], []])
    assert.ok(REFUSED.includes(await raw(to, get(...fields))), fields.join());
  for (const host of OTHERS) {
    assert.equal(await raw(to, get(`host: ${host}`)), 200, host);
    assert.equal(await h2(to, { ':authority': host }), 200, host);
  }
}

async function others(to: string): Promise<void> {
  for (const roles of [['evil'], ['good', 'evil'], ['evil', 'good'], [' evil\t']]) {
    assert.equal(await raw(to, get('host: a', ...roles.map((r) => `X-Role: ${r}`))), 403, roles.join());
    assert.equal(await h2(to, { ':authority': 'a', 'x-role': roles.map((r) => r.trim()) as never }), 403, roles.join());
  }
  assert.equal(await raw(to, get('host: a', 'x-role: good')), 200);
  // Methods are words with a case; what overrides them is for applications to ignore.
  const del = get('host: a').replace('GET', 'DELETE');
  assert.equal(await raw(to, del), 403);
  for (const scheme of ['http', 'https', 'htTp', 'HTTPS'])
    assert.equal(await h2(to, { ':authority': 'secret.com', ':scheme': scheme }), 403, scheme);
  assert.equal(await h2(to, { ':authority': 'a', ':scheme': 'ftp' }), 0);
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty'])
    assert.equal(await raw(to, get('host: a', `${name}: x`)), 200, name);
}

test('no spelling of a request evades a DENY: by the mesh', async (t) => {
  const pair = await pairOf(t, '127.7.204', false);
  await hosts(pair.frontAddress);
  await others(pair.frontAddress);
});

test('no spelling of a request evades a DENY: in plaintext', async (t) => {
  const pair = await pairOf(t, '127.7.205', true);
  await hosts(pair.backAddress);
  await others(pair.backAddress);
});
