import assert from 'node:assert/strict';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { acquireConnection, acquireRequest, buildSnapshot, releaseConnection, releaseRequest } from '@weft/engine';
import { outboundClusterName, PartSchema, Protocol } from '@weft/plan';
import { TEST_HOST, testPair } from '../test-pair.ts';
import { ServicesInUse } from './services-in-use.ts';

const cluster = (host: string, subset = '') =>
  create(PartSchema, {
    kind: { case: 'cluster', value: { name: outboundClusterName(80, subset, host), host, port: 80, subset } },
  });

test('used, kept while it is used, forgotten when idle, and never more than allowed', () => {
  const parts = ['a', 'b', 'c', 'd'].map((host) => cluster(host));
  parts.push(cluster('a', 'v1'));
  let snapshot = buildSnapshot(parts, []);
  const told: string[] = [];
  const counts: string[] = [];
  const limits = { namedServices: 3, namedServiceIdleMs: 60_000 };
  const inUse = new ServicesInUse({
    ...{ snapshot: () => snapshot, limits },
    counters: { count: (name) => void counts.push(name) },
    onChange: (names) => void told.push(names.map((n) => n.replace(/^endpoints\/|:80$/g, '')).join(' ')),
  });
  const ask = (host: string, subset = ''): void => {
    const view = snapshot.clusters.get(outboundClusterName(80, subset, host))!;
    assert.ok(acquireRequest(view));
    releaseRequest(view);
  };
  inUse.tick(0);
  assert.deepEqual(told, []);
  ask('a', 'v1');
  ask('a');
  ask('b');
  inUse.tick(1000);
  assert.deepEqual(told.splice(0), ['a b']);
  // The same again is nothing new, also after a plan that changed all of it.
  ask('b');
  snapshot = buildSnapshot(
    ['a', 'b', 'c', 'd'].map((host) => cluster(host)),
    [],
    snapshot,
  );
  inUse.tick(50_000);
  const long = snapshot.clusters.get(outboundClusterName(80, '', 'b'))!;
  acquireConnection(long);
  assert.deepEqual([told.length, inUse.names.length], [0, 2]);
  inUse.tick(60_999);
  assert.equal(told.length, 0);
  inUse.tick(61_000);
  assert.deepEqual(told.splice(0), ['b']);
  // A connection that stays open is use.
  inUse.tick(500_000);
  assert.equal(told.length, 0);
  for (const host of ['a', 'c', 'd']) ask(host);
  inUse.tick(501_000);
  assert.deepEqual(told.splice(0), ['b a c']);
  assert.deepEqual(counts.splice(0), ['named_services_full']);
  releaseConnection(long);
  ask('a');
  ask('d');
  inUse.tick(562_000);
  assert.deepEqual(told.splice(0), ['a d'], 'what is idle makes room first');
  assert.deepEqual(counts, []);
});

test('requests and connections through a proxy are use of their service', async (t) => {
  const network = '127.7.133';
  const app = http.createServer((_request, response) => response.end('hello'));
  await new Promise<void>((resolve) => app.listen(0, `${network}.3`, resolve));
  t.after(() => app.close());
  const appPort = (app.address() as AddressInfo).port;
  const ports = [Protocol.HTTP, Protocol.TCP, Protocol.HTTP].map((protocol, i) => ({
    ...{ port: 9000 + i, protocol, appHost: `${network}.3`, appPort },
  }));
  const { front, frontAddress: host } = await testPair(t, { network, ports });
  const until = async (names: string[]): Promise<void> => {
    for (const end = performance.now() + 60_000; front.servicesInUse.names.length < names.length; ) {
      assert.ok(performance.now() < end, `in vain: ${names}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.deepEqual(front.servicesInUse.names, names);
  };
  await until([]);
  await new Promise((resolve) => http.get({ host, port: 9000, agent: false }, (r) => r.resume().on('end', resolve)));
  await until([`endpoints/${TEST_HOST}:9000`]);
  const socket = net.connect({ host, port: 9001 });
  t.after(() => socket.destroy());
  socket.write('GET / HTTP/1.0\r\n\r\n');
  await until([`endpoints/${TEST_HOST}:9000`, `endpoints/${TEST_HOST}:9001`]);
});
