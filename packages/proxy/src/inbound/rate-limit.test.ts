import assert from 'node:assert/strict';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

const APP = '127.7.209.3';

test('a rate limit answers 429 before the application is asked; the record names the policy', async (t) => {
  let served = 0;
  const app = http.createServer((_request, response) => {
    served++;
    response.end('fine');
  });
  await new Promise<void>((resolve) => app.listen(0, APP, resolve));
  t.after(() => app.close());
  const pair = await testPair(t, {
    network: '127.7.209',
    ports: [
      {
        ...{ port: 9000, protocol: Protocol.HTTP, appHost: APP, appPort: (app.address() as AddressInfo).port },
        // One a second each: what a slow machine takes between two requests may let a second one pass.
        rateLimit: { ref: 'the-policy', total: 1000, identity: 1 },
      },
    ],
  });
  const ask = (): Promise<string> =>
    new Promise((resolve, reject) => {
      http
        .get({ host: pair.frontAddress, port: 9000, agent: false }, (response) => {
          let text = `${response.statusCode} `;
          response.on('data', (bytes) => (text += bytes)).on('end', () => resolve(text));
        })
        .on('error', reject);
    });
  const answers = await Promise.all(Array.from({ length: 20 }, ask));
  const limited = answers.filter((a) => a === '429 local_rate_limited').length;
  assert.equal(answers.filter((a) => a === '200 fine').length, served);
  assert.equal(limited + served, 20, String(answers));
  assert.ok(served >= 1 && limited >= 10, String(answers));
  assert.equal(pair.backSeen.counts.get('rate_limited_identity'), limited);
  const record = pair.backSeen.requests.find((r) => r.status === 429)!;
  assert.deepEqual([record.flags, record.details, record.routeRef], ['RL', 'local_rate_limited', 'the-policy']);
});

test('a limit of connections closes those beyond it', async (t) => {
  const app = net.createServer((socket) => socket.on('error', () => {}).end('hello'));
  await new Promise<void>((resolve) => app.listen(0, APP, resolve));
  t.after(() => app.close());
  const pair = await testPair(t, {
    network: '127.7.210',
    ports: [
      {
        ...{ port: 9001, protocol: Protocol.TCP, appHost: APP, appPort: (app.address() as AddressInfo).port },
        connectionLimit: { ref: 'the-policy', total: 1 },
      },
    ],
  });
  const connect = (): Promise<string> =>
    new Promise((resolve) => {
      let text = '';
      const socket = net.connect(9001, pair.frontAddress);
      socket.on('data', (bytes) => (text += bytes));
      socket.on('error', () => {});
      socket.on('close', () => resolve(text));
    });
  const got = await Promise.all(Array.from({ length: 10 }, connect));
  const served = got.filter((text) => text === 'hello').length;
  assert.ok(served >= 1 && served <= 5, String(got));
  assert.ok((pair.backSeen.counts.get('connections_limited_total') ?? 0) >= 5);
  const record = pair.backSeen.tcp.find((r) => r.flags === 'RL')!;
  assert.deepEqual([record.details, record.routeRef], ['local_rate_limited', 'the-policy']);
});
