// HTTP/2 through two proxies in processes of their own, where the versions of client and application differ.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { type Pair, startPair } from '../conformance/pair.ts';

const NETWORK = '127.63.2';
const APP = `${NETWORK}.9`;
const PORTS = { one: 8081, two: 8082, plain: 8083 };
const KEY = 'AAECAwQFBgcICQoLDA0ODw==';
const accept = (key: string): string =>
  createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');

type Answer = http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader;

let pair: Pair;
const servers: net.Server[] = [];

async function listen(server: net.Server): Promise<number> {
  servers.push(server);
  server.listen(0, APP);
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

before(async () => {
  // Both speak "WebSocket" as far as a proxy sees it: the handshake, then bytes, which they give back.
  const one = http.createServer((req, res) => {
    if (req.url === '/no') res.writeHead(413);
    res.end(req.url);
  });
  one.on('upgrade', (req, socket) => {
    const key = req.headers['sec-websocket-key'] as string;
    socket.on('error', () => {});
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ${accept(key)}\r\n\r\n`,
    );
    socket.on('data', (chunk) => socket.write(chunk));
    socket.on('end', () => socket.end('bye'));
  });
  const two = http2.createServer({ settings: { enableConnectProtocol: true, maxHeaderListSize: 8000 } });
  two.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    if (headers[':protocol'] === 'websocket') {
      stream.respond({ ':status': 200 });
      stream.on('data', (chunk) => stream.write(chunk));
      stream.on('end', () => stream.end('bye'));
      return;
    }
    stream.respond({
      ':status': 200,
      ...(headers['x-want'] ? { 'x-long': 'y'.repeat(Number(headers['x-want'])) } : {}),
    });
    stream.end('hello');
  });
  const plain = http2.createServer((_req, res) => res.end('hello'));
  const ports = {
    one: await listen(one),
    two: await listen(two as unknown as net.Server),
    plain: await listen(plain as unknown as net.Server),
  };
  pair = await startPair({
    network: NETWORK,
    ports: [
      { port: PORTS.one, appHost: APP, appPort: ports.one, protocol: 'http' },
      { port: PORTS.two, appHost: APP, appPort: ports.two, protocol: 'http2' },
      { port: PORTS.plain, appHost: APP, appPort: ports.plain, protocol: 'http2' },
    ],
  });
});
after(async () => {
  await pair?.stop();
  for (const server of servers) server.close();
});

/** An HTTP/1.1 handshake; gives the head of the answer and the socket. */
async function upgrade(port: number): Promise<{ head: string; socket: net.Socket }> {
  const socket = net.connect({ host: pair.front.address, port, allowHalfOpen: true });
  socket.setTimeout(60_000, () => socket.destroy(new Error('nothing within 60 s')));
  socket.write(
    `GET /chat HTTP/1.1\r\nhost: app\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: ${KEY}\r\n\r\n`,
  );
  let text = '';
  while (!text.includes('\r\n\r\n')) text += String((await once(socket, 'data'))[0]);
  return { head: text, socket };
}

async function over2(port: number, run: (session: http2.ClientHttp2Session) => Promise<void>): Promise<void> {
  const session = http2.connect(`http://${pair.front.address}:${port}`);
  session.on('error', () => {});
  try {
    await run(session);
  } finally {
    session.destroy();
  }
}

/** Opens a WebSocket by extended CONNECT, says hello, and ends; gives the head of the answer and all bytes. */
async function extendedConnect(session: http2.ClientHttp2Session): Promise<[Answer, string]> {
  await once(session, 'remoteSettings');
  const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat' });
  const [head] = (await once(stream, 'response')) as [Answer];
  let text = '';
  stream.on('data', (chunk) => (text += String(chunk)));
  if (head[':status'] === 200) {
    stream.write('hello');
    while (text !== 'hello') await once(stream, 'data');
  }
  stream.end();
  if (!stream.readableEnded) await once(stream, 'end');
  return [head, text];
}

for (const [app, port] of [
  ['HTTP/1.1', PORTS.one],
  ['HTTP/2', PORTS.two],
] as const) {
  test(`WebSocket of an HTTP/1.1 client to an application of ${app}: bytes both ways, half-close`, async () => {
    const { head, socket } = await upgrade(port);
    assert.match(head, /^HTTP\/1\.1 101 /);
    assert.equal(/^sec-websocket-accept: (.*)\r$/im.exec(head)?.[1], accept(KEY));
    socket.write('hello');
    let text = '';
    socket.on('data', (chunk) => (text += String(chunk)));
    while (text !== 'hello') await once(socket, 'data');
    socket.end();
    await once(socket, 'end');
    assert.equal(text, 'hellobye');
  });

  test(`WebSocket of an HTTP/2 client to an application of ${app}`, async () => {
    await over2(port, async (session) => {
      const [head, text] = await extendedConnect(session);
      assert.equal(head[':status'], 200);
      assert.equal(head['sec-websocket-accept'], undefined, 'HTTP/2 has no such field');
      assert.equal(text, 'hellobye');
    });
  });
}

test('an answer before the end of an upload arrives, and the upload is not held up', async () => {
  await over2(PORTS.one, async (session) => {
    const stream = session.request({ ':method': 'POST', ':path': '/no' });
    stream.on('error', () => {});
    stream.resume();
    const closed = once(stream, 'close');
    const answered = once(stream, 'response') as Promise<[Answer]>;
    // More than all that the hops hold: the application reads nothing of it.
    const chunk = Buffer.alloc(1 << 18);
    for (let i = 0; i < 128; i++) if (!stream.write(chunk)) await once(stream, 'drain');
    stream.end();
    assert.equal((await answered)[0][':status'], 413);
    await closed;
    assert.equal(stream.rstCode, 0);
    const next = session.request({ ':path': '/' });
    assert.equal(((await once(next, 'response')) as [Answer])[0][':status'], 200);
  });
});

test('an application of HTTP/2 without extended CONNECT: 501 for the WebSocket, all else goes on', async () => {
  const { head, socket } = await upgrade(PORTS.plain);
  socket.destroy();
  assert.match(head, /^HTTP\/1\.1 501 /);
  await over2(PORTS.plain, async (session) => {
    const [answer] = await extendedConnect(session);
    assert.equal(answer[':status'], 501);
    const stream = session.request({ ':path': '/' });
    const [next] = (await once(stream, 'response')) as [Answer];
    assert.equal(next[':status'], 200);
  });
});

test('heads above what a peer announced: 431 towards the application, 502 towards the client', async () => {
  const ask = async (
    session: http2.ClientHttp2Session,
    headers: http2.OutgoingHttpHeaders,
  ): Promise<number | undefined> => {
    const stream = session.request({ ':path': '/', ...headers });
    const [head] = (await once(stream, 'response')) as [Answer];
    stream.resume();
    return head[':status'];
  };
  await over2(PORTS.two, async (session) => {
    assert.equal(await ask(session, { 'x-long': 'y'.repeat(5000) }), 200);
    assert.equal(await ask(session, { 'x-long': 'y'.repeat(9000) }), 431);
    assert.equal(await ask(session, { 'x-want': '3000' }), 200);
  });
  const small = http2.connect(`http://${pair.front.address}:${PORTS.two}`, { settings: { maxHeaderListSize: 2000 } });
  try {
    assert.equal(await ask(small, { 'x-want': '1000' }), 200);
    assert.equal(await ask(small, { 'x-want': '3000' }), 502);
  } finally {
    small.destroy();
  }
  const { counters } = await pair.back.take();
  assert.equal(counters.get('http2_peer_header_list'), 1);
});
