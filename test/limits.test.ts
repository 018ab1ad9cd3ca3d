/** Limits in time that need two proxies and somebody between or behind them. The waits are short by configuration. */
import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { test } from 'node:test';
import { type Pair, type PairSide, startPair } from '../conformance/pair.ts';

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until one of these has counted it: whichever saw it first. */
async function counted(name: string, ...sides: PairSide[]): Promise<void> {
  for (const end = performance.now() + 60_000; ; await sleep(50)) {
    for (const side of sides) if (((await side.take()).counters.get(name) ?? 0) > 0) return;
    assert.ok(performance.now() < end, `${name} was not counted`);
  }
}

/** The next request has arrived. */
function seen(app: http.Server): Promise<unknown> {
  return new Promise((resolve) => app.once('request', resolve));
}

function listen(server: net.Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
}

/** Status of a request, and how it ended where none came. */
function ask(pair: Pair, path: string): Promise<number | string> {
  return new Promise((resolve) => {
    const request = http.get({ host: pair.front.address, port: 8080, path, headers: { host: 'app' } }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
      response.on('error', (error) => resolve(error.message));
    });
    request.on('error', (error) => resolve(error.message));
  });
}

function application(): http.Server {
  return http.createServer((request, response) => {
    if (request.url !== '/hold') request.resume().on('end', () => response.end('fine'));
  });
}

test('an opaque connection that is idle, a request that does not end', async (t) => {
  const network = '127.8.45';
  const app = application();
  const echo = net.createServer((socket) => socket.on('error', () => {}).pipe(socket));
  t.after(() => {
    for (const server of [app, echo]) server.close();
    app.closeAllConnections();
  });
  await listen(app, 8080, `${network}.3`);
  await listen(echo, 8081, `${network}.3`);
  const pair = await startPair({
    network,
    ports: [
      { port: 8080, appHost: `${network}.3`, appPort: 8080, timeoutMs: 0 },
      { port: 8081, appHost: `${network}.3`, appPort: 8081, protocol: 'tcp' },
    ],
    limits: { tcpIdleTimeoutMs: 2000, requestTimeoutMs: 2000 },
  });
  t.after(() => pair.stop());

  const opaque = net.connect(8081, pair.front.address);
  opaque.on('error', () => {});
  opaque.write('x');
  const closed = new Promise((resolve) => opaque.once('close', resolve));
  let echoed = '';
  opaque.on('data', (bytes) => {
    echoed += String(bytes);
  });
  await closed;
  assert.equal(echoed, 'x', 'it worked before it was idle');
  await counted('tcp_idle_timeout', pair.front, pair.back);

  const socket = net.connect(8080, pair.front.address);
  socket.on('error', () => {});
  socket.write('POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\nabc');
  const answer = await new Promise<string>((resolve) => {
    let text = '';
    socket.on('data', (bytes) => {
      text += String(bytes);
    });
    socket.on('close', () => resolve(text));
  });
  assert.match(answer, /^HTTP\/1\.1 408 /);
  await counted('request_timeout', pair.front, pair.back);
});

test('a mesh link that is silent: it is given up, and the next request gets another', async (t) => {
  const network = '127.8.47';
  const app = application();
  let silent = false;
  const ends: net.Socket[] = [];
  // Between the proxies: passes all on until told to keep it.
  const relay = net.createServer((down) => {
    const up = net.connect(15_008, `${network}.2`);
    ends.push(down, up);
    for (const [from, to] of [
      [down, up],
      [up, down],
    ] as const) {
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroy());
      from.on('data', (bytes) => void (silent || to.write(bytes)));
    }
  });
  t.after(() => {
    for (const socket of ends) socket.destroy();
    for (const server of [app, relay]) server.close();
    app.closeAllConnections();
  });
  await listen(app, 8080, `${network}.3`);
  await listen(relay, 15_008, `${network}.4`);
  const pair = await startPair({
    network,
    meshAddress: `${network}.4`,
    ports: [{ port: 8080, appHost: `${network}.3`, appPort: 8080, timeoutMs: 0 }],
    limits: { linkPingEveryMs: 500, linkPingTimeoutMs: 3000 },
  });
  t.after(() => pair.stop());
  assert.equal(await ask(pair, '/'), 200);
  void ask(pair, '/hold');
  await seen(app);
  silent = true;
  await counted('link_ping_timeout', pair.front);
  silent = false;
  assert.equal(await ask(pair, '/'), 200);
});
