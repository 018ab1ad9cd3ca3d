/** Tokens of requests: good ones, and the ways in which others have been let in. */
import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { before, test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { buildSnapshot } from '@weft/engine';
import { AuthorizationAction as Action, PartSchema, Protocol, type TokenRule, TokenRuleSchema } from '@weft/plan';
import { CompactSign, type CryptoKey, exportJWK, exportSPKI, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import { testPair } from '../test-pair.ts';
import { type TokenOutcome, Tokens } from './tokens.ts';

const ISSUER = 'https://issuer.example';
const NOW = Date.UTC(2026, 0, 1);
const seconds = NOW / 1000;

interface Keys {
  privateKey: CryptoKey;
  publicKey: CryptoKey;
}
let rsa: Keys;
let ec: Keys;
let ed: Keys;
let foreign: Keys;
let jwks: string;

before(async () => {
  [rsa, ec, ed, foreign] = await Promise.all([
    generateKeyPair('RS256', { extractable: true }),
    generateKeyPair('ES256', { extractable: true }),
    generateKeyPair('EdDSA', { extractable: true }),
    generateKeyPair('RS256', { extractable: true }),
  ]);
  const jwk = async (k: Keys, kid: string) => ({ ...(await exportJWK(k.publicKey)), kid });
  jwks = JSON.stringify({ keys: [await jwk(rsa, 'rsa'), await jwk(ec, 'ec'), await jwk(ed, 'ed')] });
});

const failed = (error: unknown): void => assert.fail(String(error));
const BEARER = { name: 'authorization', prefix: 'Bearer ' };
const rule = (more: MessageInitShape<typeof TokenRuleSchema> = {}): TokenRule =>
  create(TokenRuleSchema, { issuer: ISSUER, jwks, headers: [BEARER], ...more });

const sign = (k: Keys, header: { alg: string; kid?: string } & Record<string, unknown>, claims: JWTPayload = {}) =>
  new SignJWT({ iss: ISSUER, sub: 'ann', exp: seconds + 60, ...claims }).setProtectedHeader(header).sign(k.privateKey);

const head = (...more: string[]): string[] => [':method', 'GET', ':authority', 'a', ':path', '/x', ...more];
const check = (h: string[], rules: TokenRule[], tokens = new Tokens(() => NOW, failed)): Promise<TokenOutcome> =>
  new Promise((resolve) => tokens.check(rules, h, resolve));
const why = async (token: string, r = rule()): Promise<string> => {
  const outcome = await check(head('authorization', `Bearer ${token}`), [r]);
  return outcome.ok ? `ok ${outcome.token?.principal}` : outcome.why;
};
const b64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

test('good tokens of every kind of key', async () => {
  assert.equal(await why(await sign(rsa, { alg: 'RS256', kid: 'rsa' })), `ok ${ISSUER}/ann`);
  assert.equal(await why(await sign(ec, { alg: 'ES256', kid: 'ec' })), `ok ${ISSUER}/ann`);
  assert.equal(await why(await sign(ed, { alg: 'EdDSA', kid: 'ed' })), `ok ${ISSUER}/ann`);
  assert.equal(await why(await sign(rsa, { alg: 'RS256' })), `ok ${ISSUER}/ann`);
  const nameless = JSON.stringify({
    keys: [await exportJWK(foreign.publicKey), await exportJWK(rsa.publicKey)],
  });
  assert.equal(await why(await sign(rsa, { alg: 'RS256' }), rule({ jwks: nameless })), `ok ${ISSUER}/ann`);
  assert.equal(
    await why(await sign(rsa, { alg: 'RS256' }, { aud: ['a', 'b'] }), rule({ audiences: ['b'] })),
    `ok ${ISSUER}/ann`,
  );
});

test('tokens that must not be let in', async () => {
  const good = await sign(rsa, { alg: 'RS256', kid: 'rsa' });
  const [h, p, s] = good.split('.');
  const claims = { iss: ISSUER, sub: 'ann', exp: seconds + 60 };
  const none = (alg: string) => `${b64({ alg, typ: 'JWT' })}.${b64(claims)}.`;
  for (const alg of ['none', 'None', 'NONE', 'nOnE'])
    assert.match(await why(none(alg)), /not_accepted|failed|malformed/, alg);
  assert.match(await why(`${h}.${p}.`), /malformed/);
  assert.match(await why(`${h}.${p}`), /malformed|failed/);
  assert.match(await why(`${h}.${b64({ ...claims, sub: 'root' })}.${s}`), /signature_wrong/);
  assert.match(await why('x.y.z'), /malformed/);
  assert.match(await why(''.padEnd(9000, 'a')), /too_long/);
  const limits = { tokenBytes: good.length - 1, knownTokens: 1, knownTokenMs: 1 };
  const small = await check(head('authorization', `Bearer ${good}`), [rule()], new Tokens(() => NOW, failed, limits));
  assert.deepEqual(small, { ok: false, why: 'token_too_long' });
  // The public key as a shared secret, and an empty one.
  const publicPem = new TextEncoder().encode(JSON.stringify(await exportJWK(rsa.publicKey)));
  for (const secret of [publicPem, new Uint8Array(1)]) {
    const hs = await new SignJWT(claims).setProtectedHeader({ alg: 'HS256', kid: 'rsa' }).sign(secret);
    assert.match(await why(hs), /algorithm_not_accepted/);
  }
  // Keys that the token brings itself, or points to.
  const own = await exportJWK(foreign.publicKey);
  assert.match(await why(await sign(foreign, { alg: 'RS256', jwk: own })), /signature_wrong/);
  assert.match(
    await why(await sign(foreign, { alg: 'RS256', jku: 'https://evil.example/k', kid: 'rsa' })),
    /signature_wrong/,
  );
  assert.match(await why(await sign(foreign, { alg: 'RS256', kid: '../../dev/null' })), /no_key|signature_wrong/);
  assert.match(
    await why(
      await sign(rsa, { alg: 'RS256', crit: ['x'], x: 1 } as never).catch(
        () => `${b64({ alg: 'RS256', crit: ['x'], x: 1 })}.${p}.${s}`,
      ),
    ),
    /failed/,
  );
  for (const kid of ["x' UNION SELECT 'k'--", '|/bin/sh', 'rsa\u0000', '__proto__', 'constructor'])
    assert.match(await why(await sign(foreign, { alg: 'RS256', kid })), /no_key|signature_wrong/, kid);
  const spki = await exportSPKI(foreign.publicKey);
  for (const own of [{ x5c: [spki] }, { x5u: 'https://evil.example/c' }, { x5t: 'AAAA' }] as object[])
    assert.match(await why(await sign(foreign, { alg: 'RS256', kid: 'rsa', ...own })), /signature_wrong/);
  // A signature of zeros (of ECDSA it was once good for everything), one of another form, one of another kind of key.
  const es = await sign(ec, { alg: 'ES256', kid: 'ec' });
  const [eh, ep] = es.split('.');
  assert.match(await why(`${eh}.${ep}.${Buffer.alloc(64).toString('base64url')}`), /signature_wrong/);
  assert.match(await why(`${eh}.${ep}.MAYCAQACAQA`), /signature_wrong|failed/);
  assert.match(await why(`${b64({ alg: 'ES256', kid: 'rsa' })}.${p}.${s}`), /no_key|signature_wrong|failed/);
  // The same token, written otherwise: whoever remembers refused ones by their text must not be led around.
  for (const other of [`${good}=`, `${good}.`, `${good} x`, `${h}.${p}=.${s}`, ` .${good}`, good.replace('.', '..')])
    assert.doesNotMatch(await why(other), /^ok/, other);
  const last = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const bits = last[last.indexOf(s.at(-1) as string) + 1] ?? 'B';
  assert.doesNotMatch(await why(`${h}.${p}.${s.slice(0, -1)}${bits}`), /^ok/, 'bits that are no part of the signature');
  // Encrypted, unencoded, and what is no object.
  assert.match(await why(`${h}.${p}.${s}.${p}.${s}`), /malformed|failed/);
  const raw = `${b64({ alg: 'RS256', kid: 'rsa', b64: false, crit: ['b64'] })}.${p}.${s}`;
  assert.doesNotMatch(await why(raw), /^ok/);
  const signed = (payload: string | Uint8Array) =>
    new CompactSign(typeof payload === 'string' ? new TextEncoder().encode(payload) : payload)
      .setProtectedHeader({ alg: 'RS256', kid: 'rsa' })
      .sign(rsa.privateKey);
  for (const payload of ['[]', '"x"', 'null', '', `[{"iss":"${ISSUER}"}]`, `{"iss":["${ISSUER}"]}`, '{"iss":{}}'])
    assert.match(await why(await signed(payload)), /malformed|issuer_not_known/, payload);
  assert.match(await why(await signed(Buffer.from(`{"iss":"${ISSUER}","sub":"\xff"}`, 'latin1'))), /malformed/);
  for (const claim of ['"exp":"9999999999"', '"exp":null', '"nbf":"0"', '"iat":"x"', '"sub":1', '"aud":[1]'])
    assert.match(await why(await signed(`{"iss":"${ISSUER}",${claim}}`)), /claim_|malformed/, claim);
  assert.match(await why(await signed(`{"iss":"${ISSUER}","__proto__":{"sub":"root"}}`)), /^ok $/);
  // Another issuer, audience, time.
  assert.match(await why(await sign(rsa, { alg: 'RS256' }, { iss: 'https://evil.example' })), /issuer_not_known/);
  assert.match(await why(await sign(rsa, { alg: 'RS256' }, { iss: `${ISSUER}/` })), /issuer_not_known/);
  assert.match(await why(await sign(rsa, { alg: 'RS256' }), rule({ audiences: ['b'] })), /claim_aud/);
  assert.match(await why(await sign(rsa, { alg: 'RS256' }, { aud: 'bb' }), rule({ audiences: ['b'] })), /claim_aud/);
  assert.match(await why(await sign(rsa, { alg: 'RS256' }, { exp: seconds - 61 })), /token_expired/);
  assert.match(await why(await sign(rsa, { alg: 'RS256' }, { nbf: seconds + 62 })), /claim_nbf/);
  // A key set that cannot be used fails closed.
  for (const bad of ['', '{}', '{"keys":[]}', 'null', '{"keys":[{"kty":"oct","k":"AAAA"}]}'])
    assert.doesNotMatch(await why(good, rule({ jwks: bad })), /^ok/, bad);
  // Two tokens, one of them good.
  const other = await sign(rsa, { alg: 'RS256' }, { sub: 'bob' });
  const two = await check(head('authorization', `Bearer ${good}`, 'authorization', `Bearer ${other}`), [rule()]);
  assert.deepEqual(two, { ok: false, why: 'several_tokens' });
});

test('a payload that is not encoded, although its signer says so, is none', async () => {
  // RFC 7797: what was signed would be the text itself, while others read it as base64url.
  const text = `${b64({ alg: 'RS256', kid: 'rsa', b64: false, crit: ['b64'] })}.${b64({ iss: ISSUER, sub: 'root' })}`;
  const signature = await crypto.subtle.sign('RSASSA-PKCS1-v1_5', rsa.privateKey, Buffer.from(text));
  const signed = `${text}.${Buffer.from(signature).toString('base64url')}`;
  assert.match(await why(signed), /malformed|failed/);
});

test('keys change while tokens are verified: each is judged by the keys of its own plan, and all get an answer', async () => {
  const mine = await sign(rsa, { alg: 'RS256' });
  const theirs = await sign(foreign, { alg: 'RS256' });
  const other = JSON.stringify({ keys: [await exportJWK(foreign.publicKey)] });
  const tokens = new Tokens(() => NOW, failed);
  const plans = [rule(), rule({ jwks: other }), rule({ jwks: '' }), rule({ jwks: '{"keys":[]}' })].map((r) => [r]);
  const asked: Promise<TokenOutcome>[] = [];
  for (let i = 0; i < 40; i++)
    asked.push(check(head('authorization', `Bearer ${i % 8 < 4 ? mine : theirs}`), plans[i % 4], tokens));
  const good = (await Promise.all(asked)).map((o) => o.ok);
  assert.deepEqual(
    good,
    good.map((_, i) => i % 8 === 0 || i % 8 === 5),
  );
});

test('which named issuers find a token good, and how far the clock of each may differ', async () => {
  const named = (provider: string, more: MessageInitShape<typeof TokenRuleSchema> = {}) => rule({ provider, ...more });
  const others = JSON.stringify({ keys: [{ ...(await exportJWK(foreign.publicKey)), kid: 'rsa' }] });
  const rules = [
    rule(),
    named('stolen', { jwks: others }),
    named('all'),
    named('cart', { audiences: ['cart'] }),
    named('pay', { audiences: ['pay'], clockSkewMs: 1000 }),
    named('elsewhere', { issuer: 'https://other.example' }),
    named('cookie', { headers: [], cookies: ['c'] }),
  ];
  let now = NOW;
  const tokens = new Tokens(() => now, failed);
  const providers = async (claims: JWTPayload): Promise<readonly string[] | string> => {
    const text = await sign(rsa, { alg: 'RS256', kid: 'rsa' }, claims);
    const outcome = await check(head('authorization', `Bearer ${text}`), rules, tokens);
    return outcome.ok ? (outcome.token?.providers ?? 'none') : outcome.why;
  };
  assert.deepEqual(await providers({ aud: 'cart' }), ['all', 'cart']);
  assert.deepEqual(await providers({ aud: ['pay', 'cart'] }), ['all', 'cart', 'pay']);
  assert.deepEqual(await providers({}), ['all']);
  // What is remembered of a token ends where one of them would not find it good any more.
  now = NOW + 60_500;
  assert.deepEqual(await providers({ aud: 'pay' }), ['all', 'pay']);
  now = NOW + 61_000;
  assert.deepEqual(await providers({ aud: 'pay' }), ['all']);
  now = NOW + 120_000;
  assert.equal(await providers({ aud: 'pay' }), 'token_expired');
});

test('rules for some ports are rules of those alone', () => {
  const tokens = new Tokens(() => NOW, failed);
  const [all, some] = [rule(), rule({ ports: [8080] })];
  const rules = [all, some];
  assert.deepEqual(tokens.rulesAt(rules, 8080), rules);
  assert.equal(tokens.rulesAt(rules, 8080), tokens.rulesAt(rules, 8080));
  assert.deepEqual(tokens.rulesAt(rules, 9090), [all]);
  assert.deepEqual(tokens.rulesAt([some], 9090), []);
});

test('where a token may stand, what is passed on, and headers that only a token may set', async () => {
  const token = await sign(rsa, { alg: 'RS256' }, { role: 'admin', n: { level: 3 }, bad: 'a\r\nb: c' });
  const claimHeaders = [
    { header: 'x-role', claim: ['role'] },
    { header: 'x-level', claim: ['n', 'level'] },
    { header: 'x-bad', claim: ['bad'] },
    { header: 'x-proto', claim: ['__proto__', 'constructor'] },
  ];
  const tokens = new Tokens(() => NOW, failed);
  const r = [rule({ claimHeaders, payloadHeader: 'x-payload', params: ['access_token'], cookies: ['session'] })];
  for (let again = 0; again < 2; again++) {
    const h = head(
      'authorization',
      `bearer ${token}`,
      'x-role',
      'root',
      'x_role',
      'root',
      'x-bad',
      '1',
      'x-payload',
      '1',
    );
    assert.equal((await check(h, r, tokens)).ok, true);
    assert.deepEqual(h, head('x-payload', token.split('.')[1], 'x-role', 'admin', 'x-level', '3'));
  }
  const spoofed = head('x-role', 'root', 'x_role', 'root');
  assert.deepEqual(await check(spoofed, r, tokens), { ok: true, token: undefined });
  assert.deepEqual(spoofed, head());
  const query = head('cookie', `a=b; session=${token}`);
  query[5] = `/x?q=1&access_token=${token}&z=%2F`;
  assert.equal((await check(query, r, tokens)).ok, true);
  assert.equal(query[5], '/x?q=1&z=%2F');
  const kept = head('authorization', `Bearer ${token}`);
  assert.equal((await check(kept, [rule({ forward: true })], tokens)).ok, true);
  assert.deepEqual(kept, head('authorization', `Bearer ${token}`));
  // Known or not, a token counts only where its issuer's may stand, and only as long as it is good.
  let now = NOW;
  const timed = new Tokens(() => now, failed);
  const rules = [rule()];
  const ask = () => check(head('authorization', `Bearer ${token}`), rules, timed);
  assert.equal((await ask()).ok, true);
  now += 119_000;
  assert.equal((await ask()).ok, true);
  now += 2000;
  assert.deepEqual(await ask(), { ok: false, why: 'token_expired' });
});

test('through a proxy: 401, policies by claims, and the body of a request whose token is being verified', async (t) => {
  const app = '127.7.62.3';
  const web = http.createServer((req, res) => {
    let bytes = 0;
    req.on('data', (d: Buffer) => (bytes += d.length));
    req.on('end', () =>
      res.end(JSON.stringify({ bytes, auth: req.headers.authorization, role: req.headers['x-role'] })),
    );
  });
  await new Promise<void>((resolve) => web.listen(0, app, resolve));
  t.after(() => {
    web.closeAllConnections();
    web.close();
  });
  const appPort = (web.address() as AddressInfo).port;
  const pair = await testPair(t, {
    network: '127.7.62',
    ports: [{ port: 8080, protocol: Protocol.HTTP, appHost: app, appPort }],
  });
  const when = [{ key: 'request.auth.claims[role]', values: ['admin'] }];
  const from = [{ requestPrincipals: [`${ISSUER}/*`] }];
  const part = create(PartSchema, {
    kind: {
      case: 'authorization',
      value: {
        tokens: [rule({ claimHeaders: [{ header: 'x-role', claim: ['role'] }] })],
        policies: [{ name: 'p', namespace: 'n', action: Action.ALLOW, rules: [{ from, when }] }],
      },
    },
  });
  pair.back!.apply({ ...pair.back!.core.snapshot!, authorization: buildSnapshot([part], []).authorization }, 2n);
  const ask = (token: string | undefined, body: Buffer): Promise<{ status: number; text: string }> =>
    new Promise((resolve, reject) => {
      const headers = { 'x-role': 'spoofed', ...(token !== undefined && { authorization: `Bearer ${token}` }) };
      const options = { host: pair.frontAddress, port: 8080, method: 'POST', agent: false as const, headers };
      const request = http.request(options, (res) => {
        let text = '';
        res.on('data', (d) => (text += d));
        res.on('end', () => resolve({ status: res.statusCode!, text }));
      });
      request.on('error', reject);
      request.end(body);
    });
  const exp = Math.floor(Date.now() / 1000) + 600;
  const admin = await sign(rsa, { alg: 'RS256' }, { role: ['user', 'admin'], exp });
  const user = await sign(rsa, { alg: 'RS256' }, { role: 'user', exp });
  const body = Buffer.alloc(300_000, 'x');
  for (let again = 0; again < 2; again++) {
    const yes = await ask(admin, body);
    assert.deepEqual([yes.status, JSON.parse(yes.text)], [200, { bytes: body.length }]);
  }
  assert.equal((await ask(user, body.subarray(0, 10))).status, 403);
  assert.equal((await ask(undefined, body.subarray(0, 10))).status, 403);
  assert.equal((await ask(`${admin.slice(0, -4)}AAAA`, body.subarray(0, 10))).status, 401);
  assert.equal(pair.backSeen.counts.get('token_refused'), 1);
  assert.equal(pair.backSeen.requests.at(-1)?.details, 'jwt_authn_access_denied{signature_wrong}');
  // As Consul's intentions ask for tokens: a table's row.
  const claims = [{ path: ['role'], value: 'user' }];
  const any = [{ uri: { kind: { case: 'prefix' as const, value: '/' } } }];
  const rows = [
    { http: any, allow: true, tokens: [{ providers: ['okta'], claims }] },
    { http: any, allow: false },
  ];
  const asked = create(PartSchema, {
    kind: {
      case: 'authorization',
      value: { tokens: [rule({ provider: 'okta' })], tables: [{ name: 't', namespace: 'n', rows }] },
    },
  });
  pair.back!.apply({ ...pair.back!.core.snapshot!, authorization: buildSnapshot([asked], []).authorization }, 3n);
  const answers = [];
  for (const token of [user, admin, undefined]) answers.push((await ask(token, body.subarray(0, 10))).status);
  assert.deepEqual(answers, [200, 403, 403]);
});
