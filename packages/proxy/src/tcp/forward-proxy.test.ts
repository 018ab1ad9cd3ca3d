/** DestinationRule `tunnel`: opaque connections go through a forward proxy, also one that is reached by the mesh. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { ClientTls, Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

const APP = '127.7.143.9';

/** All that comes after `bytes` and a half-close. */
function talk(host: string, port: number, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    const s = connect({ host, port, allowHalfOpen: true });
    let text = '';
    s.on('error', () => {});
    s.on('data', (d) => {
      text += d;
    });
    s.on('close', () => resolve(text));
    s.end(bytes);
  });
}

test('through a forward proxy by CONNECT and POST, by the mesh and past it; its refusal is a failed connect', async (t) => {
  const asked: string[] = [];
  // The target; who speaks first is the server.
  const target = createServer({ allowHalfOpen: true }, (s) => {
    s.on('error', () => {});
    s.write('hello ');
    s.pipe(s);
  });
  target.listen(7900, APP);
  await once(target, 'listening');
  t.after(() => target.close());
  const join = (a: NodeJS.ReadableStream & NodeJS.WritableStream, b: Socket): void => {
    for (const s of [a, b]) s.on('error', () => {});
    a.pipe(b);
    b.pipe(a);
  };
  const proxy = http.createServer((q, r) => {
    asked.push(`${q.method} ${q.headers.host} ${q.url}`);
    const up = connect({ port: 7900, host: APP, allowHalfOpen: true });
    up.on('error', () => {});
    r.writeHead(200);
    r.flushHeaders();
    q.pipe(up);
    up.pipe(r);
  });
  proxy.on('connect', (q, socket, head) => {
    asked.push(`CONNECT ${q.url}`);
    if (q.url === 'refused.test:1') {
      socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno');
      return;
    }
    socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
    const up = connect({ port: 7900, host: APP, allowHalfOpen: true });
    up.write(head);
    join(socket, up);
  });
  proxy.on('connection', (s) => s.on('error', () => {}));
  proxy.listen(3128, APP);
  await once(proxy, 'listening');
  t.after(() => {
    proxy.close();
    proxy.closeAllConnections();
  });
  const of = (port: number, tunnel: { authority: string; post?: boolean } | undefined, tls?: ClientTls) => ({
    ...{ port, protocol: Protocol.TCP, appHost: APP, appPort: 3128, tunnel, tls },
  });
  const pair = await testPair(t, {
    network: '127.7.143',
    ports: [
      of(7001, { authority: 'a.test:443' }),
      of(7002, { authority: '[2001:db8::1]:443', post: true }),
      of(7003, { authority: 'refused.test:1' }),
      // Nobody listens there without the mesh.
      of(7004, { authority: 'a.test:443' }, ClientTls.DISABLE),
    ],
  });
  const at = (port: number, bytes: string) => talk(pair.frontAddress, port, bytes);
  assert.equal(await at(7001, 'one'), 'hello one');
  const long = 'x'.repeat(300_000);
  assert.equal(await at(7001, long), `hello ${long}`);
  assert.equal(await at(7002, 'two'), 'hello two');
  assert.equal(await at(7002, long), `hello ${long}`);
  assert.equal(await at(7003, 'three'), '');
  assert.equal(await at(7004, 'four'), '');
  assert.deepEqual(asked.slice(0, 4), [
    'CONNECT a.test:443',
    'CONNECT a.test:443',
    'POST [2001:db8::1]:443 /',
    'POST [2001:db8::1]:443 /',
  ]);
  const deadline = performance.now() + 60_000;
  while (pair.frontSeen.tcp.length < 6) {
    assert.ok(performance.now() < deadline, 'all are recorded');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const refused = pair.frontSeen.tcp.find((r) => r.details.includes('forward proxy'))!;
  assert.match(refused.details, /answered 403/);
  assert.equal(refused.flags, 'UF,URX');
  assert.equal(pair.front.counts().downstream, 0, 'nothing is left open');
});
