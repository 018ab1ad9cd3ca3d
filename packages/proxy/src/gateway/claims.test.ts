/** Routes of a gateway by claims of the visitor's token (`@request.auth.claims`), which nobody but its issuer can say. */
import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import { type Part, PartSchema } from '@weft/plan';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { DataPlane } from '../data-plane.ts';

const EDGE = '127.9.41.1';
const part = (kind: object): Part => create(PartSchema, { kind: kind as Part['kind'] });

test('a claim chooses the route; without a token, or by a header of its name, there is none', async (t) => {
  const keys = await generateKeyPair('ES256', { extractable: true });
  const jwks = JSON.stringify({ keys: [await exportJWK(keys.publicKey)] });
  const says = (ref: string, body: string, headers: object[]) => ({
    ref,
    match: headers.length > 0 ? [{ headers }] : [],
    directResponse: { status: 200, body },
  });
  const claim = (name: string, exact: string) => ({
    name: `@request.auth.claims${name}`,
    value: { kind: { case: 'exact', value: exact } },
  });
  const routes = [
    says('nested', 'nested', [claim('[org][Team]', 'red')]),
    says('staff', 'staff', [claim('.group', 'staff')]),
    says('rest', 'rest', []),
  ];
  const edge = new DataPlane({
    address: EDGE,
    capture: 'explicit',
    bind: {},
    gateway: { host: EDGE },
    observer: {
      request: () => {},
      tcpOpen: () => {},
      tcpClose: () => {},
      plaintext: () => {},
      running: () => undefined,
      count: () => {},
    },
    logger: silentLogger,
    limits: {},
  });
  t.after(() => edge.close());
  const servers = [{ ref: 'plain', virtualHosts: [{ host: 'a.test', http: routes }] }];
  const rule = { issuer: 'me', jwks, headers: [{ name: 'authorization', prefix: 'Bearer ' }] };
  edge.apply(
    buildSnapshot(
      [
        part({ case: 'self', value: { mesh: 'test', instance: 'edge-0', workload: 'edge', namespace: 'n' } }),
        part({ case: 'authorization', value: { tokens: [rule] } }),
        part({ case: 'gateway', value: { port: 8080, servers } }),
      ],
      [],
    ),
    1n,
  );
  await edge.listen();
  const ask = (headers: Record<string, string>): Promise<string> =>
    new Promise((resolve, reject) => {
      const options = { host: EDGE, port: 8080, agent: false, headers: { host: 'a.test', ...headers } };
      http
        .get(options, (response) => {
          let text = '';
          response.on('data', (bytes) => (text += bytes)).on('end', () => resolve(`${response.statusCode} ${text}`));
        })
        .on('error', reject);
    });
  const bearer = async (claims: object) => {
    const exp = Math.floor(Date.now() / 1000) + 600;
    const token = new SignJWT({ iss: 'me', sub: 'ann', exp, ...claims }).setProtectedHeader({ alg: 'ES256' });
    return { authorization: `Bearer ${await token.sign(keys.privateKey)}` };
  };
  assert.equal(await ask(await bearer({ group: 'staff' })), '200 staff');
  assert.equal(await ask(await bearer({ group: ['guests', 'staff'] })), '200 staff');
  assert.equal(await ask(await bearer({ group: 'guests' })), '200 rest');
  assert.equal(await ask(await bearer({ org: { Team: 'red' }, group: 'staff' })), '200 nested');
  assert.equal(await ask(await bearer({ org: { team: 'red' } })), '200 rest', 'names are as they are written');
  assert.equal(await ask({}), '200 rest');
  assert.equal(await ask({ 'x-request.auth.claims.group': 'staff' }), '200 rest');
  assert.match(await ask({ authorization: 'Bearer a.b.c' }), /^401 /);
});
