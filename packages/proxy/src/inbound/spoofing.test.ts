/** Who a caller is, is for the mesh to say: what requests say of it themselves, in whatever way, reaches no application. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { buildSnapshot } from '@weft/engine';
import { PartSchema, Protocol } from '@weft/plan';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { type TestPair, testPair } from '../test-pair.ts';

const PORT = 8080;
const OURS = [
  'x-forwarded-client-cert',
  'x-weft-source',
  'x-weft-port',
  'x-weft-anything',
  'x-envoy-peer-metadata',
  'x-envoy-peer-metadata-id',
];

/** An application that answers with the bytes of the request it was sent, trailers and all. */
async function echo(t: TestContext, host: string): Promise<number> {
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      const head = text.indexOf('\r\n\r\n');
      if (head < 0) return;
      const chunked = /transfer-encoding: chunked/i.test(text);
      if (chunked && !/\r\n0\r\n([^\r]+\r\n)*\r\n$/.test(text)) return;
      const body = Buffer.from(text, 'latin1');
      text = '';
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n`);
      socket.write(body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** Sends the text as it is; gives what the application got. */
async function send(host: string, text: string): Promise<string> {
  const socket = net.connect(PORT, host);
  socket.on('error', () => {});
  let got = '';
  socket.on('data', (d) => {
    got += d.toString('latin1');
  });
  socket.write(text, 'latin1');
  await once(socket, 'close');
  return got;
}

const head = (fields: string[], method = 'GET'): string =>
  `${method} / HTTP/1.1\r\nhost: app\r\n${fields.map((f) => `${f}\r\n`).join('')}`;
const request = (...fields: string[]): string => `${head([...fields, 'connection: close'])}\r\n`;
const trailing = (...trailers: string[]): string =>
  `${head(['connection: close', 'transfer-encoding: chunked', 'te: trailers', `trailer: ${trailers.map((f) => f.split(':')[0])}`], 'POST')}\r\n2\r\nhi\r\n0\r\n${trailers.map((f) => `${f}\r\n`).join('')}\r\n`;

const upper = (name: string): string => name.replace(/(^|-)([a-z])/g, (m) => m.toUpperCase());
const spellings = (name: string): string[] => [name, upper(name), name.replaceAll('-', '_'), name.replace('-', '_')];

async function attack(pair: TestPair, entrance: string, xfcc: number): Promise<void> {
  const clean = async (what: string, text: string): Promise<string> => {
    const got = await send(entrance, text);
    assert.doesNotMatch(got, /forged/i, what);
    // Refused is good as well; else the application sees our word alone.
    if (/^HTTP\/1.1 200/.test(got)) {
      assert.equal(got.match(/x-forwarded-client-cert:/gi)?.length ?? 0, xfcc, what);
    } else assert.match(got, /^HTTP\/1.1 (400|431)/, what);
    return got;
  };
  for (const name of OURS) {
    for (const spelled of spellings(name)) {
      await clean(spelled, request(`${spelled}: forged`));
      await clean(`two of ${spelled}`, request(`${spelled}: forged`, `${name}: forged too`));
      await clean(`${spelled} as a trailer`, trailing(`${spelled}: forged`));
    }
    await clean(`${name}, with blanks`, request(`${name}:   forged  `, `${name} : forged`));
    // What Connection names is taken off by every hop: it must not take ours off, nor save the client's.
    await clean(`Connection: ${name}`, `${head([`connection: close, ${name}`, `${name}: forged`])}\r\n`);
    await clean(
      `Connection: ${name} twice`,
      `${head([`connection: ${name}`, `Connection: close, ${upper(name)}`])}\r\n`,
    );
    await clean(`${name} behind a fold`, `${head(['connection: close', `x-a: 1\r\n ${name}: forged`])}\r\n`);
  }
  assert.equal(pair.backSeen.counts.get('internal_error') ?? 0, 0);
}

test('by the mesh: the caller that the certificate names, once, in the form of Envoy', async (t) => {
  const appPort = await echo(t, '127.7.201.3');
  const ports = [{ port: PORT, protocol: Protocol.HTTP, appHost: '127.7.201.3', appPort }];
  const pair = await testPair(t, { network: '127.7.201', ports });
  await attack(pair, pair.frontAddress, 1);
  const got = await send(pair.frontAddress, request('connection: x-forwarded-client-cert'));
  const form =
    /^x-forwarded-client-cert: By=spiffe:\/\/cluster\.local\/ns\/test\/sa\/back;Hash=[0-9a-f]{64};Subject="";URI=spiffe:\/\/cluster\.local\/ns\/test\/sa\/front\r$/m;
  assert.match(got, form);
});

test('in plaintext: nobody', async (t) => {
  const appPort = await echo(t, '127.7.202.3');
  const ports = [{ port: PORT, protocol: Protocol.HTTP, appHost: '127.7.202.3', appPort }];
  const pair = await testPair(t, { network: '127.7.202', ports, plaintext: true });
  await attack(pair, pair.backAddress, 0);
});

test('what a token says: neither a header, nor Connection, nor a trailer changes it', async (t) => {
  const appPort = await echo(t, '127.7.203.3');
  const ports = [{ port: PORT, protocol: Protocol.HTTP, appHost: '127.7.203.3', appPort }];
  const pair = await testPair(t, { network: '127.7.203', ports });
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const tokens = [
    {
      ...{ issuer: 'i', jwks: JSON.stringify({ keys: [await exportJWK(publicKey)] }), payloadHeader: 'x-payload' },
      headers: [{ name: 'authorization', prefix: 'Bearer ' }],
      claimHeaders: [{ header: 'x-person', claim: ['sub'] }],
    },
  ];
  const part = create(PartSchema, { kind: { case: 'authorization', value: { tokens } } });
  const back = pair.back!;
  back.apply({ ...back.core.snapshot!, authorization: buildSnapshot([part], []).authorization }, 2n);
  const token = await new SignJWT({ iss: 'i', sub: 'ann' }).setProtectedHeader({ alg: 'ES256' }).sign(privateKey);
  const bearer = `authorization: Bearer ${token}`;
  for (const name of ['x-person', 'X-Person', 'x_person', 'X_PERSON', 'x-payload', 'x_payload']) {
    for (const credentials of [[], [bearer]]) {
      const persons = credentials.length;
      for (const text of [
        request(...credentials, `${name}: forged`, `${name}: forged`),
        request(...credentials, `connection: ${name}`),
        trailing(`${name}: forged`).replace(
          'host: app\r\n',
          `host: app\r\n${credentials.map((c) => `${c}\r\n`).join('')}`,
        ),
      ]) {
        const got = await send(pair.frontAddress, text);
        assert.match(got, /^HTTP\/1.1 200/, text);
        assert.doesNotMatch(got, /forged/, text);
        assert.equal(got.match(/^x.person: ann\r$/gim)?.length ?? 0, persons, text);
        assert.equal(got.match(/^x.(person|payload):/gim)?.length ?? 0, 2 * persons, text);
      }
    }
  }
});
