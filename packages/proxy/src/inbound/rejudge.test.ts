/** A policy that comes while something runs: tunnels, upgrades and streams end, others go on. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import { buildSnapshot } from '@weft/engine';
import { AuthorizationAction as Action, type AuthorizationPolicySchema, PartSchema, Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

const HTTP = 8080;
const GRPC = 9090;
const TCP = 7000;
const WITHIN_MS = 5000;

test('a new DENY ends tunnels, upgrades and streams that it covers within 5 s, and nothing else', async (t) => {
  const app = '127.7.61.3';
  const echo = net.createServer((s) => s.on('error', () => {}).pipe(s));
  const upgrades = net.createServer((s) => {
    s.on('error', () => {});
    s.once('data', () => {
      s.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n');
      s.pipe(s);
    });
  });
  const grpc = http2.createServer();
  grpc.on('session', (s) => t.after(() => s.destroy()));
  grpc.on('stream', (s) => {
    s.on('error', () => {});
    s.respond({ ':status': 200, 'content-type': 'application/grpc' });
    s.pipe(s);
  });
  const ports: number[] = [];
  for (const server of [upgrades, grpc, echo]) {
    await new Promise<void>((resolve) => server.listen(0, app, resolve));
    ports.push((server.address() as AddressInfo).port);
    t.after(() => server.close());
  }
  const pair = await testPair(t, {
    network: '127.7.61',
    ports: [
      { port: HTTP, protocol: Protocol.HTTP, appHost: app, appPort: ports[0] },
      { port: GRPC, protocol: Protocol.GRPC, appHost: app, appPort: ports[1] },
      { port: TCP, protocol: Protocol.TCP, appHost: app, appPort: ports[2] },
    ],
  });
  const back = pair.back!;
  const first = back.core.snapshot!;
  let epoch = 1n;
  const policy = (...policies: MessageInitShape<typeof AuthorizationPolicySchema>[]): void => {
    const part = create(PartSchema, { kind: { case: 'authorization', value: { policies } } });
    back.apply({ ...first, authorization: buildSnapshot([part], []).authorization }, ++epoch);
  };

  const connect = (port: number): net.Socket => {
    const socket = net.connect(port, pair.frontAddress);
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    return socket;
  };
  const says = async (socket: net.Socket, text: string): Promise<void> => {
    socket.write(text);
    const [data] = await once(socket, 'data');
    assert.equal(String(data), text);
  };
  const tunnel = connect(TCP);
  await says(tunnel, 'one');
  const upgraded = connect(HTTP);
  upgraded.write('GET /chat HTTP/1.1\r\nhost: app\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n');
  assert.match(String((await once(upgraded, 'data'))[0]), /^HTTP\/1.1 101/);
  await says(upgraded, 'two');
  const client = http2.connect(`http://${pair.frontAddress}:${GRPC}`);
  client.on('error', () => {});
  t.after(() => client.destroy());
  const call = client.request({
    ':method': 'POST',
    ':path': '/S/M',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  call.on('error', () => {});
  call.write('three');
  assert.equal(String((await once(call, 'data'))[0]), 'three');

  const count = (): number => pair.backSeen.counts.get('authorization_ended') ?? 0;
  const closed = (what: { once(event: 'close', heard: () => void): unknown }): Promise<void> =>
    new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('did not end')), WITHIN_MS);
      what.once('close', () => {
        clearTimeout(late);
        resolve();
      });
    });
  // A policy about others, and one that lets all three in, change nothing for them.
  policy(
    { action: Action.DENY, rules: [{ from: [{ namespaces: ['other'] }] }] },
    { action: Action.ALLOW, rules: [{ from: [{ namespaces: ['test'] }] }] },
  );
  await new Promise((resolve) => setTimeout(resolve, 2500)); // each is judged once a second
  await Promise.all([says(tunnel, 'a'), says(upgraded, 'b')]);
  assert.equal(count(), 0);

  const ends = [closed(upgraded)];
  policy({ action: Action.DENY, rules: [{ to: [{ ports: [String(HTTP)], paths: ['/chat'], methods: ['GET'] }] }] });
  await Promise.all(ends);
  assert.equal(count(), 1);
  await says(tunnel, 'c');

  const rest = [closed(tunnel), closed(call)];
  policy({ action: Action.DENY, rules: [{ from: [{ principals: ['cluster.local/ns/test/sa/front'] }] }] });
  await Promise.all(rest);
  assert.equal(count(), 3);
  assert.equal(back.core.exchanges.size, 0);
});
