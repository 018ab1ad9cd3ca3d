import assert from 'node:assert/strict';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { ClientTls, Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

test('ISTIO_MUTUAL towards what takes no mTLS: nothing is sent, it fails and is counted', async (t) => {
  const app = '127.8.62.3';
  let reached = 0;
  const server = net.createServer((s) => {
    reached++;
    s.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, app, resolve));
  t.after(() => server.close());
  const appPort = (server.address() as AddressInfo).port;
  const at = { appHost: app, appPort, tls: ClientTls.ISTIO_MUTUAL };
  const pair = await testPair(t, {
    network: '127.8.62',
    plaintext: true,
    ports: [
      { port: 8080, protocol: Protocol.HTTP, ...at },
      { port: 7000, protocol: Protocol.TCP, ...at },
    ],
  });
  const status = await new Promise((resolve, reject) => {
    const req = http.get({ host: pair.frontAddress, port: 8080, agent: false }, (res) => {
      res.resume();
      resolve(res.statusCode);
    });
    req.on('error', reject);
  });
  assert.equal(status, 503);
  const record = pair.frontSeen.requests.at(-1)!;
  assert.match(record.flags, /UF/);
  assert.match(record.details, /mtls_impossible/);
  await new Promise<void>((resolve) => {
    const s = net.connect(7000, pair.frontAddress, () => s.write('word'));
    s.on('error', () => {});
    s.on('data', () => assert.fail('it was answered'));
    s.on('close', () => resolve());
  });
  assert.equal(reached, 0);
  assert.equal(pair.backSeen.requests.length + pair.backSeen.tcp.length, 0);
  assert.ok((pair.frontSeen.counts.get('upstream_mtls_impossible') ?? 0) >= 2);
});

test('ISTIO_MUTUAL with subjectAltNames: a server of another identity is sent nothing', async (t) => {
  const app = '127.8.63.3';
  const server = http.createServer((_request, response) => response.end('in'));
  await new Promise<void>((resolve) => server.listen(0, app, resolve));
  t.after(() => server.close());
  const at = { appHost: app, appPort: (server.address() as AddressInfo).port, tls: ClientTls.ISTIO_MUTUAL };
  const id = (account: string): string => `spiffe://cluster.local/ns/test/sa/${account}`;
  const pair = await testPair(t, {
    network: '127.8.63',
    ports: [
      { port: 8080, protocol: Protocol.HTTP, ...at, identities: [id('other'), id('back')] },
      { port: 8081, protocol: Protocol.HTTP, ...at, identities: [id('other')] },
      { port: 7000, protocol: Protocol.TCP, ...at, identities: [id('other')] },
    ],
  });
  const ask = async (port: number): Promise<number> => (await fetch(`http://${pair.frontAddress}:${port}/`)).status;
  assert.deepEqual([await ask(8080), await ask(8081)], [200, 503]);
  assert.match(pair.frontSeen.requests.at(-1)!.details, /mtls_impossible/);
  await new Promise<void>((resolve) => {
    const socket = net.connect(7000, pair.frontAddress, () => socket.write('GET / HTTP/1.0\r\n\r\n'));
    socket.on('error', () => {});
    socket.on('data', () => assert.fail('it was answered'));
    socket.on('close', () => resolve());
  });
  assert.equal(pair.backSeen.requests.length, 1);
});
