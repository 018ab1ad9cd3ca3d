import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { Code, ConnectError } from '@connectrpc/connect';
import { AdsClient, type Change } from './client.ts';
import type { Resources } from './diff.ts';
import { type AdsStream, createAdsHandler } from './server.ts';

const PART = 'type.example/Part';
const ENDPOINTS = 'type.example/Endpoints';
const resources = (o: Record<string, string>): Resources =>
  new Map(Object.entries(o).map(([name, v]) => [name, { version: v, bytes: Buffer.from(v) }]));

const streams: { stream: AdsStream; id: string; closed: boolean }[] = [];
let wanted = resources({ a: '1', b: '1' });
let label = '1';
const push = (stream: AdsStream) =>
  stream.update([
    { type: PART, layers: [wanted], label },
    { type: ENDPOINTS, layers: [resources({ e: 'x' })], label: '' },
  ]);
const ads = createAdsHandler<undefined>({
  types: [PART, ENDPOINTS],
  accept(stream, node) {
    if (node.id === 'stranger') throw new ConnectError('not yours', Code.PermissionDenied);
    const entry = { stream, id: node.id, closed: false };
    streams.push(entry);
    push(stream);
    return { onClose: () => (entry.closed = true) };
  },
});
const sessions = new Set<http2.ServerHttp2Session>();
async function listen(port = 0): Promise<http2.Http2Server> {
  const server = http2.createServer();
  server.on('stream', (stream, headers) => ads(stream, headers, undefined));
  server.on('session', (s) => sessions.add(s).size && s.on('close', () => sessions.delete(s)));
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
let server = await listen();
const port = (server.address() as AddressInfo).port;
const shut = async () => {
  for (const s of sessions) s.destroy();
  server.close();
  await once(server, 'close');
};
after(shut);

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 60_000;
  while (!condition() && Date.now() < end) await new Promise((r) => setTimeout(r, 5));
  assert.ok(condition(), 'the awaited state was not reached');
}

test('first plan, change, NACK, the server away and back, over real HTTP/2', async () => {
  const changes: { type: string; change: Change }[] = [];
  const states: string[] = [];
  let refuse = '';
  const client = new AdsClient({
    connect: () => ({ host: '127.0.0.1', port }),
    node: { id: 'cart-0', cluster: 'cart' },
    types: [PART, ENDPOINTS],
    onUpdate(type, change) {
      if (refuse) throw new Error(refuse);
      changes.push({ type, change });
    },
    onState: (state) => states.push(state),
  });
  client.start();
  await until(() => changes.length === 2);
  assert.deepEqual(
    changes.map((c) => [c.type, c.change.updated.map((u) => u.name)]),
    [
      [PART, ['a', 'b']],
      [ENDPOINTS, ['e']],
    ],
  );
  const first = streams[0].stream;
  await until(() => first.status(PART).acked === '1' && first.status(ENDPOINTS).acked === '');

  wanted = resources({ a: '2' });
  label = '2';
  push(first);
  await until(() => first.status(PART).acked === '2');
  assert.deepEqual(changes[2].change.removed, ['b']);
  assert.equal(Buffer.from(changes[2].change.updated[0].bytes).toString(), '2');

  refuse = 'route names no cluster';
  wanted = resources({ a: '3' });
  label = '3';
  push(first);
  await until(() => first.status(PART).error === refuse);
  assert.equal(client.versions(PART).get('a'), '2');

  refuse = '';
  await shut();
  await until(() => client.state === 'disconnected' || client.state === 'connecting');
  await until(() => streams[0].closed);
  server = await listen(port);
  await until(() => streams.length === 2 && streams[1].stream.status(PART).acked === '3');
  const last = changes.at(-2)!;
  assert.deepEqual([last.type, last.change.updated.map((u) => u.version)], [PART, ['3']]);
  assert.deepEqual(changes.at(-1)!.change.updated, []); // endpoints it had already

  client.reconnect();
  await until(() => streams.length === 3 && streams[1].closed && client.state === 'connected');
  client.stop();
  await until(() => streams[2].closed);
  assert.deepEqual(states.slice(0, 3), ['connecting', 'connected', 'disconnected']);
});

test('names beside everything: what is held is not applied again, and they outlive the connection', async () => {
  wanted = resources({ a: '3', b: '1' });
  const seen = streams.length;
  const changes: { type: string; change: Change }[] = [];
  const client = new AdsClient({
    connect: () => ({ host: '127.0.0.1', port }),
    node: { id: 'cart-1', cluster: 'cart' },
    types: [PART, ENDPOINTS],
    onUpdate: (type, change) => void changes.push({ type, change }),
  });
  client.name(ENDPOINTS, ['e']);
  client.start();
  await until(() => changes.length === 2);
  const { stream } = streams[seen];
  assert.deepEqual([[...stream.names(ENDPOINTS)], [...stream.names(PART)]], [['e'], []]);
  client.name(PART, ['a', 'b']);
  client.name(PART, ['b', 'c']);
  await until(() => stream.names(PART).has('c') && !stream.names(PART).has('a'));
  await until(() => stream.status(PART).current && !stream.status(PART).pending && changes.length > 2);
  for (const { change } of changes.slice(2)) assert.deepEqual(change.updated, []);
  client.reconnect();
  await until(() => streams.length === seen + 2 && streams[seen + 1].stream.status(PART).current);
  assert.deepEqual([...streams[seen + 1].stream.names(PART)], ['b', 'c']);
  assert.deepEqual([...streams[seen + 1].stream.names(ENDPOINTS)], ['e']);
  client.stop();
});

test('a refused node is told why and keeps trying', async () => {
  const details: string[] = [];
  const client = new AdsClient({
    connect: () => ({ host: '127.0.0.1', port }),
    node: { id: 'stranger', cluster: '' },
    types: [PART],
    onUpdate: () => assert.fail('nothing is for a stranger'),
    onState: (state, detail) => state === 'disconnected' && details.push(detail),
  });
  client.start();
  await until(() => details.length >= 2);
  client.stop();
  assert.match(details[0], /not yours/);
});
